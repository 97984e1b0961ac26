"""Walk around objects along the edges of their pixels, compiled.

Import this module where it is used, not at the top of a file: numba takes longer to load than `ushape --help`
may take to answer.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Ways to go: right, down, left, up. Who stands at the upper left corner of pixel (y, x) and looks that way
# has pixel (y + _RIGHT_Y, x + _RIGHT_X) ahead on the right; the one on the left is that of the way before.
_STEP_Y, _STEP_X = (0, 1, 0, -1), (1, 0, -1, 0)
_RIGHT_Y, _RIGHT_X = (0, 0, -1, -1), (0, -1, -1, 0)


@njit(cache=True, nogil=True)
def trace(
    parts: NDArray[np.int32], room: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_]]:
    """Walk around every part with its pixels on the right, and note where the way turns.

    ::

        +---->----+        where two pixels of a part touch by a corner alone, the way
        |  1   1  v        turns right, around the pixel it is at: background passes
        +--<-+    +->-+    between the two, as parts hang together by edges
             | 1    1 v
             +---<----+

    Parameters
    ----------
    parts : ndarray of int32, shape (H + 2, W + 2)
        Numbered parts of objects, each hanging together by edges, in a frame of zeros.
    room : int
        At least the number of corners to note.

    Returns
    -------
    corners : ndarray of int32, shape (n, 2)
        x, y of the turns of all rings, in pixels from the upper left corner of what the frame surrounds. A
        ring begins at the upper left corner of its first pixel, line by line.
    ends : ndarray of int64, shape (number of rings,)
        Where each ring ends in `corners`.
    meets_itself : ndarray of bool, shape (number of rings,)
        Whether the ring goes through a corner where two pixels of its part touch.
    """
    corners = np.empty((room, 2), np.int32)
    ends = np.empty(room // 4, np.int64)
    meets_itself = np.zeros(room // 4, np.bool_)
    walked = np.zeros(parts.shape, np.bool_)  # along the upper edge of the pixel
    count, rings = 0, 0
    for y, x in np.ndindex(parts.shape):
        part = parts[y, x]
        if part == 0 or parts[y - 1, x] == part or walked[y, x]:
            continue
        # The first upper edge of a ring that is met begins at a turn: one further left would be walked.
        corners[count, 0], corners[count, 1] = x - 1, y - 1
        count += 1
        at_y, at_x, way = y, x, 0
        while True:
            if way == 0:
                walked[at_y, at_x] = True
            at_y += _STEP_Y[way]
            at_x += _STEP_X[way]
            before = (way + 3) % 4
            on_right = parts[at_y + _RIGHT_Y[way], at_x + _RIGHT_X[way]] == part
            on_left = parts[at_y + _RIGHT_Y[before], at_x + _RIGHT_X[before]] == part
            if on_right and not on_left:
                continue
            if on_left and not on_right:
                meets_itself[rings] = True
            way = before if on_right else (way + 1) % 4
            if at_y == y and at_x == x and way == 0:
                break
            corners[count, 0], corners[count, 1] = at_x - 1, at_y - 1
            count += 1
        ends[rings] = count
        rings += 1
    return corners[:count], ends[:rings], meets_itself[:rings]
