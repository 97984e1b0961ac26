"""Images and label images in memory, as they are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ushape.io.decoded import Array


@dataclass(frozen=True)
class Image:
    """An image or a stack of images.

    Attributes
    ----------
    array : ndarray of uint8, uint16, int16 or float32
        Values as in the file, axes as in `axes`.
    axes : {"YX", "YXC", "ZYX", "ZYXC"}
        Pages, time and any other axis are Z.
    pixel_size_um : tuple of float, or None
        Height and width of a pixel in micrometres, where the file says so.
    path : Path or None
        Where it was read from; None for an array.
    """

    array: Array
    axes: str
    pixel_size_um: tuple[float, float] | None = None
    path: Path | None = None

    @property
    def is_stack(self) -> bool:
        """Whether there is a Z axis, be it of length 1."""
        return "Z" in self.axes

    @property
    def planes(self) -> Array:
        """All planes, channels first: shape (Z, C, H, W); Z = 1 for one image. A view."""
        array = self.array if self.is_stack else self.array[np.newaxis]
        array = array if "C" in self.axes else array[..., np.newaxis]
        return np.moveaxis(array, -1, 1)


@dataclass(frozen=True)
class LabelImage:
    """A label image as it is stored.

    Attributes
    ----------
    array : ndarray of int
        Label numbers or palette indices; colours (uint8 or uint16) where `axes` ends in C.
    axes : {"YX", "ZYX", "YXC", "ZYXC"}
        With C: three channels, red, green and blue.
    palette : ndarray of uint8, shape (n, 3), or None
        Colours of the indices, for a file with a palette.
    path : Path or None
        Where it was read from; None for an array.
    """

    array: Array
    axes: str
    palette: Array | None = None
    path: Path | None = None


class ImageSize(NamedTuple):
    """Size of an image as `read_image` would return it."""

    planes: int
    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
