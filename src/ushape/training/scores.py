"""Which score selects the best model, and how whole validation images are scored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ushape import metrics
from ushape.config import IGNORE, Postprocessing
from ushape.data import Sample
from ushape.instances import instances
from ushape.weight_map import cut_gap

Array = np.ndarray[Any, Any]

Kind = Literal["cells", "objects", "areas"]
"""What is in the images, and so which score is the most telling: V_rand, AP or Dice."""

NAMES = {
    "v_rand": "V_rand",
    "ap": "AP(0.5)",
    "dice": "Dice",
    "iou": "IoU",
    "accuracy": "accuracy",
    "pixel_error": "pixel error",
    "ece": "calibration error",
}
"""Scores as people are shown them, the most telling first."""


class Curve(NamedTuple):
    """A score over the threshold that it depends on."""

    score: str
    threshold: str
    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True)
class Scores:
    """Scores over the whole validation set; `score` is the one that selects the model.

    It is V_rand where objects fill most of the image, as cells in EM do; AP(0.5) where single objects touch,
    as nuclei do; else the mean Dice over the classes that occur. `curve` is that score over its threshold,
    `ece` the expected calibration error and `reliability` the accuracy over the confidence.
    """

    score: float
    accuracy: float
    dice: float
    iou: float
    ece: float
    reliability: Curve
    ap: float | None = None
    v_rand: float | None = None
    pixel_error: float | None = None
    curve: Curve | None = None

    def row(self) -> dict[str, float]:
        """Scores by name, without those that do not apply."""
        return {name: value for name, value in vars(self).items() if isinstance(value, float)}


def kind_of(samples: Sequence[Sample], classes: int) -> Kind:
    """Tell what is in annotated images of so many classes."""
    if classes == 2 and is_dense(samples):
        return "cells"
    if classes == 2 and any(map(has_touching_objects, samples)):
        return "objects"
    return "areas"


@dataclass(frozen=True)
class Part:
    """What one image adds to the scores of a set; probabilities are kept of cells alone.

    Attributes
    ----------
    confusion : ndarray of int, shape (C, C)
    calibration : metrics.Calibration
    matchings : list of metrics.Matching
        At each of `metrics.IOU_THRESHOLDS`, where single objects matter.
    cells : tuple of ndarray, shape (H, W), or None
        P(cell), true cells, and pixels that do not count: the threshold of V_rand is that of all images.
    """

    confusion: Array
    calibration: metrics.Calibration
    matchings: list[metrics.Matching]
    cells: tuple[Array, Array, Array] | None


def part_of(sample: Sample, probabilities: Array, how: Postprocessing, kind: Kind) -> Part:
    """Compare the probabilities (C, H, W) of an image with its annotation, once for all scores."""
    matchings, cells, ignored = [], None, sample.classes == IGNORE
    if kind == "objects":
        matchings = _matchings(sample, probabilities[1], how)
    if kind == "cells":
        # V_rand is defined on a binary truth: cells that touch are cut apart first.
        cells = probabilities[1], cut_gap(counted_objects(sample)) > 0, ignored
    return Part(
        metrics.confusion(probabilities.argmax(0), sample.classes, len(probabilities), ignore=IGNORE),
        metrics.calibration_error(probabilities, sample.classes),
        matchings,
        cells,
    )


def total(parts: Sequence[Part], kind: Kind) -> Scores:
    """Scores of several images together."""
    counts = np.sum([part.confusion for part in parts], axis=0)
    calibration = metrics.total_calibration(part.calibration for part in parts)
    present = counts.sum(0) + counts.sum(1) > 0
    dice, iou = (  # where no pixel counts, none is wrong
        float(np.mean(of(counts)[present])) if present.any() else 1.0 for of in (metrics.dice, metrics.iou)
    )
    overlap: dict[str, Any] = {
        "accuracy": float(metrics.accuracy(counts)),
        "dice": dice,
        "iou": iou,
        "ece": calibration.error,
        "reliability": Curve("accuracy", "confidence", *calibration.curve),
    }
    if kind == "cells":
        return _scores_of_cells(parts, overlap)
    if kind == "objects":
        aps = _average_precisions(part.matchings for part in parts)
        curve = Curve("AP", "IoU threshold", metrics.IOU_THRESHOLDS, aps)
        return Scores(score=aps[0], ap=aps[0], curve=curve, **overlap)
    return Scores(score=dice, **overlap)


def score(
    samples: Sequence[Sample],
    probabilities: Iterable[Array],
    postprocessing: Postprocessing,
    kind: Kind | None = None,
) -> Scores:
    """Score predicted probabilities against annotated images.

    Parameters
    ----------
    samples : sequence of Sample
    probabilities : iterable of ndarray of float, shape (C, H, W)
        Of each of them; gone through once, and not kept.
    postprocessing : Postprocessing
    kind : {"cells", "objects", "areas"}, optional
        Of the data set, where `samples` are but a few of it; by default that of `samples`.
    """
    parts = []
    for sample, likely in zip(samples, probabilities, strict=True):
        kind = kind or kind_of(samples, len(likely))
        parts.append(part_of(sample, likely, postprocessing, kind))
    assert kind is not None
    return total(parts, kind)


def average_precisions(
    samples: Sequence[Sample], foregrounds: Sequence[Array], how: Postprocessing
) -> list[float]:
    """AP at each of `metrics.IOU_THRESHOLDS`, objects of all images together."""
    pairs = zip(samples, foregrounds, strict=True)
    return _average_precisions(_matchings(sample, foreground, how) for sample, foreground in pairs)


def _matchings(sample: Sample, foreground: Array, how: Postprocessing) -> list[metrics.Matching]:
    found = instances(foreground, how) * (sample.classes != IGNORE)
    return list(metrics.matchings(found, counted_objects(sample)))


def _average_precisions(by_image: Iterable[list[metrics.Matching]]) -> list[float]:
    return [metrics.total(same).average_precision for same in zip(*by_image, strict=True)]


def is_dense(samples: Sequence[Sample]) -> bool:
    """Whether objects fill most of the pixels that count, and background is what separates them."""
    counts = np.sum([np.bincount(sample.classes.ravel(), minlength=256) for sample in samples], axis=0)
    return bool(counts[1] > counts[:IGNORE].sum() / 2)


def has_touching_objects(sample: Sample) -> bool:
    """Whether two objects of a sample touch: then its objects matter one by one."""
    objects = counted_objects(sample)
    return bool((cut_gap(objects) != objects).any())


def _scores_of_cells(parts: Sequence[Part], overlap: dict[str, Any]) -> Scores:
    cells, truth, ignored = zip(*(part.cells for part in parts if part.cells), strict=True)
    v_rand = metrics.v_rand(cells, truth, ignored=ignored)
    curve = Curve("V_rand", "threshold of the probability", metrics.THRESHOLDS, v_rand.by_threshold)
    pixel_error = metrics.pixel_error(cells, truth, ignored=ignored).score
    return Scores(score=v_rand.score, v_rand=v_rand.score, pixel_error=pixel_error, curve=curve, **overlap)


def counted_objects(sample: Sample) -> Array:
    """Object ids (H, W) of a sample, 0 where pixels do not count."""
    return np.where(sample.classes == IGNORE, 0, sample.objects)
