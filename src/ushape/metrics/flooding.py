"""The loops over pixels behind V_rand and V_info, compiled: border thinning and the contingency table.

Import this module where it is used, not at the top of a file: numba takes longer to load than `ushape --help`
may take to answer.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Labels = NDArray[np.int32]

_OUTSIDE, _UNSEEN, _QUEUED = -1, -2, -3
_LINE = 0


@njit(cache=True, nogil=True)
def _number_basins(label: Labels, cell: NDArray[np.bool_], queue: Labels, stride: int) -> int:
    """Number the 4-connected components of the cell pixels 1..n in scan order; return n."""
    basins = 0
    for seed in range(cell.size):
        if not cell[seed] or label[seed] != _UNSEEN:
            continue
        basins += 1
        label[seed] = basins
        queue[0] = seed
        first, last = 0, 1
        while first < last:
            pixel = queue[first]
            first += 1
            for step in (-stride, -1, stride, 1):
                other = pixel + step
                if cell[other] and label[other] == _UNSEEN:
                    label[other] = basins
                    queue[last] = other
                    last += 1
    return basins


@njit(cache=True, nogil=True)
def _queue_shore(label: Labels, queue: Labels, stride: int) -> int:
    """Queue, in scan order, the unseen pixels that touch a basin; return how many."""
    last = 0
    for pixel in range(label.size):
        if label[pixel] != _UNSEEN:
            continue
        for step in (-stride, -1, stride, 1):
            if label[pixel + step] > 0:
                label[pixel] = _QUEUED
                queue[last] = pixel
                last += 1
                break
    return last


@njit(cache=True, nogil=True)
def _flood(label: Labels, queue: Labels, last: int, stride: int) -> None:
    """Let the basins grow into the unseen pixels, first come first served, and draw lines where they meet."""
    first = 0
    while first < last:
        pixel = queue[first]
        first += 1
        owner, disputed = _LINE, False
        for step in (-stride, -1, stride, 1):
            other = label[pixel + step]
            if other > 0:
                disputed |= owner > 0 and other != owner
                owner = other
            elif other == _UNSEEN:
                label[pixel + step] = _QUEUED
                queue[last] = pixel + step
                last += 1
        label[pixel] = _LINE if disputed else owner


@njit(cache=True, nogil=True)
def watershed_of_binary(cell: NDArray[np.bool_]) -> tuple[Labels, int]:
    """Vincent-Soille watershed of an image of two levels, the lower one given as `cell`; 4-connected.

    On two levels the general algorithm (sort the grey levels, flood them one by one) reduces to this: the
    components of the lower level are the basins, and the pixels of the upper level are taken in the order in
    which the flood reaches them. A pixel joins the basin it touches; one that touches two, or only lines,
    becomes a line. Scan order is row by row and neighbours are taken as up, left, down, right: it decides
    ties, so the caller sees to it that rows are what the reference scans first.

    Parameters
    ----------
    cell : ndarray of bool, shape (rows, columns), C-contiguous

    Returns
    -------
    labels : ndarray of int32, shape (rows, columns)
        Basins 1..n in scan order, 0 on the lines. An image without a lower level is one basin.
    basins : int
        Their number n.
    """
    rows, columns = cell.shape
    stride = columns + 2  # a frame of one pixel, so that no neighbour has to be checked for being inside
    label = np.full((rows + 2) * stride, _OUTSIDE, np.int32)
    inside = np.zeros((rows + 2) * stride, np.bool_)
    for row in range(rows):
        start = (row + 1) * stride + 1
        label[start : start + columns] = _UNSEEN
        inside[start : start + columns] = cell[row]
    queue = np.empty(cell.size, np.int32)
    basins = _number_basins(label, inside, queue, stride)
    if basins:
        _flood(label, queue, _queue_shore(label, queue, stride), stride)
    else:
        basins = 1
        label[label == _UNSEEN] = 1
    return label.reshape(rows + 2, stride)[1:-1, 1:-1], basins


@njit(cache=True, nogil=True)
def group_pixels(labels: Labels, objects: int) -> tuple[NDArray[np.int64], Labels]:
    """Sort the pixels by their label, 1..objects, leaving out label 0.

    Parameters
    ----------
    labels : ndarray of int32, shape (n,)
        Values 0..objects.
    objects : int

    Returns
    -------
    starts : ndarray of int64, shape (objects + 1,)
        `pixels[starts[i - 1] : starts[i]]` are the pixels of label i.
    pixels : ndarray of int32, shape (number of pixels with a label,)
    """
    starts = np.zeros(objects + 2, np.int64)
    for label in labels:
        if label > 0:
            starts[label + 1] += 1
    starts = np.cumsum(starts)
    pixels = np.empty(starts[-1], np.int32)
    for pixel in range(labels.size):
        label = labels[pixel]
        if label > 0:
            pixels[starts[label]] = pixel
            starts[label] += 1
    return starts[:-1], pixels


@njit(cache=True, nogil=True)
def table_sums(
    starts: NDArray[np.int64], pixels: Labels, proposal: Labels, objects: int
) -> NDArray[np.float64]:
    """Sums over the contingency table of truth and proposal, which is never made as a table.

    Parameters
    ----------
    starts, pixels : ndarrays from `group_pixels`
        The truth.
    proposal : ndarray of int32, shape (n,)
        Labels of the proposal, 0..objects; 0 is unassigned and only counted.
    objects : int

    Returns
    -------
    ndarray of float64, shape (6,)
        Number of unassigned pixels; sum of squares of the proposal's marginals and of the table; sum of
        c * ln(c) over the truth's marginals, the proposal's, and the table.
    """
    unassigned = 0
    both_square = truth_log = both_log = 0.0
    marginal = np.zeros(objects + 1, np.int64)
    count = np.zeros(objects + 1, np.int64)
    for row in range(starts.size - 1):
        members = pixels[starts[row] : starts[row + 1]]
        for pixel in members:
            count[proposal[pixel]] += 1
        for pixel in members:
            label = proposal[pixel]
            c = float(count[label])
            if c == 0:
                continue
            if label:
                marginal[label] += count[label]
                both_square += c * c
                both_log += c * np.log(c)
            else:
                unassigned += count[label]
            count[label] = 0
        if members.size:
            truth_log += members.size * np.log(float(members.size))
    square = proposal_log = 0.0
    for size in marginal:
        if size:
            square += float(size) * float(size)
            proposal_log += size * np.log(float(size))
    return np.array([float(unassigned), square, both_square, truth_log, proposal_log, both_log])
