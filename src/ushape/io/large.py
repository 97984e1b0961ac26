"""Images that need not fit into memory: OME-Zarr and TIFF, read window by window."""

import math
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ushape.errors import ShapeError
from ushape.io import multiscale, tiff
from ushape.io.decoded import Array, Decoded, Spacing, unread
from ushape.io.image import Image, ImageSize
from ushape.io.read import image_of, reading, size_of


class LargeImage:
    """An image or a stack in a file, of which only windows are read. A context manager.

    Parameters
    ----------
    path : Path
        An OME-Zarr folder (its full resolution is read) or a TIFF file, also with a pyramid (SVS).
    channels : int, optional
        How many are wanted: with 1, an image in colour is taken for grey as long as its channels are equal.

    Attributes
    ----------
    path : Path
    size, stored_size : ImageSize
        Of what `read` gives, and as `read_image` would give it.
    is_stack : bool
    is_grey_in_colour : bool
        Whether three channels are taken for one.
    pixel_size_um : tuple of float, or None
        Height and width of a pixel in micrometres, where the file says so.
    version : str or None
        Version of OME-Zarr in which results of this image are written; None for a TIFF.

    Raises
    ------
    ImageFormatError
        If the file cannot be read; see `read_image`.
    """

    def __init__(self, path: Path | str, channels: int | None = None) -> None:
        self.path = Path(path)
        self.version: str | None = None
        with ExitStack() as opened, reading(self.path):
            if multiscale.is_store(self.path):
                self._stored, self.version = multiscale.open_store(self.path)
            else:
                self._stored = opened.enter_context(tiff.opened_tiff(self.path))
            self._opened = opened.pop_all()
        header = self._decoded(unread(self._stored.pixels.shape, self._stored.pixels.dtype))
        self.stored_size: ImageSize = size_of(header, self.path)
        self.is_grey_in_colour = channels == 1 and self.stored_size.channels == 3
        self.size = self.stored_size._replace(channels=1) if self.is_grey_in_colour else self.stored_size
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
        ShapeError
            If it is in colour, and grey is wanted.
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
        return self._grey(plane_of_window) if self.is_grey_in_colour else plane_of_window

    def _grey(self, plane: Array) -> Array:
        if (plane[1:] != plane[:1]).any():
            raise ShapeError(
                f"{self.path} has 3 channels (RGB) that differ, and 1 is wanted (grey); convert it to grey "
                "values, or use a model trained on colour images"
            )
        return plane[:1].copy()  # what it was cut from can go

    def _decoded(self, pixels: Array) -> Decoded:
        return replace(self._stored, pixels=pixels)

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
    def spacings(self) -> dict[str, Spacing]:
        """Where its rows (Y), columns (X) and planes (Z) lie, as an OME-Zarr says; empty for a TIFF.

        Planes only if they are those of one axis. Of a time there is no unit: along Z it would be a length.
        """
        told = self._stored.spacings
        found = {axis: told[axis] for axis in "YX" if axis in told}
        long = [self._stored.axes[axis] for axis in self._stacked if self._stored.pixels.shape[axis] > 1]
        if told and len(long) == 1:
            found["Z"] = told[long[0]] if long == ["Z"] else told[long[0]]._replace(unit=None)
        return found

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this image from another: its place, its metadata, and when these were written.

        In words of JSON; without reading its pixels.
        """
        status = _written(self.path)
        return {
            "path": str(self.path.resolve()),
            "shape": list(self._stored.pixels.shape),
            "dtype": str(self._stored.pixels.dtype),
            "spacings": {axis: [*spacing] for axis, spacing in self.spacings.items()},
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
