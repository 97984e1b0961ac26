"""Images that need not fit into memory: OME-Zarr and TIFF, read window by window."""

import math
import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ushape.io import multiscale, tiff
from ushape.io.decoded import Array, Decoded, unread
from ushape.io.read import Image, ImageSize, image_of, reading, size_of


class LargeImage:
    """An image or a stack in a file, of which only windows are read. A context manager.

    Parameters
    ----------
    path : Path
        An OME-Zarr folder (its full resolution is read) or a TIFF file, also with a pyramid (SVS).

    Attributes
    ----------
    path : Path
    size : ImageSize
        As `read_image` would give it.
    is_stack : bool
    pixel_size_um : tuple of float, or None
        Height and width of a pixel in micrometres, where the file says so.
    version : str or None
        Version of OME-Zarr in which results of this image are written; None for a TIFF.

    Raises
    ------
    ImageFormatError
        If the file cannot be read; see `read_image`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.version: str | None = None
        with ExitStack() as opened, reading(self.path):
            if multiscale.is_store(self.path):
                self._stored, self.version = multiscale.open_store(self.path)
            else:
                self._stored = opened.enter_context(tiff.opened_tiff(self.path))
            self._opened = opened.pop_all()
        header = self._decoded(unread(self._stored.pixels.shape, self._stored.pixels.dtype))
        self.size: ImageSize = size_of(header, self.path)
        self.pixel_size_um = header.pixel_size_um
        # By place: two axes may have one letter, such as the Q of what tifffile does not know.
        self._stacked = [axis for axis, letter in enumerate(self._stored.axes) if letter not in "CSYX"]
        self._planes = tuple(self._stored.pixels.shape[axis] for axis in self._stacked)
        self.is_stack = any(length > 1 for length in self._planes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def read(self, plane: int, top: int, bottom: int, left: int, right: int) -> Array:
        """Read a window of one plane.

        Parameters
        ----------
        plane : int
            Number of the plane, from 0.
        top, bottom, left, right : int
            The window, half-open, inside the image.

        Returns
        -------
        ndarray, shape (C, bottom - top, right - left)
            What `read_image(path).planes[plane]` holds there.

        Raises
        ------
        ImageFormatError
            If what is stored there is damaged, or not finite.
        """
        axes = self._stored.axes
        chosen = [slice(None)] * len(axes)
        chosen[axes.index("Y")], chosen[axes.index("X")] = slice(top, bottom), slice(left, right)
        for axis, i in zip(
            self._stacked, np.unravel_index(plane, self._planes) if self._planes else (), strict=True
        ):
            chosen[axis] = slice(int(i), int(i) + 1)
        with reading(self.path):
            values = self._stored.pixels[tuple(chosen)]
        window: Image = image_of(self._decoded(np.asarray(values)), self.path, keep_unit_axes=False)
        plane_of_window: Array = window.planes[0]
        return plane_of_window

    def _decoded(self, pixels: Array) -> Decoded:
        stored = self._stored
        return Decoded(
            pixels,
            stored.axes,
            stored.palette,
            stored.has_alpha,
            stored.white_is_zero,
            stored.max_value,
            stored.pixel_size_um,
        )

    @property
    def chunk_bytes(self) -> int:
        """Memory of the piece in which the file is stored: what is decoded even for a single pixel."""
        return math.prod(self._chunk) * int(self._stored.pixels.dtype.itemsize)

    @property
    def chunks(self) -> int:
        """How many such pieces there are."""
        sides = zip(self._stored.pixels.shape, self._chunk, strict=True)
        return math.prod(-(-length // side) for length, side in sides)

    @property
    def _chunk(self) -> tuple[int, ...]:
        pixels = self._stored.pixels
        return tuple(getattr(pixels, "chunks", (1,) * len(pixels.shape)))

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this image from another: place, shape, and when it was written; without reading it."""
        status = _written(self.path)
        return {
            "path": str(self.path.resolve()),
            "shape": list(self._stored.pixels.shape),
            "dtype": str(self._stored.pixels.dtype),
            "bytes": status.st_size,
            "modified_ns": status.st_mtime_ns,
        }


def written_at(path: Path) -> int:
    """When an image was written, of OME-Zarr its metadata, in nanoseconds."""
    return _written(path).st_mtime_ns


def _written(path: Path) -> os.stat_result:
    if not path.is_dir():
        return path.stat()
    names = ("zarr.json", ".zattrs", ".zgroup")
    return next(path / name for name in names if (path / name).exists()).stat()


def reads_windows(path: Path) -> bool:
    """Whether `LargeImage` reads this path: OME-Zarr and TIFF, recognised by their content."""
    if multiscale.is_store(path):
        return True
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(tiff.SIGNATURES)
    except OSError:
        return False
