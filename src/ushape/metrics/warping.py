"""The warping error of the ISBI 2012 challenge: mistakes of topology, not of where a border runs.

After Jain et al., Boundary learning by optimization with topological constraints, CVPR 2010, with the details
of the challenge's own code in Fiji's Trainable Segmentation plugin.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ushape.errors import ConfigError
from ushape.metrics.partitions import label_components
from ushape.metrics.thresholds import THRESHOLDS, Array, Planes, above, checked_planes

WARPING_THRESHOLDS = THRESHOLDS[:-1]
"""0, 0.1, ..., 0.9."""

Mask = NDArray[np.bool_]


class Mismatch(IntEnum):
    """What the proposal does at a pixel where the warped truth still differs from it."""

    SPLIT = 1
    MERGE = 2
    OBJECT_ADDED = 3
    OBJECT_DELETED = 4
    HOLE_ADDED = 5
    HOLE_DELETED = 6


class Mismatches(NamedTuple):
    """Pixels of one plane where the warped truth still differs from the proposal, by what they stand for."""

    splits: int
    merges: int
    objects_added: int
    objects_deleted: int
    holes_added: int
    holes_deleted: int


@dataclass(frozen=True)
class WarpingError:
    """Warping error of a stack: the least share of split and merge pixels over the thresholds.

    Attributes
    ----------
    score : float
        (splits + merges) / pixels, in 0..1; 0 is perfect.
    threshold : float
        The first threshold that reaches it.
    splits, merges : int
        Pixels that stand for a split and for a merger at that threshold, summed over the slices.
    pixels : int
        Pixels that count.
    by_threshold : tuple of float
        The error at each of `WARPING_THRESHOLDS`.
    by_slice : tuple of Mismatches
        The counts of each slice at that threshold; those of objects and holes are not part of the score.
    """

    score: float
    threshold: float
    splits: int
    merges: int
    pixels: int
    by_threshold: tuple[float, ...]
    by_slice: tuple[Mismatches, ...]


@dataclass(frozen=True)
class WarpedTruth:
    """The truth of one plane after its borders were moved to those of a proposal.

    Attributes
    ----------
    cell : ndarray of bool, shape (H, W)
        The warped truth, of the same topology as the truth.
    mismatches : ndarray of uint8, shape (H, W)
        Values of `Mismatch` where it still differs from the proposal; 0 elsewhere.
    """

    cell: Mask
    mismatches: NDArray[np.uint8]


def warping_error(
    probabilities: Planes, truth: Planes, *, ignored: Planes | None = None, radius: int = 20
) -> WarpingError:
    """Warping error of the ISBI 2012 challenge, over all slices together.

    Parameters
    ----------
    probabilities : ndarray of float, shape (Z, H, W) or (H, W), or a sequence of planes (H, W)
        P(cell), 0..1. Compared as float32, as the official code does.
    truth : ndarrays of bool or int, shaped as `probabilities`
        Values above 0 are cell.
    ignored : ndarrays of bool, shaped as `probabilities`, optional
        Pixels that do not count. They are membrane in the truth and stay so.
    radius : int
        In pixels, at least 1. How far around a pixel is looked to see whether an object falls apart without
        it; the challenge used 20.

    Returns
    -------
    WarpingError

    Raises
    ------
    ShapeError
        If the shapes differ or have another number of axes.
    DataError
        If a probability lies outside 0..1.
    ConfigError
        If the radius is below 1.

    Notes
    -----
    At each threshold the truth is warped to the proposal, pixel by pixel, without a change of topology: the
    pixels where they differ are flipped, in descending order of |p - threshold|, if they are simple points
    (cell 4-connected, membrane 8-connected), until a pass over what is left flips nothing. What is left is a
    split where cell is left whose removal parts an object, a merger where membrane is left that touches more
    than one object, each among the 8 pixels around; else an object or hole added or deleted, which do not
    count.

    Fixed by the official code: all of the above, the order of equal distances (column by column from the
    left, each from top to bottom), distances as float32, membrane beyond the image's border, every pixel of a
    split or merger counted by itself, no limit on how far a border may move (`radius` only concerns the
    search for pieces, and is the whole image if an image has a side shorter than it), cell that touches a
    second object by a corner counted as a split.

    Our own reading: `ignored` pixels are neither flipped nor counted, as in the official code's mask, but are
    membrane whatever the truth holds there; score 0 if no pixel counts. Images one pixel wide, in which the
    official code takes membrane between two objects for a hole, have mergers too.

    Cost: 5 ms per threshold for a slice of 512 x 512 pixels on one core if the proposal is good; 0.3 s if it
    is noise, where much is left whose surroundings must be searched.
    """
    _check_radius(radius)
    slices = []
    pixels = 0
    for probability, cell, counted in checked_planes(probabilities, truth, ignored):
        slices.append(_mismatches_by_threshold(probability, cell, counted, radius))
        pixels += int(np.count_nonzero(counted))
    by_threshold = list(zip(*slices, strict=True))
    errors = [sum(plane.splits + plane.merges for plane in row) / max(pixels, 1) for row in by_threshold]
    best = errors.index(min(errors))
    return WarpingError(
        errors[best],
        WARPING_THRESHOLDS[best],
        sum(plane.splits for plane in by_threshold[best]),
        sum(plane.merges for plane in by_threshold[best]),
        pixels,
        tuple(errors),
        by_threshold[best],
    )


def warp_truth(
    probabilities: Array,
    truth: Array,
    threshold: float = 0.5,
    *,
    ignored: Array | None = None,
    radius: int = 20,
) -> WarpedTruth:
    """Warp the truth of one plane to a proposal at one threshold, and say what each mismatch stands for.

    Parameters
    ----------
    probabilities : ndarray of float, shape (H, W)
        P(cell), 0..1.
    truth : ndarray of bool or int, shape (H, W)
        Values above 0 are cell.
    threshold : float
        Above it is cell.
    ignored : ndarray of bool, shape (H, W), optional
    radius : int
        In pixels; see `warping_error`, which also names the errors raised.

    Returns
    -------
    WarpedTruth
    """
    _check_radius(radius)
    masks = None if ignored is None else [ignored]
    ((probability, cell, counted),) = checked_planes([probabilities], [truth], masks)
    warped, places, kinds = _warp(
        _framed(probability), _framed(cell & counted), _framed(counted), threshold, radius
    )
    mismatches = np.zeros(warped.shape, np.uint8)
    mismatches.flat[places] = kinds
    return WarpedTruth(warped[1:-1, 1:-1].T, mismatches[1:-1, 1:-1].T)


def _mismatches_by_threshold(
    probabilities: NDArray[np.float32], cell: Mask, counted: Mask, radius: int
) -> list[Mismatches]:
    """Mismatches of one plane at each threshold."""
    # Not only where the proposals differ: the order of the flips depends on the threshold.
    framed = _framed(probabilities), _framed(cell & counted), _framed(counted)
    kinds = (_warp(*framed, threshold, radius)[2] for threshold in WARPING_THRESHOLDS)
    return [Mismatches(*np.bincount(kind, minlength=len(Mismatch) + 1)[1:].tolist()) for kind in kinds]


def _warp(
    probabilities: NDArray[np.float32], cell: Mask, counted: Mask, threshold: float, radius: int
) -> tuple[Mask, NDArray[np.int64], NDArray[np.uint8]]:
    """Warp a framed truth; also the flat places of the pixels that still differ, and their kinds."""
    from ushape.metrics.simple_points import classify, warp

    differing = np.flatnonzero((cell != above(probabilities, threshold)) & counted)
    distances = np.abs(probabilities.ravel()[differing] - np.float64(threshold)).astype(np.float32)
    order = differing[np.argsort(-distances, kind="stable")]
    warped = cell.copy()
    left = order[: warp(warped.reshape(-1), order, warped.shape[1])]
    if not left.size:
        return warped, left, np.zeros(0, np.uint8)
    objects = np.pad(label_components(warped[1:-1, 1:-1]), 1, constant_values=-1)
    sides = objects.shape[0] - 2, objects.shape[1] - 2
    reach = radius if radius <= min(sides) else max(sides)
    return warped, left, classify(objects, left, reach)


def _framed(plane: Array) -> Array:
    """A plane that is read column by column, as the official code does, with 0 around it."""
    return np.pad(np.ascontiguousarray(plane.T), 1)


def _check_radius(radius: int) -> None:
    if radius < 1:
        raise ConfigError(f"radius must be at least 1 pixel, got {radius}")
