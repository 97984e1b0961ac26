"""Mean and deviation of a plane that is seen part by part."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ushape.config import Normalization

Array = np.ndarray[Any, Any]


def normalization_of(parts: Iterable[Array]) -> Normalization:
    """Give what a normalization of kind "image" does to one plane, from its parts, one after the other.

    Parameters
    ----------
    parts : iterable of ndarray, shape (C, h, w)
        All pixels of the plane, each once.

    Returns
    -------
    Normalization
        Of kind "fixed". Mean and standard deviation are those of the whole plane to rounding: sums of
        squares are about the mean of each part and joined pair by pair (Chan, Golub and LeVeque 1983).
    """
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for part in parts:
        pixels = part.shape[-2] * part.shape[-1]
        count += pixels
        apart = part.mean((-2, -1), dtype=np.float64) - mean
        within = part.var((-2, -1), dtype=np.float64) * pixels
        squares = squares + within + apart**2 * ((count - pixels) * pixels / count)
        mean = mean + apart * (pixels / count)
    std = np.sqrt(squares / count)
    std = np.where(std > 0, std, 1.0)
    return Normalization(kind="fixed", mean=tuple(mean.tolist()), std=tuple(std.tolist()))
