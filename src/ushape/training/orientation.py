"""Whether images have a top and a bottom: then a network may learn which is which.

Cells lie as they like, and turned tiles are as good as others. In a street, the sky is above, and a network
that is shown it below learns neither well. Which it is, is read off the annotations.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ushape.config import IGNORE
from ushape.data import Sample

Array = np.ndarray[Any, Any]

FEWEST_IMAGES = 4
"""Fewer may lie alike by chance. The frames of a film and the planes of a stack count as one image: what lies
above in one of them does in all."""

LEAST_DIFFERENCE = 0.3
"""Share of the pixels whose class would have to change for the halves to be alike. Streets (CamVid) have
0.86; membranes, cells, nuclei and vessels at most 0.09."""

LEAST_AGREEMENT = 0.8
"""Of the images: how much of the difference of each is left in their mean."""


def has_top(samples: Sequence[Sample]) -> bool:
    """Tell whether the classes above and below differ, in all annotated images alike."""
    of_source: dict[str, list[Array]] = {}
    for sample in samples:
        of_source.setdefault(_source(sample.name), []).append(_above_and_below(sample.classes))
    differences = np.array([np.mean(group, axis=0) for group in of_source.values()])
    of_each, of_all = np.abs(differences).sum(1).mean() / 2, np.abs(differences.mean(0)).sum() / 2
    is_alike = of_all >= LEAST_AGREEMENT * of_each
    return bool(len(differences) >= FEWEST_IMAGES and of_all >= LEAST_DIFFERENCE and is_alike)


def _source(name: str) -> str:
    """Name of an image without the number of its frame (as the Cell Tracking Challenge has it) or plane."""
    return re.sub(r"(_t\d{3,})?(\[\d+\])?$", "", name)


def _above_and_below(classes: Array) -> Array:
    """Frequencies of the classes in the upper half less those in the lower one; 0 if one has none."""
    middle = len(classes) // 2
    halves = classes[:middle], classes[middle:]
    above, below = (np.bincount(half.ravel(), minlength=256)[:IGNORE] for half in halves)
    if not above.any() or not below.any():
        return np.zeros(IGNORE)
    return above / above.sum() - below / below.sum()  # type: ignore[no-any-return]
