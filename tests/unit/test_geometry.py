"""Size arithmetic: the paper's numbers, and what is refused."""

from itertools import islice

import pytest

from ushape import UNet
from ushape.errors import ConfigError, ShapeError
from ushape.geometry import Geometry, Layer, UnpaddedGeometry


@pytest.fixture(scope="module")
def paper() -> Geometry:
    return UNet(width=1).geometry


def test_the_path_of_figure_1(paper):
    assert paper.trace(572) == [
        *[572, 570, 568, 284, 282, 280, 140, 138, 136, 68, 66, 64, 32, 30, 28],
        *[56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388],
    ]


def test_valid_sizes_are_16_k_plus_60(paper):
    assert list(islice(paper.valid_sizes(), 25)) == [16 * k + 60 for k in range(8, 33)]
    assert paper.smallest == 188
    assert paper.output_size(188) == 4
    assert paper.output_size(572) == 388


def test_margin_period_and_receptive_field(paper):
    assert paper.margin == 92
    assert paper.period == 16
    # The same windows as the gradients of a network: tests/property/test_geometry_properties.py.
    assert paper.window(0) == (0, 187)
    assert paper.window(15) == (0, 203)
    assert paper.receptive_field == (188, 204)


def test_sizes_that_a_pooling_would_round_have_no_trace(paper):
    assert paper.trace(570) is None
    assert paper.trace(172) is None


@pytest.mark.parametrize(
    ("size", "nearest"), [(1, (None, 188)), (188, (188, 188)), (189, (188, 204)), (570, (556, 572))]
)
def test_nearest_valid_sizes(paper, size, nearest):
    assert paper.nearest_valid_sizes(size) == nearest


def test_input_for_an_output_of_at_least(paper):
    assert paper.input_size(388) == 572
    assert paper.input_size(389) == 588
    assert paper.input_size(1) == 188


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (570, "input size 570 is not valid; nearest valid sizes: 556 and 572"),
        (100, "input size 100 is not valid; the smallest valid size is 188"),
    ],
)
def test_a_wrong_size_names_the_nearest(paper, size, message):
    with pytest.raises(ShapeError) as error:
        paper.output_size(size)
    assert str(error.value) == message


def test_the_message_names_what_the_size_is_of(paper):
    with pytest.raises(ShapeError, match=r"^tile height 570 is not valid"):
        paper.require_valid(570, "tile height")


def test_layers_that_do_not_return_are_refused():
    pool, up = Layer("pool", 2), Layer("up", 2)
    with pytest.raises(ConfigError, match=r"end 1 poolings below the resolution they started from"):
        UnpaddedGeometry((pool, pool, up))
    with pytest.raises(ConfigError, match=r"go up more often than they went down"):
        UnpaddedGeometry((up, pool))
