"""A temperature that makes probabilities mean what they say, fitted on training images at the end of a run.

The loss weights classes and borders, and a network that is trained for long grows surer than it is right. One
number mends the second: logits are divided by a temperature (Guo et al. 2017), which leaves the most probable
class as it is. It minimises the negative log likelihood without the weights of the loss, for these bend
probabilities on purpose.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ushape.config import IGNORE
from ushape.data import Sample
from ushape.predict.segmentation import probabilities_of

Array = np.ndarray[Any, Any]

MOST_PIXELS = 1_000_000
"""That the temperature is fitted on, evenly spread: neighbours say nearly the same."""

_RANGE = (0.05, 20.0)
"""Of temperatures; at its ends probabilities are as good as 0 and 1, or all the same."""

_SMALLEST = float(np.finfo(np.float32).tiny)


def tempered(probabilities: Array, temperature: float) -> Array:
    """Probabilities (C, ...) of a softmax at temperature 1, at another one.

    Their logarithms are logits up to a constant of each pixel, which a softmax does not see.
    """
    logits = torch.from_numpy(np.log(np.maximum(probabilities, _SMALLEST)))
    return probabilities_of(logits, temperature).numpy()


def sampled(sample: Sample, probabilities: Array, most: int) -> tuple[Array, Array]:
    """Probabilities (C, n) and classes (n,) of at most `most` pixels that count, evenly spread."""
    places = np.flatnonzero(sample.classes != IGNORE)
    places = places[:: max(1, -(-len(places) // most))]
    return probabilities.reshape(len(probabilities), -1)[:, places], sample.classes.ravel()[places]


def fit_temperature(samples: Sequence[Sample], probabilities: Iterable[Array]) -> float:
    """Find the temperature at which the truth is most likely.

    Parameters
    ----------
    samples : sequence of Sample
        Annotated images, undeformed.
    probabilities : iterable of ndarray of float, shape (C, H, W)
        Predicted for each of them at temperature 1; gone through once.

    Returns
    -------
    float
        With three decimals, between 0.05 and 20; 1 where no pixel counts.
    """
    from scipy.optimize import minimize_scalar

    most = MOST_PIXELS // len(samples)
    parts = [sampled(*pair, most) for pair in zip(samples, probabilities, strict=True)]
    values = np.concatenate([part for part, _ in parts], axis=1)
    classes = np.concatenate([part for _, part in parts])[np.newaxis]
    if not classes.size:
        return 1.0
    logits = np.log(np.maximum(values, _SMALLEST)).astype(np.float64)
    logits -= np.take_along_axis(logits, classes.astype(np.int64), 0)  # of the true class: 0

    def loss(log_temperature: float) -> float:
        # The negative log likelihood is convex in 1 / temperature, so it has one minimum.
        scaled = logits / np.exp(log_temperature)
        highest = scaled.max(0)
        return float(np.mean(highest + np.log(np.exp(scaled - highest).sum(0))))

    found = minimize_scalar(loss, bounds=tuple(np.log(_RANGE)), method="bounded", options={"xatol": 1e-4})
    return round(float(np.exp(found.x)), 3)
