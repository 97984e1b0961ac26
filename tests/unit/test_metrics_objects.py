"""Scores of objects by hand: shared pixels, matches at many thresholds, panoptic quality, AJI."""

import math

import numpy as np
import pytest

from ushape import metrics
from ushape.errors import ConfigError, DataError, ShapeError
from ushape.metrics.overlaps import count_overlaps, one_to_one

EMPTY, ONE = np.zeros((2, 3), int), np.ones((2, 3), int)


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Discs as truth; as prediction discs moved and resized, one gone, one cut, two made one, one added."""
    y, x = np.indices((96, 128))
    row, column = y // 16, x // 16
    ids = row * 8 + column + 1
    true = np.where((y % 16 - 8) ** 2 + (x % 16 - 8) ** 2 < 40, ids, 0)
    moved = (y % 16 - 8 - row % 3) ** 2 + (x % 16 - 8 - column % 4) ** 2
    pred = np.where(moved < 25 + 3 * column, ids, 0)
    pred[pred == 10] = 0
    pred[pred == 20] = 21
    pred[(pred == 30) & (y % 16 < 8)] = 100
    true[true == 40] = 0
    return pred, true


# Shared pixels


def test_shared_pixels_by_hand():
    pred = np.array([[0, 2, 2, 2], [9, 9, 2, 0]])
    true = np.array([[5, 5, 5, 0], [5, 0, 7, 7]])
    overlaps = count_overlaps(pred, true)
    assert overlaps.pred_ids.tolist() == [2, 9]
    assert overlaps.pred_areas.tolist() == [4, 2]
    assert overlaps.true_ids.tolist() == [5, 7]
    assert overlaps.true_areas.tolist() == [4, 2]
    pairs = [overlaps.pred.tolist(), overlaps.true.tolist(), overlaps.shared.tolist()]
    assert pairs == [[0, 0, 1], [0, 1, 0], [2, 1, 1]]
    assert overlaps.iou.tolist() == [2 / 6, 1 / 5, 1 / 5]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.uint32, np.int64, np.uint64])
def test_any_type_of_whole_numbers_counts_alike(dtype):
    pred, true = drawn()
    assert metrics.match(pred.astype(dtype), true.astype(dtype), 0.6) == metrics.match(pred, true, 0.6)


def test_masks_are_one_object():
    pred, true = np.array([[True, True, False, True]]), np.array([[True, False, False, True]])
    assert metrics.match(pred, true).pairs == ((1, 1, 2 / 3),)


def test_ids_too_large_for_a_table_count_alike():
    pred, true = drawn()
    far = np.where(pred > 0, pred + 2**40, 0)
    matching = metrics.match(far, true)
    assert [(p - 2**40, t, iou) for p, t, iou in matching.pairs] == list(metrics.match(pred, true).pairs)
    assert metrics.match(far, np.where(true > 0, true * 2**30, 0)).iou_sum == matching.iou_sum
    # Without background, the lowest id must not be taken for it.
    assert metrics.match(np.full((2, 2), 2**40), np.ones((2, 2), int)).pairs == ((2**40, 1, 1.0),)


def test_the_order_in_memory_and_the_number_of_axes_do_not_matter():
    pred, true = drawn()
    assert metrics.match(pred.T, true.T) == metrics.match(pred, true)
    assert metrics.match(np.asfortranarray(pred), true) == metrics.match(pred, true)
    assert metrics.match(pred.reshape(4, 24, 128), true.reshape(4, 24, 128)) == metrics.match(pred, true)


def test_images_without_pixels():
    none = np.zeros((0, 5), int)
    assert metrics.match(none, none) == metrics.Matching(0.5, 0, 0, 0)


def test_what_is_no_id_is_refused():
    for score in (metrics.match, metrics.panoptic, metrics.aji, metrics.seg, metrics.det):
        with pytest.raises(DataError, match="object ids must not be negative, found -2"):
            score(np.array([1, -2]), np.array([1, 1]))
        with pytest.raises(DataError, match="object ids must be whole numbers, the truth has float64"):
            score(np.array([1, 1]), np.array([1.0, 1.0]))
        with pytest.raises(
            ShapeError, match=r"prediction has shape \(2, 3\), truth \(3, 3\); make them equal"
        ):
            score(ONE, np.ones((3, 3), int))


# Pairs


def test_pairs_in_one_group_are_chosen_together():
    # Taking the best pair first (gain 5) would leave the two others without a partner: 5 < 4 + 4.
    pred, true = np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 2, 3])
    assert one_to_one(pred, true, np.array([4.0, 5.0, 4.0, 1.0, 1.0])).tolist() == [0, 2, 3, 4]
    assert one_to_one(pred, true, np.array([4.0, 9.0, 4.0, 1.0, 1.0])).tolist() == [1, 3, 4]


def test_groups_do_not_disturb_each_other():
    # Two groups of different shapes: one predicted object on three true ones, and two on one.
    pred, true = np.array([0, 0, 0, 1, 2]), np.array([0, 1, 2, 3, 3])
    assert one_to_one(pred, true, np.array([1.0, 3.0, 2.0, 2.0, 1.0])).tolist() == [1, 3]


def test_no_pairs():
    nothing = np.zeros(0, np.int64)
    assert one_to_one(nothing, nothing, np.zeros(0)).tolist() == []


# Matches


def test_thresholds_are_the_nearest_numbers_to_their_decimals():
    expected = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert list(metrics.IOU_THRESHOLDS) == expected
    # 3 of 5 pixels, and the same for every other threshold: reached, not missed by a rounding error.
    for threshold, hundredths in zip(expected, range(50, 100, 5), strict=True):
        pred = np.arange(100) < hundredths
        assert metrics.match(pred, np.ones(100, bool), threshold).tp == 1


def test_one_table_serves_every_threshold():
    pred, true = drawn()
    several = metrics.matchings(pred, true)
    assert [matching.threshold for matching in several] == list(metrics.IOU_THRESHOLDS)
    assert several == tuple(metrics.match(pred, true, t) for t in metrics.IOU_THRESHOLDS)
    assert metrics.matchings(pred, true, (0.3, 0.9)) == (
        metrics.match(pred, true, 0.3),
        metrics.match(pred, true, 0.9),
    )
    assert metrics.matchings(pred, true, ()) == ()


def test_numbers_of_a_matching():
    matching = metrics.Matching(0.5, tp=6, fp=2, fn=4, iou_sum=4.5)
    assert matching.precision == 6 / 8
    assert matching.recall == 6 / 10
    assert matching.f1 == 12 / 18
    assert matching.average_precision == 6 / 12
    assert matching.mean_matched_score == 0.75


@pytest.mark.parametrize(
    ("pred", "true", "expected"), [(EMPTY, EMPTY, 1), (ONE, EMPTY, 0), (EMPTY, ONE, 0), (ONE, ONE, 1)]
)
def test_empty_images(pred, true, expected):
    matching, quality = metrics.match(pred, true), metrics.panoptic(pred, true)
    assert matching.average_precision == matching.f1 == expected
    assert matching.precision == matching.recall == expected
    assert quality.score == quality.sq == quality.rq == expected
    assert metrics.aji(pred, true).score == expected
    assert metrics.aji(pred, true, definition="kumar").score == expected


def test_mean_matched_score_of_no_match_is_zero():
    assert metrics.match(EMPTY, EMPTY).mean_matched_score == 0


def test_wrong_thresholds_are_refused():
    for threshold in (0, -0.5, 1.01, math.nan):
        with pytest.raises(ConfigError, match="above 0 and at most 1"):
            metrics.matchings(ONE, ONE, (0.5, threshold))


# Panoptic quality


def test_panoptic_quality_by_hand():
    true = np.array([7, 7, 7, 7, 0, 3, 3, 0, 9])
    pred = np.array([2, 2, 2, 0, 0, 4, 0, 5, 0])
    quality = metrics.panoptic(pred, true)
    # The pair (4, 3) has an IoU of exactly 0.5: a match for `match`, none for PQ.
    assert quality == metrics.Panoptic(tp=1, fp=2, fn=2, iou_sum=0.75)
    assert quality.score == 0.75 / 3
    assert quality.sq == 0.75
    assert quality.rq == 1 / 3
    assert metrics.match(pred, true).tp == 2


def test_panoptic_qualities_add_up():
    parts = [metrics.Panoptic(1, 2, 0, 0.75), metrics.Panoptic(3, 0, 2, 2.5)]
    assert metrics.total_panoptic(parts) == metrics.Panoptic(4, 2, 2, 3.25)
    assert metrics.total_panoptic(parts).score == 3.25 / 6
    assert metrics.total_panoptic([]).score == 1


# Aggregated Jaccard index


def test_aji_by_hand():
    true = np.array([1, 1, 1, 1, 2, 2, 2, 2, 0])
    pred = np.array([5, 5, 5, 5, 5, 5, 6, 6, 6])
    # 5 is the partner of 1, 6 of 2. Nine pixels are an object in either image.
    assert metrics.aji(pred, true) == metrics.Jaccard(intersection=6, union=9)
    # The two pixels that 5 and 2 share are in the union of 5 and 1 and in that of 6 and 2.
    assert metrics.aji(pred, true, definition="kumar") == metrics.Jaccard(intersection=6, union=6 + 5)


def test_aji_counts_what_is_missed_and_what_is_invented():
    true = np.array([1, 1, 0, 0, 3])
    pred = np.array([0, 0, 7, 7, 3])
    for definition in ("cellpose", "kumar"):
        assert metrics.aji(pred, true, definition=definition) == metrics.Jaccard(1, 5)


def test_aji_of_a_merger():
    true = np.array([1, 1, 1, 2, 2])
    pred = np.array([5, 5, 5, 5, 5])
    assert metrics.aji(pred, true) == metrics.Jaccard(3, 5)
    # By the original definition both true objects take the same predicted one.
    assert metrics.aji(pred, true, definition="kumar") == metrics.Jaccard(5, 10)


def test_aji_of_a_cut_object():
    true = np.array([1, 1, 1, 1])
    pred = np.array([5, 5, 6, 6])
    assert metrics.aji(pred, true) == metrics.Jaccard(2, 4)
    assert metrics.aji(pred, true, definition="kumar") == metrics.Jaccard(2, 4 + 2)


def test_partners_of_aji_are_chosen_for_the_image_not_greedily():
    true = np.array([1] * 6 + [2] * 4)
    pred = np.array([5] * 2 + [6] * 7 + [0])
    # IoU 4/9 of (6, 1) is the best pair, but (5, 1) and (6, 2) together have 2/6 + 3/8.
    assert metrics.aji(pred, true) == metrics.Jaccard(2 + 3, 10)
    assert metrics.aji(pred, true, definition="kumar") == metrics.Jaccard(4 + 3, 9 + 8 + 2)


def test_partners_of_aji_reach_half_where_they_can():
    true = np.array([1] * 8 + [2] * 3 + [0])
    pred = np.array([5] * 2 + [6] * 10)
    # IoU 6/12 of (6, 1) reaches 0.5 and comes first, though (5, 1) and (6, 2) add up to 2/8 + 3/10.
    assert metrics.aji(pred, true) == metrics.Jaccard(6, 12)


def test_of_equal_partners_the_original_aji_takes_the_larger_one():
    true = np.array([1] * 6 + [0] * 3)
    pred = np.array([5] * 2 + [6] * 3 + [0] + [6] * 3)
    # 2/6 and 3/9.
    assert metrics.aji(pred, true, definition="kumar") == metrics.Jaccard(3, 9 + 2)


def test_ajis_add_up():
    parts = [metrics.Jaccard(3, 5), metrics.Jaccard(0, 5)]
    assert metrics.total_aji(parts) == metrics.Jaccard(3, 10)
    assert metrics.total_aji([]).score == 1


def test_an_unknown_definition_is_refused():
    with pytest.raises(ConfigError, match="must be 'cellpose' or 'kumar', got 'best'"):
        metrics.aji(ONE, ONE, definition="best")


# Numbers that other programs gave for `drawn`; tests/oracle compares on real images


def test_matching_gives_the_numbers_of_stardist():
    """stardist 0.9.2, `matching`, its IoU in double precision."""
    several = metrics.matchings(*drawn())
    assert [one.tp for one in several] == [42, 32, 25, 14, 9, 7, 5, 2, 2, 0]
    wrong = [5, 15, 22, 33, 38, 40, 42, 45, 45, 47]
    assert [one.fp for one in several] == [one.fn for one in several] == wrong
    expected = [0.6371787565296742, 0.6698714383248223, 0.6965888429200945, 0.758041598363495]
    expected += [0.8057843890302152, 0.8258550173009497, 0.8547477488590107, 0.9338842975206612]
    expected += [0.9338842975206612, 0]
    assert [one.mean_matched_score for one in several] == pytest.approx(expected, rel=1e-12)
    assert metrics.panoptic(*drawn()).score == pytest.approx(0.5693937824307727, rel=1e-12)


def test_aji_gives_the_number_of_cellpose():
    """cellpose 4.2.1.1, `metrics.aggregated_jaccard_index`."""
    assert metrics.aji(*drawn()).score == pytest.approx(0.5886792452830188, rel=1e-12)
