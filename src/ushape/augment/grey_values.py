"""Grey values varied at random. Ronneberger 2015, section 3.1, names it; how is our choice."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ushape.errors import ConfigError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class GreyValues:
    """How strongly grey values are varied; 0 switches a part off. The paper names them, without numbers.

    Parameters
    ----------
    brightness : float
        Largest offset, in standard deviations of the image.
    contrast : float
        Largest relative change of the contrast, at most 0.9.
    curve : float
        Largest displacement of the control values of the tone curve, as a fraction of the range of grey
        values, at most 1/8; the slope of the curve changes by up to 8 times this.
    noise : float
        Largest standard deviation of added Gaussian noise, in standard deviations of the image.
    blur_px : float
        Largest standard deviation of a Gaussian blur, in pixels, in patches: as out of focus, or as where
        something is cut at a slant.
    fade : float
        Largest share of the contrast with the surroundings that is lost in patches, at most 1.
    patches : float
        Share of the tiles that have such patches.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    curve: float = 0.05
    noise: float = 0.0
    blur_px: float = 0.0
    fade: float = 0.0
    patches: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            largest = _LARGEST.get(name, math.inf)
            if not (0 <= value <= largest and math.isfinite(value)):
                limit = f" and at most {largest}" if name in _LARGEST else ""
                raise ConfigError(f"{name} must be a number, at least 0{limit}, got {value}")

    def draw(self, rng: np.random.Generator, channels: int) -> "GreyVariation":
        """Draw what one tile is varied by.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of all numbers.
        channels : int
            Each draws its own.

        Returns
        -------
        GreyVariation

        Notes
        -----
        The tone curve is a Bernstein polynomial of degree 4, its three inner control values displaced:
        rising control values make it rise everywhere.
        """
        brightness, contrast, *displaced = rng.uniform(-1, 1, (channels, 5)).T
        control = np.tile([0.0, 0.25, 0.5, 0.75, 1.0], (channels, 1))
        control[:, 1:4] += self.curve * np.transpose(displaced)
        has_patches = (self.blur_px or self.fade) and rng.uniform() < self.patches
        return GreyVariation(
            # Not one product for all channels: its rounding would depend on their number.
            curve=np.array([_BERNSTEIN @ values for values in control]),
            contrast=1 + self.contrast * contrast,
            brightness=self.brightness * brightness,
            noise=rng.uniform(0, self.noise, channels) if self.noise else np.zeros(channels),
            blur_px=rng.uniform(0, self.blur_px) if has_patches else 0.0,
            fade=rng.uniform(0, self.fade) if has_patches else 0.0,
            # Focus and contrast are of the place: one field for all channels.
            patches=rng.uniform(0, 1, (2, PATCHES, PATCHES)).astype(np.float32) if has_patches else _NONE,
        )


@dataclass(frozen=True, eq=False)
class GreyVariation:
    """What is drawn for one tile: all but the noise of each pixel.

    Parameters
    ----------
    curve : ndarray of float, shape (C, 5)
        Tone curve, from the range of the channel's values as 0 to 1 onto the same: coefficients of 1, t,
        t**2, t**3, t**4.
    contrast, brightness : ndarray of float, shape (C,)
        Factor and offset that follow.
    noise : ndarray of float, shape (C,)
        Standard deviation of the noise; 0 for none.
    blur_px, fade : float
        Standard deviation of a Gaussian blur, in pixels, and share of the contrast that is lost, where
        patches are deepest; 0 for none.
    patches : ndarray of float32, shape (2, PATCHES, PATCHES)
        Numbers of 0 to 1 at places that are spread over the tile: of the blur, then of the fading. Between
        them they are interpolated linearly; a patch is where they lie above `_SHORE`.
    """

    curve: Array
    contrast: Array
    brightness: Array
    noise: Array
    blur_px: float
    fade: float
    patches: Array

    def of_deviation(self, deviation: Array) -> "GreyVariation":
        """Give the same for an image whose channels have these standard deviations (C,), in place of 1."""
        return replace(self, brightness=self.brightness * deviation, noise=self.noise * deviation)


def vary_grey_values(image: Array, variation: GreyVariation, rng: np.random.Generator) -> Array:
    """Change grey values: a smooth rising tone curve, contrast, brightness, then patches and noise.

    Parameters
    ----------
    image : ndarray of float32, shape (C, H, W)
        Normalised image (mean 0, standard deviation 1 per channel). Not modified.
    variation : GreyVariation
        What was drawn for this tile.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    ndarray of float32, shape (C, H, W)
    """
    varied = np.empty(image.shape, np.float32)
    for index, channel in enumerate(image):
        _tone(channel, varied[index], variation, index)
    if variation.blur_px or variation.fade:
        _blur_and_fade(varied, variation)
    if variation.noise.any():
        noise = rng.standard_normal(varied.shape, np.float32)
        noise *= variation.noise.astype(np.float32)[:, None, None]
        varied += noise
    return varied


def _tone(channel: Array, value: Array, variation: GreyVariation, index: int) -> None:
    low, high = float(channel.min()), float(channel.max())
    span = high - low or 1.0
    coefficients = variation.curve[index] * span
    coefficients[0] += low
    coefficients *= variation.contrast[index]
    coefficients[0] += variation.brightness[index]
    position = channel - np.float32(low)
    position *= np.float32(1 / span)
    value[:] = coefficients[4]
    for coefficient in coefficients[3::-1]:
        value *= position
        value += np.float32(coefficient)


def _blur_and_fade(channels: Array, variation: GreyVariation) -> None:
    import cv2

    height, width = channels.shape[1:]
    blurred, faded = (
        depth(cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR))
        for field in variation.patches
    )
    faded *= np.float32(variation.fade)
    side = (SURROUNDINGS_PX, SURROUNDINGS_PX)
    for channel in channels:
        if variation.blur_px:
            blur = cv2.GaussianBlur(channel, (0, 0), max(variation.blur_px, 0.01))
            channel += blurred * (blur - channel)
        if variation.fade:
            channel += faded * (cv2.blur(channel, side) - channel)


def depth(field: Any) -> Any:
    """How deep in a patch a place is, 0 to 1, by its number of 0 to 1: array or tensor."""
    return ((field - _SHORE) * _SLOPE).clip(0, 1)


PATCHES = 8
"""Places along each side of a tile at which the depth of patches is drawn: they are about an eighth wide."""

SURROUNDINGS_PX = 25
"""Side of the square whose mean value faded structures approach; odd."""

_SHORE, _SLOPE = 0.48, 2.5
"""Half of a tile lies in patches, a tenth at their deepest."""

_LARGEST = {"contrast": 0.9, "curve": 0.125, "fade": 1.0, "patches": 1.0}
_NONE = np.zeros((2, PATCHES, PATCHES), np.float32)

_BERNSTEIN = np.array(
    [[1, 0, 0, 0, 0], [-4, 4, 0, 0, 0], [6, -12, 6, 0, 0], [-4, 12, -12, 4, 0], [1, -4, 6, -4, 1]], float
)
"""Control values to coefficients of 1, t, t**2, t**3, t**4."""
