"""The thresholds of the ISBI 2012 challenge, and proposals checked against their truth."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError, ShapeError

Array = NDArray[Any]
Planes = Array | Sequence[Array]
"""One plane (H, W), a stack (Z, H, W), or several planes, whose sizes may differ."""

THRESHOLDS: tuple[float, ...] = tuple(accumulate([0.1] * 10, initial=0.0))
"""0, 0.1, ..., 1 as the official code makes them, by adding 0.1 ten times.

The last is a hair below 1, so that p = 1 (a saturated softmax, a binary proposal) is cell at every threshold.
"""


def checked_planes(
    probabilities: Planes, truth: Planes, ignored: Planes | None
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Check proposals and their truth, and go through them plane by plane.

    Parameters
    ----------
    probabilities : ndarray of float, shape (Z, H, W) or (H, W), or a sequence of planes (H, W)
        P(cell), 0..1.
    truth : ndarrays of bool or int, shaped as `probabilities`
        Values above 0 are cell.
    ignored : ndarrays of bool, shaped as `probabilities`, or None
        Pixels that do not count.

    Yields
    ------
    probabilities : ndarray of float32, shape (H, W)
    cell : ndarray of bool, shape (H, W)
    counted : ndarray of bool, shape (H, W)

    Raises
    ------
    ShapeError
        If the shapes differ or have another number of axes.
    DataError
        If a probability lies outside 0..1.
    """
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


def above(probabilities: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Where a proposal is cell at a threshold: p > threshold."""
    # float64: a plain number would be rounded to float32 first, and p = 0.3 would no longer be above it.
    return np.asarray(probabilities > np.float64(threshold))


def _as_planes(planes: Planes) -> list[Array]:
    return [planes] if isinstance(planes, np.ndarray) and planes.ndim == 2 else list(planes)
