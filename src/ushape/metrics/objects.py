"""Scores of objects: which predicted object is which true one, and how many were found, invented, missed.

One convention: an image without objects in prediction and truth is perfect, and scores 1. (stardist.matching
gives it 0, and cellpose NaN.)
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ushape.errors import ConfigError
from ushape.metrics.overlaps import Overlaps, count_overlaps, one_to_one

Array = NDArray[Any]

IOU_THRESHOLDS: tuple[float, ...] = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.50, 0.55, ..., 0.95, each the number nearest to its decimal: an IoU of 3/5 reaches 0.60.

`numpy.arange(0.5, 1, 0.05)`, which other tools use, gives 0.6000000000000001 there.
"""


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

    @property
    def precision(self) -> float:
        """TP / (TP + FP), the part of what is predicted that is true; 1 without objects, 0 if all missed."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else float(not self.fn)

    @property
    def recall(self) -> float:
        """TP / (TP + FN), the part of what is true that is found; 1 without objects, 0 if all invented."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else float(not self.fp)

    @property
    def mean_matched_score(self) -> float:
        """Mean IoU of the matches; 0 without a match."""
        return self.iou_sum / self.tp if self.tp else 0.0


@dataclass(frozen=True)
class Panoptic:
    """Panoptic quality of one class of objects (Kirillov et al., CVPR 2019, eq. 1), of one image or of a set.

    Attributes
    ----------
    tp, fp, fn : int
        Objects found (IoU above 0.5), invented and missed.
    iou_sum : float
        Sum of the IoU of the matches.
    """

    tp: int
    fp: int
    fn: int
    iou_sum: float

    @property
    def score(self) -> float:
        """PQ: sum of IoU / (TP + FP/2 + FN/2), which is `sq` times `rq`; 1 without objects."""
        total = self.tp + self.fp / 2 + self.fn / 2
        return self.iou_sum / total if total else 1.0

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the matches; 1 without objects, 0 without a match."""
        return self.iou_sum / self.tp if self.tp else float(not self.fp and not self.fn)

    @property
    def rq(self) -> float:
        """Recognition quality: TP / (TP + FP/2 + FN/2), the F1 at IoU above 0.5; 1 without objects."""
        total = self.tp + self.fp / 2 + self.fn / 2
        return self.tp / total if total else 1.0


@dataclass(frozen=True)
class Jaccard:
    """Aggregated Jaccard index of one image or of a set, see `aji`.

    Attributes
    ----------
    intersection, union : int
        Pixels, summed as the definition says.
    """

    intersection: int
    union: int

    @property
    def score(self) -> float:
        """AJI: intersection / union; 1 without objects."""
        return self.intersection / self.union if self.union else 1.0


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
    DataError
        If an id is negative or no whole number.
    ConfigError
        If the threshold is out of its range.

    Notes
    -----
    Above 0.5 an object has at most one partner; else the pairs are chosen by the Hungarian method. The counts
    are those of stardist.matching and of cellpose.metrics at every threshold, and so is `mean_matched_score`
    from 0.5 up. Below, those two choose, of the ways to reach the most pairs, the one with the largest IoU of
    all pairs, also of those that do not reach the threshold.

    Examples
    --------
    >>> match(np.array([5, 5, 5, 0]), np.array([1, 1, 1, 1]), 0.7)
    Matching(threshold=0.7, tp=1, fp=0, fn=0, pairs=((5, 1, 0.75),), iou_sum=0.75)
    """
    return matchings(pred_ids, true_ids, (threshold,))[0]


def matchings(
    pred_ids: Array, true_ids: Array, thresholds: Sequence[float] = IOU_THRESHOLDS
) -> tuple[Matching, ...]:
    """`match` at several thresholds, the pixels counted once for all.

    Parameters
    ----------
    pred_ids, true_ids : ndarray of int, same shape
        Object ids, 0 = background.
    thresholds : sequence of float
        Each above 0 and at most 1.

    Returns
    -------
    tuple of Matching, as many as thresholds

    Raises
    ------
    ShapeError, DataError, ConfigError
        As `match`.
    """
    for threshold in thresholds:
        if not 0 < threshold <= 1:
            raise ConfigError(f"IoU threshold must be above 0 and at most 1, got {threshold}")
    overlaps = count_overlaps(pred_ids, true_ids)
    iou = overlaps.iou
    return tuple(_matching(overlaps, iou, threshold) for threshold in thresholds)


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
        iou_sum=math.fsum(part.iou_sum for part in parts),
    )


def average_precision(pred_ids: Array, true_ids: Array, threshold: float = 0.5) -> float:
    """TP / (TP + FP + FN) of one image; see `match`."""
    return match(pred_ids, true_ids, threshold).average_precision


def panoptic(pred_ids: Array, true_ids: Array) -> Panoptic:
    """Panoptic quality of the objects of one image; background is no segment, and every pixel counts.

    Parameters
    ----------
    pred_ids, true_ids : ndarray of int, same shape
        Object ids, 0 = background.

    Returns
    -------
    Panoptic

    Raises
    ------
    ShapeError
        If the shapes differ.
    DataError
        If an id is negative or no whole number.

    Notes
    -----
    A match has an IoU above 0.5; exactly 0.5 is none. stardist.matching(thresh=0.5) counts it as one.
    """
    overlaps = count_overlaps(pred_ids, true_ids)
    iou = overlaps.iou
    matched = iou[iou > 0.5]
    tp = matched.size
    return Panoptic(tp, overlaps.pred_ids.size - tp, overlaps.true_ids.size - tp, math.fsum(matched))


def total_panoptic(parts: Iterable[Panoptic]) -> Panoptic:
    """Add up the counts of several images, for the panoptic quality of the data set."""
    parts = list(parts)
    return Panoptic(
        sum(part.tp for part in parts),
        sum(part.fp for part in parts),
        sum(part.fn for part in parts),
        math.fsum(part.iou_sum for part in parts),
    )


def aji(
    pred_ids: Array, true_ids: Array, *, definition: Literal["cellpose", "kumar"] = "cellpose"
) -> Jaccard:
    """Aggregated Jaccard index of one image.

    Parameters
    ----------
    pred_ids, true_ids : ndarray of int, same shape
        Object ids, 0 = background.
    definition : {"cellpose", "kumar"}
        "cellpose": as `cellpose.metrics.aggregated_jaccard_index`. Objects are paired one to one (first as
        many pairs with IoU >= 0.5 as can be, then the largest sum of IoU of all pairs that overlap); the
        pixels shared by partners, over the pixels that are an object in either image.
        "kumar": the original, Kumar et al., IEEE TMI 36:1550 (2017), algorithm 1. Each true object takes the
        predicted one of highest IoU, which several may take; intersections and unions of these pairs are
        added up, and to the unions the area of every true object without a partner and of every predicted one
        that none took.

    Returns
    -------
    Jaccard

    Raises
    ------
    ShapeError
        If the shapes differ.
    DataError
        If an id is negative or no whole number.
    ConfigError
        If there is no such definition.

    Notes
    -----
    The two give the same number if no object overlaps two. Else the original is the lower one as a rule: it
    counts a pixel once in each union it belongs to. The MATLAB code that its authors distribute departs from
    their algorithm: it takes a predicted object away once it has been used, so that its result depends on the
    order of the ids. Of equal partners, "kumar" takes the one with more common pixels, then the lower id.
    """
    overlaps = count_overlaps(pred_ids, true_ids)
    if definition == "cellpose":
        return _jaccard_of_partners(overlaps)
    if definition == "kumar":
        return _jaccard_of_best(overlaps)
    raise ConfigError(f"definition of AJI must be 'cellpose' or 'kumar', got {definition!r}")


def total_aji(parts: Iterable[Jaccard]) -> Jaccard:
    """Add up the pixels of several images, for the AJI of the data set."""
    parts = list(parts)
    return Jaccard(sum(part.intersection for part in parts), sum(part.union for part in parts))


def _matching(overlaps: Overlaps, iou: NDArray[np.float64], threshold: float) -> Matching:
    chosen = np.flatnonzero(iou >= threshold)
    if threshold <= 0.5:  # above, two pairs cannot have an object in common
        # One more pair must outweigh any gain in IoU: all IoU together stay below the 1 that a pair adds.
        gain = 1 + iou[chosen] / (chosen.size + 1)
        chosen = chosen[one_to_one(overlaps.pred[chosen], overlaps.true[chosen], gain)]
    predicted = overlaps.pred_ids[overlaps.pred[chosen]].tolist()
    true = overlaps.true_ids[overlaps.true[chosen]].tolist()
    values = iou[chosen].tolist()
    return Matching(
        threshold,
        chosen.size,
        overlaps.pred_ids.size - chosen.size,
        overlaps.true_ids.size - chosen.size,
        tuple(zip(predicted, true, values, strict=True)),
        math.fsum(values),
    )


def _jaccard_of_partners(overlaps: Overlaps) -> Jaccard:
    iou = overlaps.iou
    # A pair above 0.5 is part of every best choice: its objects have no other pair that reaches 0.5.
    sure = iou > 0.5
    taken = np.isin(overlaps.pred, overlaps.pred[sure]) | np.isin(overlaps.true, overlaps.true[sure])
    rest = np.flatnonzero(~taken)
    gain = (iou[rest] >= 0.5) + iou[rest] / (rest.size + 1)
    rest = rest[one_to_one(overlaps.pred[rest], overlaps.true[rest], gain)]
    union = overlaps.pred_areas.sum() + overlaps.true_areas.sum() - overlaps.shared.sum()
    return Jaccard(int(overlaps.shared[sure].sum() + overlaps.shared[rest].sum()), int(union))


def _jaccard_of_best(overlaps: Overlaps) -> Jaccard:
    order = np.lexsort((overlaps.pred, -overlaps.shared, -overlaps.iou, overlaps.true))
    best = order[np.unique(overlaps.true[order], return_index=True)[1]]
    missed = np.delete(overlaps.true_areas, overlaps.true[best]).sum()
    unused = np.delete(overlaps.pred_areas, overlaps.pred[best]).sum()
    return Jaccard(int(overlaps.shared[best].sum()), int(overlaps.union[best].sum() + missed + unused))
