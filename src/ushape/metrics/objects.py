"""Scores of objects: which predicted object is which true one, and how many were found, invented, missed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import ConfigError, ShapeError

Array = NDArray[Any]


@dataclass(frozen=True)
class Matching:
    """Objects of one image, or of a set, matched one to one at a threshold of IoU.

    Attributes
    ----------
    threshold : float
        Smallest IoU of a match.
    tp, fp, fn : int
        Objects found, invented (predicted without a true partner) and missed.
    pairs : tuple of (predicted id, true id, IoU)
        The matches of one image, by predicted id; empty for a sum over images, where ids mean nothing.
    iou_sum : float
        Sum of the IoU of the matches.
    """

    threshold: float
    tp: int
    fp: int
    fn: int
    pairs: tuple[tuple[int, int, float], ...] = ()
    iou_sum: float = 0.0

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN) as in DSB 2018, StarDist and Cellpose, not COCO's AP; 1 without objects."""
        total = self.tp + self.fp + self.fn
        return self.tp / total if total else 1.0

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 without objects."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else 1.0


def match(pred_ids: Array, true_ids: Array, threshold: float = 0.5) -> Matching:
    """Match the objects of one image: as many pairs with IoU >= threshold as can be, then the best of those.

    Parameters
    ----------
    pred_ids, true_ids : ndarray of int, same shape
        Object ids, 0 = background.
    threshold : float
        0 < threshold <= 1.

    Returns
    -------
    Matching

    Raises
    ------
    ShapeError
        If the shapes differ.
    ConfigError
        If the threshold is out of its range.

    Notes
    -----
    Above 0.5 an object has at most one partner; else the pairs are chosen by the Hungarian method.
    """
    if pred_ids.shape != true_ids.shape:
        raise ShapeError(f"prediction has shape {pred_ids.shape}, truth {true_ids.shape}; make them equal")
    if not 0 < threshold <= 1:
        raise ConfigError(f"IoU threshold must be above 0 and at most 1, got {threshold}")
    predicted, true, values = _overlaps(pred_ids, true_ids)
    enough = values >= threshold
    pairs = _one_to_one(predicted[enough], true[enough], values[enough])
    return Matching(
        threshold,
        len(pairs),
        _count_objects(pred_ids) - len(pairs),
        _count_objects(true_ids) - len(pairs),
        pairs,
        sum(iou for _, _, iou in pairs),
    )


def total(matchings: Iterable[Matching]) -> Matching:
    """Add up the counts of several images, for the scores of the data set.

    Raises
    ------
    ConfigError
        If there is none, or if their thresholds differ.
    """
    parts = list(matchings)
    thresholds = {part.threshold for part in parts}
    if len(thresholds) != 1:
        raise ConfigError(f"matchings to add up must share one threshold, got {sorted(thresholds)}")
    return Matching(
        thresholds.pop(),
        sum(part.tp for part in parts),
        sum(part.fp for part in parts),
        sum(part.fn for part in parts),
        iou_sum=sum(part.iou_sum for part in parts),
    )


def average_precision(pred_ids: Array, true_ids: Array, threshold: float = 0.5) -> float:
    """TP / (TP + FP + FN) of one image; see `match`."""
    return match(pred_ids, true_ids, threshold).average_precision


def _overlaps(pred_ids: Array, true_ids: Array) -> tuple[Array, Array, NDArray[np.float64]]:
    """Predicted id, true id and IoU of every pair of objects that share a pixel."""
    predicted, columns, predicted_area = _objects(pred_ids)
    true, rows, true_area = _objects(true_ids)
    both = (columns > 0) & (rows > 0)
    keys, shared = np.unique(
        columns[both].astype(np.int64) * (len(true) + 1) + rows[both], return_counts=True
    )
    column, row = np.divmod(keys, len(true) + 1)
    union = predicted_area[column - 1] + true_area[row - 1] - shared
    return predicted[column - 1], true[row - 1], shared / union


def _objects(ids: Array) -> tuple[Array, Array, Array]:
    """Ids in ascending order, each pixel's place in that list counted from 1 (0: none), areas in pixels."""
    present, areas = np.unique(ids[ids != 0], return_counts=True)
    places = np.zeros(ids.shape, np.int64)
    places[ids != 0] = np.searchsorted(present, ids[ids != 0]) + 1
    return present, places, areas


def _count_objects(ids: Array) -> int:
    return int(np.unique(ids[ids != 0]).size)


def _one_to_one(predicted: Array, true: Array, values: Array) -> tuple[tuple[int, int, float], ...]:
    """Choose pairs so that no object has two partners: as many as can be, of these the largest sum of IoU."""
    from scipy.optimize import linear_sum_assignment

    columns, column = np.unique(predicted, return_inverse=True)
    rows, row = np.unique(true, return_inverse=True)
    if len(columns) == len(rows) == len(values):
        chosen = np.arange(len(values))
    else:
        # One more pair must outweigh any gain in IoU: all IoU together stay below the 1 that a pair adds.
        gain = np.zeros((len(columns), len(rows)))
        gain[column, row] = 1 + values / (len(values) + 1)
        place = np.full(gain.shape, -1)
        place[column, row] = np.arange(len(values))
        chosen = place[linear_sum_assignment(gain, maximize=True)]
        chosen = chosen[chosen >= 0]
    order = chosen[np.argsort(predicted[chosen], kind="stable")]
    return tuple((int(predicted[i]), int(true[i]), float(values[i])) for i in order)
