"""The scores of the ISBI 2012 challenge (EM membranes) by their official definitions.

Convention: `probabilities` are P(cell), the cell (non-membrane) is the positive class, pixels with
p > threshold are cell, objects are 4-connected. The reference is the challenge's own code in Fiji's Trainable
Segmentation plugin; V_rand and V_info are described in Arganda-Carreras et al., Frontiers in Neuroanatomy
9:142 (2015).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError, ShapeError
from ushape.metrics.partitions import (
    Agreement,
    FScore,
    TruthObjects,
    compare,
    label_components,
    thin_by_column,
)

Array = NDArray[Any]
Planes = Array | Sequence[Array]
"""One plane (H, W), a stack (Z, H, W), or several planes, whose sizes may differ."""

THRESHOLDS: tuple[float, ...] = tuple(accumulate([0.1] * 10, initial=0.0))
"""0, 0.1, ..., 1 as the official code makes them, by adding 0.1 ten times.

The last is a hair below 1, so that p = 1 (a saturated softmax, a binary proposal) is cell at every threshold.
"""


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
    by_slice: tuple[tuple[int, int, int], ...]


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
    slices = [_counts_by_threshold(*plane) for plane in _planes(probabilities, truth, ignored)]
    by_threshold = list(zip(*slices, strict=True))
    sums = [tuple(map(sum, zip(*row, strict=True))) for row in by_threshold]
    errors = [1 - 2 * tp / (2 * tp + fp + fn) if tp or fp or fn else 0.0 for tp, fp, fn in sums]
    best = errors.index(min(errors))
    tp, fp, fn = sums[best]
    return PixelError(errors[best], THRESHOLDS[best], tp, fp, fn, tuple(errors), by_threshold[best])


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
    slices = [_agreements(*plane) for plane in _planes(probabilities, truth, ignored)]
    by_threshold = list(zip(*slices, strict=True))
    return (
        _best([[agreement.rand for agreement in row] for row in by_threshold], by_threshold),
        _best([[agreement.information for agreement in row] for row in by_threshold], by_threshold),
    )


def _counts_by_threshold(
    probabilities: NDArray[np.float32], cell: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> list[tuple[int, int, int]]:
    """Cell pixels of one plane found, invented and missed at each threshold."""
    inside, outside = probabilities[cell & counted], probabilities[~cell & counted]
    counts = []
    for threshold in THRESHOLDS:
        tp = int(np.count_nonzero(_above(inside, threshold)))
        counts.append((tp, int(np.count_nonzero(_above(outside, threshold))), inside.size - tp))
    return counts


def _agreements(
    probabilities: NDArray[np.float32], cell: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> list[Agreement]:
    """Agreement of one plane at each threshold."""
    # By column, because that is the order in which the official thinning scans.
    probabilities = np.ascontiguousarray(probabilities.T)
    components = label_components((cell & counted).T)
    truth = TruthObjects(components.ravel(), int(components.max(initial=0)))
    agreements: list[Agreement] = []
    previous = -1
    for threshold in THRESHOLDS:
        proposal = _above(probabilities, threshold)
        pixels = int(np.count_nonzero(proposal))
        # The sets of cell pixels are nested: an equal count is an equal set, with an equal result.
        if pixels == previous:
            agreements.append(agreements[-1])
        else:
            labels, cells = thin_by_column(proposal)
            agreements.append(compare(truth, labels.ravel(), cells))
        previous = pixels
    return agreements


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


def _planes(
    probabilities: Planes, truth: Planes, ignored: Planes | None
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Check proposals and their truth plane by plane: P(cell), what is cell, what counts."""
    proposals, truths = _as_planes(probabilities), _as_planes(truth)
    masks = _as_planes(ignored) if ignored is not None else [np.zeros(t.shape, np.bool_) for t in truths]
    shapes = [[plane.shape for plane in planes] for planes in (proposals, truths, masks)]
    if not proposals or not shapes[0] == shapes[1] == shapes[2] or any(len(s) != 2 for s in shapes[0]):
        found = [f"{len(planes)} of {' and '.join(map(str, dict.fromkeys(planes)))}" for planes in shapes]
        raise ShapeError(
            "probabilities, truth and ignored pixels must be equally many planes (H, W) of equal sizes; "
            f"got {found[0]}, {found[1]} and {found[2]}"
        )
    for proposal, labels, mask in zip(proposals, truths, masks, strict=True):
        low, high = float(proposal.min(initial=1)), float(proposal.max(initial=0))
        if not (low >= 0 and high <= 1):  # not "low < 0 or high > 1": NaN must not pass
            raise DataError(f"probabilities must lie in 0..1, found {low:g}..{high:g}")
        yield proposal.astype(np.float32), labels > 0, ~np.asarray(mask, np.bool_)


def _as_planes(planes: Planes) -> list[Array]:
    return [planes] if isinstance(planes, np.ndarray) and planes.ndim == 2 else list(planes)


def _above(probabilities: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    # float64: a plain number would be rounded to float32 first, and p = 0.3 would no longer be above it.
    return np.asarray(probabilities > np.float64(threshold))
