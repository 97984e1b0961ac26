"""Random tiles from few images: image and objects through the same coordinates, in one resampling."""

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ushape.augment.deformation import Deformation
from ushape.errors import ShapeError

Array = npt.NDArray[Any]
Interpolation = Literal["linear", "cubic"]


def random_tile(
    image: Array,
    objects: Array,
    *,
    size_in: int,
    size_objects: int,
    deformation: Deformation,
    center: tuple[float, float] | None = None,
    interpolation: Interpolation = "linear",
) -> tuple[Array, Array]:
    """Resample one tile of an image and the objects in its middle, both through the same coordinates.

    Parameters
    ----------
    image : ndarray of float32, shape (C, H, W)
        The image, of any size; beyond its border it is mirrored as often as needed, the edge not repeated.
    objects : ndarray of int, shape (H, W)
        Object ids, 0 = background.
    size_in : int
        Height and width of the image tile: the network's input.
    size_objects : int
        Height and width of the tile of objects, concentric with the image tile: the network's output and
        on each side the margin that the tails of the border weights need (`weight_map.tail_px`).
    deformation : Deformation
        What was drawn for this tile. Its grid spans the larger one of the two tiles.
    center : tuple of float, optional
        Point (y, x) of the image at the tile's centre, before `deformation.shift`; the middle by default.
    interpolation : {"linear", "cubic"}
        How grey values are interpolated. The paper does not say (its "bicubic" is about displacements);
        linear, as in the authors' later code, takes half of the time.

    Returns
    -------
    image_tile : ndarray of float32, shape (C, size_in, size_in)
        Coordinates are rounded to 1/32 pixel.
    objects_tile : ndarray of int32, shape (size_objects, size_objects)
        Nearest neighbour. An object and its mirror image beyond the border have the same id.

    Raises
    ------
    ShapeError
        If image and objects differ in size, or the two tiles cannot be concentric.
    """
    if image.shape[1:] != objects.shape:
        raise ShapeError(f"image (C, H, W) and objects (H, W) do not fit: {image.shape} and {objects.shape}")
    if (size_in - size_objects) % 2:
        raise ShapeError(f"tiles of {size_in} and {size_objects} pixels have no common centre: even and odd")
    size = max(size_in, size_objects)
    maps, region = [], []
    for axis, offsets in enumerate(deformation.coordinates((size, size))):
        length = objects.shape[axis]
        middle = (length - 1) / 2 if center is None else center[axis]
        seen = _seen_part(middle + offsets.min(), middle + offsets.max(), length)
        offsets += middle - seen.start
        maps.append(offsets)
        region.append(seen)
    planes = np.asarray(image[:, *region], np.float32)
    image_tile = np.empty((len(planes), size_in, size_in), np.float32)
    for plane, tile in zip(planes, image_tile, strict=True):
        _resample(plane, maps, tile, interpolation)
    objects_tile = np.empty((size_objects, size_objects), np.int32)
    _resample(np.asarray(objects[*region], np.int32), maps, objects_tile, "nearest")
    return image_tile, objects_tile


def _seen_part(first: float, last: float, length: int) -> slice:
    """Part of an axis that positions from `first` to `last` fall on, once mirrored as often as needed.

    It ends with the axis where a mirror lies on the way, so mirroring the part gives the same. (OpenCV
    takes planes up to 32767 pixels only, and short coordinates keep their precision.)
    """
    reach = 2  # of cubic interpolation
    start, stop = math.floor(first) - reach, math.ceil(last) + reach + 1
    position = np.arange(min(start, length - 1), max(stop, 1))
    period = max(2 * (length - 1), 1)
    mirrored = np.minimum(position % period, -position % period)
    return slice(int(mirrored.min()), int(mirrored.max()) + 1)


def _resample(plane: Array, maps: list[Array], tile: Array, interpolation: str) -> None:
    """Fill `tile` with `plane` looked up at the middle of the coordinates `maps`."""
    import cv2

    start = (len(maps[0]) - len(tile)) // 2
    middle = slice(start, start + len(tile))
    map_y, map_x = (offsets[middle, middle] for offsets in maps)
    kernel = getattr(cv2, f"INTER_{interpolation.upper()}")
    cv2.remap(plane, map_x, map_y, kernel, dst=tile, borderMode=cv2.BORDER_REFLECT_101)
