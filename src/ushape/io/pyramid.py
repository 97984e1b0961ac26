"""Results that do not fit into memory as TIFF: tiles, at several resolutions."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ushape.config import PixelSize
from ushape.io.decoded import Array
from ushape.io.write import Color, in_colors, named, resolution, written_beside

_TILE = 512
_BUFFER = 16 * 2**20
"""Half of the bytes of tiles that are compressed at a time; tifffile's own is 256 MB."""
LARGEST_TIFF = 4_000_000_000
"""Bytes that a TIFF with places of 32 bits holds, with room for its tables."""


def write_pyramid(
    path: Path | str,
    levels: Sequence[Any],
    pages: Sequence[tuple[int, ...]],
    leading: tuple[int, ...],
    axes: str,
    *,
    colors: Sequence[Color] | None = None,
    pixel_size_um: PixelSize | None = None,
    is_big: bool = True,
) -> None:
    """Write a result as a TIFF of tiles, with lower resolutions as viewers of slides want them.

    Parameters
    ----------
    path : path
        `.tif`.
    levels : sequence of zarr.Array or ndarray
        Height and width last, each half as large as the one before; read window by window.
    pages : sequence of tuple of int
        Indices of the planes, in the order in which they are written.
    leading : tuple of int
        Shape of the file before height and width.
    axes : str
        One letter for each axis of the file.
    colors : sequence of (red, green, blue), optional
        Of classes; see `write_classes`.
    pixel_size_um : tuple of float, optional
        Height and width of a pixel in micrometres.
    is_big : bool
        Whether it is a BigTIFF, which it must be if it has more than `LARGEST_TIFF` bytes.

    Raises
    ------
    OutputError
        If the file cannot be written.

    Notes
    -----
    Lower resolutions are SubIFDs of each page, marked as reduced images (TIFF Technical Note 1, as in
    OME-TIFF 6): tifffile, QuPath and Bio-Formats show one image with levels.
    """
    options: dict[str, Any] = {"photometric": "minisblack"} if colors is None else in_colors(colors)
    options |= {"dtype": levels[0].dtype, "tile": (_TILE, _TILE)}
    if levels[0].dtype.kind != "f":
        options["compression"] = "zlib"
    with written_beside(path) as beside, tifffile.TiffWriter(beside, bigtiff=is_big) as tif:
        for number, level in enumerate(levels):
            if number == 0:
                how = {"subifds": len(levels) - 1, **named(axes, pixel_size_um)}
            else:
                how = {"subfiletype": 1, "metadata": None}
                if pixel_size_um is not None:
                    step = 2**number
                    how |= resolution((pixel_size_um[0] * step, pixel_size_um[1] * step))
            shape = (*leading, *level.shape[-2:])
            tif.write(_tiles(level, pages), shape=shape, buffersize=_BUFFER, **options, **how)


def _tiles(array: Any, pages: Sequence[tuple[int, ...]]) -> Iterator[Array]:
    """Tiles of the planes, line by line; those at the right and at the bottom are filled up with zeros."""
    height, width = array.shape[-2:]
    for page in pages:
        for top in range(0, height, _TILE):
            for left in range(0, width, _TILE):
                window = array[(*page, slice(top, top + _TILE), slice(left, left + _TILE))]
                missing = [(0, _TILE - side) for side in window.shape]
                yield np.pad(window, missing)
