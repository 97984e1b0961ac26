"""Grey values varied at random. Ronneberger 2015, section 3.1, names it; how is our choice."""

import math
from dataclasses import dataclass
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
        Largest offset, in standard deviations of the normalised image.
    contrast : float
        Largest relative change of the contrast, at most 0.9.
    curve : float
        Largest displacement of the control values of the tone curve, as a fraction of the range of grey
        values, at most 1/8; the slope of the curve changes by up to 8 times this.
    noise : float
        Largest standard deviation of added Gaussian noise, in standard deviations of the image.
    blur_px : float
        Largest standard deviation of a Gaussian blur, in pixels.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    curve: float = 0.05
    noise: float = 0.0
    blur_px: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            largest = {"contrast": 0.9, "curve": 0.125}.get(name, math.inf)
            if not 0 <= value <= largest:
                raise ConfigError(f"{name} must be at least 0 and at most {largest}, got {value}")

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
        none = np.zeros(channels)
        return GreyVariation(
            # Not one product for all channels: its rounding would depend on their number.
            curve=np.array([_BERNSTEIN @ values for values in control]),
            contrast=1 + self.contrast * contrast,
            brightness=self.brightness * brightness,
            blur_px=rng.uniform(0, self.blur_px, channels) if self.blur_px else none,
            noise=rng.uniform(0, self.noise, channels) if self.noise else none,
        )


@dataclass(frozen=True, eq=False)
class GreyVariation:
    """What is drawn for one tile, channel by channel, all but the noise of each pixel.

    Parameters
    ----------
    curve : ndarray of float, shape (C, 5)
        Tone curve, from the range of the channel's values as 0 to 1 onto the same: coefficients of 1, t,
        t**2, t**3, t**4.
    contrast, brightness : ndarray of float, shape (C,)
        Factor and offset that follow.
    blur_px : ndarray of float, shape (C,)
        Standard deviation of a Gaussian blur, in pixels; 0 for none.
    noise : ndarray of float, shape (C,)
        Standard deviation of the noise; 0 for none.
    """

    curve: Array
    contrast: Array
    brightness: Array
    blur_px: Array
    noise: Array


def vary_grey_values(image: Array, variation: GreyVariation, rng: np.random.Generator) -> Array:
    """Change grey values: a smooth rising tone curve, contrast, brightness, then blur and noise.

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
    if variation.blur_px.any():
        import cv2

        for channel, sigma in zip(varied, variation.blur_px, strict=True):
            cv2.GaussianBlur(channel, (0, 0), max(sigma, 0.01), dst=channel)
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


_BERNSTEIN = np.array(
    [[1, 0, 0, 0, 0], [-4, 4, 0, 0, 0], [6, -12, 6, 0, 0], [-4, 12, -12, 4, 0], [1, -4, 6, -4, 1]], float
)
"""Control values to coefficients of 1, t, t**2, t**3, t**4."""
