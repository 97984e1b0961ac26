"""A few of many annotated images, where not all can be looked at."""

from collections.abc import Callable, Sequence

import numpy as np

from ushape.config import IGNORE
from ushape.data import Sample


def evenly(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Take `count` samples, at least one, spread evenly over their order; the middle one of all alone."""
    if count < 2:
        return [samples[len(samples) // 2]]
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return [samples[place] for place in places]


def telling(samples: Sequence[Sample], choose: Callable[[Sequence[Sample]], list[Sample]]) -> list[Sample]:
    """What `choose` takes of all samples; of those with two classes alone if it takes none of them.

    An image that shows nothing is a fair sample of many, but alone it says nothing about what objects are.
    """
    chosen = choose(samples)
    if any(map(shows_two_classes, chosen)):
        return chosen
    some = [sample for sample in samples if shows_two_classes(sample)]
    return choose(some) if some else chosen


def shows_two_classes(sample: Sample) -> bool:
    """Whether pixels of two classes or more count."""
    counts = np.bincount(sample.classes.ravel(), minlength=256)[:IGNORE]
    return int(np.count_nonzero(counts)) > 1
