"""What holds for every stack of membranes: perfect scores, bounds, kept topology, what does not matter."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ushape import metrics
from ushape.metrics.simple_points import SIMPLE
from ushape.metrics.warping import WARPING_THRESHOLDS, Mismatches, warp_truth

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))
PROBABILITY = st.one_of(st.floats(0, 1, width=32), st.sampled_from([np.float32(n / 10) for n in range(11)]))
MASKS = SHAPES.flatmap(lambda shape: arrays(np.bool_, shape))
STACKS = SHAPES.flatmap(
    lambda shape: st.tuples(arrays(np.float32, shape, elements=PROBABILITY), arrays(np.bool_, shape))
)
TWO_MASKS = SHAPES.flatmap(lambda shape: st.tuples(*[arrays(np.bool_, shape)] * 2))


@settings(max_examples=100)
@given(MASKS)
def test_the_truth_itself_is_perfect_at_every_threshold(truth):
    p = truth.astype(np.float32)
    assert set(metrics.pixel_error(p, truth).by_threshold) == {0}
    assert set(metrics.rand_error(p, truth).by_threshold) == {0}
    assert set(metrics.warping_error(p, truth).by_threshold) == {0}
    rand, information = metrics.v_scores(p, truth)
    assert set(rand.by_threshold) == {1}
    for score, agreement in zip(information.by_slice, rand.agreements, strict=True):
        # One single object has no information to share: 0 by the official rule.
        assert np.isclose(score.score, agreement.truth_objects != 1, rtol=1e-12)


@settings(max_examples=100)
@given(STACKS)
def test_errors_lie_between_0_and_1_and_are_those_of_the_best_threshold(stack):
    p, truth = stack
    for error, thresholds in (
        (metrics.rand_error(p, truth), metrics.THRESHOLDS),
        (metrics.warping_error(p, truth), WARPING_THRESHOLDS),
    ):
        assert len(error.by_threshold) == len(thresholds)
        assert all(0 <= value <= 1 for value in error.by_threshold)
        assert error.score == min(error.by_threshold)
        assert error.threshold == thresholds[error.by_threshold.index(error.score)]


@settings(max_examples=100)
@given(STACKS)
def test_the_errors_follow_from_the_counts_of_the_slices(stack):
    p, truth = stack
    rand = metrics.rand_error(p, truth)
    assert (rand.tp, rand.fp, rand.fn) == tuple(map(sum, zip(*rand.by_slice, strict=True)))
    pairs = 2 * rand.tp + rand.fp + rand.fn
    assert np.isclose(1 - rand.score, 2 * rand.tp / pairs if pairs else 1, rtol=1e-12)
    warping = metrics.warping_error(p, truth)
    assert warping.splits == sum(counts.splits for counts in warping.by_slice)
    assert warping.merges == sum(counts.merges for counts in warping.by_slice)
    assert warping.score == (warping.splits + warping.merges) / truth.size


@settings(max_examples=50)
@given(STACKS)
def test_the_error_of_a_stack_adds_up_from_its_slices(stack):
    p, truth = stack
    together = metrics.warping_error(p, truth)
    alone = [metrics.warping_error(*planes) for planes in zip(p, truth, strict=True)]
    parts = np.mean([error.by_threshold for error in alone], axis=0)
    np.testing.assert_allclose(together.by_threshold, parts, rtol=1e-12)
    assert together.score >= np.mean([error.score for error in alone]) - 1e-12


@settings(max_examples=100)
@given(STACKS, st.integers(2, 200))
def test_the_value_of_a_cell_does_not_matter(stack, value):
    p, truth = stack
    values = truth.astype(np.int32) * value
    for score in (metrics.pixel_error, metrics.rand_error, metrics.warping_error, metrics.v_scores):
        assert score(p, values) == score(p, truth)


@settings(max_examples=100)
@given(TWO_MASKS)
def test_exchanging_truth_and_proposal_exchanges_mergers_and_splits_of_pairs(masks):
    a, b = masks
    there = metrics.rand_error(a.astype(np.float32), b)
    back = metrics.rand_error(b.astype(np.float32), a)
    assert (there.tp, there.fp, there.fn) == (back.tp, back.fn, back.fp)
    assert there.score == back.score


@settings(max_examples=100)
@given(STACKS, st.sampled_from([(0, 1, 2), (0, 2, 1)]), st.booleans(), st.booleans())
def test_turning_the_stack_does_not_change_pixel_and_rand_error(stack, axes, vertical, horizontal):
    def turned(planes):
        return planes[:, :: -1 if vertical else 1, :: -1 if horizontal else 1].transpose(axes)

    p, truth = stack
    for score in (metrics.pixel_error, metrics.rand_error):
        assert score(turned(p), turned(truth)) == score(p, truth)


@settings(max_examples=100)
@given(STACKS)
def test_only_the_side_of_each_threshold_matters_except_for_warping(stack):
    p, truth = stack
    bounds = np.array([0, *metrics.THRESHOLDS[1:], 1])
    # How many thresholds a probability is above; put in the middle between the last and the next.
    passed = (p[..., None] > np.array(metrics.THRESHOLDS)).sum(-1)
    middle = np.where(passed == 0, 0, (bounds[passed - 1] + bounds[passed]) / 2).astype(np.float32)
    for score in (metrics.pixel_error, metrics.rand_error, metrics.v_scores):
        assert score(np.where(passed == 11, 1, middle), truth) == score(p, truth)


@settings(max_examples=100)
@given(STACKS, st.data())
def test_moving_probabilities_towards_the_truth_never_raises_the_pixel_error(stack, data):
    p, truth = stack
    other = data.draw(arrays(np.float32, p.shape, elements=PROBABILITY))
    better = np.where(truth, np.maximum(p, other), np.minimum(p, other))
    pairs = zip(
        metrics.pixel_error(better, truth).by_threshold,
        metrics.pixel_error(p, truth).by_threshold,
        strict=True,
    )
    assert all(after <= before for after, before in pairs)


def topology(cell: np.ndarray) -> tuple[int, int]:
    """Objects, 4-connected, and pieces of membrane, 8-connected, the one around the image included."""
    framed = np.pad(cell, 1)
    return ndimage.label(framed)[1], ndimage.label(~framed, np.ones((3, 3)))[1]


@settings(max_examples=200)
@given(STACKS, st.sampled_from(WARPING_THRESHOLDS))
def test_warping_keeps_the_topology_and_ends_where_no_flip_is_left(stack, threshold):
    p, truth = stack[0][0], stack[1][0]
    warped = warp_truth(p, truth, threshold)
    assert topology(warped.cell) == topology(truth)
    differs = warped.cell != (p.astype(np.float64) > threshold)
    np.testing.assert_array_equal(warped.mismatches > 0, differs)
    framed = np.pad(warped.cell, 1)
    ring = [(1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0), (2, 1), (2, 2)]
    for y, x in np.argwhere(differs):
        code = sum(int(framed[y + dy, x + dx]) << place for place, (dy, dx) in enumerate(ring))
        assert not SIMPLE[code]
    # A pixel that was right is never touched.
    right = truth == (p.astype(np.float64) > threshold)
    np.testing.assert_array_equal(warped.cell[right], truth[right])


@settings(max_examples=100)
@given(STACKS)
def test_warping_costs_at_most_the_pixels_that_differ(stack):
    p, truth = stack
    for threshold, error in zip(
        WARPING_THRESHOLDS, metrics.warping_error(p, truth).by_threshold, strict=True
    ):
        assert error <= np.mean(truth != (p.astype(np.float64) > threshold)) + 1e-12


@settings(max_examples=100)
@given(STACKS, st.data())
def test_what_lies_under_ignored_pixels_does_not_matter(stack, data):
    p, truth = stack
    ignored = data.draw(arrays(np.bool_, p.shape))
    noise = data.draw(arrays(np.float32, p.shape, elements=PROBABILITY))
    for score in (metrics.pixel_error, metrics.warping_error):
        changed = score(np.where(ignored, noise, p), truth ^ (ignored & (noise > 0.5)), ignored=ignored)
        assert changed == score(p, truth, ignored=ignored)
    assert metrics.warping_error(p, truth, ignored=ignored).pixels == np.count_nonzero(~ignored)


@settings(max_examples=50)
@given(STACKS)
def test_where_nothing_counts_nothing_is_wrong(stack):
    p, truth = stack
    everywhere = np.ones_like(truth)
    assert metrics.pixel_error(p, truth, ignored=everywhere).score == 0
    assert metrics.rand_error(p, truth, ignored=everywhere).score == 0
    error = metrics.warping_error(p, truth, ignored=everywhere)
    assert (error.score, error.pixels) == (0, 0)
    assert set(error.by_slice) == {Mismatches(0, 0, 0, 0, 0, 0)}
    assert {score.score for score in metrics.v_scores(p, truth, ignored=everywhere)} == {1}


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))), st.sampled_from([4, 8]))
def test_components_are_those_of_scipy(binary, connectivity):
    """Version 4.1.1 of connected-components-3d fails on some 8-connected masks of dtype bool."""
    ids = metrics.label_components(binary, connectivity)
    expected, count = ndimage.label(binary, np.ones((3, 3)) if connectivity == 8 else None)
    assert ids.max() == count
    assert len(set(zip(ids.ravel().tolist(), expected.ravel().tolist(), strict=True))) == len(
        np.unique(expected)
    )
