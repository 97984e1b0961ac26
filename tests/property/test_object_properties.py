"""What holds for the scores of any two label images: identity, numbering, symmetry, emptiness, adding up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from ushape import metrics
from ushape.metrics.overlaps import count_overlaps, one_to_one

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))
LABELS = SHAPES.flatmap(lambda shape: arrays(np.int32, shape, elements=st.integers(0, 6)))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(*[arrays(np.int32, shape, elements=st.integers(0, 6))] * 2))
ORDERS = st.permutations(range(1, 7))
THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
DEFINITIONS = ("cellpose", "kumar")


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two partly equal images of objects of many sizes; two pairs of the same IoU are hardly among them."""
    rng = np.random.default_rng(seed)
    first, second = ndimage.gaussian_filter(rng.normal(size=(2, 90, 101)), (0, 2.5, 2.5))
    mixed = 0.8 * first + 0.4 * second
    return ndimage.label(mixed > 0.01)[0], ndimage.label(first > 0)[0]


def every_score(pred: np.ndarray, true: np.ndarray) -> dict[str, float]:
    matchings = metrics.matchings(pred, true, THRESHOLDS)
    scores = {
        f"{name} {matching.threshold}": getattr(matching, name)
        for matching in matchings
        for name in ("average_precision", "f1", "precision", "recall", "mean_matched_score")
    }
    quality = metrics.panoptic(pred, true)
    scores |= {"pq": quality.score, "sq": quality.sq, "rq": quality.rq}
    return scores | {"seg": metrics.seg(pred, true).score, "det": metrics.det(pred, true).score}


@settings(max_examples=200)
@given(PAIRS)
def test_shared_pixels_equal_counting_pair_by_pair(labels):
    pred, true = labels
    overlaps = count_overlaps(pred, true)
    assert dict(zip(overlaps.pred_ids, overlaps.pred_areas, strict=True)) == {
        i: (pred == i).sum() for i in np.unique(pred) if i
    }
    assert dict(zip(overlaps.true_ids, overlaps.true_areas, strict=True)) == {
        j: (true == j).sum() for j in np.unique(true) if j
    }
    counted = {
        (overlaps.pred_ids[i], overlaps.true_ids[j]): shared
        for i, j, shared in zip(overlaps.pred, overlaps.true, overlaps.shared, strict=True)
    }
    both = [(i, j) for i in overlaps.pred_ids for j in overlaps.true_ids]
    expected = {(i, j): ((pred == i) & (true == j)).sum() for i, j in both}
    assert counted == {pair: pixels for pair, pixels in expected.items() if pixels}
    assert list(counted) == sorted(counted)


@settings(max_examples=100)
@given(PAIRS)
def test_ids_beyond_the_table_are_counted_as_those_within(labels):
    pred, true = labels
    near, far = count_overlaps(pred, true), count_overlaps(pred.astype(np.int64) << 40, true)
    assert (near.pred_ids << 40).tolist() == far.pred_ids.tolist()
    for name in ("true_ids", "pred_areas", "true_areas", "pred", "true", "shared"):
        assert getattr(near, name).tolist() == getattr(far, name).tolist()


@settings(max_examples=200)
@given(arrays(np.bool_, SHAPES), st.integers(0, 2**32 - 1))
def test_group_by_group_gains_as_much_as_all_at_once(pairs, seed):
    pred, true = np.nonzero(pairs)
    gain = np.random.default_rng(seed).uniform(0.1, 1, pred.size)
    chosen = one_to_one(pred, true, gain)
    assert len(set(pred[chosen])) == len(set(true[chosen])) == chosen.size
    table = np.zeros(pairs.shape)
    table[pred, true] = gain
    expected = table[linear_sum_assignment(table, maximize=True)].sum()
    assert gain[chosen].sum() == pytest.approx(expected, rel=1e-12)


@settings(max_examples=100)
@given(LABELS)
def test_an_image_against_itself_is_perfect(ids):
    for name, score in every_score(ids, ids).items():
        assert score == 1 or (name.startswith("mean_matched_score") and not ids.any())
    for definition in DEFINITIONS:
        assert metrics.aji(ids, ids, definition=definition).score == 1


@settings(max_examples=100)
@given(PAIRS, ORDERS, ORDERS)
def test_numbering_does_not_matter(labels, one, another):
    pred, true = labels
    renumbered = np.array([0, *one])[pred], np.array([0, *another])[true]
    assert every_score(*renumbered) == pytest.approx(every_score(pred, true), rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_numbering_does_not_matter_to_aji_where_no_two_partners_are_equal(seed):
    pred, true = blobs(seed)
    rng = np.random.default_rng([seed, 1])
    renumbered = [np.append(0, 1 + rng.permutation(ids.max()))[ids] for ids in (pred, true)]
    for definition in DEFINITIONS:
        expected = metrics.aji(pred, true, definition=definition)
        assert metrics.aji(*renumbered, definition=definition) == expected
        assert 0 < expected.score < 1


@settings(max_examples=100)
@given(PAIRS)
def test_exchanging_the_images_exchanges_what_is_invented_and_what_is_missed(labels):
    pred, true = labels
    there, back = metrics.matchings(pred, true, THRESHOLDS), metrics.matchings(true, pred, THRESHOLDS)
    for one, other in zip(there, back, strict=True):
        assert (one.tp, one.fp, one.fn) == (other.tp, other.fn, other.fp)
        assert (one.precision, one.recall) == (other.recall, other.precision)
        assert (one.f1, one.average_precision) == (other.f1, other.average_precision)
        assert one.mean_matched_score == pytest.approx(other.mean_matched_score, rel=1e-12)
    assert metrics.panoptic(pred, true).score == metrics.panoptic(true, pred).score


@pytest.mark.parametrize("seed", range(8))
def test_aji_is_symmetric_where_no_two_partners_are_equal_and_the_original_is_not(seed):
    pred, true = blobs(seed)
    assert metrics.aji(pred, true) == metrics.aji(true, pred)
    there, back = (metrics.aji(*order, definition="kumar") for order in ((pred, true), (true, pred)))
    assert there != back


@settings(max_examples=100)
@given(LABELS)
def test_an_empty_image_scores_nothing_unless_both_are(ids):
    empty = np.zeros_like(ids)
    expected = float(not ids.any())
    for pred, true in ((ids, empty), (empty, ids)):
        scores = every_score(pred, true)
        if pred is ids:
            assert scores.pop("seg") == 1  # nothing was asked for
        assert {s for name, s in scores.items() if not name.startswith("mean_matched_score")} == {expected}
        for definition in DEFINITIONS:
            assert metrics.aji(pred, true, definition=definition).score == expected


@settings(max_examples=100)
@given(PAIRS)
def test_scores_lie_between_0_and_1_and_counts_are_complete(labels):
    pred, true = labels
    objects = np.unique(pred[pred > 0]).size, np.unique(true[true > 0]).size
    assert all(0 <= score <= 1 for score in every_score(pred, true).values())
    found = metrics.matchings(pred, true, THRESHOLDS)
    for one in (*found, metrics.panoptic(pred, true)):
        assert (one.tp + one.fp, one.tp + one.fn) == objects
    assert [one.tp for one in found] == sorted((one.tp for one in found), reverse=True)
    detection = metrics.det(pred, true)
    assert detection.tp - detection.splits + detection.fp == objects[0]
    assert detection.markers == objects[1]
    for definition in DEFINITIONS:
        assert 0 <= metrics.aji(pred, true, definition=definition).score <= 1


@settings(max_examples=100)
@given(PAIRS)
def test_panoptic_quality_is_recognition_times_segmentation(labels):
    quality = metrics.panoptic(*labels)
    assert quality.score == pytest.approx(quality.sq * quality.rq, rel=1e-12)


@settings(max_examples=100)
@given(PAIRS)
def test_an_invention_on_the_background_leaves_seg_and_costs_a_tenth_of_a_marker(labels):
    pred, true = np.pad(labels[0], 1), np.pad(labels[1], 1)
    more = pred.copy()
    more[0, 0] = 99
    assert metrics.seg(more, true) == metrics.seg(pred, true)
    before, after = metrics.det(pred, true), metrics.det(more, true)
    assert after.cost == before.cost + 1
    if before.cost < 10 * before.markers:
        assert before.score - after.score == pytest.approx(1 / (10 * before.markers), rel=1e-9)


@settings(max_examples=100)
@given(PAIRS, PAIRS)
def test_sums_over_images_are_the_scores_of_the_images_side_by_side(one, another):
    parts = one, another
    pred, true = (
        np.concatenate([parts[0][k].ravel(), np.where(parts[1][k] > 0, parts[1][k] + 10, 0).ravel()])
        for k in (0, 1)
    )
    matching = metrics.match(pred, true)
    added = metrics.total(metrics.match(*part) for part in parts)
    assert (added.tp, added.fp, added.fn) == (matching.tp, matching.fp, matching.fn)
    assert added.iou_sum == pytest.approx(matching.iou_sum, rel=1e-12)
    quality = metrics.total_panoptic(metrics.panoptic(*part) for part in parts)
    assert quality.score == pytest.approx(metrics.panoptic(pred, true).score, rel=1e-12)
    areas = metrics.total_aji(metrics.aji(*part, definition="kumar") for part in parts)
    assert areas == metrics.aji(pred, true, definition="kumar")
    segmentation = metrics.total_seg(metrics.seg(*part) for part in parts)
    assert segmentation.score == pytest.approx(metrics.seg(pred, true).score, rel=1e-12)
    assert metrics.total_det(metrics.det(*part) for part in parts) == metrics.det(pred, true)
