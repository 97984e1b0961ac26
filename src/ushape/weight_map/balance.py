"""Weights of the classes, w_c of Ronneberger 2015, section 3."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ushape.errors import ConfigError

Array = npt.NDArray[Any]


def class_balance(class_counts: Array, *, power: float = 1.0) -> Array:
    """Weights w_c that balance the frequencies of the classes.

    Parameters
    ----------
    class_counts : ndarray of int, shape (K,)
        Pixels of each class in the training set, ignored ones left out.
    power : float
        1: all classes weigh the same in sum; 0: all pixels weigh the same; between: a compromise.

    Returns
    -------
    ndarray of float32, shape (K,)
        Proportional to frequency ** -power; the mean over all pixels is 1. A class that never occurs has 1.

    Raises
    ------
    ConfigError
        If nothing was counted.

    Notes
    -----
    Ronneberger 2015 names w_c without a formula: this one is our choice.

    Examples
    --------
    >>> class_balance(np.array([750, 250]))
    array([0.6666667, 2.       ], dtype=float32)
    """
    counts = np.asarray(class_counts, np.float64)
    if counts.sum() <= 0:
        raise ConfigError("no pixel has a class: the class balance cannot be computed")
    frequency = counts / counts.sum()
    present = frequency > 0
    balance = np.ones(len(counts))
    balance[present] = frequency[present] ** -power
    balance[present] /= (frequency * balance)[present].sum()
    return balance.astype(np.float32)
