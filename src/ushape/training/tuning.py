"""Post-processing that finds the objects of the training images best, chosen at the end of a run.

The validation images have no say: the scores reported for them stay those of images that nothing was fitted
to. The training images have; they are seen as they are, never as the deformed tiles that were trained on.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from ushape.config import ModelHeader, Postprocessing
from ushape.data import Sample
from ushape.training.scores import Kind, average_precisions, counted_objects
from ushape.training.spread import evenly, telling

Array = np.ndarray[Any, Any]
Change = dict[str, Any]

MOST_PIXELS = 12_000_000
"""Of the images that are tuned on."""

_WORTH = 0.002
"""Gain in quality below which the simpler processing is kept."""

_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_SPLITS: tuple[Change, ...] = (
    {"split": "none"},
    *({"split": "probability", "seed_threshold": threshold} for threshold in (0.8, 0.9, 0.95)),
    *({"split": "distance", "seed_depth_px": depth} for depth in (0.75, 1.5, 2.5)),
)
_AREAS = (0, 0.5, 1.5, 2)
"""Multiples of `speck_area`: more would drop true objects."""


def speck_area(samples: Sequence[Sample]) -> int:
    """Area in pixels below which one true object in a hundred lies; 0 if there is none.

    Fewer than a hundred cannot tell: half the area of the smallest.
    """
    areas = _areas(samples)
    if areas.size >= 100:
        return int(np.quantile(areas, 0.01))
    return int(areas.min() // 2) if areas.size else 0


def untuned(samples: Sequence[Sample], kind: Kind) -> Postprocessing:
    """How objects are found before anything is tuned: specks are dropped where single objects matter."""
    return Postprocessing(min_area=0 if kind == "areas" else speck_area(samples))


def object_diameter(samples: Sequence[Sample]) -> float | None:
    """Diameter in pixels of the circle of an object's area, median over the true objects, to a tenth.

    None if there is none.
    """
    areas = _areas(samples)
    return round(float(np.median(np.sqrt(4 / np.pi * areas))), 1) if areas.size else None


def objects_in_words(header: ModelHeader, images: str) -> str:
    """Say, in one line, how objects are found, and whether `images` decided it."""
    how, classes = header.postprocessing.in_words(), len(header.classes)
    if header.object_diameter_px is not None:
        return f"objects, tuned on {images}: {how}"
    why = "in the annotations none touch" if classes == 2 else f"of {classes} classes"
    return f"objects, not tuned ({why}): {how}; `ushape predict` has options for it"


def _areas(samples: Sequence[Sample]) -> Array:
    """Pixels of each true object."""
    areas = np.concatenate([np.bincount(counted_objects(sample).ravel())[1:] for sample in samples])
    return areas[areas > 0]


def tuning_set(samples: Sequence[Sample], held_out: Sequence[Sample]) -> list[Sample]:
    """Choose training images to tune on: evenly spread, at least one, as many pixels as are held out.

    One of them shows an object, if any training image does.
    Some tenths of a second per megapixel and candidate, twenty of them: that takes about two validations.
    """
    most_pixels = min(MOST_PIXELS, sum(sample.objects.size for sample in held_out))
    return telling(samples, partial(_that_fit, most_pixels=most_pixels))


def _that_fit(samples: Sequence[Sample], most_pixels: int) -> list[Sample]:
    most = most_pixels // min(sample.objects.size for sample in samples)
    for count in range(min(len(samples), most), 1, -1):
        chosen = evenly(samples, count)
        if sum(sample.objects.size for sample in chosen) <= most_pixels:
            return chosen
    return evenly(samples, 1)


def tune(
    samples: Sequence[Sample],
    foregrounds: Sequence[Array],
    start: Postprocessing,
    is_late: Callable[[], bool] = lambda: False,
) -> Postprocessing:
    """Choose threshold, holes, split and smallest area, one after the other, and the threshold once more.

    Parameters
    ----------
    samples : sequence of Sample
        Annotated images of background and one class of objects.
    foregrounds : sequence of ndarray of float, shape (H, W)
        Their predicted probabilities of the objects.
    start : Postprocessing
        What is not tuned stays as it is here; its smallest area is that of `speck_area`.
    is_late : callable
        Whether time is up: then the best so far is returned.

    Returns
    -------
    Postprocessing
        Best in `quality`; of nearly equal ones the first.
    """
    best, best_quality = start, quality(samples, foregrounds, start)
    for choices in _rounds(start):
        base = best
        for change in choices:
            candidate = base.model_copy(update=change)
            if candidate in (best, base):
                continue
            if is_late():
                return best
            reached = quality(samples, foregrounds, candidate)
            if reached > best_quality + _WORTH:
                best, best_quality = candidate, reached
    return best


def quality(samples: Sequence[Sample], foregrounds: Sequence[Array], how: Postprocessing) -> float:
    """Mean over the IoU thresholds 0.5, 0.55 ... 0.95 of AP, objects of all images together; 0 to 1."""
    return float(np.mean(average_precisions(samples, foregrounds, how)))


def _rounds(start: Postprocessing) -> Iterator[Sequence[Change]]:
    thresholds = [{"threshold": threshold} for threshold in _THRESHOLDS]
    holes = [{"fill_holes": True}, {"fill_holes": False}]  # a hole makes a ridge of the distance: two seeds
    yield thresholds
    yield _SPLITS
    yield holes
    yield _SPLITS
    yield thresholds
    yield [{"min_area": int(start.min_area * factor)} for factor in _AREAS]
