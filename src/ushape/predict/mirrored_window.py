"""A window of an image in a file that goes on beyond its border as its mirror image."""

from typing import Any

import numpy as np

from ushape.io import LargeImage
from ushape.tiling import mirrored

Array = np.ndarray[Any, Any]


def mirrored_window(image: LargeImage, plane: int, top: int, bottom: int, left: int, right: int) -> Array:
    """`tiling.read_mirrored` of an image in a file: only what is needed is read."""
    places = mirrored(top, bottom, image.size.height), mirrored(left, right, image.size.width)
    ends = [
        (one.start, one.stop) if isinstance(one, slice) else (int(one.min()), int(one.max()) + 1)
        for one in places
    ]
    window = image.read(plane, *ends[0], *ends[1])
    for axis, (one, (start, _)) in enumerate(zip(places, ends, strict=True), start=1):
        if not isinstance(one, slice):
            window = window.take(one - start, axis)
    return window
