"""Scores of boundaries: how far the boundary of a predicted mask lies from the true one.

A boundary can be cut into pieces in two ways, and published numbers differ by it (MONAI issue 4103)::

    mask            pixels          contour
    . . . . .       . . . . .        + + + +
    . 1 1 1 .       . x x x .        +     +
    . 1 1 1 .       . x . x .        +     +
    . 1 1 1 .       . x x x .        + + + +

pixels
    Pixels of the mask with one of their 4 neighbours outside it; each counts 1. MONAI's convention.
contour
    Corners of pixels where not all of the four pixels around are alike; each counts as much as the line of
    marching squares through it is long. The convention of DeepMind's surface-distance (arXiv 1809.04430).

In both, nothing outside the image is mask: an object that the image cuts off has a boundary there. Two empty
masks, which have no boundary, agree perfectly; an empty one and another one do not at all.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ushape.errors import ConfigError, ShapeError

Array = NDArray[Any]
Convention = Literal["pixels", "contour"]
Spacing = tuple[float, float]

_ROUNDING = 1 + 1e-9
"""3 pixels of 0.1 um lie within 0.3 um although 3 * 0.1 > 0.3 on a computer; 19 of 20 pieces are 95 %."""


class Pieces(NamedTuple):
    """One boundary: how far each piece is from the other boundary (inf: there is none), how long it is."""

    distances: NDArray[np.float64]
    lengths: NDArray[np.float64]


@dataclass(frozen=True)
class BoundaryOverlap:
    """How much of two boundaries lies within a tolerance of each other.

    Attributes
    ----------
    tolerance : float
        Largest distance tolerated, in the unit of the spacing.
    pred_within, pred_length, true_within, true_length : float
        Of either boundary what lies within the tolerance of the other one, and all of it: numbers of pixels,
        or lengths of contour in the unit of the spacing.
    """

    tolerance: float
    pred_within: float
    pred_length: float
    true_within: float
    true_length: float

    @property
    def precision(self) -> float:
        """Share of the predicted boundary that is right; without one, 1 if there is no true one, else 0."""
        return self.pred_within / self.pred_length if self.pred_length else float(not self.true_length)

    @property
    def recall(self) -> float:
        """Share of the true boundary that was found; without one, 1 if there is no predicted one, else 0."""
        return self.true_within / self.true_length if self.true_length else float(not self.pred_length)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    @property
    def nsd(self) -> float:
        """Normalised surface Dice: the share of both boundaries together that lies within the tolerance."""
        total = self.pred_length + self.true_length
        return (self.pred_within + self.true_within) / total if total else 1.0


@dataclass(frozen=True, eq=False)
class Boundaries:
    """The predicted and the true boundary, cut into pieces by one convention."""

    convention: Convention
    pred: Pieces
    true: Pieces

    @property
    def hd95(self) -> float:
        """The larger 95th percentile of the distances from one boundary to the other.

        0 if both masks are empty, inf if one is. Of pixels it is interpolated linearly (MONAI); of contour it
        is the distance up to which 95 % of the length lies (surface-distance).
        """
        sizes = {len(self.pred.distances), len(self.true.distances)}
        if 0 in sizes:
            return 0.0 if sizes == {0} else math.inf
        if self.convention == "pixels":
            return max(float(np.percentile(pieces.distances, 95)) for pieces in (self.pred, self.true))
        return max(_weighted_percentile(pieces, 0.95) for pieces in (self.pred, self.true))

    def within(self, tolerance: float) -> BoundaryOverlap:
        """Measure what lies within a tolerance, in the unit of the spacing.

        Raises
        ------
        ConfigError
            If the tolerance is negative, infinite or not a number.
        """
        if not 0 <= tolerance < math.inf:
            raise ConfigError(f"a tolerance must be a number and not negative, got {tolerance}")
        lengths = []
        for pieces in (self.pred, self.true):
            near = pieces.distances <= tolerance * _ROUNDING
            lengths += [float(pieces.lengths[near].sum()), float(pieces.lengths.sum())]
        return BoundaryOverlap(tolerance, *lengths)


@dataclass(frozen=True, eq=False)
class BoundaryDistances:
    """Two boundaries by both conventions, and each score by its customary one.

    What else there is: `distances.pixels.within(2).precision`, `distances.contour.hd95`, and so on.
    """

    pixels: Boundaries
    contour: Boundaries

    @property
    def hd95(self) -> float:
        """See `hd95`."""
        return self.pixels.hd95

    def nsd(self, tolerance: float) -> float:
        """See `nsd`."""
        return self.contour.within(tolerance).nsd

    def f1(self, tolerance: float) -> float:
        """See `boundary_f1`."""
        return self.pixels.within(tolerance).f1


def boundary_distances(pred: Array, true: Array, spacing: Spacing = (1, 1)) -> BoundaryDistances:
    """Distances between the boundaries of two masks, from which every boundary score follows.

    Parameters
    ----------
    pred, true : ndarray of bool or int, shape (H, W)
        Masks; what is not 0 is inside.
    spacing : (float, float)
        Size of a pixel along y and x, in any unit; (1, 1) makes it pixels.

    Returns
    -------
    BoundaryDistances

    Raises
    ------
    ShapeError
        If the masks are not two planes of one size.
    ConfigError
        If a pixel size is not positive and finite.
    """
    masks = pred, true, spacing
    return BoundaryDistances(_boundaries(*masks, "pixels"), _boundaries(*masks, "contour"))


def hd95(pred: Array, true: Array, spacing: Spacing = (1, 1), convention: Convention = "pixels") -> float:
    """95th percentile of the Hausdorff distance, in the unit of the spacing; MONAI's way unless told.

    0 if both masks are empty (MONAI: NaN), inf if one is. Else as `boundary_distances`.
    """
    return _boundaries(pred, true, spacing, convention).hd95


def nsd(
    pred: Array, true: Array, tolerance: float, spacing: Spacing = (1, 1), convention: Convention = "contour"
) -> float:
    """Normalised surface Dice at a tolerance, in 0..1; DeepMind's way, by length of contour, unless told.

    1 if both masks are empty (they: NaN), 0 if one is. Else as `boundary_distances` and `Boundaries.within`.
    """
    return _boundaries(pred, true, spacing, convention).within(tolerance).nsd


def boundary_f1(pred: Array, true: Array, tolerance: float, spacing: Spacing = (1, 1)) -> float:
    """F1 of the boundary pixels within a tolerance of the other boundary, in 0..1.

    1 if both masks are empty, 0 if one is. Else as `nsd`; `Boundaries.within` has precision and recall too.
    """
    return _boundaries(pred, true, spacing, "pixels").within(tolerance).f1


def _boundaries(pred: Array, true: Array, spacing: Spacing, convention: Convention) -> Boundaries:
    if pred.ndim != 2 or pred.shape != true.shape:
        raise ShapeError(f"prediction {pred.shape} and truth {true.shape} must be masks (H, W) of one size")
    if len(spacing) != 2 or not all(0 < size < math.inf for size in spacing):
        raise ConfigError(f"a pixel has two sizes (y, x), both positive, got {spacing}")
    cut = {"pixels": _edge_pixels, "contour": _contour}[convention]
    (pred_points, pred_lengths), (true_points, true_lengths) = (cut(m != 0, spacing) for m in (pred, true))
    return Boundaries(
        convention,
        Pieces(_distances(pred_points, true_points, spacing), pred_lengths),
        Pieces(_distances(true_points, pred_points, spacing), true_lengths),
    )


def _edge_pixels(mask: NDArray[np.bool_], _: Spacing) -> tuple[Array, NDArray[np.float64]]:
    """Places (n, 2) of the pixels that an erosion by the 4 neighbours takes away, and 1 for each."""
    from scipy.ndimage import binary_erosion

    points = np.argwhere(mask & ~binary_erosion(mask))
    return points, np.ones(len(points))


def _contour(mask: NDArray[np.bool_], spacing: Spacing) -> tuple[Array, NDArray[np.float64]]:
    """Places (n, 2) of the corners that the contour passes, and how long it is there."""
    around = np.pad(mask, 1).astype(np.uint8)
    code = 8 * around[:-1, :-1] + 4 * around[:-1, 1:] + 2 * around[1:, :-1] + around[1:, 1:]
    points = np.argwhere((code > 0) & (code < 15))
    y, x = spacing
    d = math.hypot(y, x) / 2  # one pixel unlike the other three: the line cuts its corner off
    # Bits, the highest first: upper left, upper right, lower left, lower right.
    length = np.array([0, d, d, x, d, y, 2 * d, d, d, 2 * d, y, d, x, d, d, 0])
    return points, length[code[tuple(points.T)]]


def _distances(points: Array, others: Array, spacing: Spacing) -> NDArray[np.float64]:
    """Distance from each of the points (n, 2) to the nearest of the others (m, 2); inf if there is none."""
    from scipy.spatial import KDTree

    if not len(others):
        return np.full(len(points), np.inf)
    nearest = KDTree(others * spacing).query(points * spacing)[1]
    # From whole steps: differences of scaled places would carry the rounding of both.
    steps = (points - others[nearest]) * spacing
    return np.asarray(np.sqrt((steps * steps).sum(axis=1)))


def _weighted_percentile(pieces: Pieces, share: float) -> float:
    """Smallest distance up to which the share of the length lies."""
    order = np.lexsort((pieces.lengths, pieces.distances))
    shares = np.cumsum(pieces.lengths[order]) / pieces.lengths.sum()
    return float(pieces.distances[order][np.searchsorted(shares, share / _ROUNDING)])
