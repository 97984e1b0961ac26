"""Planes brought to another size, whole or window by window, with the same numbers.

Each axis by itself, height first. A new pixel is a sum over a few old ones, so an axis is a sparse matrix,
and a window of the result takes some of its rows: the same sums in the same order, to the last bit. OpenCV
resizes whole planes only.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Size = tuple[int, int]
Window = tuple[slice, slice]

_SHARPNESS = -0.75
"""Of the cubic kernel (Keys 1981, his a): the one of OpenCV, whose results these are to rounding."""


@dataclass(frozen=True)
class Resampling:
    """How planes of one size become planes of another.

    Attributes
    ----------
    before, after : (int, int)
        Height and width. The corners of the plane stay where they are.
    cubic : bool
        Enlarge by cubic interpolation, as grey values like it; else linearly, which keeps probabilities
        between 0 and 1 and their sum. What shrinks is averaged over the area of each new pixel.
    """

    before: Size
    after: Size
    cubic: bool = False

    def source(self, window: Window) -> Window:
        """Give the window of old pixels that a window of new ones is made of."""
        rows, columns = (self._source(axis, side) for axis, side in enumerate(window))
        return rows, columns

    def __call__(self, planes: Array, window: Window | None = None) -> Array:
        """Make new planes, or a window of them.

        Parameters
        ----------
        planes : ndarray, shape (C, h, w)
            All old pixels, or those of `source(window)`.
        window : (slice, slice), optional
            Of the new planes.

        Returns
        -------
        ndarray of float32, shape (C, *after) or that of the window
            The same array if nothing is to be done.
        """
        for axis in (0, 1):
            if self.before[axis] == self.after[axis]:
                continue
            matrix = weights(self.before[axis], self.after[axis], cubic=self.cubic)
            if window is not None:
                side = window[axis]
                matrix = matrix[side.start : side.stop, self._source(axis, side)]
            planes = _along(axis, matrix, planes)
        return planes

    def _source(self, axis: int, side: slice) -> slice:
        if self.before[axis] == self.after[axis]:
            return side
        matrix = weights(self.before[axis], self.after[axis], cubic=self.cubic)
        taken = matrix[side.start : side.stop].indices
        return slice(int(taken.min()), int(taken.max()) + 1)


def resampled(planes: Array, size: Size, *, cubic: bool = False) -> Array:
    """Bring whole planes, (C, H, W), to another size; see `Resampling`."""
    return Resampling((planes.shape[1], planes.shape[2]), size, cubic)(planes)


def _along(axis: int, matrix: Any, planes: Array) -> Array:
    size = (matrix.shape[0], planes.shape[2]) if axis == 0 else (planes.shape[1], matrix.shape[0])
    made = np.empty((len(planes), *size), np.float32)
    for plane, values in zip(made, planes, strict=True):
        values = values.astype(np.float32, copy=False)
        plane[...] = matrix @ values if axis == 0 else (matrix @ values.T).T
    return made


@lru_cache(maxsize=16)
def weights(before: int, after: int, *, cubic: bool) -> Any:
    """What each new pixel of an axis takes of each old one.

    Returns
    -------
    scipy.sparse.csr_array of float32, shape (after, before)
        The sum of each row is 1.
    """
    from scipy.sparse import csr_array

    if after < before:
        places, parts = _of_area(before, after)
    else:
        places, parts = _of_interpolation(before, after, cubic=cubic)
    rows = np.broadcast_to(np.arange(after)[:, None], places.shape)
    # What would lie beyond the border is its last pixel.
    columns = np.clip(places, 0, before - 1)
    matrix: Any = csr_array(
        (parts.astype(np.float32).ravel(), (rows.ravel(), columns.ravel())), shape=(after, before)
    )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _of_area(before: int, after: int) -> tuple[Array, Array]:
    """Old pixels that each new one covers, and which share of it each is; in whole numbers, so exact."""
    start = np.arange(after, dtype=np.int64)[:, None] * before  # in parts of an old pixel: `after` of them
    places = start // after + np.arange(-(-before // after) + 1)
    covered = np.minimum((places + 1) * after, start + before) - np.maximum(places * after, start)
    return places, np.maximum(covered, 0) / before


def _of_interpolation(before: int, after: int, *, cubic: bool) -> tuple[Array, Array]:
    """Old pixels around the middle of each new one, and the weight of each."""
    middle = (2 * np.arange(after, dtype=np.int64)[:, None] + 1) * before - after  # times 2 * after
    left, rest = np.divmod(middle, 2 * after)
    apart = rest / (2 * after)
    if not cubic:
        return left + np.arange(2), np.hstack([1 - apart, apart])
    places = np.arange(-1, 3)
    return left + places, _cubic(np.abs(apart - places))


def _cubic(distance: Array) -> Array:
    """Keys' kernel at distances from 0 to 2 pixels."""
    a = _SHARPNESS
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)
