"""The scores of ISBI 2012 against scikit-learn, python-elf and slow literal references, on real images."""

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
from sklearn.metrics import f1_score, normalized_mutual_info_score
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

EXACT = {"rel": 1e-9, "abs": 1e-12}  # counts are whole numbers, scores float64
Pairs = list[tuple[str, np.ndarray, np.ndarray]]


def stack(seed: int, planes: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth probabilities, and a truth that resembles them."""
    rng = np.random.default_rng(seed)
    p, noise = (
        ndimage.gaussian_filter(rng.normal(size=(planes, size, size + 5)), (0, sigma, sigma))
        for sigma in (1.5, 1)
    )
    p = (p - p.min()) / (p.max() - p.min())
    return np.clip(p + noise / noise.std() / 10, 0, 1).astype(np.float32), p > np.quantile(p, 0.35)


@pytest.fixture(scope="module")
def crowded(data_dir: Path) -> Pairs:
    """Name, truth and P(truth) of 240 pieces of real images, disturbed, with several objects in the truth."""
    pairs = disturbed.probability_pairs(data_dir, 2000, seed=1, side=32)  # small, for the slow references
    found = list(itertools.islice((pair for pair in pairs if ndimage.label(pair[1])[1] > 1), 240))
    assert len(found) == 240
    return found


# Pixel error


@pytest.mark.data
def test_pixel_error_of_200_disturbed_images_equals_scikit_learn(crowded: Pairs) -> None:
    for name, truth, p in crowded:
        scores = [
            f1_score(truth.ravel(), p.ravel() > np.float64(threshold)) for threshold in metrics.THRESHOLDS
        ]
        found = metrics.pixel_error(p, truth)
        assert [1 - error for error in found.by_threshold] == pytest.approx(scores, **EXACT), name
        assert found.score == pytest.approx(1 - max(scores), **EXACT), name


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


def error_of(tp: int, fp: int, fn: int) -> float:
    return 1 - 2 * tp / (2 * tp + fp + fn)


@pytest.mark.data
def test_pairs_of_200_disturbed_images_equal_scikit_learn(data_dir: Path) -> None:
    _, truths, proposals = zip(*disturbed.binary_pairs(data_dir, 240), strict=True)
    error = metrics.rand_error([plane.astype(np.float32) for plane in proposals], truths)
    expected = [pairs_of_pixels(*planes) for planes in zip(truths, proposals, strict=True)]
    assert list(error.by_slice) == expected
    tp, fp, fn = (sum(counts) for counts in zip(*expected, strict=True))
    assert (error.tp, error.fp, error.fn) == (tp, fp, fn)
    assert error.score == pytest.approx(error_of(tp, fp, fn), rel=1e-9)
    assert set(error.by_threshold) == {error.score}


@pytest.mark.data
def test_rand_error_of_200_disturbed_images_equals_scikit_learn_at_every_threshold(crowded: Pairs) -> None:
    sums = np.zeros((len(metrics.THRESHOLDS), 3), np.int64)
    for name, truth, p in crowded:
        counts = [pairs_of_pixels(truth, p > np.float64(threshold)) for threshold in metrics.THRESHOLDS]
        error = metrics.rand_error(p, truth)
        assert error.by_threshold == pytest.approx([error_of(*row) for row in counts], **EXACT), name
        assert error.score == min(error.by_threshold), name
        assert (error.tp, error.fp, error.fn) == counts[metrics.THRESHOLDS.index(error.threshold)], name
        sums += counts
    _, truths, probabilities = zip(*crowded, strict=True)
    together = metrics.rand_error(probabilities, truths)
    assert together.by_threshold == pytest.approx([error_of(*row) for row in sums.tolist()], **EXACT)
    assert together.score == min(together.by_threshold)


# V_rand and V_info


def with_singletons(labels: np.ndarray) -> np.ndarray:
    """Give each unassigned pixel an id of its own: the oracles know no such pixels."""
    own = labels.max() + 1 + np.arange(labels.size).reshape(labels.shape)
    return np.where(labels == 0, own, labels).astype(np.uint64)


def v_scores_of_others(proposal: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """V_rand by python-elf and V_info by scikit-learn, of labels; 0 for V_info if one is a single object.

    That is the official rule, where scikit-learn has 1 for two equal single objects.
    """
    found, inside = with_singletons(proposal), truth > 0
    error, _ = elf.evaluation.rand_index(found, truth.astype(np.uint64), ignore_gt=[0])
    labels = truth[inside], found[inside]
    is_single = 1 in (np.unique(ids).size for ids in labels)
    return 1 - error, 0 if is_single else normalized_mutual_info_score(*labels, average_method="arithmetic")


@pytest.mark.data
def test_v_scores_of_200_disturbed_images_equal_elf_and_scikit_learn(data_dir: Path) -> None:
    single = 0
    for name, truth, proposal in disturbed.label_pairs(data_dir, 240, seed=2):
        agreement = metrics.rand_scores(proposal, truth)
        if not truth.any():
            assert agreement.rand == agreement.information == (1, 1, 1), name  # ours: no oracle has a value
            continue
        rand, information = v_scores_of_others(proposal, truth)
        assert agreement.rand.score == pytest.approx(rand, rel=1e-9), name
        assert agreement.information.score == pytest.approx(information, rel=1e-9, abs=1e-9), name
        single += agreement.information.score == 0
        split, merge = elf.evaluation.variation_of_information(
            with_singletons(proposal), truth.astype(np.uint64), ignore_gt=[0], use_log2=False
        )
        conditional = agreement.proposal_entropy, agreement.truth_entropy
        assert conditional == pytest.approx(
            (split + agreement.mutual_information, merge + agreement.mutual_information), rel=1e-9, abs=1e-9
        ), name
    assert single < 20


def cells_in(proposal: np.ndarray, truth: np.ndarray) -> int:
    """Number of cells of a proposal that the true objects meet."""
    return np.unique(ndimage.label(proposal)[0][proposal & truth]).size


@pytest.mark.data
def test_v_scores_of_200_thinned_proposals_equal_elf_and_scikit_learn(crowded: Pairs) -> None:
    """Each thinned by the general watershed, at one of the thresholds that leave it several cells."""
    proposals, truths, expected = [], [], []
    for number, (name, truth, p) in enumerate(crowded):
        at_each = [p > np.float64(threshold) for threshold in metrics.THRESHOLDS]
        several = [place for place, proposal in enumerate(at_each) if cells_in(proposal, truth) > 1]
        if not several:
            continue
        place = several[number % len(several)]
        thinned = np.array(em_reference.watershed(np.where(at_each[place], 0, 255).tolist()))
        of_others = v_scores_of_others(thinned, ndimage.label(truth)[0])
        for score, value in zip(metrics.v_scores(p, truth), of_others, strict=True):
            assert score.by_threshold[place] == pytest.approx(value, rel=1e-9, abs=1e-9), name
            assert score.score == max(score.by_threshold), name
        proposals.append(at_each[place].astype(np.float32))
        truths.append(truth)
        expected.append(of_others)
    assert len(expected) >= 200
    # As masks they are the same at every threshold: the scores of the stack are the means over the slices.
    for score, values in zip(metrics.v_scores(proposals, truths), np.transpose(expected), strict=True):
        assert (values > 0).all()
        assert [one.score for one in score.by_slice] == pytest.approx(values.tolist(), rel=1e-9, abs=1e-9)
        assert score.by_threshold == pytest.approx([values.mean()] * len(metrics.THRESHOLDS), rel=1e-9)
        assert score.score == pytest.approx(values.mean(), rel=1e-9)


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


@pytest.mark.data
def test_warping_error_of_200_disturbed_images_equals_the_reference(crowded: Pairs) -> None:
    shares = []
    for (name, truth, p), place in zip(crowded, itertools.cycle(range(len(WARPING_THRESHOLDS)))):
        kinds = assert_warped_alike(p, truth, WARPING_THRESHOLDS[place], 20)
        shares.append(np.isin(kinds, (Mismatch.SPLIT, Mismatch.MERGE)).mean())
        assert warping_error(p, truth).by_threshold[place] == pytest.approx(shares[-1], **EXACT), name
    assert np.count_nonzero(shares) >= 40


def test_the_thresholds_of_warping_are_those_of_the_official_loop() -> None:
    assert list(WARPING_THRESHOLDS) == [value for value in em_reference.thresholds() if value <= 0.9]
