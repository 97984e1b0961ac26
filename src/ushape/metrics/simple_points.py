"""The loops over pixels behind the warping error, compiled: moving borders and telling the mismatches apart.

Planes here wear a frame of one pixel, so that no neighbour has to be checked for being inside. Import this
module where it is used, not at the top of a file: numba takes longer to load than `ushape --help` may take to
answer.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ushape.metrics.warping import Mismatch

Labels = NDArray[np.int32]
Places = NDArray[np.int64]

_SPLIT, _MERGE, _OBJECT_ADDED, _OBJECT_DELETED, _HOLE_ADDED, _HOLE_DELETED = map(int, Mismatch)


def is_simple(ring: Sequence[bool]) -> bool:
    """Whether a pixel may change sides without a change of topology: cell 4-connected, membrane 8-connected.

    Parameters
    ----------
    ring : sequence of 8 bools
        Which of the pixels around are cell, going round once from the right-hand one, so that the even
        places share a side with the pixel and the odd ones are corners.

    Returns
    -------
    bool
        True if exactly one piece of cell touches the pixel by a side, and the membrane around is one piece.

    Notes
    -----
    Bertrand and Malandain, Pattern Recognition Letters 15:169 (1994), in the plane. Going round, a piece of
    cell ends at each side pixel from which the next corner and the next side do not both continue it. One end
    is one piece, with a gap of membrane. No end is either no piece (an object would appear or vanish) or a
    closed ring (a hole would); two or more ends would be joined or parted by a change.
    """
    ends = sum(ring[k] and not (ring[k + 1] and ring[(k + 2) % 8]) for k in range(0, 8, 2))
    return ends == 1


SIMPLE = np.array([is_simple([bool(code >> place & 1) for place in range(8)]) for code in range(256)])
"""`is_simple` of each ring; bit k of the index is place k of the ring."""


@njit(cache=True, nogil=True)
def warp(cell: NDArray[np.bool_], order: Places, stride: int) -> int:
    """Flip the pixels of a list that are simple, in the order of the list, again and again until none is.

    Parameters
    ----------
    cell : ndarray of bool, shape (rows * stride,)
        A framed plane, flat. Modified.
    order : ndarray of int64
        Places in it. Modified: those that could not be flipped come first, in the same order.
    stride : int
        Columns of the framed plane.

    Returns
    -------
    int
        How many could not be flipped.
    """
    left = order.size
    while True:
        kept = 0
        for place in range(left):
            pixel = order[place]
            code = 0
            for step in (stride + 1, stride, stride - 1, -1, -stride - 1, -stride, 1 - stride, 1):
                code = 2 * code + cell[pixel + step]  # last in the ring first: it gets the highest bit
            if SIMPLE[code]:
                cell[pixel] = not cell[pixel]
            else:
                order[kept] = pixel
                kept += 1
        if kept == left:
            return left
        left = kept


@njit(cache=True, nogil=True)
def classify(labels: Labels, mismatches: Places, reach: int) -> NDArray[np.uint8]:
    """Say what each pixel of a warped plane that could not be flipped stands for.

    Parameters
    ----------
    labels : ndarray of int32, shape (rows, columns)
        4-connected objects of the warped plane, 0 on the membrane, -1 on the frame.
    mismatches : ndarray of int64, shape (n,)
        Places in the flat plane.
    reach : int
        Half the side of the window in which pieces are told apart, in pixels.

    Returns
    -------
    ndarray of uint8, shape (n,)
        Values of `Mismatch`.
    """
    rows, columns = labels.shape
    window = np.empty((min(2 * reach + 1, rows - 2) + 2, min(2 * reach + 1, columns - 2) + 2), np.bool_)
    stack = np.empty(window.size, np.int32)
    kinds = np.empty(mismatches.size, np.uint8)
    for place in range(mismatches.size):
        row, column = mismatches[place] // columns, mismatches[place] % columns
        objects, membrane = _surroundings(labels, row, column)
        inside = labels[row, column] > 0
        if objects > 1:
            kinds[place] = _SPLIT if inside else _MERGE
        elif objects == 0:
            kinds[place] = _OBJECT_DELETED if inside else _OBJECT_ADDED
        elif not membrane:
            kinds[place] = _HOLE_ADDED if inside else _HOLE_DELETED
        elif not inside:
            kinds[place] = _HOLE_ADDED
        else:
            apart = _falls_apart(labels, row, column, reach, window, stack)
            kinds[place] = _SPLIT if apart else _HOLE_DELETED
    return kinds


@njit(cache=True, nogil=True)
def _surroundings(labels: Labels, row: int, column: int) -> tuple[int, bool]:
    """Number of objects (2 stands for more) among the 8 pixels around one, and whether membrane is."""
    first, several, membrane = 0, False, False
    for y in range(row - 1, row + 2):
        for x in range(column - 1, column + 2):
            label = labels[y, x]
            if y == row and x == column:
                continue
            if label == 0:
                membrane = True
            elif label > 0:
                several |= first > 0 and label != first
                first = label
    return int(first > 0) + int(several), membrane


@njit(cache=True, nogil=True)
def _falls_apart(
    labels: Labels, row: int, column: int, reach: int, window: NDArray[np.bool_], stack: Labels
) -> bool:
    """Whether the cell around a pixel is several pieces without it, as far as a window around it shows."""
    top, left = max(row - reach, 1), max(column - reach, 1)
    bottom, right = min(row + reach, labels.shape[0] - 2), min(column + reach, labels.shape[1] - 2)
    window[:] = False
    for y in range(top, bottom + 1):
        for x in range(left, right + 1):
            window[y - top + 1, x - left + 1] = labels[y, x] > 0
    row, column = row - top + 1, column - left + 1
    window[row, column] = False
    pieces = 0
    for y in range(row - 1, row + 2):
        for x in range(column - 1, column + 2):
            if window[y, x]:
                pieces += 1
                _erase_piece(window.ravel(), y * window.shape[1] + x, window.shape[1], stack)
    return pieces > 1


@njit(cache=True, nogil=True)
def _erase_piece(cell: NDArray[np.bool_], pixel: int, stride: int, stack: Labels) -> None:
    """Take a pixel of cell and all that is 4-connected to it out of a framed plane, flat."""
    cell[pixel] = False
    stack[0] = pixel
    height = 1
    while height:
        height -= 1
        pixel = stack[height]
        for step in (-stride, -1, stride, 1):
            if cell[pixel + step]:
                cell[pixel + step] = False
                stack[height] = pixel + step
                height += 1
