"""Calibration error against torchmetrics and a slow reference, its companions against scikit-learn.

torchmetrics closes its bins at the lower edge and gives certainty a bin of its own; Guo 2017 closes them at
the upper edge. So it is compared where no confidence lies on an edge, and the edges with the slow reference.
"""

import itertools
from pathlib import Path

import disturbed
import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from ushape import metrics
from ushape.torchvision_operators import define_missing_operators

EXACT = {"rel": 1e-9, "abs": 1e-12}  # both sum in float64


def slow_error(probabilities: np.ndarray, truth: np.ndarray, bins: int) -> float:
    """Guo 2017, eq. 3, pixel by pixel."""
    inside: dict[int, list[tuple[float, bool]]] = {}
    for p, true in zip(probabilities.reshape(len(probabilities), -1).T, truth.ravel(), strict=True):
        confidence = float(p.max())
        place = next(m for m in range(1, bins + 1) if confidence <= m / bins)
        inside.setdefault(place, []).append((confidence, int(p.argmax()) == true))
    gaps = (abs(np.mean([r for _, r in b]) - np.mean([c for c, _ in b])) * len(b) for b in inside.values())
    return sum(gaps) / truth.size


@pytest.mark.parametrize("classes", [2, 3, 11])
def test_the_slow_reference_agrees_also_on_edges(classes: int) -> None:
    rng = np.random.default_rng(classes)
    p = rng.dirichlet(np.full(classes, 0.4), 3000).T
    # Sixteenths are exact in binary, so that both sides see the same edges.
    edges = np.zeros((classes, 600))
    edges[0] = rng.integers(8, 17, 600) / 16
    edges[1] = 1 - edges[0]
    p = np.concatenate([p, edges], axis=1)
    truth = rng.integers(0, classes, p.shape[1])
    for bins in (4, 16):
        found = metrics.calibration_error(p, truth, bins=bins)
        assert found.error == pytest.approx(slow_error(p, truth, bins), **EXACT)


@pytest.mark.parametrize("classes", [2, 5])
def test_torchmetrics_agrees(classes: int) -> None:
    define_missing_operators()
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    rng = np.random.default_rng(classes)
    for ignored in (False, True):
        p = rng.dirichlet(np.full(classes, 0.5), 20_000).T
        truth = np.where(rng.random(20_000) < 0.6, p.argmax(0), rng.integers(0, classes, 20_000))
        if ignored:
            truth[::7] = 255
        found = metrics.calibration_error(p, truth)
        expected = multiclass_calibration_error(
            torch.from_numpy(p.T.copy()),
            torch.from_numpy(truth),
            num_classes=classes,
            n_bins=metrics.CALIBRATION_BINS,
            norm="l1",
            ignore_index=255 if ignored else None,
        )
        # Its means are taken in float32.
        assert found.error == pytest.approx(float(expected), rel=1e-5)
        assert found.error > 0.01


@pytest.mark.data
def test_scores_of_200_disturbed_images_equal_scikit_learn_and_the_slow_reference(data_dir: Path) -> None:
    pairs = disturbed.probability_pairs(data_dir, 2000, seed=5, side=32)  # small, for the slow reference
    of_both_classes = (pair for pair in pairs if 0 < pair[1].mean() < 1)
    compared = 0
    for name, truth, probability in itertools.islice(of_both_classes, 240):
        compared += 1
        p = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
        labels, likely = truth.astype(int), np.stack([1 - p, p])
        found = metrics.calibration_error(likely, labels)
        both = labels.ravel(), p.ravel()
        assert found.nll == pytest.approx(log_loss(*both, labels=[0, 1]), **EXACT), name
        assert found.brier == pytest.approx(2 * brier_score_loss(*both), **EXACT), name
        expected = slow_error(likely, labels, metrics.CALIBRATION_BINS)
        assert found.error == pytest.approx(expected, **EXACT), name
    assert compared >= 200
