"""What holds for the differences of any two label images: identity, numbering; dropped, cut, joined ones."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ushape.config import IGNORE
from ushape.metrics import match
from ushape.pictures import Difference, class_differences, differences

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))
LABELS = SHAPES.flatmap(lambda shape: arrays(np.int32, shape, elements=st.integers(0, 6)))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(*[arrays(np.int32, shape, elements=st.integers(0, 6))] * 2))
ORDERS = st.permutations(range(1, 7))
IDS = st.sets(st.integers(1, 6))
NOTHING, FOUND, LACKING, EXCESS, MISSED, ADDED, SPLIT, MERGED, OTHER_CLASS = Difference


def ids_of(labels: np.ndarray) -> set[int]:
    return set(np.unique(labels[labels != 0]).tolist())


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two partly equal images of objects of many sizes, which hold every kind of difference."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    first, second = ndimage.gaussian_filter(rng.normal(size=(2, 60, 71)), (0, 2, 2))
    return ndimage.label(0.8 * first + 0.5 * second > 0.02)[0], ndimage.label(first > 0.02)[0]


def slow_partners(pred: np.ndarray, true: np.ndarray) -> set[tuple[int, int]]:
    """The rule in the words of the module, pair by pair."""

    def shared(p: int, t: int) -> int:
        return int(((pred == p) & (true == t)).sum())

    def area(labels: np.ndarray, number: int) -> int:
        return int((labels == number).sum())

    near = {
        (p, t)
        for p in ids_of(pred)
        for t in ids_of(true)
        if shared(p, t) > min(area(pred, p), area(true, t)) / 2
    }
    whole = {
        (p, t)
        for p, t in near
        if all(10 * shared(p, t) >= shared(*other) for other in near if other[0] == p or other[1] == t)
    }
    return {
        (p, t)
        for p, t in whole
        if 10 * sum(shared(*other) for other in whole if other[0] == p) >= area(pred, p)
        and 10 * sum(shared(*other) for other in whole if other[1] == t) >= area(true, t)
    }


def slow_codes(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    pairs = slow_partners(pred, true)
    of_pred = {p: [t for q, t in pairs if q == p] for p in ids_of(pred)}
    of_true = {t: [p for p, u in pairs if u == t] for t in ids_of(true)}

    def of_a_true(t: int) -> Difference:
        if len(of_true[t]) != 1:
            return SPLIT if of_true[t] else MISSED
        return MERGED if len(of_pred[of_true[t][0]]) > 1 else FOUND

    def of_a_predicted(p: int) -> Difference:
        if len(of_pred[p]) != 1:
            return MERGED if of_pred[p] else ADDED
        return SPLIT if len(of_true[of_pred[p][0]]) > 1 else FOUND

    codes = np.zeros(true.shape, int)
    for place in np.ndindex(true.shape):
        p, t = int(pred[place]), int(true[place])
        if t and of_a_true(t) != FOUND:
            codes[place] = of_a_true(t)
        elif p and of_a_predicted(p) != FOUND:
            codes[place] = of_a_predicted(p)
        elif t:
            codes[place] = FOUND if of_true[t] == [p] else LACKING
        elif p:
            codes[place] = EXCESS
    return codes


@settings(max_examples=200)
@given(PAIRS)
def test_the_rule_is_the_one_that_is_written_down(labels):
    assert np.array_equal(differences(*labels).codes, slow_codes(*labels))


def test_the_rule_holds_for_objects_of_many_sizes():
    kinds: set[int] = set()
    for seed in range(8):
        pred, true = blobs(seed)
        found = differences(pred, true)
        assert np.array_equal(found.codes, slow_codes(pred, true))
        kinds |= set(found.codes.ravel().tolist())
    assert kinds == set(range(8)), "every kind of difference was among them"


@given(LABELS)
def test_a_perfect_prediction_has_no_difference(true):
    found = differences(true, true)
    assert np.array_equal(found.codes, np.where(true > 0, FOUND, NOTHING))
    assert found.counts == {FOUND: len(ids_of(true)), MISSED: 0, SPLIT: 0, MERGED: 0, ADDED: 0}
    assert found.agreement == 1
    assert not found.lines.any()
    assert not found.wrong.any()
    assert np.array_equal(found.predicted, found.true)


@given(PAIRS, ORDERS, ORDERS)
def test_numbering_does_not_matter(labels, pred_order, true_order):
    pred, true = labels
    there = differences(pred, true)
    back = differences(np.array([0, *pred_order])[pred] * 1000, np.array([0, *true_order])[true] * 77)
    assert np.array_equal(there.codes, back.codes)
    assert np.array_equal(there.lines, back.lines)
    assert there.counts == back.counts


@given(LABELS, IDS)
def test_objects_that_are_dropped_are_missed_and_nothing_else_is(true, dropped):
    found = differences(np.where(np.isin(true, list(dropped)), 0, true), true)
    is_dropped = np.isin(true, list(dropped))
    assert np.array_equal(found.codes, np.select([is_dropped, true > 0], [MISSED, FOUND], NOTHING))
    assert found.counts[MISSED] == len(dropped & ids_of(true))


@given(LABELS, IDS)
def test_objects_on_the_background_are_added_and_nothing_else_is(pred, invented):
    found = differences(pred, np.where(np.isin(pred, list(invented)), 0, pred))
    is_invented = np.isin(pred, list(invented))
    assert np.array_equal(found.codes, np.select([is_invented, pred > 0], [ADDED, FOUND], NOTHING))
    assert found.counts[ADDED] == len(invented & ids_of(pred))


@given(LABELS, st.integers(1, 6), st.integers(1, 11))
def test_an_object_that_is_cut_is_split_unless_a_piece_is_a_crumb(true, number, row):
    pred = true.copy()
    pred[row:][true[row:] == number] = 7
    pieces = (int((pred == number).sum()), int((pred == 7).sum()))
    found = differences(pred, true)
    others = (true > 0) & (true != number)
    assert (found.codes[others] == FOUND).all()
    if min(pieces) == 0:
        assert not found.wrong.any()
    elif 10 * min(pieces) >= max(pieces):
        assert (found.codes[true == number] == SPLIT).all()
        assert found.counts[SPLIT] == 1
    else:
        crumb = (number, 7)[pieces.index(min(pieces))]
        assert np.array_equal(found.codes == ADDED, pred == crumb)
        assert found.counts[SPLIT] == 0


@given(LABELS, st.integers(1, 5))
def test_objects_that_are_joined_are_merged_unless_one_is_a_crumb(true, number):
    pred = np.where(true == number, number + 1, true)
    areas = [int((true == one).sum()) for one in (number, number + 1)]
    found = differences(pred, true)
    joined = np.isin(true, (number, number + 1))
    if min(areas) > 0 and 10 * min(areas) >= max(areas):
        assert np.array_equal(found.codes == MERGED, joined)
        assert found.counts[MERGED] == 2
    else:
        assert found.counts[MERGED] == 0
    assert (found.codes[(true > 0) & ~joined] == FOUND).all()


@given(PAIRS)
def test_exchanging_both_exchanges_missed_and_added(labels):
    there, back = differences(*labels), differences(*labels[::-1])
    assert there.counts[MISSED] == back.counts[ADDED]
    assert there.counts[FOUND] == back.counts[FOUND]
    assert np.array_equal(there.codes == NOTHING, back.codes == NOTHING)


@given(PAIRS)
def test_every_true_object_is_one_thing_and_shows_it(labels):
    pred, true = labels
    found = differences(pred, true)
    assert sum(found.counts[kind] for kind in (FOUND, MISSED, SPLIT, MERGED)) == len(ids_of(true))
    shown = [np.unique(found.codes[true == number]) for number in ids_of(true)]
    wrong = [codes[0] for codes in shown if len(codes) == 1 and codes[0] in (MISSED, SPLIT, MERGED)]
    for kind in (MISSED, SPLIT, MERGED):
        assert wrong.count(kind) == found.counts[kind]
    assert (found.codes[(pred == 0) & (true == 0)] == NOTHING).all()
    assert (found.codes[(pred > 0) | (true > 0)] != NOTHING).all()


@given(PAIRS)
def test_found_objects_have_one_number_on_both_sides_and_no_other_has_it(labels):
    found = differences(*labels)
    same = ids_of(found.predicted) & ids_of(found.true)
    assert len(same) == found.counts[FOUND]
    assert ids_of(found.true) == set(range(1, len(ids_of(labels[1])) + 1))
    for number in same:
        assert (found.codes[(found.predicted == number) & (found.true == number)] == FOUND).all()
    # The objects themselves are what they were.
    for before, after in zip(labels, (found.predicted, found.true), strict=True):
        pairs = set(zip(before.ravel().tolist(), after.ravel().tolist(), strict=True))
        assert len(pairs) == len(np.unique(before)) == len(np.unique(after))


@given(PAIRS)
def test_matched_objects_are_found_and_matches_of_ap(labels):
    found = differences(*labels)
    assert found.matched <= found.counts[FOUND]
    # An object may be split or merged though it has a match: then AP counts one and its rest.
    assert found.matched <= match(*labels, 0.5).tp
    if not found.counts[SPLIT] + found.counts[MERGED]:
        assert found.matched >= sum(iou > 0.5 for *_, iou in match(*labels, 0.5).pairs)


@given(PAIRS, st.data())
def test_pixels_that_do_not_count_do_not_matter(labels, data):
    counted = data.draw(arrays(np.bool_, labels[0].shape))
    found = differences(*labels, counted=counted)
    other = [np.where(counted, ids, data.draw(st.integers(0, 9))) for ids in labels]
    again = differences(*other, counted=counted)
    assert np.array_equal(found.codes, again.codes)
    assert found.counts == again.counts
    assert np.array_equal(found.codes == IGNORE, ~counted)


@given(PAIRS)
def test_pixels_of_class_masks_are_counted_where_they_lie(labels):
    pred, true = labels
    found = class_differences(pred, true)
    assert np.array_equal(found.codes == NOTHING, (pred == 0) & (true == 0))
    assert np.array_equal(found.codes == FOUND, (pred == true) & (true > 0))
    assert np.array_equal(found.codes == MISSED, (pred == 0) & (true > 0))
    assert np.array_equal(found.codes == ADDED, (pred > 0) & (true == 0))
    assert np.array_equal(found.codes == OTHER_CLASS, (pred != true) & (pred > 0) & (true > 0))
    assert all((found.codes == kind).sum() == count for kind, count in found.counts.items())
    assert np.array_equal(found.wrong, pred != true)
