"""What is fitted to a trained network at the end: calibration and, so calibrated, how objects are found."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ushape.config import Postprocessing
from ushape.data import Sample
from ushape.training import calibration
from ushape.training.scores import Kind
from ushape.training.tuning import tune

Array = np.ndarray[Any, Any]


def fitted(
    samples: Sequence[Sample],
    uncalibrated: Iterable[Array],
    kind: Kind,
    start: Postprocessing,
    balance: Array | None = None,
    is_late: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Fit what suits annotated images.

    Parameters
    ----------
    samples : sequence of Sample
    uncalibrated : iterable of ndarray of float, shape (C, H, W)
        What the network says about each of them; gone through once.
    kind : {"cells", "objects", "areas"}
        What is in the images; how areas are found is not tuned.
    start, is_late
        See `tuning.tune`.
    balance : ndarray of float, shape (C,), optional
        See `calibration.fit`.

    Returns
    -------
    dict
        Fields of a `ModelHeader`.
    """
    if kind == "areas":  # of many classes, all images at once would be too much
        return calibration.fit(samples, uncalibrated, balance)._asdict() | {"postprocessing": start}
    probabilities = list(uncalibrated)
    found = calibration.fit(samples, probabilities)
    foregrounds = [calibration.calibrated(one, found)[1] for one in probabilities]
    return found._asdict() | {"postprocessing": tune(samples, foregrounds, start, is_late)}
