"""The loops over pixels behind gaps and border weights, compiled.

Import this module where it is used, not at the top of a file: numba takes longer to load than `ushape --help`
may take to answer.

A *key* packs how far an object is and which one it is into one whole number::

    key = squared distance * unit + id        ids are below `unit`, a power of 2

Of two objects the nearer one has the smaller key, and two keys per pixel, `first` and `second`, hold its two
nearest objects. `far` is a key beyond everything of interest. Selections stand in place of branches, and
results are written back whether they changed or not: the compiler turns both into vector instructions.
"""

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Keys = NDArray[Any]
"""int32, or int64 where distances and ids together need more bits."""

_BLOCK = 128
"""Pixels that look for their nearest objects together, and stop together."""


@njit(cache=True, nogil=True)
def cut(framed: Keys, separated: Keys, starts: Keys, neighbors: Keys) -> None:
    """Set to 0, in the rows of `separated`, each pixel beside another object.

    `framed` is the flat image in a frame of background one pixel wide; row r of `separated` starts at
    `starts[r]` in it, and the neighbours of a pixel lie `neighbors` away.
    """
    width = separated.shape[1]
    for row in range(len(starts)):
        kept = separated[row]
        here = framed[starts[row] : starts[row] + width]
        for neighbor in neighbors:
            beside = framed[starts[row] + neighbor : starts[row] + neighbor + width]
            for x in range(width):
                is_other = (beside[x] != 0) & (beside[x] != here[x])
                kept[x] = np.int32(0) if is_other else kept[x]


@njit(inline="always")
def _merged(key: Any, first: Any, second: Any, ids: Any, far: Any) -> Any:
    """The two nearest objects among two, and one that may be one of them."""
    other = far if (key ^ first) & ids == 0 else max(key, first)
    return min(key, first), min(second, other)


@njit(cache=True, nogil=True)
def _merge_neighbor(
    first: Keys, second: Keys, near_first: Keys, near_second: Keys, unit: Any, far: Any
) -> None:
    whole = first.dtype.type
    ids = whole(unit - 1)
    for x in range(len(first)):
        one, two = _merged(min(whole(near_first[x] + unit), far), first[x], second[x], ids, far)
        one, two = _merged(min(whole(near_second[x] + unit), far), one, two, ids, far)
        first[x], second[x] = one, two


@njit(cache=True, nogil=True)
def two_nearest_along_first_axis(
    objects: Keys, first: Keys, second: Keys, width: int, unit: Any, far: Any
) -> None:
    """Find the two nearest objects along the first axis of an image whose planes have `width` pixels.

    Arrays are flat. The distance in these keys is not squared yet: it grows by one `unit` from plane to
    plane, once on the way down and once on the way up.
    """
    size = len(objects)
    for x in range(size):
        first[x] = objects[x] if objects[x] != 0 else far
        second[x] = far
    for at in range(width, size, width):
        here, above = slice(at, at + width), slice(at - width, at)
        _merge_neighbor(first[here], second[here], first[above], second[above], unit, far)
    for at in range(size - 2 * width, -1, -width):
        here, below = slice(at, at + width), slice(at + width, at + 2 * width)
        _merge_neighbor(first[here], second[here], first[below], second[below], unit, far)


@njit(cache=True, nogil=True)
def square_distances(keys: Keys, bits: Any, square: Any) -> None:
    """Turn distances in steps into squared ones; `square` is the key of one step, ids have `bits` bits."""
    whole = keys.dtype.type
    ids = whole((1 << bits) - 1)
    for x in range(len(keys)):
        # The mask changes nothing; it tells the compiler that the shift is narrow.
        steps = whole(keys[x] >> (bits & 31))
        keys[x] = whole(steps * steps * square) + whole(keys[x] & ids)


@njit(inline="always")
def _open_until(one: Keys, two: Keys, limit: Any) -> Any:
    """Largest second key of a pixel that may still find a nearer object."""
    whole = one.dtype.type
    largest = whole(-1)
    for x in range(len(one)):
        largest = max(largest, two[x] if one[x] <= limit else whole(-1))
    return largest


@njit(inline="always")
def _helps(two: Keys, left: Keys, right: Keys, distance: Any) -> Any:
    whole = two.dtype.type
    gain = whole(0)
    for x in range(len(two)):
        gain = max(gain, whole(two[x] - whole(min(left[x], right[x]) + distance)))
    return gain > 0


@njit(inline="always")
def _merge_both(one: Keys, two: Keys, left: Keys, right: Keys, distance: Any, ids: Any, far: Any) -> None:
    whole = one.dtype.type
    for x in range(len(one)):
        nearest, next_one = _merged(whole(left[x] + distance), one[x], two[x], ids, far)
        nearest, next_one = _merged(whole(right[x] + distance), nearest, next_one, ids, far)
        one[x], two[x] = nearest, next_one


@njit(cache=True, nogil=True)
def _look_outwards(
    first: Keys,
    second: Keys,
    at: int,
    stride: int,
    one: Keys,
    two: Keys,
    unit: Any,
    square: Any,
    limits: Keys,
) -> None:
    """Improve `one` and `two`, the two nearest of the pixels from `at` on, by what lies to their sides.

    An object that is one of the two nearest of all is one of the two nearest in its line, and only a line
    whose nearest object helps is asked for its second.
    """
    whole = first.dtype.type
    far, ids, size = np.iinfo(first.dtype).max, whole(unit - 1), len(one)
    for step in range(1, len(limits)):
        distance = whole(step * step * square)
        if _open_until(one, two, limits[step - 1]) <= distance:
            break
        left, right = at - step * stride, at + step * stride
        if _helps(two, first[left : left + size], first[right : right + size], distance):
            _merge_both(one, two, first[left : left + size], first[right : right + size], distance, ids, far)
            if _helps(two, second[left : left + size], second[right : right + size], distance):
                _merge_both(
                    one, two, second[left : left + size], second[right : right + size], distance, ids, far
                )


@njit(cache=True, nogil=True)
def two_nearest_along_axis(
    first: Keys, second: Keys, found: Keys, stride: int, unit: Any, square: Any, limits: Keys
) -> None:
    """Find the two nearest objects along one more axis, outwards from each pixel.

    Parameters
    ----------
    first, second : ndarray, shape (lines, length)
        The two nearest along the axes before; neighbours on this axis lie `stride` away in a line.
    found : ndarray, shape (2, lines, length - 2 * margin)
        Result: `margin`, the furthest look, is left away at both ends of a line.
    square : int
        Key of the squared distance of one step.
    limits : ndarray, shape (steps + 1,)
        Largest first key with which a pixel still looks on after that step.
    """
    margin = (len(limits) - 1) * stride
    for line in range(len(first)):
        for start in range(0, found.shape[2], _BLOCK):
            stop = min(start + _BLOCK, found.shape[2])
            one, two = found[0, line, start:stop], found[1, line, start:stop]
            for x in range(stop - start):
                one[x] = first[line, margin + start + x]
                two[x] = second[line, margin + start + x]
            _look_outwards(first[line], second[line], margin + start, stride, one, two, unit, square, limits)


@njit(cache=True, nogil=True)
def border_term(
    first: Keys,
    second: Keys,
    weights: NDArray[np.float32],
    bits: Any,
    square: Any,
    limits: Keys,
    height: float,
    divisor: float,
    furthest: float,
) -> None:
    """Find the two nearest objects along the last axis too, and from them the border term.

    Parameters
    ----------
    first, second, square, limits
        As above; ids have `bits` bits.
    weights : ndarray of float32, shape (lines, length - 2 * margin)
        Result: height * exp((d1 + d2)**2 / divisor) on background where d1 + d2 <= furthest, otherwise 0;
        distances in units of a key.
    """
    whole = first.dtype.type
    unit, margin, width = whole(1 << bits), len(limits) - 1, weights.shape[1]
    one, two = np.empty(width, first.dtype), np.empty(width, first.dtype)
    for line in range(len(first)):
        for x in range(width):
            one[x] = first[line, margin + x]
            # Inside objects nothing is to be found.
            two[x] = whole(-1) if one[x] < unit else second[line, margin + x]
        for start in range(0, width, _BLOCK):
            block = slice(start, min(start + _BLOCK, width))
            _look_outwards(
                first[line], second[line], margin + start, 1, one[block], two[block], unit, square, limits
            )
        for x in range(width):
            total = furthest + 1
            if two[x] >= 0:
                # A root in single precision changes no weight by more than 3e-8 of the height.
                total = np.sqrt(np.float32(one[x] >> bits)) + np.sqrt(np.float64(two[x] >> bits))
            weights[line, x] = height * math.exp(total**2 / divisor) if total <= furthest else 0.0
