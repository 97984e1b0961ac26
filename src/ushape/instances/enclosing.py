"""Which object encloses a region: a graph algorithm that no library at hand has in compiled form."""

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]


@njit(cache=True)
def innermost(starts: Array, neighbours: Array, root: int, is_object: Array) -> Array:
    """Find, for each region, the nearest object without which it could not be reached from outside.

    Parameters
    ----------
    starts, neighbours : ndarray of int
        Regions that touch, both ways: those of region i are `neighbours[starts[i] : starts[i + 1]]`.
    root : int
        The region outside.
    is_object : ndarray of bool, shape (number of regions,)

    Returns
    -------
    ndarray of int, shape (number of regions,)
        The object, -1 if there is none.

    Notes
    -----
    A depth-first search from the outside: a region's parent in it cuts the region off if nothing below the
    region reaches above the parent (Tarjan 1972, articulation points).
    """
    count = len(starts) - 1
    place = starts[:-1].copy()
    order = np.full(count, -1, np.int64)
    low = np.zeros(count, np.int64)
    parent = np.full(count, -1, np.int64)
    visited = np.empty(count, np.int64)
    order[root], visited[0], seen = 0, root, 1
    here = root
    while here >= 0:
        if place[here] < starts[here + 1]:
            other = neighbours[place[here]]
            place[here] += 1
            if order[other] < 0:
                order[other] = low[other] = seen
                visited[seen] = other
                seen += 1
                parent[other] = here
                here = other
            elif other != parent[here]:
                low[here] = min(low[here], order[other])
        else:
            above = parent[here]
            if above >= 0:
                low[above] = min(low[above], low[here])
            here = above
    cut = np.full(count, -1, np.int64)  # nearest region that cuts off this one
    found = np.full(count, -1, np.int64)
    for number in range(1, seen):
        region = visited[number]
        above = parent[region]
        cut[region] = above if low[region] >= order[above] else cut[above]
        found[region] = cut[region] if is_object[cut[region]] else found[cut[region]]
    return found
