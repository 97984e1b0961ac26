"""Rand error, V scores and warping error against scikit-learn, python-elf and slow literal references."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import disturbed
import elf.evaluation
import em_reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import pair_confusion_matrix

from ushape import metrics
from ushape.metrics.simple_points import SIMPLE
from ushape.metrics.warping import WARPING_THRESHOLDS, Mismatch, warp_truth, warping_error

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
# Few values, on both sides of the thresholds and equally far from them: many ties, which the order decides.
VALUES = st.sampled_from([np.float32(tenths / 10) for tenths in range(11)] + [np.float32(0.25)])
STACKS = SHAPES.flatmap(
    lambda shape: st.tuples(arrays(np.float32, (2, *shape), elements=VALUES), arrays(np.bool_, (2, *shape)))
)


def stack(seed: int, planes: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth probabilities, and a truth that resembles them."""
    rng = np.random.default_rng(seed)
    p, noise = (
        ndimage.gaussian_filter(rng.normal(size=(planes, size, size + 5)), (0, sigma, sigma))
        for sigma in (1.5, 1)
    )
    p = (p - p.min()) / (p.max() - p.min())
    return np.clip(p + noise / noise.std() / 10, 0, 1).astype(np.float32), p > np.quantile(p, 0.35)


# Rand error


@settings(max_examples=60)
@given(STACKS)
def test_rand_error_equals_looking_at_every_pair_of_pixels(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    p, truth = (planes[:, :6, :6] for planes in drawn)
    expected = em_reference.rand_error(p.tolist(), truth.tolist())
    assert metrics.rand_error(p, truth).score == pytest.approx(expected, rel=1e-9, abs=1e-12)


def pairs_of_pixels(truth: np.ndarray, proposal: np.ndarray) -> tuple[int, int, int]:
    """Unordered pairs together in both, in the proposal only, in the truth only, by scikit-learn."""
    labels = [ndimage.label(plane)[0].ravel() for plane in (truth, proposal)]
    (_, fp), (fn, tp) = pair_confusion_matrix(*labels).tolist()
    return tp // 2, fp // 2, fn // 2


@pytest.mark.data
def test_pairs_of_200_disturbed_images_equal_scikit_learn(data_dir: Path) -> None:
    _, truths, proposals = zip(*disturbed.binary_pairs(data_dir, 240), strict=True)
    error = metrics.rand_error([plane.astype(np.float32) for plane in proposals], truths)
    expected = [pairs_of_pixels(*planes) for planes in zip(truths, proposals, strict=True)]
    assert list(error.by_slice) == expected
    tp, fp, fn = (sum(counts) for counts in zip(*expected, strict=True))
    assert (error.tp, error.fp, error.fn) == (tp, fp, fn)
    assert error.score == pytest.approx(1 - 2 * tp / (2 * tp + fp + fn), rel=1e-9)
    assert set(error.by_threshold) == {error.score}


@pytest.mark.data
def test_rand_error_of_real_probabilities_equals_scikit_learn_at_every_threshold(data_dir: Path) -> None:
    _, truths, probabilities = zip(*disturbed.probability_pairs(data_dir, 12, seed=1), strict=True)
    error = metrics.rand_error(probabilities, truths)
    for threshold, value in zip(metrics.THRESHOLDS, error.by_threshold, strict=True):
        counts = [
            pairs_of_pixels(truth, p.astype(np.float64) > threshold)
            for truth, p in zip(truths, probabilities, strict=True)
        ]
        tp, fp, fn = (sum(column) for column in zip(*counts, strict=True))
        assert value == pytest.approx(1 - 2 * tp / (2 * tp + fp + fn), rel=1e-9)
    assert error.score == min(error.by_threshold)


# V_rand and V_info


@pytest.mark.data
def test_v_scores_of_200_disturbed_images_equal_elf_and_scikit_learn(data_dir: Path) -> None:
    single = 0
    for name, truth, proposal in disturbed.label_pairs(data_dir, 240, seed=2):
        agreement = metrics.rand_scores(proposal, truth)
        if not truth.any():
            assert agreement.rand == agreement.information == (1, 1, 1), name  # ours: no oracle has a value
            continue
        # The oracles know no unassigned pixels: each gets an id of its own.
        own = proposal.max() + 1 + np.arange(proposal.size, dtype=np.uint64).reshape(proposal.shape)
        found = np.where(proposal == 0, own, proposal).astype(np.uint64)
        inside = truth > 0
        error, _ = elf.evaluation.rand_index(found, truth.astype(np.uint64), ignore_gt=[0])
        assert agreement.rand.score == pytest.approx(1 - error, rel=1e-9), name
        split, merge = elf.evaluation.variation_of_information(
            found, truth.astype(np.uint64), ignore_gt=[0], use_log2=False
        )
        conditional = agreement.proposal_entropy, agreement.truth_entropy
        assert conditional == pytest.approx(
            (split + agreement.mutual_information, merge + agreement.mutual_information), rel=1e-9, abs=1e-9
        ), name
        expected = normalized_mutual_info_score(truth[inside], found[inside], average_method="arithmetic")
        if 1 in (np.unique(truth[inside]).size, np.unique(found[inside]).size):
            single += 1
            # The official rule: 0, where scikit-learn has 1 for two equal single objects.
            assert agreement.information.score == 0, name
            assert expected in (0, 1), name
        else:
            assert agreement.information.score == pytest.approx(expected, rel=1e-9, abs=1e-9), name
    assert single < 20


# Warping error


@pytest.mark.parametrize("middle", [False, True])
def test_simple_points_are_those_of_the_definition(middle: bool) -> None:
    ring = [(1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0), (2, 1), (2, 2)]
    for code in range(256):
        block = np.zeros((3, 3), bool)
        block[1, 1] = middle
        for place, (y, x) in enumerate(ring):
            block[y, x] = code >> place & 1
        assert SIMPLE[code] == em_reference.is_simple(block), block
    assert SIMPLE.sum() == 116


def assert_warped_alike(
    p: np.ndarray, truth: np.ndarray, threshold: float, radius: int, ignored: np.ndarray | None = None
) -> np.ndarray:
    """Compare the warped truth and the kinds of mismatch with the reference; return the latter."""
    counted = None if ignored is None else ~ignored
    expected, differing = em_reference.warp(p, truth, threshold, counted)
    kinds = np.zeros(truth.shape, int)
    for (x, y), kind in em_reference.mismatch_kinds(expected, differing, radius).items():
        kinds[y, x] = Mismatch[kind.upper()]
    warped = warp_truth(p, truth, threshold, ignored=ignored, radius=radius)
    np.testing.assert_array_equal(warped.cell, expected)
    np.testing.assert_array_equal(warped.mismatches, kinds)
    return kinds


@settings(max_examples=400)
@given(STACKS, st.sampled_from(WARPING_THRESHOLDS), st.integers(1, 10))
def test_warping_equals_the_reference(
    drawn: tuple[np.ndarray, np.ndarray], threshold: float, radius: int
) -> None:
    p, truth = drawn
    assert_warped_alike(p[0], truth[0], threshold, radius)
    assert_warped_alike(p[1], truth[1], threshold, radius, ignored=truth[0])


@pytest.mark.parametrize("seed", range(3))
def test_warping_error_equals_the_reference(seed: int) -> None:
    p, truth = stack(seed, planes=2, size=24)
    score, threshold, shares = em_reference.warping_error(p, truth)
    error = warping_error(p, truth)
    assert error.score == pytest.approx(score, rel=1e-9)
    assert error.score > 0
    assert error.threshold == threshold
    assert error.by_threshold == pytest.approx(shares, rel=1e-9)


def windows(data_dir: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Small windows of real images where truth and proposal differ."""
    for _, truth, p in disturbed.probability_pairs(data_dir, 60, seed=3):
        wrong = ndimage.uniform_filter(np.float32(truth != (p > 0.5)), 32, mode="constant")
        y, x = (max(int(place) - 20, 0) for place in np.unravel_index(wrong.argmax(), wrong.shape))
        yield p[y : y + 40, x : x + 44], truth[y : y + 40, x : x + 44]


@pytest.mark.data
def test_warping_of_real_images_equals_the_reference_with_every_kind_of_mismatch(data_dir: Path) -> None:
    seen = set()
    for (p, truth), threshold in zip(windows(data_dir), itertools.cycle(WARPING_THRESHOLDS)):
        seen |= set(np.unique(assert_warped_alike(p, truth, threshold, 20)).tolist())
    assert seen == {0, *Mismatch}


def test_the_thresholds_of_warping_are_those_of_the_official_loop() -> None:
    assert list(WARPING_THRESHOLDS) == [value for value in em_reference.thresholds() if value <= 0.9]
