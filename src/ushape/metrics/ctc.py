"""The scores of the Cell Tracking Challenge that need no tracks: SEG and DET.

Both ask of each reference object for the result object that covers more than half of *its* pixels, of which
there is one at most. A result object may cover several. Sequences (01, 02) of a data set are scored each by
itself, and the score of the data set is the mean. The official programs cut nothing away at the border of the
field of interest; results are expected to have done that.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.metrics.overlaps import Overlaps, count_overlaps

Array = NDArray[Any]

SPLIT_COST, MISSED_COST, ADDED_COST = 5, 10, 1
"""What one operation costs that turns the result into the reference (Matula et al. 2015)."""


@dataclass(frozen=True)
class Seg:
    """SEG of one frame, or of the annotated frames of a sequence.

    Attributes
    ----------
    matched : int
        Reference objects that a result object covers by more than half.
    objects : int
        Reference objects.
    jaccard_sum : float
        Sum of the Jaccard index (IoU) of the matched ones.
    scores : tuple of (reference id, Jaccard index)
        Of every reference object of one frame, by id, 0 if it is not matched; empty for a sum over frames.
    """

    matched: int
    objects: int
    jaccard_sum: float
    scores: tuple[tuple[int, float], ...] = ()

    @property
    def score(self) -> float:
        """Mean Jaccard index of all reference objects; 1 without any, because nothing else is scored."""
        return self.jaccard_sum / self.objects if self.objects else 1.0


@dataclass(frozen=True)
class Det:
    """DET of one frame, or of a sequence.

    Attributes
    ----------
    tp, fn : int
        Markers that a result object covers by more than half, and the others.
    fp : int
        Result objects that cover no marker.
    splits : int
        Cuts that part the result objects which cover several markers: of k markers, k - 1.
    """

    tp: int
    fn: int
    fp: int
    splits: int

    @property
    def markers(self) -> int:
        """Markers in the reference."""
        return self.tp + self.fn

    @property
    def cost(self) -> int:
        """AOGM-D: what it costs to turn the result into the reference."""
        return SPLIT_COST * self.splits + MISSED_COST * self.fn + ADDED_COST * self.fp

    @property
    def score(self) -> float:
        """1 - min(D, D0) / D0 with D the `cost` and D0 that of an empty result; without markers 1 if D is 0.

        An empty result scores 0, and so does any that costs more.
        """
        nothing = MISSED_COST * self.markers
        return 1 - min(self.cost, nothing) / nothing if nothing else float(not self.cost)


def seg(pred_ids: Array, true_ids: Array) -> Seg:
    """Segmentation accuracy (SEG) of one frame.

    Parameters
    ----------
    pred_ids : ndarray of int, shape (H, W)
        Ids of the result, 0 = background.
    true_ids : ndarray of int, same shape
        Ids of the reference (`man_seg...tif`). It may annotate a part of the cells: only those are scored,
        whatever else the result contains.

    Returns
    -------
    Seg

    Raises
    ------
    ShapeError
        If the shapes differ.
    DataError
        If an id is negative or no whole number.

    Notes
    -----
    Maska et al., Bioinformatics 30:1609 (2014): for a reference object R and the result object S with
    |R and S| > |R| / 2 the Jaccard index |R and S| / |R or S|, 0 if there is no such S; mean over all R. The
    U-Net paper calls it IoU.

    Examples
    --------
    >>> seg(np.array([5, 5, 5, 0, 8]), np.array([1, 1, 1, 1, 0])).score
    0.75
    """
    overlaps = count_overlaps(pred_ids, true_ids)
    pairs = _covered(overlaps)
    jaccard = np.zeros(overlaps.true_ids.size)
    jaccard[overlaps.true[pairs]] = overlaps.iou[pairs]
    values = jaccard.tolist()
    scores = tuple(zip(overlaps.true_ids.tolist(), values, strict=True))
    return Seg(pairs.size, len(values), math.fsum(values), scores)


def total_seg(frames: Iterable[Seg]) -> Seg:
    """Add up the annotated frames of a sequence: its SEG is the mean over objects, not over frames."""
    frames = list(frames)
    return Seg(
        sum(frame.matched for frame in frames),
        sum(frame.objects for frame in frames),
        math.fsum(frame.jaccard_sum for frame in frames),
    )


def det(pred_ids: Array, markers: Array) -> Det:
    """Detection accuracy (DET) of one frame.

    Parameters
    ----------
    pred_ids : ndarray of int, shape (H, W)
        Ids of the result, 0 = background.
    markers : ndarray of int, same shape
        Ids of the reference markers (`man_track...tif`), one for every cell of the frame.

    Returns
    -------
    Det

    Raises
    ------
    ShapeError
        If the shapes differ.
    DataError
        If an id is negative or no whole number.

    Notes
    -----
    Matula et al., PLoS ONE 10:e0144959 (2015): the vertices of their graphs, without the edges (AOGM-D).

    Examples
    --------
    >>> det(np.array([5, 5, 5, 0, 8]), np.array([1, 0, 2, 0, 0]))
    Det(tp=2, fn=0, fp=1, splits=1)
    """
    overlaps = count_overlaps(pred_ids, markers)
    pairs = _covered(overlaps)
    finders = np.unique(overlaps.pred[pairs]).size
    return Det(
        pairs.size,
        overlaps.true_ids.size - pairs.size,
        overlaps.pred_ids.size - finders,
        pairs.size - finders,
    )


def total_det(frames: Iterable[Det]) -> Det:
    """Add up the frames of a sequence: its DET is the ratio of the sums, not the mean over frames.

    Leave out frames that have no marker image; a frame whose marker image is empty belongs to it.
    """
    frames = list(frames)
    return Det(
        sum(frame.tp for frame in frames),
        sum(frame.fn for frame in frames),
        sum(frame.fp for frame in frames),
        sum(frame.splits for frame in frames),
    )


def _covered(overlaps: Overlaps) -> NDArray[np.intp]:
    """Pairs in which the result object covers more than half of the reference object."""
    return np.flatnonzero(2 * overlaps.shared > overlaps.true_areas[overlaps.true])
