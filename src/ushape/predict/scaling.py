"""An image brought to the scale of the training images, and what can be seen of it being of another.

A network knows objects of the sizes it was shown. An image of another magnification is resampled before it
goes through the network, and the probabilities are resampled back; classes and objects are then found at the
pixels of the image itself.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ushape.config import ModelHeader, PixelSize, Postprocessing, parse_pixel_size
from ushape.errors import ConfigError

Array = np.ndarray[Any, Any]
Scale = tuple[float, float]
"""By what height and width of the image are multiplied before it goes through the network."""

_SMALLEST, _LARGEST = 0.01, 100.0
_PIXEL_SIZES_DIFFER = 1.25
_DIAMETERS_DIFFER = 2.0
_FEW_OBJECTS = 5
"""Fewer than these say nothing of a typical one."""


def find_scale(
    header: ModelHeader, scale: float | None, pixel_size: float | str | PixelSize | None
) -> tuple[Scale, PixelSize | None]:
    """Scale of an image, and the size of its pixels where that was given.

    Parameters
    ----------
    header : ModelHeader
    scale : float, optional
        Between 0.01 and 100; 1 if neither is given.
    pixel_size : float, str or (float, float), optional
        Size of a pixel (or height and width) of the image in micrometres; the scale follows from the model's.

    Raises
    ------
    ConfigError
        If both are given, one is not possible, or the model does not know the size of its pixels.
    """
    if scale is not None and pixel_size is not None:
        raise ConfigError("give --scale or --pixel-size, not both: each says how the image is resampled")
    if pixel_size is None:
        one = 1.0 if scale is None else float(scale)
        return _require_possible((one, one), f"--scale {one:g}"), None
    size = parse_pixel_size(pixel_size)
    if header.pixel_size_um is None:
        raise ConfigError(
            f"--pixel-size {size[0]:g} cannot be used: the training images did not tell the size of their "
            "pixels; give --scale, or train with --pixel-size"
        )
    found = size[0] / header.pixel_size_um[0], size[1] / header.pixel_size_um[1]
    return _require_possible(found, f"--pixel-size {size[0]:g} means a scale of {max(found):g}, which"), size


def _require_possible(scale: Scale, what: str) -> Scale:
    if not all(_SMALLEST <= one <= _LARGEST for one in scale):  # nor is NaN
        raise ConfigError(f"{what} is not possible; give a scale from {_SMALLEST:g} to {_LARGEST:g}")
    return scale


def scaled_size(height: int, width: int, scale: Scale) -> tuple[int, int]:
    """Height and width at a scale, at least 1 pixel each."""
    return max(round(height * scale[0]), 1), max(round(width * scale[1]), 1)


def postprocessing_at(header: ModelHeader, scale: Scale, changes: Mapping[str, Any]) -> Postprocessing:
    """How objects are found at a scale: as the model says, in pixels of the image, but for changes.

    Raises
    ------
    ConfigError
        If a change is not possible.
    """
    return header.postprocessing.at_scale(math.sqrt(scale[0] * scale[1])).changed(changes)


def in_words(pair: tuple[float, float]) -> str:
    """`2`, or `2 x 1.5` where height and width differ."""
    return f"{pair[0]:.4g}" if math.isclose(*pair) else f"{pair[0]:.4g} x {pair[1]:.4g}"


def pixel_size_mismatch(header: ModelHeader, pixel_size_um: PixelSize | None, scale: Scale) -> str | None:
    """Warn if the pixels that the network sees are not as large as those it was trained on."""
    trained = header.pixel_size_um
    if trained is None or pixel_size_um is None:
        return None
    fitting = tuple(here / there for here, there in zip(pixel_size_um, trained, strict=True))
    off = [max(one / other, other / one) for one, other in zip(fitting, scale, strict=True)]
    if max(off) <= _PIXEL_SIZES_DIFFER:
        return None
    return (
        f"pixels of {in_words(pixel_size_um)} um, as the file says, are not those of the training images, "
        f"{in_words(trained)} um; try --scale {in_words((fitting[0], fitting[1]))} in place of "
        f"{in_words(scale)}"
    )


def diameter_mismatch(header: ModelHeader, areas_px: Array, scale: Scale) -> str | None:
    """Warn if typical objects, of these areas in the image, are not as large as in training."""
    trained = header.object_diameter_px
    if trained is None or len(areas_px) < _FEW_OBJECTS:
        return None
    diameter = float(np.median(np.sqrt(4 / np.pi * areas_px)))
    seen = diameter * math.sqrt(scale[0] * scale[1])
    if max(seen / trained, trained / seen) <= _DIAMETERS_DIFFER:
        return None
    return (
        f"objects found are typically {diameter:.0f} px across, at this scale {seen:.0f} px, those of the "
        f"training images {trained:.0f} px; if they are the same kind of objects, try --scale "
        f"{trained / diameter:.2g}"
    )
