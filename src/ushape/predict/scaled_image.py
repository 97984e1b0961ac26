"""An image in a file as a network sees it: at the scale of the training images."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from ushape.io import LargeImage
from ushape.predict.resampling import Resampling
from ushape.predict.scaling import Scale, scaled_size
from ushape.tiling import mirrored

Array = np.ndarray[Any, Any]

READ_AT_ONCE = 1024
"""Side, in pixels of the file, of what is read for a part of a window that is resampled."""


class ScaledImage:
    """What `LargeImage` reads, brought to a scale; only what is needed is read.

    Parameters
    ----------
    image : LargeImage
    scale : (float, float)
        By what height and width are multiplied.

    Attributes
    ----------
    image : LargeImage
    scale : (float, float)
    size : ImageSize
        At this scale.
    is_scaled : bool
        Whether that is another size than that of the file.
    """

    def __init__(self, image: LargeImage, scale: Scale) -> None:
        self.image, self.scale = image, scale
        before = image.size.height, image.size.width
        after = scaled_size(*before, scale)
        self.size = image.size._replace(height=after[0], width=after[1])
        self._resampling = Resampling(before, after, cubic=True)
        self.is_scaled = before != after

    def read(self, plane: int, top: int, bottom: int, left: int, right: int) -> Array:
        """Read a window of one plane, in pixels at this scale, inside the image.

        Returns
        -------
        ndarray, shape (C, bottom - top, right - left)
            What `resampled` makes of the whole plane holds there, to the last bit: float32; as in the file if
            the scale changes nothing.
        """
        how = self._resampling
        if not self.is_scaled:
            return self.image.read(plane, top, bottom, left, right)
        values = np.empty((self.size.channels, bottom - top, right - left), np.float32)
        for rows, columns in product(self._parts(0, top, bottom), self._parts(1, left, right)):
            ends = [(side.start, side.stop) for side in how.source((rows, columns))]
            part = how(self.image.read(plane, *ends[0], *ends[1]), (rows, columns))
            y, x = rows.start - top, columns.start - left
            values[:, y : y + part.shape[1], x : x + part.shape[2]] = part
        return values

    def read_mirrored(self, plane: int, top: int, bottom: int, left: int, right: int) -> Array:
        """Read a window that may lie beyond the border; see `tiling.read_mirrored`."""
        places = mirrored(top, bottom, self.size.height), mirrored(left, right, self.size.width)
        ends = [
            (one.start, one.stop) if isinstance(one, slice) else (int(one.min()), int(one.max()) + 1)
            for one in places
        ]
        window = self.read(plane, *ends[0], *ends[1])
        for axis, (one, (start, _)) in enumerate(zip(places, ends, strict=True), start=1):
            if not isinstance(one, slice):
                window = window.take(one - start, axis)
        return window

    def _parts(self, axis: int, start: int, stop: int) -> Iterator[slice]:
        """Cut one side of a window, so that little of the file is in memory, however much is averaged."""
        before, after = self._resampling.before[axis], self._resampling.after[axis]
        step = max(READ_AT_ONCE * after // before, 1)
        return (slice(begin, min(begin + step, stop)) for begin in range(start, stop, step))
