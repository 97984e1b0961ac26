"""Which labels of a plane touch which, as pairs, each once."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def straight(labels: Array) -> Array:
    """Pairs of different labels, >= 0, that share an edge; see `unique`."""
    return _pairs((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1]))


def diagonal(labels: Array) -> Array:
    """Pairs of different labels, >= 0, that share a corner; see `unique`."""
    return _pairs((labels[1:, 1:], labels[:-1, :-1]), (labels[1:, :-1], labels[:-1, 1:]))


def unique(*pairs: Array) -> Array:
    """The same pairs, (2, n), each once, smaller number first; numbers are below 2 ** 31."""
    together = np.concatenate(pairs, 1)
    keys = np.unique(together.min(0) << 32 | together.max(0))
    return np.stack([keys >> 32, keys & 0xFFFFFFFF])


def _pairs(*shifted: tuple[Array, Array]) -> Array:
    found = []
    for one, other in shifted:
        differs = (one != other) & (one >= 0) & (other >= 0)
        found.append(np.stack([one[differs], other[differs]]))
    return unique(*found)
