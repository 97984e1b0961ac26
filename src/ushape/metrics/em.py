"""The scores of the ISBI 2012 challenge (EM membranes) by their official definitions; warping: `warping`.

Convention: `probabilities` are P(cell), the cell (non-membrane) is the positive class, pixels with
p > threshold are cell, objects are 4-connected. The reference is the challenge's own code in Fiji's Trainable
Segmentation plugin; V_rand and V_info are described in Arganda-Carreras et al., Frontiers in Neuroanatomy
9:142 (2015).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ushape.metrics.partitions import (
    Agreement,
    FScore,
    TruthObjects,
    compare,
    label_components,
    thin_by_column,
)
from ushape.metrics.thresholds import THRESHOLDS, Planes, above, checked_planes

__all__ = [
    "THRESHOLDS",
    "PixelError",
    "RandError",
    "VScore",
    "pixel_error",
    "rand_error",
    "v_info",
    "v_rand",
    "v_scores",
]

Array = NDArray[Any]
Result = TypeVar("Result")
Counts = tuple[int, int, int]
"""True positives, false positives, false negatives."""


@dataclass(frozen=True)
class PixelError:
    """Pixel error of a stack: 1 - max over thresholds of the F-score of the cell pixels.

    Attributes
    ----------
    score : float
        The error, in 0..1; 0 is perfect.
    threshold : float
        The first threshold that reaches it.
    tp, fp, fn : int
        Cell pixels found, invented and missed at that threshold, summed over the slices.
    by_threshold : tuple of float
        The error at each of `THRESHOLDS`.
    by_slice : tuple of (tp, fp, fn)
        The counts of each slice at that threshold.
    """

    score: float
    threshold: float
    tp: int
    fp: int
    fn: int
    by_threshold: tuple[float, ...]
    by_slice: tuple[Counts, ...]


@dataclass(frozen=True)
class RandError:
    """Rand error (2012) of a stack: 1 - max over thresholds of the F-score of the pairs of pixels.

    Attributes
    ----------
    score : float
        The error, in 0..1; 0 is perfect.
    threshold : float
        The first threshold that reaches it.
    tp, fp, fn : int
        Unordered pairs of two pixels of one slice that are together in proposal and truth, in the proposal
        only (merged), in the truth only (split), at that threshold, summed over the slices.
    by_threshold : tuple of float
        The error at each of `THRESHOLDS`.
    by_slice : tuple of (tp, fp, fn)
        The counts of each slice at that threshold.
    """

    score: float
    threshold: float
    tp: int
    fp: int
    fn: int
    by_threshold: tuple[float, ...]
    by_slice: tuple[Counts, ...]


@dataclass(frozen=True)
class VScore:
    """V_rand or V_info of a stack: mean over the slices at each threshold, then the best threshold.

    Attributes
    ----------
    score : float
        In 0..1; 1 is perfect.
    threshold : float
        The first threshold that reaches it.
    precision, recall : float
        Means over the slices at that threshold.
    by_threshold : tuple of float
        Mean over the slices at each of `THRESHOLDS`.
    by_slice : tuple of FScore
        Each slice at the best threshold.
    agreements : tuple of Agreement
        The counts behind `by_slice`.
    """

    score: float
    threshold: float
    precision: float
    recall: float
    by_threshold: tuple[float, ...]
    by_slice: tuple[FScore, ...]
    agreements: tuple[Agreement, ...]


def pixel_error(probabilities: Planes, truth: Planes, *, ignored: Planes | None = None) -> PixelError:
    """Pixel error of the ISBI 2012 challenge, over all slices together.

    Parameters
    ----------
    probabilities : ndarray of float, shape (Z, H, W) or (H, W), or a sequence of planes (H, W)
        P(cell), 0..1. Compared as float32, as the official code does.
    truth : ndarrays of bool or int, shaped as `probabilities`
        Values above 0 are cell.
    ignored : ndarrays of bool, shaped as `probabilities`, optional
        Pixels that do not count.

    Returns
    -------
    PixelError

    Raises
    ------
    ShapeError
        If the shapes differ or have another number of axes.
    DataError
        If a probability lies outside 0..1.

    Notes
    -----
    F = 2 tp / (2 tp + fp + fn) with counts summed over the slices (micro); 1 if nothing is cell in both.
    """
    return PixelError(
        *_least_error([_pixels(*plane) for plane in checked_planes(probabilities, truth, ignored)])
    )


def rand_error(probabilities: Planes, truth: Planes, *, ignored: Planes | None = None) -> RandError:
    """Rand error of the ISBI 2012 challenge as it was scored in 2012, over all slices together.

    Parameters
    ----------
    probabilities : ndarray of float, shape (Z, H, W) or (H, W), or a sequence of planes (H, W)
        P(cell), 0..1. Compared as float32, as the official code does.
    truth : ndarrays of bool or int, shaped as `probabilities`
        Values above 0 are cell; the 4-connected components of the cell are the objects.
    ignored : ndarrays of bool, shaped as `probabilities`, optional
        Pixels that do not count, taken out of the truth before its objects are labelled. Not in the official
        definition.

    Returns
    -------
    RandError

    Raises
    ------
    ShapeError
        If the shapes differ or have another number of axes.
    DataError
        If a probability lies outside 0..1.

    Notes
    -----
    F = 2 tp / (2 tp + fp + fn) over the pairs of pixels within a slice, counts summed over the slices
    (micro); 1 if there is no pair to find and none found. Unlike V_rand, which replaced it: the membrane is
    one ordinary cluster, in the proposal as in the truth, and is not thinned, and no pixel is paired with
    itself.
    """
    return RandError(
        *_least_error([_pairs(*plane) for plane in checked_planes(probabilities, truth, ignored)])
    )


def v_rand(probabilities: Planes, truth: Planes, *, ignored: Planes | None = None) -> VScore:
    """Foreground-restricted Rand score after border thinning; see `v_scores`."""
    return v_scores(probabilities, truth, ignored=ignored)[0]


def v_info(probabilities: Planes, truth: Planes, *, ignored: Planes | None = None) -> VScore:
    """Foreground-restricted information theoretic score after border thinning; see `v_scores`."""
    return v_scores(probabilities, truth, ignored=ignored)[1]


def v_scores(probabilities: Planes, truth: Planes, *, ignored: Planes | None = None) -> tuple[VScore, VScore]:
    """V_rand and V_info of the ISBI 2012 challenge, the thinning done once for both.

    Parameters
    ----------
    probabilities : ndarray of float, shape (Z, H, W) or (H, W), or a sequence of planes (H, W)
        P(cell), 0..1. Compared as float32, as the official code does.
    truth : ndarrays of bool or int, shaped as `probabilities`
        Values above 0 are cell; the 4-connected components of the cell are the objects.
    ignored : ndarrays of bool, shaped as `probabilities`, optional
        Pixels taken out of the truth before its objects are labelled. Not in the official definition.

    Returns
    -------
    v_rand, v_info : VScore

    Raises
    ------
    ShapeError
        If the shapes differ or have another number of axes.
    DataError
        If a probability lies outside 0..1.

    Notes
    -----
    For each threshold and slice the borders of the proposal are thinned (`thin_borders`) and compared with
    the truth on the truth's cell pixels (`Agreement`). Cost: linear in the pixels; 5 ms per threshold for a
    slice of 512 x 512 pixels on one core.
    """
    slices = [_agreements(*plane) for plane in checked_planes(probabilities, truth, ignored)]
    by_threshold = list(zip(*slices, strict=True))
    return (
        _best([[agreement.rand for agreement in row] for row in by_threshold], by_threshold),
        _best([[agreement.information for agreement in row] for row in by_threshold], by_threshold),
    )


def _pixels(
    probabilities: NDArray[np.float32], cell: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> list[Counts]:
    """Cell pixels of one plane found, invented and missed at each threshold."""
    inside, outside = probabilities[cell & counted], probabilities[~cell & counted]
    counts = []
    for threshold in THRESHOLDS:
        tp = int(np.count_nonzero(above(inside, threshold)))
        counts.append((tp, int(np.count_nonzero(above(outside, threshold))), inside.size - tp))
    return counts


def _pairs(
    probabilities: NDArray[np.float32], cell: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> list[Counts]:
    """Pairs of pixels of one plane joined rightly, joined wrongly and torn apart at each threshold."""
    # Label 0 is what `compare` leaves out; the membrane is to count, so that everything moves up by one.
    clusters = np.where(counted, label_components(cell & counted) + 1, 0)
    truth = TruthObjects(clusters.ravel(), int(clusters.max(initial=0)))

    def pairs(proposal: NDArray[np.bool_]) -> Counts:
        labels = label_components(proposal) + 1
        agreement = compare(truth, labels.ravel(), int(labels.max(initial=1)))
        # The agreement's pairs are ordered, and every pixel is paired with itself.
        return (
            (agreement.common_pairs - agreement.pixels) // 2,
            (agreement.proposal_pairs - agreement.common_pairs) // 2,
            (agreement.truth_pairs - agreement.common_pairs) // 2,
        )

    return _at_each_threshold(probabilities, pairs)


def _agreements(
    probabilities: NDArray[np.float32], cell: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> list[Agreement]:
    """Agreement of one plane at each threshold."""
    # By column, because that is the order in which the official thinning scans.
    components = label_components((cell & counted).T)
    truth = TruthObjects(components.ravel(), int(components.max(initial=0)))

    def agreement(proposal: NDArray[np.bool_]) -> Agreement:
        labels, cells = thin_by_column(proposal)
        return compare(truth, labels.ravel(), cells)

    return _at_each_threshold(np.ascontiguousarray(probabilities.T), agreement)


def _at_each_threshold(
    probabilities: NDArray[np.float32], judge: Callable[[NDArray[np.bool_]], Result]
) -> list[Result]:
    """Judge the cell pixels of one plane at each threshold, equal ones only once."""
    results: list[Result] = []
    previous = -1
    for threshold in THRESHOLDS:
        proposal = above(probabilities, threshold)
        pixels = int(np.count_nonzero(proposal))
        # The sets of cell pixels are nested: an equal count is an equal set, with an equal result.
        results.append(results[-1] if pixels == previous else judge(proposal))
        previous = pixels
    return results


def _least_error(
    slices: Sequence[Sequence[Counts]],
) -> tuple[float, float, int, int, int, tuple[float, ...], tuple[Counts, ...]]:
    """Reduce counts by slice and threshold to the values of a `PixelError` or `RandError`."""
    by_threshold = list(zip(*slices, strict=True))
    sums = [tuple(map(sum, zip(*row, strict=True))) for row in by_threshold]
    errors = [1 - 2 * tp / (2 * tp + fp + fn) if tp or fp or fn else 0.0 for tp, fp, fn in sums]
    best = errors.index(min(errors))
    tp, fp, fn = sums[best]
    return errors[best], THRESHOLDS[best], tp, fp, fn, tuple(errors), by_threshold[best]


def _best(table: Sequence[Sequence[FScore]], agreements: Sequence[tuple[Agreement, ...]]) -> VScore:
    """Reduce scores by threshold and slice."""
    means = [float(np.mean([slice_.score for slice_ in row])) for row in table]
    best = int(np.argmax(means))
    return VScore(
        means[best],
        THRESHOLDS[best],
        float(np.mean([slice_.precision for slice_ in table[best]])),
        float(np.mean([slice_.recall for slice_ in table[best]])),
        tuple(means),
        tuple(table[best]),
        agreements[best],
    )
