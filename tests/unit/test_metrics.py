"""Scores by hand: small images whose counts can be checked by eye, empty ones, and wrong input."""

import math
import subprocess
import sys

import numpy as np
import pytest

from ushape import metrics
from ushape.errors import ConfigError, DataError, ShapeError


def test_nothing_heavy_is_imported_before_it_is_used():
    heavy = "{'numba', 'scipy', 'torch', 'lightning', 'matplotlib', 'skimage'}"
    code = f"import sys, ushape.metrics, ushape.evaluate; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Class masks


def test_confusion_by_hand():
    truth = np.array([[0, 0, 1], [1, 2, 255]])
    pred = np.array([[0, 1, 1], [1, 0, 2]])
    np.testing.assert_array_equal(metrics.confusion(pred, truth, 3), [[1, 1, 0], [0, 2, 0], [1, 0, 0]])


def test_class_scores_by_hand():
    matrix = np.array([[6, 2], [1, 3]])
    np.testing.assert_allclose(metrics.dice(matrix), [12 / 15, 6 / 9])
    np.testing.assert_allclose(metrics.iou(matrix), [6 / 9, 3 / 6])
    assert metrics.accuracy(matrix) == 9 / 12


def test_a_class_that_is_nowhere_scores_one():
    matrix = metrics.confusion(np.zeros((3, 3), np.uint8), np.zeros((3, 3), np.uint8), 2)
    assert metrics.dice(matrix).tolist() == metrics.iou(matrix).tolist() == [1, 1]


def test_a_class_that_is_only_invented_scores_zero():
    matrix = metrics.confusion(np.ones((3, 3), np.uint8), np.zeros((3, 3), np.uint8), 2)
    assert metrics.dice(matrix).tolist() == metrics.iou(matrix).tolist() == [0, 0]
    assert metrics.accuracy(matrix) == 0


def test_an_image_where_nothing_counts():
    matrix = metrics.confusion(np.zeros((2, 2), np.uint8), np.full((2, 2), 255), 2)
    assert matrix.sum() == 0
    assert metrics.accuracy(matrix) == 1


def test_matrices_of_several_images_give_scores_of_the_set_and_of_each():
    matrices = np.array([[[8, 0], [0, 2]], [[9, 1], [0, 0]]])
    np.testing.assert_allclose(metrics.dice(matrices)[:, 1], [1, 0])
    np.testing.assert_allclose(metrics.dice(matrices.sum(0))[1], 4 / 5)
    np.testing.assert_allclose(metrics.accuracy(matrices), [1, 0.9])


def test_confusion_refuses_what_is_no_class():
    with pytest.raises(DataError, match=r"value 3 in the prediction is not one of the classes 0\.\.1"):
        metrics.confusion(np.array([3]), np.array([0]), 2)
    with pytest.raises(DataError, match=r"value -1 in the truth is not one of the classes 0\.\.1"):
        metrics.confusion(np.array([0]), np.array([-1]), 2)
    with pytest.raises(ShapeError, match=r"prediction has shape \(2,\), truth \(3,\)"):
        metrics.confusion(np.zeros(2, int), np.zeros(3, int), 2)


# Membranes: C is cell, a dot is membrane


def plane(*rows: str) -> np.ndarray:
    return np.array([[letter == "C" for letter in row] for row in rows])


def test_thinning_leaves_one_line_between_cells():
    thinned = metrics.thin_borders(plane("C...C", "C...C"))
    np.testing.assert_array_equal(thinned, [[1, 1, 0, 2, 2]] * 2)


def test_thinning_of_an_even_gap_goes_to_the_cell_that_is_scanned_first():
    np.testing.assert_array_equal(metrics.thin_borders(plane("C..C")), [[1, 1, 0, 2]])


def test_cells_that_touch_by_a_corner_stay_apart():
    np.testing.assert_array_equal(metrics.thin_borders(plane("C.", ".C")), [[1, 0], [0, 2]])


@pytest.mark.parametrize("value", [False, True])
def test_thinning_of_a_constant_plane_is_one_cell(value):
    np.testing.assert_array_equal(metrics.thin_borders(np.full((3, 4), value)), np.ones((3, 4)))


def test_components_are_4_connected_unless_told():
    diagonal = plane("C.", ".C")
    assert metrics.label_components(diagonal).max() == 2
    assert metrics.label_components(diagonal, 8).max() == 1


def test_agreement_by_hand():
    truth = np.array([1, 1, 1, 1, 2, 2, 0, 0])
    pred = np.array([1, 1, 1, 2, 2, 0, 3, 1])
    agreement = metrics.rand_scores(pred, truth)
    assert (agreement.pixels, agreement.unassigned) == (6, 1)
    assert (agreement.truth_objects, agreement.proposal_objects) == (2, 3)
    assert agreement.truth_pairs == 4**2 + 2**2
    assert agreement.proposal_pairs == 3**2 + 2**2 + 1  # one unassigned pixel: an object of its own
    assert agreement.common_pairs == 3**2 + 1 + 1 + 1
    assert agreement.rand == pytest.approx((24 / 34, 12 / 14, 12 / 20))
    assert agreement.truth_entropy == pytest.approx(-(4 * math.log(4 / 6) + 2 * math.log(2 / 6)) / 6)


def test_equal_partitions_are_perfect():
    labels = np.array([5, 5, 9, 9, 9, 0])
    agreement = metrics.rand_scores(labels, labels)
    assert agreement.rand == (1, 1, 1)
    assert agreement.information == pytest.approx((1, 1, 1))


def test_information_of_a_single_object_is_zero_by_the_official_rule():
    one, two = np.array([1, 1, 1]), np.array([1, 1, 2])
    assert metrics.rand_scores(two, one).information == (0, 0, 1)
    assert metrics.rand_scores(one, two).information == (0, 1, 0)
    assert metrics.rand_scores(one, one).information == (0, 1, 0)
    assert metrics.rand_scores(one, one).rand == (1, 1, 1)


def test_a_truth_without_objects_cannot_be_wrong():
    agreement = metrics.rand_scores(np.array([1, 2]), np.array([0, 0]))
    assert agreement.rand == agreement.information == (1, 1, 1)


def test_a_hole_in_a_membrane_merges_and_a_thick_membrane_does_not_matter():
    truth = plane("CCC.CCC", "CCC.CCC", "CCC.CCC")
    thick = plane("CC...CC", "CC...CC", "CC...CC")
    leaky = plane("CCC.CCC", "CCCCCCC", "CCC.CCC")
    assert metrics.v_rand(thick.astype(np.float32), truth).score == 1
    merged = metrics.v_rand(leaky.astype(np.float32), truth)
    assert merged.score == pytest.approx(2 * 162 / (162 + 18**2))
    assert merged.recall == 1


def test_thresholds_mean_over_slices_then_best():
    truth = np.stack([plane("CC.CC")] * 2)
    # The first slice needs a threshold from 0.3 on, the second one below 0.6.
    p = np.array([[[0.9, 0.9, 0.25, 0.9, 0.9]], [[0.6, 0.6, 0.05, 0.6, 0.6]]], np.float32)
    score = metrics.v_rand(p, truth)
    assert score.score == 1
    assert score.threshold == metrics.THRESHOLDS[3]
    merged = 2 * 8 / (8 + 16)
    half = (1 + merged) / 2
    expected = [merged, half, half, 1, 1, 1, 1, half, half, merged, merged]
    assert score.by_threshold == pytest.approx(expected)
    assert [s.score for s in score.by_slice] == [1, 1]


def test_thresholds_compare_float32_as_the_official_code_does():
    # float32(0.3) is a little more than 0.3, and the last threshold a little less than 1.
    truth = plane("CC.CC")
    p = np.where(truth, np.float32(0.3), np.float32(0.2))
    assert metrics.pixel_error(p, truth).by_threshold[3] == 0
    p = np.where(truth, np.float32(1), np.float32(0.99))
    assert metrics.pixel_error(p, truth).by_threshold[10] == 0
    assert metrics.pixel_error(p.astype(np.float64), truth).threshold == metrics.THRESHOLDS[10]


def test_pixel_error_sums_over_the_slices():
    truth = np.stack([plane("CC.."), plane("CCCC")])
    p = np.stack([plane("CCC."), plane("CC..")]).astype(np.float32)
    error = metrics.pixel_error(p, truth)
    assert error.score == pytest.approx(1 - 8 / (8 + 1 + 2))
    assert (error.tp, error.fp, error.fn) == (4, 1, 2)
    assert error.by_slice == ((2, 1, 0), (2, 0, 2))
    assert error.threshold == 0


def test_pixel_error_of_nothing_predicted_and_nothing_there():
    assert metrics.pixel_error(np.zeros((2, 2)), np.zeros((2, 2))).score == 0


def test_ignored_pixels_do_not_count():
    truth, ignored = plane("CC.C"), np.array([[False, False, False, True]])
    p = np.array([[1, 1, 0, 0]], np.float32)
    assert metrics.pixel_error(p, truth).fn == 1
    assert metrics.pixel_error(p, truth, ignored=ignored).score == 0
    assert metrics.v_rand(p, truth, ignored=ignored).agreements[0].pixels == 2


def test_planes_may_differ_in_size():
    truth = [plane("CC.CC"), plane("C.C", "C.C")]
    p = [cell.astype(np.float32) for cell in truth]
    assert metrics.v_rand(p, truth).score == metrics.v_info(p, truth).score == 1
    assert metrics.pixel_error(p, truth).tp == 8


def test_one_plane_equals_a_stack_of_one():
    truth = plane("CC.CC", "C..CC")
    p = np.where(truth, 0.7, 0.4)
    assert metrics.v_scores(p, truth) == metrics.v_scores(p[None], truth[None])


@pytest.mark.parametrize("bad", [1.5, -0.1, np.nan])
@pytest.mark.parametrize("score", [metrics.pixel_error, metrics.v_rand, metrics.v_info])
def test_values_that_are_no_probabilities_are_refused(score, bad):
    p = np.full((4, 4), 0.5)
    p[1, 2] = bad
    with pytest.raises(DataError, match=r"probabilities must lie in 0\.\.1, found "):
        score(p, np.ones((4, 4)))


def test_shapes_that_differ_are_refused():
    with pytest.raises(ShapeError, match=r"got 1 of \(4, 4\), 1 of \(4, 5\) and 1 of \(4, 5\)"):
        metrics.v_rand(np.zeros((4, 4)), np.zeros((4, 5)))
    with pytest.raises(ShapeError, match="equally many planes"):
        metrics.pixel_error(np.zeros((2, 4, 4)), np.zeros((3, 4, 4)))
    with pytest.raises(ShapeError, match="equally many planes"):
        metrics.pixel_error(np.zeros((0, 4, 4)), np.zeros((0, 4, 4)))
    with pytest.raises(ShapeError, match="make them equal"):
        metrics.rand_scores(np.zeros(3, int), np.zeros(4, int))


def test_negative_ids_are_refused():
    with pytest.raises(DataError, match="object ids must not be negative, found -2"):
        metrics.rand_scores(np.array([-2, 1]), np.array([1, 1]))


# Objects


def test_matching_by_hand():
    true = np.array([[7, 7, 7, 7, 0, 3, 3, 0, 9]])
    pred = np.array([[2, 2, 2, 0, 0, 4, 0, 5, 0]])
    matching = metrics.match(pred, true, 0.5)
    assert (matching.tp, matching.fp, matching.fn) == (2, 1, 1)
    assert matching.pairs == ((2, 7, 0.75), (4, 3, 0.5))  # IoU exactly at the threshold counts
    assert matching.average_precision == metrics.average_precision(pred, true) == 2 / 4
    assert matching.f1 == 4 / 6
    assert matching.iou_sum == 1.25
    assert metrics.match(pred, true, 0.6).tp == 1


def test_an_object_has_one_partner_only():
    true = np.array([[1, 1, 1, 1]])
    pred = np.array([[1, 1, 2, 2]])
    matching = metrics.match(pred, true, 0.5)  # both halves have IoU 0.5
    assert (matching.tp, matching.fp, matching.fn) == (1, 1, 0)


def test_more_pairs_come_before_better_pairs():
    true = np.array([[1] * 20 + [2] * 2])
    pred = np.array([[5] * 2 + [6] * 18 + [6] * 2])
    # 6 fits 1 far better (IoU 18/22) than 2 (2/20), but 5 fits only 1 (2/20).
    assert metrics.match(pred, true, 0.1).pairs == ((5, 1, 0.1), (6, 2, 0.1))
    assert metrics.match(pred, true, 0.2).pairs == ((6, 1, 18 / 22),)


def test_images_without_objects():
    empty, one = np.zeros((2, 2), int), np.ones((2, 2), int)
    assert metrics.match(empty, empty).average_precision == metrics.match(empty, empty).f1 == 1
    assert metrics.match(one, empty).average_precision == 0
    assert metrics.match(empty, one).fn == 1


def test_matchings_add_up():
    parts = [metrics.Matching(0.5, 1, 2, 3, ((1, 1, 0.7),), 0.7), metrics.Matching(0.5, 10, 0, 0, (), 8.0)]
    assert metrics.total(parts) == metrics.Matching(0.5, 11, 2, 3, (), 8.7)


def test_wrong_thresholds_are_refused():
    one = np.ones((2, 2), int)
    for threshold in (0, 1.1):
        with pytest.raises(ConfigError, match=f"above 0 and at most 1, got {threshold}"):
            metrics.match(one, one, threshold)
    with pytest.raises(ConfigError, match=r"share one threshold, got \[0.5, 0.7\]"):
        metrics.total([metrics.match(one, one, 0.5), metrics.match(one, one, 0.7)])
    with pytest.raises(ConfigError, match=r"share one threshold, got \[\]"):
        metrics.total([])
    with pytest.raises(ShapeError, match="make them equal"):
        metrics.match(one, np.ones((3, 2), int))
