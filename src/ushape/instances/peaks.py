"""The peaks of a landscape, compiled.

Import this module where it is used, not at the top of a file: numba takes longer to load than `ushape --help`
may take to answer.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def _top(highest: NDArray[np.int64], pixel: int) -> int:
    """Find the highest pixel of the region that `pixel` belongs to, and shorten the way there."""
    while highest[pixel] != pixel:
        highest[pixel] = highest[highest[pixel]]
        pixel = highest[pixel]
    return pixel


@njit(cache=True, nogil=True)
def peaks(
    height: NDArray[np.float32], region: NDArray[np.int32], descending: NDArray[np.int64], depth: float
) -> NDArray[np.int64]:
    """Find one pixel of each peak that rises by more than `depth` over the pass to a higher one.

    The water sinks: pixels emerge one by one, the highest first. Each island has the peak it began with. A
    pixel between two islands joins them, and that is the pass: the lower peak counts if it is more than
    `depth` above it. These are the regional maxima of the reconstruction of `height - depth` below `height`
    (h-maxima; Soille, Morphological Image Analysis, section 6.3.4), without reconstructing anything.

    Parameters
    ----------
    height : ndarray of float32, shape (rows, columns)
    region : ndarray of int32, shape (rows, columns)
        Islands of different regions never join; 0 stays under water.
    descending : ndarray of int64, shape (n,)
        Flat indices of the pixels of all regions, the highest first, of equal ones the first in the image.
    depth : float
        >= 0. With 0 every regional maximum counts. A plateau is one peak, and so are equal peaks with a
        shallow pass.

    Returns
    -------
    ndarray of int64, shape (number of peaks,)
        Flat indices in ascending order. The highest peak of each connected part of a region always counts.
    """
    rows, columns = height.shape
    level = height.ravel()
    owner = region.ravel()
    highest = np.full(level.size, -1, np.int64)
    counts = np.zeros(level.size, np.bool_)
    for pixel in descending:
        highest[pixel] = pixel
        y, x = pixel // columns, pixel % columns
        for near_y in range(max(y - 1, 0), min(y + 2, rows)):
            for near_x in range(max(x - 1, 0), min(x + 2, columns)):
                near = near_y * columns + near_x
                if highest[near] < 0 or owner[near] != owner[pixel]:
                    continue
                high, low = _top(highest, near), _top(highest, pixel)
                if high == low:
                    continue
                if level[low] > level[high]:
                    high, low = low, high
                counts[low] = level[low] - level[pixel] > depth
                highest[low] = high
    for pixel in descending:
        if highest[pixel] == pixel:
            counts[pixel] = True
    return np.flatnonzero(counts)
