"""From logits to probabilities, and to the most probable class."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ushape.backends import Backend
from ushape.config import UNCALIBRATED, Calibration
from ushape.predict.averaging import Average

Array = np.ndarray[Any, Any]


def tile_probabilities(tile: Array, backend: Backend, average: Average, calibration: Calibration) -> Array:
    """Probabilities (C, h, w) of what a tile gives, averaged, of an image in memory or of a block."""
    softmax = partial(probabilities_of, calibration=calibration)
    geometry = backend.geometry
    whole_periods = 1 if geometry.margin else geometry.period
    with torch.inference_mode():
        seen = torch.from_numpy(np.ascontiguousarray(tile)).to(backend.device)
        found: Array = average.probabilities(seen, backend.logits, softmax, whole_periods).cpu().numpy()
    return found


def probabilities_of(logits: Tensor, calibration: Calibration = UNCALIBRATED) -> Tensor:
    """Probability of each class from the logits of a network.

    Parameters
    ----------
    logits : Tensor of float, shape (K, ...)
    calibration : Calibration
        Of the model: temperature and, where it was trained for areas, a bias per class.

    Returns
    -------
    Tensor of float, shape (K, ...); (2, ...) for K = 1
        Softmax over K classes (Ronneberger 2015, section 3) of logits / temperature + bias; for K = 1 the
        sigmoid p as (1 - p, p).
    """
    if len(logits) == 1:  # sigmoid(x) is the softmax of (0, x)
        logits = torch.cat([torch.zeros_like(logits), logits])
    if calibration.temperature != 1:
        logits = logits / calibration.temperature
    if calibration.class_bias:
        bias = torch.tensor(calibration.class_bias, dtype=logits.dtype, device=logits.device)
        logits = logits + bias.reshape(-1, *[1] * (logits.ndim - 1))
    return logits.softmax(0)


def most_probable(plane: Array) -> Array:
    """Most probable class of each pixel, of equal ones the first, from probabilities (C, H, W): uint8."""
    if len(plane) == 2:  # a fortieth of the time
        return (plane[1] > plane[0]).astype(np.uint8)  # type: ignore[no-any-return]
    return plane.argmax(0).astype(np.uint8)  # type: ignore[no-any-return]


def most_probable_kinds(plane: Array) -> Array | None:
    """Foreground class of each pixel, from probabilities (C, H, W); None if there is but one.

    With two classes all objects are of class 1, also where the threshold is below a half.
    """
    return (plane[1:].argmax(0) + 1).astype(np.uint8) if len(plane) > 2 else None
