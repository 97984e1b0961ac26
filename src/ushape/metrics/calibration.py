"""Whether probabilities mean what they say: of pixels predicted with 80 %, 80 % should be right.

Sources: Naeini, Cooper, Hauskrecht 2015 (expected calibration error); Guo, Pleiss, Sun, Weinberger 2017 (for
several classes, and the bins).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.config import IGNORE
from ushape.errors import DataError, ShapeError

Array = NDArray[Any]

CALIBRATION_BINS = 15
"""Bins of equal width over the confidence, 0 to 1 (Guo 2017, section 5)."""

_SMALLEST = float(np.finfo(np.float32).tiny)
"""What a probability of 0 counts as in the logarithm."""


@dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy, in bins of the confidence; of one image or of several together.

    Bin m of M holds the pixels whose confidence, the probability of the predicted class, lies in
    ((m - 1) / M, m / M].

    Attributes
    ----------
    counts : tuple of int
        Pixels in each bin.
    correct : tuple of int
        Those predicted right.
    confidences : tuple of float
        Sum of their confidences.
    log_loss, squared_error : float
        Sums over the pixels: of the negative logarithm (natural) of the true class's probability, and of the
        squared differences between probabilities and the true class, over all classes.
    """

    counts: tuple[int, ...]
    correct: tuple[int, ...]
    confidences: tuple[float, ...]
    log_loss: float
    squared_error: float

    @property
    def pixels(self) -> int:
        """Pixels that count."""
        return sum(self.counts)

    @property
    def error(self) -> float:
        """Expected calibration error, 0 to 1: mean over the pixels of |accuracy - confidence| of their bin.

        0 if no pixel counts.
        """
        gaps = np.abs(np.subtract(self.correct, self.confidences))  # already times the pixels of the bin
        return float(gaps.sum() / max(self.pixels, 1))

    @property
    def nll(self) -> float:
        """Mean negative log likelihood of the true class, in nats; 0 if no pixel counts."""
        return self.log_loss / max(self.pixels, 1)

    @property
    def brier(self) -> float:
        """Brier score, 0 to 2: mean squared error summed over the classes; 0 if no pixel counts."""
        return self.squared_error / max(self.pixels, 1)

    @property
    def curve(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Reliability curve: mean confidence and accuracy of the bins that hold pixels."""
        filled = [place for place, count in enumerate(self.counts) if count]
        return (
            tuple(self.confidences[place] / self.counts[place] for place in filled),
            tuple(self.correct[place] / self.counts[place] for place in filled),
        )


def calibration_error(
    probabilities: Array, truth: Array, *, ignore: int = IGNORE, bins: int = CALIBRATION_BINS
) -> Calibration:
    """Compare the confidence of predictions with how often they are right.

    Parameters
    ----------
    probabilities : ndarray of float, shape (C, ...)
        Probability of each class, 0 to 1, C >= 2. The first of the most probable classes is predicted.
    truth : ndarray of int, shape (...)
        Class indices 0..C - 1.
    ignore : int
        Pixels with this value in `truth` do not count.
    bins : int
        Number of bins of the confidence.

    Returns
    -------
    Calibration
        Its `error` is the expected calibration error. Those of several images add up in `total_calibration`.

    Raises
    ------
    ShapeError
        If the shapes do not fit, or there is but one class.
    DataError
        If a probability lies outside 0..1, or a value of the truth that counts is no class.

    Notes
    -----
    Naeini 2015; Guo 2017, eq. 3. A probability of 0 counts as 1.2e-38 in the log likelihood.

    Examples
    --------
    Of four pixels predicted with 90 %, three are right:

    >>> found = calibration_error(np.array([[0.9] * 4, [0.1] * 4]), np.array([0, 0, 0, 1]))
    >>> round(found.error, 3), found.curve[1]
    (0.15, (0.75,))
    """
    values, classes = _counted(probabilities, truth, ignore)
    confidence, predicted = values.max(0), values.argmax(0)
    likelihood = np.take_along_axis(values, classes[np.newaxis], 0)[0]
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    is_right = predicted == classes
    # (p - 1)^2 of the true class in place of p^2.
    squared = np.einsum("cn,cn->n", values, values) - 2 * likelihood + 1
    return Calibration(
        tuple(np.bincount(place, minlength=bins).tolist()),
        tuple(np.bincount(place[is_right], minlength=bins).tolist()),
        tuple(np.bincount(place, confidence, minlength=bins).tolist()),
        float(-np.log(np.maximum(likelihood, _SMALLEST)).sum()),
        float(squared.sum()),
    )


def total_calibration(parts: Iterable[Calibration]) -> Calibration:
    """Put the pixels of several images together, of at least one; their bins must be equally many."""
    parts = list(parts)
    return Calibration(
        tuple(map(sum, zip(*(part.counts for part in parts), strict=True))),
        tuple(map(sum, zip(*(part.correct for part in parts), strict=True))),
        tuple(map(sum, zip(*(part.confidences for part in parts), strict=True))),
        sum(part.log_loss for part in parts),
        sum(part.squared_error for part in parts),
    )


def _counted(probabilities: Array, truth: Array, ignore: int) -> tuple[NDArray[np.float64], Array]:
    """Probabilities (C, n) and classes (n,) of the pixels that count."""
    if probabilities.shape[1:] != truth.shape or len(probabilities) < 2:
        raise ShapeError(
            f"probabilities of shape {probabilities.shape} do not fit a truth of shape {truth.shape}; "
            "give (classes, ...) with at least two classes, and (...)"
        )
    is_counted = truth != ignore
    classes = truth[is_counted].astype(np.int64)
    values = probabilities[:, is_counted].astype(np.float64)
    if classes.size and not 0 <= classes.min() <= classes.max() < len(values):
        odd = next(value for value in (classes.min(), classes.max()) if not 0 <= value < len(values))
        raise DataError(f"value {odd} in the truth is not one of the classes 0..{len(values) - 1}")
    low, high = float(values.min(initial=1)), float(values.max(initial=0))
    if not (low >= 0 and high <= 1):  # not "low < 0 or high > 1": NaN must not pass
        raise DataError(f"probabilities must lie in 0..1, found {low:g}..{high:g}")
    return values, classes
