"""Rand error and warping error by hand: drawings whose pixels can be counted. C is cell, a dot membrane."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ushape
from ushape import metrics
from ushape.errors import ConfigError, DataError, ShapeError
from ushape.metrics.simple_points import is_simple
from ushape.metrics.warping import WARPING_THRESHOLDS, Mismatch, Mismatches, warp_truth


def plane(*rows: str) -> np.ndarray:
    return np.array([[letter == "C" for letter in row] for row in rows])


def probability(*rows: str) -> np.ndarray:
    """A proposal that is sure everywhere."""
    return plane(*rows).astype(np.float32)


# Rand error


def test_pairs_of_pixels_by_hand():
    # The truth's clusters have 2, 1 (membrane) and 2 pixels, the proposal's 4 and 1 (membrane).
    error = metrics.rand_error(probability("CCCC."), plane("CC.CC"))
    assert (error.tp, error.fp, error.fn) == (1, 5, 1)
    assert error.score == pytest.approx(1 - 2 / 8)
    assert error.threshold == 0
    assert error.by_threshold == (error.score,) * 11


def test_the_membrane_is_one_cluster_of_its_own():
    error = metrics.rand_error(probability("....", ".CC."), plane("C..C", ".CC."))
    # The membrane of 4 pixels gains the two corner pixels, which were clusters of one pixel.
    assert (error.tp, error.fp, error.fn) == (6 + 1, 9, 0)


def test_cells_that_touch_by_a_corner_are_two_clusters():
    error = metrics.rand_error(probability("C.", ".C"), plane("C.", "CC"))
    assert (error.tp, error.fp, error.fn) == (0, 1, 3)
    assert error.score == 1


def test_rand_error_sums_over_the_slices():
    truth = np.stack([plane("CC.CC"), plane("CCCC.")])
    error = metrics.rand_error(np.stack([probability("CC.CC"), probability("C.CC.")]), truth)
    assert error.by_slice == ((2, 0, 0), (1, 1, 5))
    assert (error.tp, error.fp, error.fn) == (3, 1, 5)
    assert error.score == pytest.approx(1 - 6 / (6 + 1 + 5))


def test_rand_error_takes_the_first_best_threshold():
    truth = plane("CC.CC")
    p = np.array([[0.9, 0.9, 0.25, 0.9, 0.6]], np.float32)
    merged, torn = 1 - 4 / (4 + 8), 1 - 2 / (2 + 1 + 1)
    error = metrics.rand_error(p, truth)
    assert error.by_threshold == pytest.approx([merged] * 3 + [0] * 4 + [torn] * 2 + [merged] * 2)
    assert (error.score, error.threshold) == (0, metrics.THRESHOLDS[3])


def test_ignored_pixels_are_in_no_pair_and_cut_the_truth():
    truth, ignored = plane("CC.CC"), plane("..C..")
    p = probability("CCCCC")
    assert metrics.rand_error(p, truth, ignored=ignored).by_slice == ((2, 4, 0),)
    whole = metrics.rand_error(p, plane("CCCCC"), ignored=ignored)
    assert (whole.tp, whole.fp, whole.fn) == (2, 4, 0)


@pytest.mark.parametrize("truth", [plane("C"), plane("."), plane("C.")])
def test_without_a_pair_nothing_is_wrong(truth):
    assert metrics.rand_error(truth.astype(np.float32), truth).score == 0


# Simple points


@pytest.mark.parametrize(
    ("around", "simple"),
    [
        (("...", ". .", "..."), False),  # an object of its own
        (("CCC", "C C", "CCC"), False),  # the inside of an object
        (("...", "C .", "..."), True),  # the end of a line
        (("...", "C C", "..."), False),  # the middle of a line
        (("C..", "C C", "CCC"), True),  # a bend of a thick line
        (("CCC", "C C", "CC."), True),  # a corner of membrane is a way out for 8-connected membrane
        (("C..", ". .", "..C"), False),  # corners do not connect cells
        (("CCC", ". .", "CCC"), False),  # two objects above and below
    ],
)
def test_simple_points_by_hand(around, simple):
    ring = [(1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0), (2, 1), (2, 2)]
    assert is_simple([around[y][x] == "C" for y, x in ring]) == simple


# Warping error


def kinds(p: np.ndarray, truth: np.ndarray, **options: object) -> list[str]:
    """The mismatches, drawn with a letter each."""
    letters = {0: " ", Mismatch.SPLIT: "S", Mismatch.MERGE: "M", Mismatch.OBJECT_ADDED: "O"}
    letters |= {Mismatch.OBJECT_DELETED: "o", Mismatch.HOLE_ADDED: "H", Mismatch.HOLE_DELETED: "h"}
    return ["".join(letters[kind] for kind in row) for row in warp_truth(p, truth, **options).mismatches]


def test_a_border_elsewhere_is_no_error():
    truth, p = plane(*["CCCCC.CC"] * 3), probability(*["CC...CCC"] * 3)
    assert metrics.warping_error(p, truth).score == 0
    np.testing.assert_array_equal(warp_truth(p, truth).cell, p > 0.5)
    assert metrics.pixel_error(p, truth).score > 0


def test_a_merger():
    p, truth = probability("CCC.CCC", "CCCCCCC", "CCC.CCC"), plane(*["CCC.CCC"] * 3)
    error = metrics.warping_error(p, truth)
    assert error.score == 1 / 21
    assert (error.splits, error.merges, error.pixels) == (0, 1, 21)
    assert kinds(p, truth) == ["       ", "   M   ", "       "]


def test_a_split_costs_the_pixels_that_would_part_the_object():
    p, truth = probability(*["CCC.CCC"] * 3), plane(*["CCCCCCC"] * 3)
    error = metrics.warping_error(p, truth)
    # The gap is cut from the top; the last of its three pixels holds the object together.
    assert error.by_slice == (Mismatches(1, 0, 0, 0, 0, 0),)
    assert error.score == 1 / 21
    assert kinds(p, truth) == ["       ", "       ", "   S   "]


def test_a_thick_merger_costs_one_pixel_for_each_that_would_join():
    truth, p = plane(*["CC.CC"] * 3), probability(*["CCCCC"] * 3)
    assert kinds(p, truth) == ["  M  "] * 3
    assert metrics.warping_error(p, truth).score == 3 / 15


@pytest.mark.parametrize(
    ("truth", "proposal", "expected"),
    [
        (("...", "...", "..."), ("...", ".C.", "..."), ["   ", " O ", "   "]),
        (("...", ".C.", "..."), ("...", "...", "..."), ["   ", " o ", "   "]),
        (("CCC", "CCC", "CCC"), ("CCC", "C.C", "CCC"), ["   ", " H ", "   "]),
        (("CCC", "C.C", "CCC"), ("CCC", "CCC", "CCC"), ["   ", " h ", "   "]),
    ],
)
def test_objects_and_holes_are_told_apart_and_do_not_count(truth, proposal, expected):
    error = metrics.warping_error(probability(*proposal), plane(*truth))
    assert error.score == 0
    assert sum(error.by_slice[0]) == 1
    assert kinds(probability(*proposal), plane(*truth)) == expected


def test_cell_that_touches_two_other_objects_by_its_corners_is_a_split():
    assert kinds(probability("C.C", "..."), plane("C.C", ".C.")) == ["   ", " S "]
    # With one other object the search decides, and the lost object passes for a lost hole.
    assert kinds(probability("C..", "..."), plane("C..", ".C.")) == ["   ", " h "]


def test_the_surest_pixels_are_flipped_first():
    # Of an object that the proposal does not know, the least sure pixel is left.
    assert kinds(np.array([[0.1, 0.4, 0.2]]), plane("CCC")) == [" o "]
    assert kinds(np.array([[0.4, 0.2, 0.1]]), plane("CCC")) == ["o  "]


def test_equally_sure_pixels_are_flipped_column_by_column():
    # Three of four pixels would change; the last of them holds the cell together. By rows: the lower left.
    assert kinds(np.array([[0.75, 0.25], [0.25, 0.75]]), plane(".C", "CC")) == [" S", "  "]


def test_distances_from_the_threshold_are_compared_as_float32():
    # As float64 the 0.2 of a float32 is further from 0.1 than 0 is, and the outer pixels would come first.
    p, truth = np.array([[0.2, 0, 0, 0.2]], np.float32), plane(".CC.")
    assert kinds(p, truth, threshold=WARPING_THRESHOLDS[1]) == ["   O"]
    assert kinds(p + np.float32([[1e-6, 0, 0, 1e-6]]), truth, threshold=WARPING_THRESHOLDS[1]) == [" HH "]


def test_pieces_are_told_apart_within_the_radius():
    truth, p = plane("CCCCC", *["C...C"] * 3, "CCCCC"), probability("CC.CC", *["C...C"] * 3, "CCCCC")
    assert kinds(p, truth, radius=1)[0] == "  S  "
    assert kinds(p, truth, radius=3)[0] == "  S  "  # the window ends before the row that joins them
    assert kinds(p, truth, radius=4)[0] == "  h  "
    assert kinds(p, truth)[0] == "  h  "  # a radius larger than the image: the whole image
    assert metrics.warping_error(p, truth, radius=1).splits == 1
    assert metrics.warping_error(p, truth).splits == 0


def test_a_radius_larger_than_one_side_sees_the_whole_image():
    # A hairpin of 3 x 30 pixels: its arms are joined 28 columns away from where they are cut.
    truth = plane("C" * 30, "C" + "." * 28 + "C", "C" * 30)
    p = truth.astype(np.float32)
    p[0, 28] = p[1, 29] = 0
    assert kinds(p, truth, radius=2)[0][28] == "S"
    assert " ".join(kinds(p, truth, radius=4)).count("S") == 0


def test_warping_error_takes_the_best_threshold_of_all_slices():
    truth = np.stack([plane("CC.CC")] * 2)
    p = np.array([[[0.95, 0.95, 0.25, 0.95, 0.95]], [[0.55, 0.55, 0, 0.55, 0.55]]], np.float32)
    error = metrics.warping_error(p, truth)
    assert error.by_threshold == (0.1, 0.1, 0.1, *[0.0] * 7)
    assert (error.score, error.threshold) == (0, metrics.THRESHOLDS[3])
    assert error.by_slice == (Mismatches(0, 0, 0, 0, 0, 0),) * 2
    assert len(error.by_threshold) == len(WARPING_THRESHOLDS) == 10


def test_ignored_pixels_are_neither_warped_nor_counted():
    p, truth = probability("CCCCC", "CCCCC"), plane("CC.CC", "CC.CC")
    ignored = plane("..C..", ".....")
    error = metrics.warping_error(p, truth, ignored=ignored)
    assert (error.merges, error.pixels) == (1, 9)
    assert metrics.warping_error(p, truth | ignored, ignored=ignored) == error
    nothing = metrics.warping_error(p, truth, ignored=np.ones_like(truth))
    assert (nothing.score, nothing.pixels) == (0, 0)


@pytest.mark.parametrize("value", [0, 1])
def test_objects_on_an_empty_truth_and_an_empty_proposal_cost_nothing(value):
    truth = np.full((4, 5), bool(value))
    assert metrics.warping_error(truth.astype(np.float32), truth).by_slice == (Mismatches(0, 0, 0, 0, 0, 0),)
    other = metrics.warping_error((~truth).astype(np.float32), truth)
    assert other.score == 0
    assert sum(other.by_slice[0]) > 0


def test_planes_of_one_stack_may_differ_in_size():
    p, truth = [probability("CCC", "CCC"), probability("CCCCC")], [plane("C.C", "C.C"), plane("CC.CC")]
    error = metrics.warping_error(p, truth)
    assert (error.merges, error.pixels) == (3, 11)
    assert metrics.rand_error(p, truth).by_slice == ((3, 12, 0), (2, 8, 0))


# Values of other implementations


def test_values_frozen_from_scikit_learn_elf_and_the_reference():
    """Real nuclei, and the same moved by a few pixels and crossed by lines.

    Frozen from scikit-learn 1.9.1 (`pair_confusion_matrix`, `normalized_mutual_info_score`), python-elf 0.9.2
    (`rand_index`) and `em_reference`, on 4-connected components.
    """
    masks = Path(ushape.__file__).parent / "demo_images" / "val" / "masks"
    truth = np.asarray(Image.open(masks / "03f583ec5018739f.png")) > 0
    moved = np.roll(truth, (2, 3), (0, 1)) | (np.indices(truth.shape).sum(0) % 50 == 0)
    p = moved.astype(np.float32)
    assert metrics.rand_error(p, truth).by_slice == ((3985319888, 305213381, 481417028),)
    agreement = metrics.rand_scores(metrics.label_components(moved), metrics.label_components(truth))
    assert agreement.rand.score == pytest.approx(0.9060286825990561, rel=1e-9)
    assert agreement.information.score == pytest.approx(0.8663101262140679, rel=1e-9)
    kinds_at_0 = np.bincount(warp_truth(p, truth, 0.0).mismatches.ravel())
    assert kinds_at_0[1:].tolist() == [132, 33, 2030, 0, 51]  # splits, mergers, objects added, -, holes added
    assert metrics.warping_error(p, truth).by_threshold[0] == pytest.approx(165 / 360**2, rel=1e-9)


# Wrong input


@pytest.mark.parametrize("score", [metrics.rand_error, metrics.warping_error])
def test_values_that_are_no_probabilities_and_shapes_that_differ_are_refused(score):
    with pytest.raises(DataError, match=r"probabilities must lie in 0\.\.1, found -1\.\.1"):
        score(np.array([[-1.0, 1]]), plane("CC"))
    with pytest.raises(ShapeError, match=r"got 1 of \(1, 2\), 1 of \(1, 3\) and 1 of \(1, 3\)"):
        score(probability("CC"), plane("CCC"))
    with pytest.raises(ShapeError, match=r"1 of \(3,\)"):
        score(probability("CC"), plane("CC"), ignored=[np.zeros(3, bool)])


def test_one_plane_is_warped_at_a_time():
    with pytest.raises(ShapeError, match=r"got 1 of \(2, 3, 3\)"):
        warp_truth(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)))


@pytest.mark.parametrize("radius", [0, -1])
def test_a_radius_below_one_is_refused(radius):
    with pytest.raises(ConfigError, match=f"radius must be at least 1 pixel, got {radius}"):
        metrics.warping_error(probability("CC"), plane("CC"), radius=radius)
    with pytest.raises(ConfigError, match="radius"):
        warp_truth(probability("CC"), plane("CC"), radius=radius)
