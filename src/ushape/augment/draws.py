"""Random numbers that depend on what they are for, not on when they are drawn."""

import numpy as np

from ushape.errors import ConfigError


def generator(seed: int, sample: int, stream: int = 0) -> np.random.Generator:
    """Make the random generator of one sample: the same numbers wherever and whenever it is drawn.

    Parameters
    ----------
    seed, sample, stream : int
        Seed of the run, global number of the sample in the run, and number of an independent stream of the
        same sample (for example for dropout); each at least 0 and below 2**64.

    Returns
    -------
    numpy.random.Generator
        Philox keyed by (seed, sample), its counter starting in a range of its own for each stream.

    Raises
    ------
    ConfigError
        If a number is out of its range.

    Examples
    --------
    >>> generator(1, 7).integers(1000, size=3)
    array([167, 921, 722])
    """
    for name, value in {"seed": seed, "sample": sample, "stream": stream}.items():
        if not 0 <= value < 2**64:
            raise ConfigError(f"{name} must be at least 0 and below 2**64, got {value}")
    key = np.array([seed, sample], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, stream], np.uint64)))
