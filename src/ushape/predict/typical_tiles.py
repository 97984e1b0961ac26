"""Tiles that stand for an image: what a network is quantised on."""

from math import ceil
from typing import Any

import numpy as np

from ushape.config import ModelHeader
from ushape.geometry import Geometry
from ushape.predict.scaling import Scale, resampled, scaled_size
from ushape.tiling import read_mirrored

Array = np.ndarray[Any, Any]

KEEP = 192
"""Pixels a tile keeps, at most, along each axis."""
MOST_PER_AXIS, MOST_PLANES = 4, 4


def typical_tiles(planes: Array, header: ModelHeader, scale: Scale, geometry: Geometry) -> list[Array]:
    """Cut at most 16 tiles out of an image, evenly spread: the same ones for the same image.

    Parameters
    ----------
    planes : ndarray, shape (Z, C, H, W)
        Grey values as they are in the file.
    header : ModelHeader
        Of the model: the tiles are normalised as it says.
    scale : (float, float)
        By what height and width are multiplied for the network.
    geometry : Geometry
        Of the network.

    Returns
    -------
    list of ndarray of float32, shape (C, h, w)
        All of one valid size, with their margins.
    """
    count = min(len(planes), MOST_PLANES)
    most = MOST_PER_AXIS if count == 1 else MOST_PER_AXIS // 2
    height, width = scaled_size(planes.shape[2], planes.shape[3], scale)
    rows, columns = _windows(height, most, geometry), _windows(width, most, geometry)
    tiles = []
    for place in np.linspace(0, len(planes) - 1, count).round().astype(int):
        image = header.normalization.apply(resampled(planes[place], (height, width), cubic=True))
        tiles += [read_mirrored(image, *row, *column) for row in rows for column in columns]
    return tiles


def _windows(length: int, most: int, geometry: Geometry) -> list[tuple[int, int]]:
    """Where tiles begin and end along one axis."""
    keep = min(length, KEEP)
    starts = np.linspace(0, length - keep, min(most, ceil(length / keep))).round().astype(int).tolist()
    size = geometry.input_size(keep)
    return [(start - geometry.margin, start - geometry.margin + size) for start in starts]
