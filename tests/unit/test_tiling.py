"""Tile plans by hand-computed numbers, mirroring against numpy's own padding, every pixel kept once."""

from itertools import product
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ushape.errors import ShapeError, TilingError
from ushape.geometry import Geometry
from ushape.models import UNet
from ushape.tiling import Span, TilePlan, plan_axis, plan_for_memory, plan_tiles, read_mirrored, run_tiled


@pytest.fixture(scope="module")
def paper() -> Geometry:
    return UNet(width=1).geometry  # the width changes no size


def test_axis_by_hand(paper):
    assert plan_axis(1000, 384, paper) == (
        Span(-92, 480, 0, 384),
        Span(292, 864, 384, 768),
        Span(676, 1104, 768, 1000),  # 232 px need an output of 244: an input of 428
    )


def test_axis_of_one_pixel_reads_the_smallest_input(paper):
    assert plan_axis(1, 16, paper) == (Span(-92, 96, 0, 1),)


def test_one_tile_may_keep_its_whole_output(paper):
    (span,) = plan_axis(388, 400, paper)
    assert (span.read, span.keep) == (572, 388)


@pytest.mark.parametrize(("keep", "nearest"), [(388, 384), (0, 16), (-16, 16), (8, 16)])
def test_inexact_tiles_are_refused(paper, keep, nearest):
    with pytest.raises(TilingError, match=rf"keeps {keep} px .* multiple of 16, for example {nearest}$"):
        plan_axis(1000, keep, paper)


def test_empty_image_is_refused(paper):
    with pytest.raises(ShapeError, match="image side of 0 px"):
        plan_axis(0, 16, paper)
    with pytest.raises(ShapeError, match="image side of 0 px"):
        plan_for_memory(5, 0, paper, 1.0, 1e9)


def test_plan_describes_itself(paper):
    plan = plan_tiles(1000, 500, (384, 384), paper)
    assert (plan.height, plan.width, plan.keep, plan.input) == (1000, 500, (384, 384), (572, 572))
    assert len(plan) == len(list(plan.tiles)) == 6


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    depth=st.integers(1, 5),
    megapixels=st.floats(0.25, 4),
)
def test_memory_plan_is_exact_and_within_the_budget(height, width, depth, megapixels):
    geometry = UNet(width=1, depth=depth).geometry
    plan = plan_for_memory(height, width, geometry, 100.0, megapixels * 100e6)
    assert (plan.height, plan.width) == (height, width)
    for spans in (plan.rows, plan.columns):
        assert all(span.keep_start % geometry.period == 0 for span in spans)
        assert all(span.read_start == span.keep_start - geometry.margin for span in spans)
        assert all(geometry.is_valid(span.read) for span in spans)
        assert all(span.read - 2 * geometry.margin >= span.keep for span in spans)
    assert plan.input[0] * plan.input[1] <= megapixels * 1e6


def test_memory_plan_takes_the_whole_image_if_it_fits(paper):
    plan = plan_for_memory(512, 696, paper, 1536, 4e9)
    assert (len(plan), plan.reason) == (1, "the whole image fits in one tile")


def test_memory_plan_cuts_evenly(paper):
    plan = plan_for_memory(400, 400, paper, 1.0, 572**2)
    assert plan.keep == (400, 208), "two tiles, 208 and 192 wide: not of 384 and 16, and not four squares"
    assert plan.reason.startswith("as large as")


@given(
    height=st.integers(1, 900),
    width=st.integers(1, 900),
    depth=st.integers(1, 4),
    pixels=st.integers(60_000, 400_000),
)
def test_no_plan_of_equal_tiles_reads_less(height, width, depth, pixels):
    """Every other plan, tried one by one, that cuts each axis into tiles as equal as can be."""
    geometry = UNet(width=1, depth=depth).geometry

    def read(plan):
        return sum(row.read * column.read for row, column in plan.tiles)

    found = plan_for_memory(height, width, geometry, 1.0, pixels)
    period = geometry.period
    keeps = [
        sorted({ceil(ceil(side / n) / period) * period for n in range(1, ceil(side / period) + 1)})
        for side in (height, width)
    ]
    plans = (plan_tiles(height, width, keep, geometry) for keep in product(*keeps))
    assert read(found) == min(read(p) for p in plans if p.input[0] * p.input[1] <= pixels)


def test_memory_plan_of_a_strip_uses_what_the_short_side_leaves(paper):
    plan = plan_for_memory(4, 100_000, paper, 1.0, 1000**2)
    assert plan.input[0] == 188
    assert plan.input[1] > 5000


def test_memory_plan_stops_at_the_largest_useful_tile(paper):
    plan = plan_for_memory(10_000, 10_000, paper, 1.0, 1e12, largest=700)
    assert plan.input[0] * plan.input[1] <= 700**2
    assert plan.reason == "at most 700 x 700 px: larger ones save little"


@pytest.mark.parametrize("memory", [0, -5e9, 204**2 * 1000 - 1])
def test_too_little_memory_names_what_is_missing(paper, memory):
    with pytest.raises(
        TilingError, match=r"smallest one takes 42 MB; raise the limit \(--max-memory\) by \d+ MB"
    ):
        plan_for_memory(600, 600, paper, 1000, memory)
    assert len(plan_for_memory(600, 600, paper, 1000, 204**2 * 1000)) > 1


@given(height=st.integers(1, 9), width=st.integers(1, 9), before=st.integers(0, 40), after=st.integers(0, 40))
def test_mirrored_reading_is_numpy_reflect(height, width, before, after):
    image = np.arange(2 * height * width).reshape(2, height, width)
    window = read_mirrored(image, -before, height + after, -after, width + before)
    padding = ((0, 0), (before, after), (after, before))
    np.testing.assert_array_equal(window, np.pad(image, padding, mode="reflect"))


def test_window_beside_the_image_is_mirrored_too():
    image = np.arange(5)[None, None]  # 0 1 2 3 4 | 3 2 1 0 1 2
    assert read_mirrored(image, 0, 1, 6, 10).ravel().tolist() == [2, 1, 0, 1]


class CountedWrites:
    """Stands where the result is written and counts, per pixel, how often it is."""

    def __init__(self, height: int, width: int) -> None:
        self.count = np.zeros((1, height, width), int)

    def __setitem__(self, window, values):
        assert values.shape == self.count[window].shape
        self.count[window] += 1


@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    keep=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    depth=st.integers(1, 4),
)
def test_every_pixel_is_written_exactly_once(height, width, keep, depth):
    geometry = UNet(width=1, depth=depth).geometry
    plan = plan_tiles(height, width, tuple(k * geometry.period for k in keep), geometry)
    writes = CountedWrites(height, width)
    margin = geometry.margin
    run_tiled(
        np.zeros((1, height, width)), lambda tile: tile[:, margin:-margin, margin:-margin], plan, 1, writes
    )
    assert (writes.count == 1).all()


def test_pixels_come_back_to_their_place(paper):
    image = np.arange(300 * 200, dtype=np.float32).reshape(1, 300, 200)
    plan = plan_tiles(300, 200, (64, 48), paper)
    np.testing.assert_array_equal(run_tiled(image, lambda tile: tile[:, 92:-92, 92:-92], plan, 1), image)


def test_image_of_another_size_is_refused(paper):
    with pytest.raises(ShapeError, match=r"\(1, 30, 20\) does not fit the plan: \(C, 20, 30\)"):
        run_tiled(np.zeros((1, 30, 20)), lambda tile: tile, plan_tiles(20, 30, (16, 16), paper), 1)


def test_output_of_another_size_is_refused(paper):
    plan = TilePlan(plan_axis(20, 16, paper), plan_axis(20, 16, paper))
    with pytest.raises(TilingError, match=r"\(1, 204, 204\) gave \(1, 204, 204\), expected \(1, 20, 20\)"):
        run_tiled(np.zeros((1, 20, 20)), lambda tile: tile, plan, 1)
