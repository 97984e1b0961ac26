"""What holds for every image: bounds, symmetry, indifference to numbering, nesting."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ushape import metrics

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))
LABELS = SHAPES.flatmap(lambda shape: st.tuples(*[arrays(np.int32, shape, elements=st.integers(0, 5))] * 2))
PROBABILITIES = SHAPES.flatmap(
    lambda shape: st.tuples(
        arrays(np.float32, (2, *shape), elements=st.floats(0, 1, width=32)), arrays(np.bool_, (2, *shape))
    )
)


@settings(max_examples=100, deadline=None)
@given(PROBABILITIES)
def test_membrane_scores_lie_between_0_and_1(stack):
    p, truth = stack
    for score in (*metrics.v_scores(p, truth), metrics.pixel_error(p, truth)):
        assert all(-1e-12 <= value <= 1 + 1e-12 for value in (score.score, *score.by_threshold))


@settings(max_examples=100, deadline=None)
@given(PROBABILITIES)
def test_the_best_threshold_is_the_best(stack):
    p, truth = stack
    for score in metrics.v_scores(p, truth):
        assert score.score == max(score.by_threshold)
        assert score.score == score.by_threshold[metrics.THRESHOLDS.index(score.threshold)]
        assert np.isclose(score.score, np.mean([s.score for s in score.by_slice]), rtol=1e-12)
    error = metrics.pixel_error(p, truth)
    assert error.score == min(error.by_threshold)


@settings(max_examples=100, deadline=None)
@given(LABELS, st.permutations(range(1, 6)), st.permutations(range(1, 6)))
def test_numbering_does_not_matter(labels, one, another):
    pred, truth = labels
    renumbered = np.array([0, *one], np.int32)[pred], np.array([0, *another], np.int32)[truth]
    before, after = metrics.rand_scores(pred, truth), metrics.rand_scores(*renumbered)
    assert before.rand == after.rand
    # Sums of logarithms in another order: the last digits differ.
    np.testing.assert_allclose(before.information, after.information, rtol=1e-12, atol=1e-12)
    assert metrics.match(*renumbered).tp == metrics.match(pred, truth).tp


@settings(max_examples=100, deadline=None)
@given(LABELS)
def test_exchanging_two_full_partitions_exchanges_precision_and_recall(labels):
    a, b = labels[0] + 1, labels[1] + 1
    there, back = metrics.rand_scores(a, b).rand, metrics.rand_scores(b, a).rand
    assert there == (back.score, back.recall, back.precision)


@settings(max_examples=100, deadline=None)
@given(LABELS, st.sampled_from([0.2, 0.5, 0.8]))
def test_matching_counts_every_object_once_whichever_way(labels, threshold):
    pred, true = labels
    matching = metrics.match(pred, true, threshold)
    assert matching.tp + matching.fp == len(set(pred.ravel().tolist()) - {0})
    assert matching.tp + matching.fn == len(set(true.ravel().tolist()) - {0})
    back = metrics.match(true, pred, threshold)
    assert (back.tp, back.fp, back.fn) == (matching.tp, matching.fn, matching.fp)


@settings(max_examples=100, deadline=None)
@given(arrays(np.bool_, SHAPES))
def test_thinning_keeps_every_cell_adds_none_and_parts_them(cell):
    thinned, cells = metrics.thin_borders(cell), metrics.label_components(cell)
    if not cell.any():
        assert (thinned == 1).all()
        return
    assert thinned.max() == cells.max()
    pairs = set(zip(cells[cell].tolist(), thinned[cell].tolist(), strict=True))
    assert len(pairs) == cells.max()
    # Cells never touch: there is a line between any two.
    for first, second in ((thinned[1:], thinned[:-1]), (thinned[:, 1:], thinned[:, :-1])):
        assert not ((first > 0) & (second > 0) & (first != second)).any()


@settings(max_examples=100, deadline=None)
@given(LABELS)
def test_dice_and_iou_say_the_same(labels):
    matrix = metrics.confusion(*labels, 6)
    iou = metrics.iou(matrix)
    np.testing.assert_allclose(metrics.dice(matrix), 2 * iou / (1 + iou), rtol=1e-12)


@settings(max_examples=100, deadline=None)
@given(LABELS, st.permutations(range(6)))
def test_scores_of_classes_are_symmetric_and_do_not_mind_the_order_of_the_classes(labels, order):
    pred, truth = labels
    matrix = metrics.confusion(pred, truth, 6)
    other_way = metrics.confusion(truth, pred, 6)
    renamed = metrics.confusion(np.array(order)[pred], np.array(order)[truth], 6)
    for score in (metrics.dice, metrics.iou):
        np.testing.assert_array_equal(score(matrix), score(other_way))
        np.testing.assert_array_equal(score(matrix), score(renamed)[list(order)])
        assert (score(metrics.confusion(truth, truth, 6)) == 1).all()
    assert metrics.accuracy(matrix) == metrics.accuracy(other_way) == metrics.accuracy(renamed)
    assert metrics.accuracy(metrics.confusion(truth, truth, 6)) == 1


@settings(max_examples=100, deadline=None)
@given(LABELS)
def test_two_full_partitions_agree_as_much_either_way(labels):
    one, other = (plane + 1 for plane in labels)  # every pixel lies in an object of both
    there, back = metrics.rand_scores(one, other), metrics.rand_scores(other, one)
    assert there.rand.score == back.rand.score
    assert abs(there.information.score - back.information.score) < 1e-12  # sums in another order
