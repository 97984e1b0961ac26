"""The scores against slow literal references, scikit-learn and python-elf."""

from pathlib import Path

import elf.evaluation
import em_reference
import numpy as np
import object_reference
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    normalized_mutual_info_score,
)

from ushape import metrics

SIDES = st.integers(1, 9)
BINARY = st.tuples(SIDES, SIDES).flatmap(lambda shape: arrays(np.bool_, shape))


def smooth(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Smooth noise stretched to 0..1: blobs and lines of all sizes."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), (0, sigma, sigma))
    return ((noise - noise.min()) / (noise.max() - noise.min())).astype(np.float32)


def stacks(seed: int, planes: int = 3, size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A truth of cells and a proposal that resembles it."""
    rng = np.random.default_rng(seed)
    p = smooth(rng, (planes, size, size + 5), 1.5)
    return np.clip(p + 0.1 * (smooth(rng, p.shape, 1.0) - 0.5), 0, 1), p > np.quantile(p, 0.35)


@settings(max_examples=400, deadline=None)
@given(BINARY)
def test_thinning_equals_the_general_watershed_of_the_inverted_image(cell: np.ndarray) -> None:
    expected = em_reference.watershed(np.where(cell, 0, 255).tolist())
    np.testing.assert_array_equal(metrics.thin_borders(cell), expected)


@pytest.mark.parametrize("seed", range(4))
def test_thinning_equals_the_general_watershed_on_larger_images(seed: int) -> None:
    # Wide borders and even gaps: lines that are plateaus, and pixels that only touch lines.
    cell = smooth(np.random.default_rng(seed), (1, 40, 47), 2)[0] > 0.6
    thinned = metrics.thin_borders(cell)
    np.testing.assert_array_equal(thinned, em_reference.watershed(np.where(cell, 0, 255).tolist()))
    assert (thinned == 0).any()


@pytest.mark.parametrize("seed", range(4))
def test_v_scores_and_pixel_error_equal_the_literal_definitions(seed: int) -> None:
    p, truth = stacks(seed)
    expected_rand, expected_info = em_reference.v_scores(p.tolist(), truth.tolist())
    rand, info = metrics.v_scores(p, truth)
    assert rand.score == pytest.approx(expected_rand[0], rel=1e-9)
    assert info.score == pytest.approx(expected_info[0], rel=1e-9)
    assert (rand.threshold, info.threshold) == (expected_rand[1], expected_info[1])
    error = metrics.pixel_error(p, truth).score
    assert error == pytest.approx(em_reference.pixel_error(p.tolist(), truth.tolist()), rel=1e-9)


@pytest.mark.data
def test_thinning_of_real_membranes_equals_the_general_watershed(data_dir: Path) -> None:
    cell = tifffile.imread(data_dir / "isbi2012" / "train-labels.tif", key=3)[:120, :140] > 0
    expected = em_reference.watershed(np.where(cell, 0, 255).tolist())
    np.testing.assert_array_equal(metrics.thin_borders(cell), expected)
    assert metrics.v_rand(cell.astype(np.float32), cell).score == 1


def test_thresholds_are_those_of_the_official_loop() -> None:
    assert list(em_reference.thresholds()) == list(metrics.THRESHOLDS)


LABELS = st.tuples(SIDES, SIDES).flatmap(
    lambda shape: st.tuples(*[arrays(np.int32, shape, elements=st.integers(0, 4))] * 2)
)


@settings(max_examples=200, deadline=None)
@given(LABELS)
def test_one_plane_equals_the_formulas(labels: tuple[np.ndarray, np.ndarray]) -> None:
    proposal, truth = labels
    agreement = metrics.rand_scores(proposal, truth)
    if not truth.any():
        assert agreement.rand == agreement.information == (1, 1, 1)
        return
    rand, info = em_reference.scores(truth.tolist(), proposal.tolist())
    assert agreement.rand == pytest.approx(rand, rel=1e-9)
    # abs: entropies of differing order of summation cancel to within 1e-15 of 0.
    assert agreement.information == pytest.approx(info, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_v_rand_equals_elf_and_v_info_equals_scikit_learn(seed: int) -> None:
    p, truth = stacks(seed, planes=1, size=60)
    labels = metrics.label_components(truth[0])
    proposal = metrics.thin_borders(p[0] > 0.5)
    agreement = metrics.rand_scores(proposal, labels)
    # Both know no unassigned pixels: each gets an id of its own.
    singletons = np.where(proposal == 0, np.arange(proposal.size).reshape(proposal.shape) + 10_000, proposal)
    error, _ = elf.evaluation.rand_index(
        singletons.astype(np.uint64), labels.astype(np.uint64), ignore_gt=[0]
    )
    assert agreement.rand.score == pytest.approx(1 - error, rel=1e-9)
    inside = labels > 0
    expected = normalized_mutual_info_score(labels[inside], singletons[inside], average_method="arithmetic")
    assert agreement.information.score == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_class_scores_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, pred = rng.integers(0, 4, (2, 30, 31))
    truth[rng.random(truth.shape) < 0.2] = 255
    counted = truth != 255
    matrix = metrics.confusion(pred, truth, 4)
    np.testing.assert_array_equal(matrix, confusion_matrix(truth[counted], pred[counted]))
    np.testing.assert_allclose(
        metrics.dice(matrix), f1_score(truth[counted], pred[counted], average=None), rtol=1e-9
    )
    np.testing.assert_allclose(
        metrics.iou(matrix), jaccard_score(truth[counted], pred[counted], average=None), rtol=1e-9
    )
    assert metrics.accuracy(matrix) == pytest.approx(accuracy_score(truth[counted], pred[counted]))


@settings(max_examples=150, deadline=None)
@given(LABELS, st.sampled_from([0.1, 1 / 3, 0.5, 0.6, 1.0]))
def test_matching_equals_trying_every_assignment(
    labels: tuple[np.ndarray, np.ndarray], threshold: float
) -> None:
    pred, true = labels
    matching = metrics.match(pred, true, threshold)
    tp, fp, fn, iou_sum = object_reference.best_matching(pred.tolist(), true.tolist(), threshold)
    assert (matching.tp, matching.fp, matching.fn) == (tp, fp, fn)
    assert matching.iou_sum == pytest.approx(iou_sum, rel=1e-9)
