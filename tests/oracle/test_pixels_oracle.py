"""Scores of pixels against scikit-learn, boundary F1 against distances of scipy, on disturbed real masks."""

from pathlib import Path

import disturbed
import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score

from ushape import metrics

pytestmark = pytest.mark.data
EXACT = {"rel": 1e-9, "abs": 1e-12}  # both sum in float64; counts are whole numbers


def test_scores_of_classes_equal_scikit_learn(data_dir: Path) -> None:
    compared = 0
    for name, truth, pred in disturbed.binary_pairs(data_dir, 240):
        matrix = metrics.confusion(pred.astype(np.uint8), truth.astype(np.uint8), classes=2)
        both = truth.ravel(), pred.ravel()
        np.testing.assert_array_equal(matrix, confusion_matrix(*both, labels=[False, True]), err_msg=name)
        assert metrics.accuracy(matrix) == pytest.approx(accuracy_score(*both), **EXACT), name
        if not (truth.any() or pred.any()):
            assert metrics.dice(matrix)[1] == metrics.iou(matrix)[1] == 1, "nothing to find and nothing found"
            continue
        compared += 1
        assert metrics.dice(matrix)[1] == pytest.approx(f1_score(*both), **EXACT), name
        assert metrics.iou(matrix)[1] == pytest.approx(jaccard_score(*both), **EXACT), name
    assert compared >= 200


def test_pixel_error_equals_scikit_learn(data_dir: Path) -> None:
    for name, truth, probability in disturbed.probability_pairs(data_dir, 24):
        scores = [
            f1_score(truth.ravel() > 0, probability.astype(np.float32).ravel() > np.float64(threshold))
            for threshold in metrics.THRESHOLDS
        ]
        found = metrics.pixel_error(probability, truth > 0)
        assert [1 - error for error in found.by_threshold] == pytest.approx(scores, **EXACT), name
        assert found.score == pytest.approx(1 - max(scores), **EXACT), name


def test_boundary_f1_equals_distances_on_the_plane(data_dir: Path) -> None:
    def edge(mask: np.ndarray) -> np.ndarray:
        return mask & ~ndimage.binary_erosion(mask)

    compared = 0
    for name, truth, pred in disturbed.binary_pairs(data_dir, 240):
        if not (truth.any() and pred.any()):
            continue
        compared += 1
        near = [ndimage.distance_transform_edt(~edge(mask)) <= 2 for mask in (truth, pred)]
        precision, recall = near[0][edge(pred)].mean(), near[1][edge(truth)].mean()
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        assert metrics.boundary_f1(pred, truth, 2) == pytest.approx(expected, **EXACT), name
    assert compared >= 200
