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


def vary_grey_values(image: Array, rng: np.random.Generator, strengths: GreyValues = GreyValues()) -> Array:
    """Change grey values at random: a smooth rising tone curve, contrast, brightness, then blur and noise.

    Parameters
    ----------
    image : ndarray of float32, shape (C, H, W)
        Normalised image (mean 0, standard deviation 1 per channel). Not modified.
    rng : numpy.random.Generator
        Source of all numbers; each channel draws its own.
    strengths : GreyValues
        How strongly.

    Returns
    -------
    ndarray of float32, shape (C, H, W)

    Notes
    -----
    The tone curve is a Bernstein polynomial of degree 4 over the range of the channel, its three inner
    control values displaced: rising control values make it rise everywhere.
    """
    varied = np.stack([_tone(channel, rng, strengths) for channel in np.asarray(image, np.float32)])
    if strengths.blur_px:
        import cv2

        for channel in varied:
            sigma = rng.uniform(0, strengths.blur_px)
            cv2.GaussianBlur(channel, (0, 0), max(sigma, 0.01), dst=channel)
    if strengths.noise:
        std = rng.uniform(0, strengths.noise, (len(varied), 1, 1)).astype(np.float32)
        varied += std * rng.standard_normal(varied.shape, np.float32)
    return varied


def _tone(channel: Array, rng: np.random.Generator, strengths: GreyValues) -> Array:
    brightness, contrast, *curve = rng.uniform(-1, 1, 5)
    low, high = float(channel.min()), float(channel.max())
    span = high - low or 1.0
    control = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    control[1:4] += strengths.curve * np.array(curve)
    coefficients = _BERNSTEIN @ control * span
    coefficients[0] += low
    coefficients *= 1 + strengths.contrast * contrast
    coefficients[0] += strengths.brightness * brightness
    position = (channel - np.float32(low)) * np.float32(1 / span)
    value = np.full_like(position, coefficients[4])
    for coefficient in coefficients[3::-1]:
        value *= position
        value += np.float32(coefficient)
    return value


_BERNSTEIN = np.array(
    [[1, 0, 0, 0, 0], [-4, 4, 0, 0, 0], [6, -12, 6, 0, 0], [-4, 12, -12, 4, 0], [1, -4, 6, -4, 1]], float
)
"""Control values to coefficients of 1, t, t**2, t**3, t**4."""
