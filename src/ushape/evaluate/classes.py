"""Scores of class masks: everything follows from the confusion matrix of each image."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ushape import metrics
from ushape.evaluate.planes import Plane
from ushape.evaluate.scored import Row, Scored, together
from ushape.evaluate.views import Views


def class_scores(planes: Sequence[Plane], views: Views) -> Scored:
    """Dice, IoU and accuracy of each image, and of the pixels of all images together."""
    classes = views.coding.classes
    matrices = [metrics.confusion(*views.classes(plane), classes) for plane in planes]
    scores, counts = _row(np.sum(matrices, axis=0))
    which = "of class 1" if classes == 2 else f"mean over the {classes} classes"
    conventions = (
        f"Dice and IoU: {which}; a class that is in neither truth nor prediction scores 1",
        *(_by_class(name, counts[name]["per_class"]) for name in ("dice", "iou") if classes > 2),
    )
    return together("pixels", (scores, counts), list(map(_row, matrices)), conventions)


def _by_class(name: str, values: list[float]) -> str:
    return f"{name} of the classes 0 to {len(values) - 1}: {', '.join(f'{value:.4f}' for value in values)}"


def _row(matrix: NDArray[np.int64]) -> Row:
    """Scores and counts of one confusion matrix."""
    scores, counts = {}, {}
    for name, function in (("dice", metrics.dice), ("iou", metrics.iou)):
        per_class = function(matrix)
        scores[name] = float(per_class[1] if len(matrix) == 2 else per_class.mean())
        counts[name] = {"per_class": per_class.tolist(), "confusion": matrix.tolist()}
    scores["accuracy"] = float(metrics.accuracy(matrix))
    counts["accuracy"] = {"correct": int(np.trace(matrix)), "pixels": int(matrix.sum())}
    return scores, counts
