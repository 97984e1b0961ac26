"""The U in numbers equals the paper's figure 1, in rows and as a drawing."""

import pytest
import torch

from ushape import UNet
from ushape.config import UNetConfig
from ushape.errors import ShapeError
from ushape.models.summary import draw, summarize

PAPER = """\
  1   64   64                                                                   128   64   64    2
572  570  568 --------------------------------------------------------------->  392  390  388  388
           v                                                                     ^
           64  128  128                                               256  128  128
          284  282  280 ------------------------------------------->  200  198  196
                     v                                                 ^
                    128  256  256                           512  256  256
                    140  138  136 ----------------------->  104  102  100
                               v                             ^
                              256  512  512      1024  512  512
                               68   66   64 --->   56   54   52
                                         v         ^
                                        512 1024 1024
                                         32   30   28

Each box: channels above, size below. To the right: conv 3x3 + ReLU; the last: conv 1x1.
v max-pool 2x2   ^ up-conv 2x2   -> skip, cropped to its centre and concatenated

parameters            31,030,658 in 23 convolutional layers
multiply-accumulates  150.43 G per tile (300.86 GFLOP)
tile                  572 x 572 px -> 388 x 388 px
margin                92 px lost on each side
valid sizes           188, 204, 220, ... px; height and width independently
period                16 px: an image moved by this gives the same output, moved
receptive field       188 to 204 px seen by one pixel of the output"""

NOT_SQUARE = """\
 1  2  2     4  2  2  3
20 18 16 ->  8  6  4  4
24 22 20    12 10  8  8
       v     ^
       2  4  4
       8  6  4
      10  8  6"""


def test_the_drawing_of_the_paper():
    assert draw(UNetConfig()) == PAPER
    assert max(map(len, PAPER.splitlines())) <= 100


def test_a_tile_that_is_not_square_shows_height_and_width():
    drawing = draw(UNetConfig(width=2, depth=1, classes=3), 20, 24)
    assert drawing.partition("\n\n")[0] == NOT_SQUARE
    assert "tile                  20 x 24 px -> 4 x 8 px" in drawing


def test_the_drawing_is_the_same_with_batch_norm():
    plain, normed = (draw(UNetConfig(width=2, depth=2, norm=norm)) for norm in (None, "batch"))
    assert plain.partition("\n\n")[0] == normed.partition("\n\n")[0]


def test_the_default_tile_is_the_next_valid_one_above_that_of_the_paper():
    assert "tile                  572 x 572 px" in draw(UNetConfig(width=1, depth=3))
    assert "tile                  764 x 764 px" in draw(UNetConfig(width=1, depth=6))


def test_a_size_that_is_not_valid_names_the_nearest():
    with pytest.raises(ShapeError, match=r"input width 570 is not valid; nearest valid sizes: 556 and 572"):
        draw(UNetConfig(), 572, 570)
    with pytest.raises(ShapeError, match=r"input height 0 is not valid"):
        draw(UNetConfig(), 0, 572)


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(),
        UNetConfig(variant="released"),
        UNetConfig(in_channels=3, classes=5, width=8, depth=3, norm="batch"),
    ],
    ids=str,
)
def test_parameters_add_up_to_those_of_the_network(config):
    with torch.device("meta"):
        network = UNet(**config.model_dump(exclude={"kind"}))
    size = network.geometry.smallest
    steps = summarize(config, size, size)
    assert sum(step.parameters for step in steps) == sum(p.numel() for p in network.parameters())


def test_work_is_that_of_counting_by_hand():
    conv1, conv2, pool, *_, up, join, _, _, score = (
        (step.name, step.multiply_accumulates) for step in summarize(UNetConfig(width=2, depth=1), 20, 24)[1:]
    )
    assert conv1 == ("conv 3x3", 18 * 22 * 2 * 9)
    assert conv2 == ("conv 3x3", 16 * 20 * 2 * 2 * 9)
    assert pool == ("max-pool 2x2", 0)
    assert up == ("up-conv 2x2", 8 * 12 * 2 * 4)  # every output pixel sums over the 4 input channels
    assert join == ("crop + concat", 0)
    assert score == ("conv 1x1", 4 * 8 * 2 * 2)


def test_work_of_the_released_network_on_its_own_tile():
    # 1 channel, half an image of 520 x 696 pixels: 191.9 G.
    work = sum(step.multiply_accumulates for step in summarize(UNetConfig(variant="released"), 444, 892))
    assert round(work / 1e9, 1) == 191.9


def test_steps_carry_levels_and_shapes_of_figure_1():
    steps = summarize(UNetConfig(), 572, 572)
    boxes = [(s.name, s.level, s.is_expanding, s.channels, s.height) for s in steps]
    assert boxes[:4] == [
        ("input", 0, False, 1, 572),
        ("conv 3x3", 0, False, 64, 570),
        ("conv 3x3", 0, False, 64, 568),
        ("max-pool 2x2", 1, False, 64, 284),
    ]
    assert boxes[14:20] == [
        ("conv 3x3", 4, False, 1024, 28),
        ("up-conv 2x2", 3, True, 512, 56),
        ("crop + concat", 3, True, 1024, 56),
        ("conv 3x3", 3, True, 512, 54),
        ("conv 3x3", 3, True, 512, 52),
        ("up-conv 2x2", 2, True, 256, 104),
    ]
    assert boxes[-1] == ("conv 1x1", 0, True, 2, 388)


def test_the_network_itself_is_left_alone():
    network = UNet(width=2, depth=2, norm="batch").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert summarize(network, 44, 44) == summarize(UNetConfig(width=2, depth=2, norm="batch"), 44, 44)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


HALF_SIZE = """\
 1                       2
48                      14
       v                 ^
       1  2  2     4  2  2  2
      24 22 20 -> 12 10  8  8
             v     ^
             2  4  4
            10  8  6"""


def test_a_network_at_half_the_size_has_a_level_without_a_skip():
    drawing = draw(UNetConfig(width=2, depth=1, shrink=2), 48, 48)
    assert drawing.partition("\n\n")[0] == HALF_SIZE
    assert "Above, without a skip" in drawing
    assert "Above, without a skip" not in draw(UNetConfig(width=2, depth=1))
