"""Objects: from probabilities to numbered objects, their measurements and outlines."""

from typing import Any, NamedTuple

import cc3d
import numpy as np

from ushape.config import Postprocessing
from ushape.errors import ShapeError

Array = np.ndarray[Any, Any]


class Object(NamedTuple):
    """Measurements of one object, in pixels of its plane.

    Attributes
    ----------
    id : int
        Number in the label image.
    class_index : int
    centroid_y, centroid_x : float
        Mean of its pixel centres; the first pixel's centre is 0.
    top, left, bottom, right : int
        Bounding box, half-open.
    area_px : int
    """

    id: int
    class_index: int
    centroid_y: float
    centroid_x: float
    top: int
    left: int
    bottom: int
    right: int
    area_px: int


def instances(
    foreground: Array, postprocessing: Postprocessing | None = None, *, classes: Array | None = None
) -> Array:
    """Number the objects of one plane: threshold, connected components, smallest area.

    Parameters
    ----------
    foreground : ndarray of float, shape (H, W)
        Probability that a pixel is not background, 0 to 1. Above the threshold it belongs to an object.
    postprocessing : Postprocessing, optional
        Threshold, connectivity, smallest area in pixels. Its defaults if not given.
    classes : ndarray of int, shape (H, W), optional
        Foreground class of each pixel, >= 1: pixels of different classes never form one object.

    Returns
    -------
    ndarray of uint16 (uint32 from 65,536 objects on), shape (H, W)
        Ids 1..n without gaps, in the order in which the objects are met line by line; 0 is background.

    Raises
    ------
    ShapeError
        If `foreground` is not 2-D.
    """
    if foreground.ndim != 2:
        raise ShapeError(f"foreground of shape {foreground.shape} is not one plane (height, width)")
    postprocessing = postprocessing or Postprocessing()
    of_object = foreground > postprocessing.threshold
    labels = of_object.astype(np.uint8) if classes is None else np.where(of_object, classes, 0)
    components: Array = cc3d.connected_components(
        np.ascontiguousarray(labels), connectivity=postprocessing.connectivity
    )
    return _renumbered(components, postprocessing.min_area)


def measure(ids: Array, classes: Array | None = None) -> list[Object]:
    """Measure the objects of one plane.

    Parameters
    ----------
    ids : ndarray of int, shape (H, W)
        0 is background; other numbers may have gaps.
    classes : ndarray of int, shape (H, W), optional
        Class of each pixel; an object's class is that of its first pixel, line by line. 1 if not given.

    Returns
    -------
    list of Object
        By ascending id.
    """
    found = cc3d.statistics(np.ascontiguousarray(ids))
    objects = []
    for number in np.flatnonzero(found["voxel_counts"]).tolist():
        if number == 0:
            continue
        rows, columns = found["bounding_boxes"][number][:2]
        first = columns.start + int(np.argmax(ids[rows.start, columns] == number))
        index = 1 if classes is None else int(classes[rows.start, first])
        y, x = map(float, found["centroids"][number][:2])
        area = int(found["voxel_counts"][number])
        objects.append(Object(number, index, y, x, rows.start, columns.start, rows.stop, columns.stop, area))
    return objects


def outlines(ids: Array) -> Array:
    """Mark the pixels of objects that touch, by an edge, the background or another object.

    Parameters
    ----------
    ids : ndarray of int, shape (H, W)

    Returns
    -------
    ndarray of bool, shape (H, W)
        The border of the image is no outline.
    """
    border = np.zeros(ids.shape, bool)
    for axis in (0, 1):
        lines = np.moveaxis(border, axis, 0)
        values = np.moveaxis(ids, axis, 0)
        differs = values[1:] != values[:-1]
        lines[1:] |= differs
        lines[:-1] |= differs
    border &= ids != 0
    return border


def _renumbered(components: Array, min_area: int) -> Array:
    """Drop what is smaller than `min_area`, close the gaps, and take the smallest integer type."""
    areas = np.bincount(components.ravel())
    keep = areas >= max(min_area, 1)
    keep[0] = False
    numbers = np.cumsum(keep) * keep
    dtype = np.uint16 if numbers.max() < 2**16 else np.uint32
    result: Array = numbers.astype(dtype)[components]
    return result
