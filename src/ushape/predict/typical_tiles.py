"""Tiles that stand for all pixels to come: what a network is quantised on.

A model file keeps some of the training images, so that the network is quantised once. To a model without
them each image gives its own, for which it is then quantised.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np

from ushape.config import ModelHeader, Normalization
from ushape.data import Sample
from ushape.geometry import Geometry
from ushape.predict.resampling import resampled
from ushape.predict.scaled_image import ScaledImage
from ushape.predict.scaling import Scale, scaled_size
from ushape.tiling import read_mirrored

Array = np.ndarray[Any, Any]

KEEP = 192
"""Pixels a tile keeps, at most, along each axis."""
MOST_PER_AXIS, MOST_PLANES = 4, 4

KEPT = 8
"""Tiles in a model file."""
LARGEST_KEPT = 384
"""Pixels along each side of those, at most: 2.3 MB for a channel."""


def tiles_to_keep(samples: Sequence[Sample], normalization: Normalization, geometry: Geometry) -> Array:
    """Cut tiles out of training images for the model file: the same ones for the same images.

    Parameters
    ----------
    samples : sequence of Sample
        Training images; some of them are taken, evenly spread.
    normalization : Normalization
    geometry : Geometry
        Of the network.

    Returns
    -------
    ndarray of float16, shape (8, C, h, w)
        Normalised, of a valid size of the network, at random places.
    """
    smaller, smallest = geometry.nearest_valid_sizes(LARGEST_KEPT)
    side, rng, tiles = smaller or smallest, np.random.default_rng(0), []
    for number in range(KEPT):
        image = normalization.apply(samples[number * len(samples) // KEPT].image)
        top, left = (int(rng.integers(max(length - side, 0) + 1)) for length in image.shape[1:])
        tiles.append(read_mirrored(image, top, top + side, left, left + side))
    largest = np.finfo(np.float16).max
    return np.stack(tiles).clip(-largest, largest).astype(np.float16)


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
    height, width = scaled_size(planes.shape[2], planes.shape[3], scale)
    places, rows, columns = _places(len(planes), height, width, geometry)
    tiles = []
    for place in places:
        image = header.normalization.apply(resampled(planes[place], (height, width), cubic=True))
        tiles += [read_mirrored(image, *row, *column) for row in rows for column in columns]
    return tiles


def typical_windows(
    image: ScaledImage, normalization: Sequence[Normalization], geometry: Geometry
) -> list[Array]:
    """Cut such tiles out of an image in a file, whose planes are normalised as a whole."""
    places, rows, columns = _places(*image.size[:3], geometry)
    return [
        normalization[place].apply(image.read_mirrored(place, *row, *column))
        for place in places
        for row in rows
        for column in columns
    ]


def _places(
    planes: int, height: int, width: int, geometry: Geometry
) -> tuple[list[int], list[tuple[int, int]], list[tuple[int, int]]]:
    """Planes, and where tiles begin and end along both axes."""
    count = min(planes, MOST_PLANES)
    most = MOST_PER_AXIS if count == 1 else MOST_PER_AXIS // 2
    places = np.linspace(0, planes - 1, count).round().astype(int).tolist()
    return places, _windows(height, most, geometry), _windows(width, most, geometry)


def _windows(length: int, most: int, geometry: Geometry) -> list[tuple[int, int]]:
    """Where tiles begin and end along one axis."""
    keep = min(length, KEEP)
    starts = np.linspace(0, length - keep, min(most, ceil(length / keep))).round().astype(int).tolist()
    size = geometry.input_size(keep)
    return [(start - geometry.margin, start - geometry.margin + size) for start in starts]
