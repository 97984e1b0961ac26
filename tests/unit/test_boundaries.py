"""Boundaries by hand: pieces and distances that can be counted on the fingers, empty masks, wrong input."""

import math
import subprocess
import sys

import numpy as np
import pytest

from ushape.errors import ConfigError, ShapeError
from ushape.metrics import boundaries

ROOT2 = math.sqrt(2)


def row(letters: str) -> np.ndarray:
    """A mask of one row: X is inside. Every pixel of it is a boundary pixel."""
    return np.array([[letter == "X" for letter in letters]])


def square() -> np.ndarray:
    mask = np.zeros((5, 6), bool)
    mask[1:4, 1:4] = True
    return mask


def test_nothing_heavy_is_imported_before_it_is_used():
    heavy = "{'numba', 'scipy', 'torch', 'skimage', 'matplotlib'}"
    code = f"import sys, ushape.metrics.boundaries; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pieces_of_a_square():
    distances = boundaries.boundary_distances(square(), square())
    assert (distances.pixels.convention, distances.contour.convention) == ("pixels", "contour")
    assert distances.pixels.true.lengths.tolist() == [1] * 8
    # Two pieces of 1 on each side and four corners cut off.
    assert sorted(distances.contour.true.lengths) == pytest.approx([ROOT2 / 2] * 4 + [1] * 8)


def test_contour_in_a_unit_of_length():
    contour = boundaries.boundary_distances(square(), square(), spacing=(2, 0.5)).contour
    lengths = [math.hypot(2, 0.5) / 2] * 4 + [2] * 4 + [0.5] * 4
    assert sorted(contour.true.lengths) == pytest.approx(sorted(lengths))


def test_pixels_that_touch_by_a_corner_have_a_contour_each():
    both = np.eye(2, dtype=bool)
    contour = boundaries.boundary_distances(both, both).contour
    assert len(contour.true.lengths) == 7  # the corner that both share is one piece of double length
    assert contour.true.lengths.sum() == pytest.approx(2 * 4 * ROOT2 / 2)
    anti = boundaries.boundary_distances(both[::-1], both[::-1]).contour
    assert sorted(anti.true.lengths) == sorted(contour.true.lengths)


def test_nothing_is_inside_beyond_the_image():
    whole = np.ones((3, 3), bool)
    distances = boundaries.boundary_distances(whole, whole)
    assert len(distances.pixels.true.lengths) == 8
    assert distances.contour.true.lengths.sum() == pytest.approx(8 + 2 * ROOT2)


def test_the_boundary_is_that_of_4_neighbours():
    plus = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    assert len(boundaries.boundary_distances(plus, plus).pixels.true.lengths) == 4  # its middle is inside


def test_conventions_differ_by_half_a_pixel_on_each_side():
    pred, true = row("...X."), row("X....")
    assert boundaries.hd95(pred, true) == 3
    assert [boundaries.boundary_f1(pred, true, tolerance) for tolerance in (2.9, 3)] == [0, 1]
    # The near side of each pixel is 2 from the other one, the far side 3.
    assert [boundaries.nsd(pred, true, tolerance) for tolerance in (1.9, 2, 3)] == [0, 0.5, 1]
    assert boundaries.nsd(pred, true, 2, convention="pixels") == 0


def test_distances_are_in_the_unit_of_the_spacing():
    pred, true = row("...X."), row("X....")
    assert boundaries.hd95(pred, true, spacing=(7, 0.5)) == 1.5
    assert boundaries.hd95(pred.T, true.T, spacing=(7, 0.5)) == 21
    assert boundaries.nsd(pred, true, 1, spacing=(7, 0.5)) == 0.5
    assert boundaries.boundary_f1(pred.T, true.T, 20, spacing=(7, 0.5)) == 0


def test_percentiles_of_pixels_are_interpolated_and_of_contours_weighted():
    pred, true = row("XXXXX"), row("X....")
    distances = boundaries.boundary_distances(pred, true)
    assert distances.hd95 == distances.pixels.hd95 == pytest.approx(3.8)  # of 0, 1, 2, 3, 4
    # 0, 0, 1, 2, 3, 4 with lengths .7, 1, 1, 1, 1, .7 of 5.4: 87 % lie below 4.
    assert distances.contour.hd95 == 4
    assert boundaries.hd95(true, pred) == pytest.approx(3.8)  # the larger of both ways


def test_a_weighted_percentile_ends_where_95_percent_of_the_length_lies():
    # Column c of the 41 columns of corners is c - 1 away: 93.3 % of the length lies up to 37, 95.8 % to 38.
    pred, true = row("X" * 40), row("X" + "." * 39)
    assert boundaries.hd95(pred, true, convention="contour") == 37


@pytest.mark.parametrize("length", [0.1, 0.3, 1.1])  # added up, 19 of 0.3 come to less than 95 % of 20
def test_19_of_20_equal_pieces_are_95_percent_in_any_unit(length):
    pieces = boundaries.Pieces(np.arange(20.0), np.full(20, length))
    assert boundaries.Boundaries("contour", pieces, pieces).hd95 == 18


def test_precision_and_recall():
    overlap = boundaries.boundary_distances(row("XXXXXXXX"), row("XXXX....")).pixels.within(1)
    assert overlap == boundaries.BoundaryOverlap(1, 5, 8, 4, 4)
    assert (overlap.precision, overlap.recall) == (5 / 8, 1)
    assert overlap.f1 == 2 * 5 / 8 / (1 + 5 / 8)
    assert overlap.nsd == 9 / 12


def test_scores_of_boundaries_without_anything_in_common():
    overlap = boundaries.boundary_distances(row("X....."), row(".....X")).pixels.within(4)
    assert (overlap.precision, overlap.recall, overlap.f1, overlap.nsd) == (0, 0, 0, 0)


def test_two_empty_masks_agree():
    empty = np.zeros((3, 4), bool)
    distances = boundaries.boundary_distances(empty, empty)
    assert (distances.hd95, distances.contour.hd95) == (0, 0)
    assert (distances.nsd(1), distances.f1(1)) == (1, 1)
    assert distances.pixels.within(0).precision == distances.pixels.within(0).recall == 1


@pytest.mark.parametrize("way", [1, -1])
def test_an_empty_mask_and_another_one_do_not_agree(way):
    masks = (square(), np.zeros_like(square()))[::way]
    distances = boundaries.boundary_distances(*masks)
    assert (distances.hd95, distances.contour.hd95) == (math.inf, math.inf)
    assert (distances.nsd(1e9), distances.f1(1e9)) == (0, 0)
    assert distances.pixels.within(1e9).precision == distances.pixels.within(1e9).recall == 0


def test_each_score_has_its_convention():
    pred = np.roll(square(), (1, 2), (0, 1))
    distances = boundaries.boundary_distances(pred, square(), (0.3, 0.7))
    masks = pred, square()
    assert distances.hd95 == distances.pixels.hd95 == boundaries.hd95(*masks, (0.3, 0.7))
    assert distances.contour.hd95 == boundaries.hd95(*masks, (0.3, 0.7), "contour")
    by_contour, by_pixels = distances.contour.within(0.7), distances.pixels.within(0.7)
    assert distances.nsd(0.7) == by_contour.nsd == boundaries.nsd(*masks, 0.7, (0.3, 0.7))
    assert by_pixels.nsd == boundaries.nsd(*masks, 0.7, (0.3, 0.7), "pixels") != by_contour.nsd
    assert distances.f1(0.7) == by_pixels.f1 == boundaries.boundary_f1(*masks, 0.7, (0.3, 0.7))


def test_values_of_monai_and_surface_distance():
    y, x = np.indices((32, 40))
    true = (y - 15) ** 2 + (x - 17) ** 2 < 100
    pred = ((y - 17) ** 2 / 1.5 + (x - 19) ** 2 < 90) | ((y - 4) ** 2 + (x - 33) ** 2 < 12)
    distances = boundaries.boundary_distances(pred, true, (0.5, 0.25))
    assert distances.pixels.hd95 == pytest.approx(3.8013901710510254, rel=1e-6)  # MONAI 1.6, in float32
    assert distances.pixels.within(0.6).nsd == 0.53125
    assert distances.contour.hd95 == pytest.approx(3.7165171868296265, rel=1e-12)  # surface-distance 0.1
    assert distances.contour.within(0.6).nsd == pytest.approx(0.5817168144475215, rel=1e-12)


def test_masks_may_be_numbers():
    pred = np.roll(square(), 1, 0)
    expected = boundaries.hd95(pred, square())
    assert boundaries.hd95(pred.astype(np.uint8) * 255, square().astype(np.int64)) == expected


def test_three_pixels_of_a_tenth_are_three_tenths():
    pred, true = row("...X"), row("X...")
    assert 3 * 0.1 > 0.3
    assert boundaries.boundary_f1(pred, true, 0.3, spacing=(0.1, 0.1)) == 1
    assert boundaries.boundary_f1(pred, true, 0.2999, spacing=(0.1, 0.1)) == 0


@pytest.mark.parametrize("shapes", [((3, 4), (4, 3)), ((2, 3, 4), (2, 3, 4)), ((3,), (3,))])
def test_masks_must_be_two_planes_of_one_size(shapes):
    with pytest.raises(ShapeError, match=r"must be masks \(H, W\) of one size"):
        boundaries.boundary_distances(*map(np.ones, shapes))


@pytest.mark.parametrize("spacing", [(0, 1), (1, -2), (1, math.nan), (math.inf, 1), (1, 1, 1)])
def test_pixel_sizes_must_be_two_positive_numbers(spacing):
    with pytest.raises(ConfigError, match=r"two sizes \(y, x\), both positive, got \("):
        boundaries.hd95(square(), square(), spacing)


@pytest.mark.parametrize("tolerance", [-1, math.nan, math.inf])
def test_a_tolerance_must_be_a_number(tolerance):
    with pytest.raises(ConfigError, match=f"not negative, got {tolerance}"):
        boundaries.nsd(square(), square(), tolerance)
