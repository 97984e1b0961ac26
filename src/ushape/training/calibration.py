"""What makes probabilities mean what they say, fitted on training images at the end of a run.

The loss weights classes and borders, and a network that is trained for long grows surer than it is right. One
number mends the second: logits are divided by a temperature (Guo et al. 2017), which leaves the most probable
class as it is. Where areas of one kind are what matters, another one mends the first: a network that was
trained with class weights w_c makes logits larger by log(w_c) than the frequencies of the classes warrant,
and what is rare grows beyond its borders; a share of that is taken back. Both are the likeliest without the
weights of the loss, for these bend probabilities on purpose.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ushape.config import IGNORE, UNCALIBRATED, Calibration
from ushape.data import Sample
from ushape.predict.probabilities import probabilities_of
from ushape.training.recipe import Recipe
from ushape.training.scores import Kind

Array = np.ndarray[Any, Any]

MOST_PIXELS = 1_000_000
"""That is fitted on, evenly spread: neighbours say nearly the same."""

_TEMPERATURES = (0.05, 20.0)
"""At its ends probabilities are as good as 0 and 1, or all the same."""

_SHARES = (0.0, 1.5)
"""Of log(w_c) that is taken back; in theory 1."""

_SMALLEST = float(np.finfo(np.float32).tiny)


def calibrated(probabilities: Array, calibration: Calibration) -> Array:
    """Probabilities (C, ...) of an uncalibrated model, calibrated.

    Their logarithms are logits up to a constant of each pixel, which a softmax does not see.
    """
    return probabilities_of(torch.from_numpy(_logits(probabilities)), calibration).numpy()


def to_take_back(balance: Array, classes: int, kind: Kind, recipe: Recipe) -> Array | None:
    """Tell which class weights w_c (C,) of the loss are to be taken back; None: none are.

    Those of areas of one kind are. That would be premature for many classes, and where objects matter one by
    one the weights keep them apart (docs/log/2026-11-27-class-weights.md, 2026-11-27-calibration.md).
    """
    is_one_kind = kind == "areas" and len(balance) == classes == 2
    return balance if is_one_kind and recipe.weighs_classes else None


def expected(balance: Array | None) -> Calibration:
    """What to go by before anything is fitted: the class weights that are to be taken back, wholly."""
    if balance is None:
        return UNCALIBRATED
    return Calibration(1.0, tuple(round(-float(np.log(weight)), 3) for weight in balance))


def in_words(calibration: Calibration) -> str:
    """Say how probabilities were calibrated."""
    temperature = f"temperature {calibration.temperature:g}"
    return f"{temperature}, class weights taken back" if any(calibration.class_bias) else temperature


def sampled(sample: Sample, probabilities: Array, most: int) -> tuple[Array, Array]:
    """Probabilities (C, n) and classes (n,) of at most `most` pixels that count, evenly spread."""
    places = np.flatnonzero(sample.classes != IGNORE)
    places = places[:: max(1, -(-len(places) // most))]
    return probabilities.reshape(len(probabilities), -1)[:, places], sample.classes.ravel()[places]


def fit(
    samples: Sequence[Sample], probabilities: Iterable[Array], balance: Array | None = None
) -> Calibration:
    """Find the calibration at which the truth is most likely.

    Parameters
    ----------
    samples : sequence of Sample
        Annotated images, undeformed.
    probabilities : iterable of ndarray of float, shape (C, H, W)
        Predicted for each of them, uncalibrated; gone through once.
    balance : ndarray of float, shape (C,), optional
        The class weights w_c of the loss, if they are to be taken back.

    Returns
    -------
    Calibration
        Numbers of three decimals, the temperature between 0.05 and 20, the bias a multiple of -log(w_c);
        what is `expected` where pixels of fewer than two classes count: of one alone no network is ever
        sure enough.
    """
    most = MOST_PIXELS // len(samples)
    parts = [sampled(*pair, most) for pair in zip(samples, probabilities, strict=True)]
    values = np.concatenate([part for part, _ in parts], axis=1)
    classes = np.concatenate([part for _, part in parts])
    if not classes.size or classes.min() == classes.max():
        return expected(balance)
    terms = [_logits(values).astype(np.float64)]
    if balance is not None:
        terms.append(-np.log(balance.astype(np.float64))[:, np.newaxis])
    sharpness, *shares = _likeliest(terms, classes)
    bias = shares[0] * terms[1][:, 0] if shares else np.empty(0)
    return Calibration(round(1 / sharpness, 3), tuple(round(float(one), 3) for one in bias))


def _logits(probabilities: Array) -> Array:
    return np.log(np.maximum(probabilities, _SMALLEST))


def _likeliest(terms: Sequence[Array], classes: Array) -> list[float]:
    """Factors of the terms (C, n) or (C, 1) of logits by which the classes (n,) are likeliest.

    The negative log likelihood is convex in them, so it has one minimum.
    """
    from scipy.optimize import minimize

    true = classes.astype(np.int64)[np.newaxis]
    above = [  # the logit of the true class; its own is 0
        term - np.take_along_axis(np.broadcast_to(term, (len(term), true.size)), true, 0) for term in terms
    ]

    def loss(factors: Array) -> tuple[float, Array]:
        logits = sum(factor * term for factor, term in zip(factors, above, strict=True))
        highest = logits.max(0)
        likely = np.exp(logits - highest)
        total = likely.sum(0)
        likely /= total
        slopes = [float((likely * term).sum()) / true.size for term in above]
        return float(np.mean(highest + np.log(total))), np.array(slopes)

    limits = [(1 / _TEMPERATURES[1], 1 / _TEMPERATURES[0]), _SHARES][: len(terms)]
    start = [1.0, 1.0][: len(terms)]
    fine = {"ftol": 1e-14, "gtol": 1e-9}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits, options=fine)
    return [float(factor) for factor in found.x]
