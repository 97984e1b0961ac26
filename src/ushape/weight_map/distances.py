"""Distances to the two nearest objects, exact and local: from each pixel no further than a reach.

Axis by axis, as in distance transforms: along the first one by a sweep down and a sweep up, along each
further one by looking outwards from each pixel until nothing nearer can come. Work grows with the number of
pixels, at worst times the reach, and never with the number of objects. Images are cut along the first axis
into slabs, so that memory does not grow with their length.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ushape.errors import ConfigError
from ushape.weight_map.object_ids import window

Array = npt.NDArray[Any]
Spacing = tuple[float, ...]

_SLAB_PIXELS = 2**22
"""About as many pixels are worked on at a time; each needs 12 bytes in a plane, 20 in a volume."""

_MOST_ID_BITS = 20
"""Objects of a slab are numbered anew if their ids need more: the rest of a key is for the distance."""


def spacing_of(objects: Array, spacing: Spacing | None) -> Spacing:
    """Size of a pixel on each axis, 1 where none is given.

    Raises
    ------
    ConfigError
        If there is not one positive size for each axis.
    """
    if spacing is None:
        return (1.0,) * objects.ndim
    sizes = tuple(float(size) for size in spacing)
    if len(sizes) != objects.ndim or not all(0 < size < math.inf for size in sizes):
        raise ConfigError(
            f"spacing must be {objects.ndim} positive numbers, one for each axis, got {spacing}"
        )
    return sizes


class Reach(NamedTuple):
    """How far to look.

    Attributes
    ----------
    distance : float
        Largest sum of both distances that matters, in the unit of `spacing`.
    spacing : tuple of float
        Size of a pixel on each axis.
    """

    distance: float
    spacing: Spacing

    @property
    def steps(self) -> list[int]:
        """Pixels within reach on each axis."""
        return [math.floor(self.distance / size) for size in self.spacing]


def slabs(objects: Array, reach: Reach, crop: int) -> Iterator[tuple[slice, Array]]:
    """Cut an image into slabs along its first axis, each with what is within reach of it.

    Yields
    ------
    slab : slice
        Along the first axis of the image less `crop` pixels on each side.
    part : ndarray of int32
        Ids of the slab and of `reach.steps` pixels around it. Slabs without any object are left out.
    """
    steps = reach.steps
    low = [crop - count for count in steps]
    high = [size - crop + count for size, count in zip(objects.shape, steps, strict=True)]
    plane = math.prod(end - start for start, end in zip(low[1:], high[1:], strict=True))
    depth = objects.shape[0] - 2 * crop
    # What is around a slab is worked on again for the next one: slabs are no thinner than that.
    thickness = max(_SLAB_PIXELS // plane - 2 * steps[0], 2 * steps[0], 1)
    for start in range(0, depth, thickness):
        stop = min(start + thickness, depth)
        part = window(objects, [low[0] + start, *low[1:]], [crop + stop + steps[0], *high[1:]])
        if part.any():
            yield slice(start, stop), part


class TwoNearest(NamedTuple):
    """Keys (see `loops`) of the two objects nearest to each pixel along all axes but the last.

    Attributes
    ----------
    first, second : ndarray of int32 or int64
        The margin is still there on the last axis, and only there.
    bits : int
        Of an id in a key.
    scale : float
        A squared distance of 1 is `scale` in a key.
    square : int
        Key of the squared distance of one step on the last axis.
    limits : ndarray
        Largest first key with which a pixel still looks on after each step on the last axis.
    """

    first: Array
    second: Array
    bits: int
    scale: float
    square: int
    limits: Array


def two_nearest(objects: Array, reach: Reach) -> TwoNearest:
    """Find the two nearest objects along all axes but the last.

    Parameters
    ----------
    objects : ndarray of int32, shape (H, W) or (D, H, W)
        Ids with a margin of `reach.steps` on each axis, at least one of them not 0.
    reach : Reach
    """
    bits = int(objects.max()).bit_length()
    if bits > _MOST_ID_BITS:
        objects = _numbered_anew(objects)
        bits = int(objects.max()).bit_length()
    dtype, scale = _whole_numbers(bits, reach)
    squares = [round(size**2 * scale) << bits for size in reach.spacing]
    first, second = _along_first_axis(objects, dtype, bits, squares[0], reach.steps[0])
    for axis in range(1, objects.ndim - 1):
        first, second = _along_axis(axis, first, second, bits, squares[axis], reach.steps[axis])
    return TwoNearest(first, second, bits, scale, squares[-1], _limits(dtype, bits, scale, reach))


def _numbered_anew(objects: Array) -> Array:
    ids, numbers = np.unique(objects, return_inverse=True)
    return np.asarray(numbers + (ids[0] != 0), np.int32)


def _whole_numbers(bits: int, reach: Reach) -> tuple[Any, float]:
    """Type of a key, and the scale that makes squared distances whole numbers."""
    squares = [size**2 for size in reach.spacing]
    largest = sum((count + 1) ** 2 * square for count, square in zip(reach.steps, squares, strict=True))
    if all(square.is_integer() for square in squares) and largest * 2**bits < 2**31:
        return np.int32, 1.0
    return np.int64, 2.0 ** (61 - bits - math.ceil(math.log2(largest)))


def _along_first_axis(objects: Array, dtype: Any, bits: int, square: int, steps: int) -> tuple[Array, Array]:
    from ushape.weight_map.loops import square_distances, two_nearest_along_first_axis

    found = np.empty((2, objects.size), dtype)
    plane = objects[0].size
    far = dtype((steps + 1) << bits)
    two_nearest_along_first_axis(objects.ravel(), found[0], found[1], plane, dtype(1 << bits), far)
    inner = slice(steps * plane, objects.size - steps * plane)
    for keys in found:
        square_distances(keys[inner], dtype(bits), dtype(square))
    first, second = (keys[inner].reshape(-1, *objects.shape[1:]) for keys in found)
    return first, second


def _along_axis(
    axis: int, first: Array, second: Array, bits: int, square: int, steps: int
) -> tuple[Array, Array]:
    from ushape.weight_map.loops import two_nearest_along_axis

    dtype = first.dtype.type
    shape = (*first.shape[:axis], first.shape[axis] - 2 * steps, *first.shape[axis + 1 :])
    lines, stride = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    found = np.empty((2, lines, shape[axis] * stride), dtype)
    # Every pixel looks as far as it can: what is out of reach here may be within reach of others.
    limits = np.full(steps + 1, np.iinfo(dtype).max, dtype)
    planes = (first.reshape(lines, -1), second.reshape(lines, -1))
    two_nearest_along_axis(*planes, found, stride, dtype(1 << bits), dtype(square), limits)
    return found[0].reshape(shape), found[1].reshape(shape)


def _limits(dtype: Any, bits: int, scale: float, reach: Reach) -> Array:
    """Largest first key with which a pixel still looks on after each step on the last axis.

    What comes after a step is further away than the step. A pixel is done if that much and the distance to
    its nearest object, found or still to come, are together beyond the reach.
    """
    limits = np.full(reach.steps[-1] + 1, np.iinfo(dtype).max, dtype)
    for step in range(len(limits)):
        beyond = (step + 1) * reach.spacing[-1]
        left = max(reach.distance - beyond, 0)
        if beyond > left:
            # A little more, for what rounding may have taken.
            limits[step] = (math.ceil(left**2 * scale * 1.000001) + 1) << bits
    return limits
