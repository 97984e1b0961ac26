"""What a decoder hands over: pixels exactly as they lie in the file, and how to understand them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Spacing(NamedTuple):
    """Where the pixels of an image lie along one axis: pixel i at `offset + i * step`.

    Attributes
    ----------
    step : float
        In `unit`, > 0.
    offset : float
        In `unit`.
    unit : str or None
        As the file names it, which need not be one that we know; None where it names none.
    """

    step: float = 1.0
    offset: float = 0.0
    unit: str | None = None


@dataclass(frozen=True)
class Decoded:
    """The content of an image file before anything is made of it.

    Attributes
    ----------
    pixels : ndarray
        Values as stored. All zero, and without memory of its own, where only the size was asked for.
    axes : str
        One letter per axis of `pixels`: Y, X, S (samples of a colour), C (channels); any other letter
        counts planes.
    palette : ndarray of uint8, shape (n, 3), or None
        Colours that `pixels` are indices of.
    palette_is_display : bool
        Whether it only says how grey values are shown: those of an image are the indices.
    has_alpha : bool
        Whether the last sample of a pixel is its opacity.
    white_is_zero : bool
        Whether the file says that its smallest value is white.
    max_value : int
        Largest value an unsigned sample of the file can have.
    pixel_size_um : tuple of float, or None
        Height and width of a pixel in micrometres.
    spacings : mapping of str to Spacing
        Of each axis, by its letter, of an OME-Zarr; else empty.
    """

    pixels: Array
    axes: str
    palette: Array | None = None
    palette_is_display: bool = False
    has_alpha: bool = False
    white_is_zero: bool = False
    max_value: int = 255
    pixel_size_um: tuple[float, float] | None = None
    spacings: Mapping[str, Spacing] = field(default_factory=dict)


def unread(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Stand-in for pixels that were not read: the right shape and dtype, a few bytes of memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def without_unit_axes(array: Array, axes: str) -> tuple[Array, str]:
    """Drop the axes of length 1 that are neither height nor width."""
    kept = [i for i, letter in enumerate(axes) if letter in "YX" or array.shape[i] != 1]
    return array.reshape([array.shape[i] for i in kept]), "".join(axes[i] for i in kept)


def in_order(array: Array, axes: str) -> tuple[Array, str]:
    """Bring the axes into the order ZYXC.

    There must be one Y and one X. Samples and channels become C, every other axis becomes Z.
    """
    channels = [i for i, letter in enumerate(axes) if letter in "CS"]
    planes = [i for i, letter in enumerate(axes) if letter not in "CSYX"]
    array = array.transpose(*planes, axes.index("Y"), axes.index("X"), *channels)
    first, last = len(planes), array.ndim - len(channels)
    shape = list(array.shape[first:last])
    if planes:
        shape.insert(0, int(np.prod(array.shape[:first])))
    if channels:
        shape.append(int(np.prod(array.shape[last:])))
    return array.reshape(shape), "Z" * bool(planes) + "YX" + "C" * bool(channels)
