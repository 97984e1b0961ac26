"""What holds for the boundaries of every pair of masks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ushape.metrics import boundaries

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MASKS = SHAPES.flatmap(lambda shape: arrays(np.bool_, shape))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(*[arrays(np.bool_, shape)] * 2))
# Sizes without a short binary form too: equal lengths may differ in the last digit.
SPACINGS = st.tuples(*[st.sampled_from([0.1, 0.5, 1, 1.3, 3])] * 2)
TOLERANCES = st.sampled_from([0, 0.1, 0.3, 1, 1.5, 4])


def scores(pred, true, spacing, tolerance):
    distances = boundaries.boundary_distances(pred, true, spacing)
    return (distances.hd95, distances.contour.hd95, distances.nsd(tolerance), distances.f1(tolerance))


@given(MASKS, SPACINGS, TOLERANCES)
def test_a_mask_agrees_with_itself(mask, spacing, tolerance):
    assert scores(mask, mask, spacing, tolerance) == pytest.approx((0, 0, 1, 1))


@given(PAIRS, SPACINGS, TOLERANCES)
def test_exchanging_the_masks_exchanges_precision_and_recall_only(pair, spacing, tolerance):
    pred, true = pair
    assert scores(pred, true, spacing, tolerance) == pytest.approx(scores(true, pred, spacing, tolerance))
    there = boundaries.boundary_distances(pred, true, spacing).contour.within(tolerance)
    back = boundaries.boundary_distances(true, pred, spacing).contour.within(tolerance)
    assert (there.precision, there.recall) == (back.recall, back.precision)


@given(PAIRS, SPACINGS)
def test_a_larger_tolerance_never_scores_less(pair, spacing):
    distances = boundaries.boundary_distances(*pair, spacing)
    for score in (distances.nsd, distances.f1):
        values = [score(tolerance) for tolerance in (0, 0.1, 0.3, 1, 1.5, 4, 1000)]
        assert values == sorted(values)
        assert values[0] >= 0
        assert values[-1] == pytest.approx(float(pair[0].any() == pair[1].any()))


@given(PAIRS, SPACINGS)
def test_what_lies_within_hd95_is_95_percent(pair, spacing):
    contour = boundaries.boundary_distances(*pair, spacing).contour
    if 0 < contour.hd95 < math.inf:
        overlap = contour.within(contour.hd95)
        assert min(overlap.precision, overlap.recall) > 0.95 - 1e-9
        overlap = contour.within(contour.hd95 * (1 - 1e-6))
        assert min(overlap.precision, overlap.recall) < 0.95 + 1e-9


@given(PAIRS, SPACINGS, TOLERANCES)
def test_turning_mirroring_and_padding_change_nothing(pair, spacing, tolerance):
    expected = pytest.approx(scores(*pair, spacing, tolerance))
    y, x = spacing
    assert scores(*(mask.T for mask in pair), (x, y), tolerance) == expected
    assert scores(*(mask[::-1] for mask in pair), spacing, tolerance) == expected
    assert scores(*(mask[:, ::-1] for mask in pair), spacing, tolerance) == expected
    assert scores(*(np.pad(mask, ((2, 0), (1, 3))) for mask in pair), spacing, tolerance) == expected


@given(PAIRS, SPACINGS, TOLERANCES)
def test_another_unit_of_length_scales_distances_and_leaves_shares(pair, spacing, tolerance):
    y, x = spacing
    pixels, contour, nsd, f1 = scores(*pair, spacing, tolerance)
    expected = pytest.approx((1000 * pixels, 1000 * contour, nsd, f1))
    assert scores(*pair, (1000 * y, 1000 * x), 1000 * tolerance) == expected
