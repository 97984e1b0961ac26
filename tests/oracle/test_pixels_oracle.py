"""Scores of pixels against scikit-learn, boundary F1 against distances of scipy, on disturbed real masks."""

from pathlib import Path

import disturbed
import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score

from ushape import metrics
from ushape.config import IGNORE

pytestmark = pytest.mark.data
EXACT = {"rel": 1e-9, "abs": 1e-12}  # both sum in float64; counts are whole numbers
CLASSES = np.arange(4)


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


def by_size(ids: np.ndarray) -> np.ndarray:
    """Classes of the pixels: 0 background, 1 to 3 small, middling and large objects."""
    of_object = 1 + np.digitize(np.bincount(ids.ravel()), (150, 500))
    of_object[0] = 0
    return of_object[ids]


def test_scores_of_several_classes_equal_scikit_learn_beside_ignored_stripes(data_dir: Path) -> None:
    options = {"labels": CLASSES, "average": None, "zero_division": 1}  # ours: 1 for a class that is nowhere
    images_with_class = np.zeros(CLASSES.size, int)
    for number, (name, *ids) in enumerate(disturbed.label_pairs(data_dir, 240, seed=4, side=96)):
        truth, pred = map(by_size, ids)
        is_ignored = np.arange(len(truth)) % 16 <= number % 8
        truth[is_ignored] = IGNORE
        pred[is_ignored & (np.arange(len(truth)) % 2 > 0)] = 4  # no class, which does not matter there
        both = truth[~is_ignored].ravel(), pred[~is_ignored].ravel()
        images_with_class += np.isin(CLASSES, both)
        matrix = metrics.confusion(pred, truth, classes=CLASSES.size)
        np.testing.assert_array_equal(matrix, confusion_matrix(*both, labels=CLASSES), err_msg=name)
        for ours, theirs in ((metrics.dice, f1_score), (metrics.iou, jaccard_score)):
            assert ours(matrix).tolist() == pytest.approx(theirs(*both, **options).tolist(), **EXACT), name
        assert metrics.accuracy(matrix) == pytest.approx(accuracy_score(*both), **EXACT), name
    assert 40 <= images_with_class.min() < 200  # also images where a class is nowhere


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
