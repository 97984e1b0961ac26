"""Where objects end: their border pixels, and polygons along the edges of pixels.

The polygons follow the edges, so that their area is the number of pixels and touching objects share a line.
No library at hand does this: `skimage.measure.find_contours` goes halfway between pixel centres and cuts
corners, `cv2.findContours` goes through the centres of the border pixels and loses half a pixel on each side.
GDAL's polygonize (rasterio) does, but is a large thing to install.
"""

from collections.abc import Iterator
from typing import Any

import cc3d
import numpy as np

Array = np.ndarray[Any, Any]
Ring = list[list[int]]
Polygon = list[Ring]


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


def polygons(ids: Array) -> dict[int, list[Polygon]]:
    """Outline the objects of one plane along the edges of their pixels.

    Parameters
    ----------
    ids : ndarray of int, shape (H, W)
        0 is background; other numbers may have gaps.

    Returns
    -------
    dict of list of polygons, by id
        One polygon for each part of an object that hangs together by edges: its outer ring, then the rings
        of its holes. A ring is a closed list of corners [x, y], the first again at its end, in pixels from
        the upper left corner of the image: the first pixel spans 0 to 1. Outer rings run counterclockwise and
        holes clockwise in a system of axes x, y (RFC 7946, section 3.1.6); with y drawn downwards they look
        the other way round. No ring meets itself, so every polygon is valid in the sense of OGC.

    Examples
    --------
    >>> polygons(np.array([[0, 7, 7]]))
    {7: [[[[1, 0], [3, 0], [3, 1], [1, 1], [1, 0]]]]}
    """
    from ushape.instances.tracing import trace

    parts = cc3d.connected_components(np.ascontiguousarray(ids), connectivity=4)
    framed = np.pad(parts.astype(np.int32), 1)
    corners, ends, meets_itself = trace(framed, 2 * _horizontal_edges(framed))
    objects: dict[int, dict[int, Polygon]] = {}
    start = 0
    for end, is_pinched in zip(ends.tolist(), meets_itself.tolist(), strict=True):
        ring = corners[start:end].tolist()
        x, y = ring[0]  # the upper left corner of a pixel of this part
        polygon = objects.setdefault(int(ids[y, x]), {}).setdefault(int(parts[y, x]), [])
        for simple in _simple_rings(ring) if is_pinched else (ring,):
            polygon.insert(0 if _encloses(simple) else len(polygon), [*simple, simple[0]])
        start = end
    return {number: list(of_parts.values()) for number, of_parts in objects.items()}


def _horizontal_edges(parts: Array) -> int:
    """Count pixel edges above and below parts: no ring turns more than twice as often as it has of these."""
    differs = parts[1:] != parts[:-1]
    return int(np.count_nonzero(differs & (parts[1:] > 0)) + np.count_nonzero(differs & (parts[:-1] > 0)))


def _simple_rings(ring: Ring) -> Iterator[Ring]:
    """Cut a ring where it meets itself, at a corner by which two pixels of a part touch, into simple ones."""
    way: Ring = []
    place: dict[tuple[int, int], int] = {}
    for x, y in ring:
        if (x, y) in place:
            loop = way[place[x, y] :]
            yield loop
            del way[place[x, y] :]
            for corner in loop:
                del place[corner[0], corner[1]]
        place[x, y] = len(way)
        way.append([x, y])
    yield way


def _encloses(ring: Ring) -> bool:
    """Whether a ring runs counterclockwise in axes x, y: around pixels, not around a hole."""
    after = [*ring[1:], ring[0]]
    return sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in zip(ring, after, strict=True)) > 0
