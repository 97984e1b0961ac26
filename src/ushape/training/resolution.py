"""How coarsely a network may look at images: as long as the annotations keep their score.

A network that sees means of 2 x 2 pixels does a quarter of the work per pixel and sees twice as far. What it
cannot do is draw finer than that. Whether this matters is read off the annotations themselves: they are drawn
as coarsely as such a network could at best, enlarged again, and scored against what they were.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from ushape.config import Postprocessing
from ushape.data import Sample
from ushape.training.scores import Kind, counted_objects, score
from ushape.training.spread import evenly, shows_two_classes, telling
from ushape.weight_map import cut_gap

Array = np.ndarray[Any, Any]

TOLERATED = 0.05
"""Loss of score at best, for which more steps and more context make up (docs/log/2026-11-27-half-size.md)."""

MOST_PIXELS = 2_000_000
"""Of the annotations that are looked at; takes about a second."""

FEWEST = 4
"""Images that are looked at, if there are so many: of large ones parts."""


def shrink_for(samples: Sequence[Sample], classes: int, kind: Kind | None = None) -> int:
    """Choose the factor, 1 or 2, by which a network for these annotations may shrink images.

    Parameters
    ----------
    samples : sequence of Sample
        Annotated images.
    classes : int
        Number of classes.
    kind : {"cells", "objects", "areas"}, optional
        See `scores.score`.

    Returns
    -------
    int
        2 if annotations drawn at half the size keep their score but for 0.05: V_rand where cells fill the
        image, the mean of AP over the IoU thresholds where single objects touch, else the mean Dice.
    """
    chosen = _looked_at(samples)
    if not any(map(shows_two_classes, chosen)):
        return 1
    full, half = (_score_at_best(chosen, classes, kind, factor) for factor in (1, 2))
    return 2 if half >= full - TOLERATED else 1


def _looked_at(samples: Sequence[Sample]) -> list[Sample]:
    """Samples, evenly spread: as many as have no more pixels than shall be looked at, or parts of a few."""
    pixels = float(np.mean([sample.objects.size for sample in samples]))
    count = min(max(int(MOST_PIXELS / pixels), FEWEST), len(samples))
    side = int((MOST_PIXELS / count) ** 0.5)
    return [_busiest(sample, side) for sample in telling(samples, partial(evenly, count=count))]


def _busiest(sample: Sample, side: int) -> Sample:
    """Of a large sample the square of so many pixels a side in which the most objects end."""
    objects = sample.objects
    if objects.size <= side**2:
        return sample
    ends = np.zeros(objects.shape, bool)
    ends[1:] = objects[1:] != objects[:-1]
    ends[:, 1:] |= objects[:, 1:] != objects[:, :-1]
    starts = (sorted({*range(0, length - side, side), max(length - side, 0)}) for length in objects.shape)
    places = [(slice(top, top + side), slice(left, left + side)) for top, left in product(*starts)]
    y, x = max(places, key=lambda place: int(ends[place].sum()))
    return replace(sample, image=sample.image[:, y, x], objects=objects[y, x])


def _score_at_best(samples: list[Sample], classes: int, kind: Kind | None, factor: int) -> float:
    drawn = [coarsely_drawn(_taught(sample, classes), classes, factor) for sample in samples]
    reached = score(samples, drawn, Postprocessing(), kind)
    if reached.ap is None or reached.curve is None:
        return reached.score
    return float(np.mean(reached.curve.ys))


def _taught(sample: Sample, classes: int) -> Array:
    """Classes of a sample as a network is taught them, with gaps between touching objects."""
    if classes != 2:
        return sample.classes
    objects = counted_objects(sample)
    return np.where(cut_gap(objects) != objects, 0, sample.classes)


def coarsely_drawn(classes: Array, count: int, factor: int) -> Array:
    """Draw classes in blocks of `factor` pixels, each of its most frequent class; enlarge them bilinearly.

    Parameters
    ----------
    classes : ndarray of uint8, shape (H, W)
        Class of each pixel; values from `count` on are of no class.
    count : int
        Number of classes.
    factor : int
        Size of the blocks; of equally frequent classes the lowest counts, so that gaps stay open.

    Returns
    -------
    ndarray of float32, shape (count, H, W)
        The share of each class, 0 to 1.
    """
    import cv2

    height, width = classes.shape
    padded = np.pad(classes, ((0, -height % factor), (0, -width % factor)), mode="edge")
    is_class = padded == np.arange(count).reshape(-1, 1, 1)
    blocks = is_class.reshape(count, padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    coarse = blocks.sum((2, 4)).argmax(0)
    planes = [(coarse == index).astype(np.float32) for index in range(count)]
    size = padded.shape[::-1]
    return np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in planes])[
        :, :height, :width
    ]
