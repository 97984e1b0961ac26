"""Whether images have a top and a bottom: then a network may learn which is which.

Cells lie as they like, and turned tiles are as good as others. In a street, the sky is above, and a network
that is shown it below learns neither well. Which it is, is read off the annotations.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ushape.config import IGNORE
from ushape.data import Sample

Array = np.ndarray[Any, Any]

FEWEST_IMAGES = 4
"""Fewer may lie alike by chance."""

LEAST_DIFFERENCE = 0.3
"""Share of the pixels whose class would have to change for the halves to be alike. Streets (CamVid) have
0.86; membranes, cells, nuclei and vessels at most 0.09."""

LEAST_AGREEMENT = 0.8
"""Of the images: how much of the difference of each is left in their mean."""


def has_top(samples: Sequence[Sample]) -> bool:
    """Tell whether the classes above and below differ, in all annotated images alike."""
    differences = np.array([_above_and_below(sample.classes) for sample in samples])
    of_each, of_all = np.abs(differences).sum(1).mean() / 2, np.abs(differences.mean(0)).sum() / 2
    is_alike = of_all >= LEAST_AGREEMENT * of_each
    return bool(len(samples) >= FEWEST_IMAGES and of_all >= LEAST_DIFFERENCE and is_alike)


def _above_and_below(classes: Array) -> Array:
    """Frequencies of the classes in the upper half less those in the lower one; 0 if one has none."""
    middle = len(classes) // 2
    halves = classes[:middle], classes[middle:]
    above, below = (np.bincount(half.ravel(), minlength=256)[:IGNORE] for half in halves)
    if not above.any() or not below.any():
        return np.zeros(IGNORE)
    return above / above.sum() - below / below.sum()  # type: ignore[no-any-return]
