"""Object ids, from label images and binary masks: what every function of this package starts from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ushape.errors import DataError, ShapeError

Array = npt.NDArray[Any]

MAX_ID = 2**31 - 1

_AXES = {2: "(H, W)", 3: "(D, H, W)"}


def object_ids(objects: Array) -> Array:
    """Object ids as they are, or the connected components of a binary mask.

    Parameters
    ----------
    objects : ndarray of int or bool, shape (H, W) or (D, H, W)
        Object ids, 0 = background; or a mask, True inside objects. Not modified.

    Returns
    -------
    ndarray of int32, same shape, C-contiguous
        Ids; of a mask its connected components, numbered from 1. Pixels that touch by an edge or a corner
        are connected (8 neighbours in a plane, 26 in a volume), as for masks of a data set: a gap, which
        parts what touches by a corner, then has nothing to part.

    Raises
    ------
    ShapeError
        If `objects` is neither a plane nor a volume.
    DataError
        If ids are no whole numbers, or not from 0 to 2**31 - 1.
    """
    if objects.ndim not in _AXES:
        expected = " or ".join(_AXES.values())
        raise ShapeError(f"expected object ids of shape {expected}, got an array of shape {objects.shape}")
    if objects.dtype == bool:
        return _components(objects)
    if objects.dtype.kind not in "iu":
        raise DataError(f"object ids must be whole numbers, got {objects.dtype}; give ids or a bool mask")
    if objects.dtype.itemsize >= 4 and objects.size:
        _require_in_range(int(objects.min()), int(objects.max()))
    return np.ascontiguousarray(objects, np.int32)


def window(objects: Array, low: Sequence[int], high: Sequence[int]) -> Array:
    """Copy of the box from `low` to `high` (exclusive); what lies beyond the array is background."""
    box = np.zeros([end - start for start, end in zip(low, high, strict=True)], np.int32)
    inside = [
        slice(max(start, 0), max(min(end, size), 0))
        for start, end, size in zip(low, high, objects.shape, strict=True)
    ]
    there = tuple(
        slice(part.start - start, part.stop - start) for part, start in zip(inside, low, strict=True)
    )
    box[there] = objects[tuple(inside)]
    return box


def without_margin(array: Array, crop: int) -> Array:
    """Leave `crop` pixels away on each side, contiguous.

    Raises
    ------
    ShapeError
        If `crop` is negative or leaves nothing.
    """
    if crop < 0 or min(array.shape) <= 2 * crop:
        raise ShapeError(f"a crop of {crop} pixels per side does not fit objects of shape {array.shape}")
    return np.ascontiguousarray(array[tuple(slice(crop, size - crop) for size in array.shape)])


def _components(mask: Array) -> Array:
    import cc3d

    # As numbers: version 4.1.1 counts background to objects of a bool array whose corners count as touching.
    plain = np.ascontiguousarray(mask, np.uint8)
    ids: Array = cc3d.connected_components(plain, connectivity=3**mask.ndim - 1)
    return ids.astype(np.int32)


def _require_in_range(lowest: int, highest: int) -> None:
    for found in (lowest, highest):
        if not 0 <= found <= MAX_ID:
            raise DataError(f"object id {found} is not between 0 and {MAX_ID}; number the objects anew")
