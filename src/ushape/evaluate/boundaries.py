"""Scores of the boundaries of classes, at a tolerance in pixels or micrometres."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from ushape import metrics
from ushape.config import PixelSize, parse_pixel_size
from ushape.errors import ConfigError, DataError
from ushape.evaluate.planes import Plane
from ushape.evaluate.scored import Row, Scored, mean_over
from ushape.evaluate.views import Views
from ushape.io import read_image

_EMPTY = {
    "boundary_f1": "0",
    "nsd": "0",
    "hd95": "the diagonal of the image",
}
"""What an image scores where only one of prediction and truth has the class."""


@dataclass(frozen=True)
class Tolerance:
    """How far apart two boundaries may be.

    Attributes
    ----------
    length : float
        In the unit.
    unit : {"px", "um"}
        Unit of all distances.
    pixel_size_um : tuple of float, or None
        Height and width of a pixel for all files; None: as each file says.
    """

    length: float = 2.0
    unit: Literal["px", "um"] = "px"
    pixel_size_um: PixelSize | None = None

    def spacing(self, plane: Plane) -> PixelSize:
        """Height and width of a pixel, in the unit.

        Raises
        ------
        DataError
            If it has to be known in micrometres and no file says it.
        """
        if self.unit == "px":
            return 1.0, 1.0
        size = self.pixel_size_um or _stored(plane.pair.prediction) or _stored(plane.pair.truth)
        if size is None:
            raise DataError(
                f"a tolerance in um needs a pixel size, but neither {plane.pair.prediction} nor "
                f"{plane.pair.truth} has one; give --pixel-size, in um"
            )
        return size


def parse_tolerance(tolerance: float | str | None, pixel_size: float | str | PixelSize | None) -> Tolerance:
    """Read the options `--tolerance` (2, 2px, 1um) and `--pixel-size` (0.5, or height,width).

    Raises
    ------
    ConfigError
        If they are anything else, or the pixel size would not be used.
    """
    match = re.fullmatch(r"(\d*\.?\d+)\s*(px|um)?", str(2 if tolerance is None else tolerance).strip())
    if match is None:
        raise ConfigError(f"--tolerance {tolerance} is no length; give pixels such as 2, or micrometres: 1um")
    unit: Literal["px", "um"] = "um" if match[2] == "um" else "px"
    if pixel_size is not None and unit == "px":
        raise ConfigError("--pixel-size is used with a tolerance in micrometres; give one: --tolerance 1um")
    return Tolerance(float(match[1]), unit, None if pixel_size is None else parse_pixel_size(pixel_size))


def boundary_scores(planes: Sequence[Plane], views: Views, tolerance: Tolerance) -> Scored:
    """Boundary F1, NSD and HD95 of each image, and their means over the images."""
    classes = [1] if views.coding.classes == 2 else list(range(views.coding.classes))
    images = [_distances(plane, views, tolerance, classes) for plane in planes]
    rows = [_row(*image, tolerance) for image in images]
    scores = {name: float(np.mean([row[name] for row, _ in rows])) for name in _EMPTY}
    counts = {
        name: {
            "tolerance": tolerance.length,
            "unit": tolerance.unit,
            "images": len(planes),
            "per_class": np.mean([numbers[name]["per_class"] for _, numbers in rows], axis=0).tolist(),
            "in_one_only": sum(numbers[name]["in_one_only"] for _, numbers in rows),
        }
        for name in _EMPTY
    }
    return Scored(
        scores,
        counts,
        dict.fromkeys(scores, mean_over(len(planes))),
        [row for row, _ in rows],
        [numbers for _, numbers in rows],
        _conventions(tolerance, len(classes)),
    )


def _distances(
    plane: Plane, views: Views, tolerance: Tolerance, classes: Sequence[int]
) -> tuple[list[metrics.BoundaryDistances], float]:
    """Distances of the boundaries of each class, and the diagonal of the image."""
    pred, true = views.classes(plane)
    spacing = tolerance.spacing(plane)
    diagonal = math.hypot(*(pixels * size for pixels, size in zip(true.shape, spacing, strict=True)))
    return [metrics.boundary_distances(pred == index, true == index, spacing) for index in classes], diagonal


def _row(found: Sequence[metrics.BoundaryDistances], diagonal: float, tolerance: Tolerance) -> Row:
    pixels = [distances.pixels.within(tolerance.length) for distances in found]
    contours = [distances.contour.within(tolerance.length) for distances in found]
    hd95 = [distances.hd95 for distances in found]
    per_class = {
        "boundary_f1": [overlap.f1 for overlap in pixels],
        "nsd": [overlap.nsd for overlap in contours],
        "hd95": [min(distance, diagonal) for distance in hd95],
    }
    one_only = sum(math.isinf(distance) for distance in hd95)
    counts = {name: {"per_class": values, "in_one_only": one_only} for name, values in per_class.items()}
    counts["boundary_f1"] |= {"boundaries": [_lengths(overlap) for overlap in pixels]}
    counts["nsd"] |= {"boundaries": [_lengths(overlap) for overlap in contours]}
    return {name: float(np.mean(values)) for name, values in per_class.items()}, counts


def _lengths(overlap: metrics.BoundaryOverlap) -> dict[str, float]:
    names = ("precision", "recall", "pred_within", "pred_length", "true_within", "true_length")
    return {name: getattr(overlap, name) for name in names}


def _conventions(tolerance: Tolerance, classes: int) -> tuple[str, ...]:
    which = "of class 1" if classes == 1 else f"mean over the {classes} classes"
    one_only = ", ".join(f"{name} {value}" for name, value in _EMPTY.items())
    return (
        f"boundary_f1, nsd, hd95: {which}, mean over images; tolerance {tolerance.length:g} "
        f"{tolerance.unit}, hd95 in {tolerance.unit}; boundary_f1 and hd95 by edge pixels as MONAI, nsd by "
        "length of contour as surface-distance",
        "a class that is in neither truth nor prediction: boundary_f1 and nsd 1, hd95 0; in one only: "
        f"{one_only}",
    )


@lru_cache(maxsize=8)  # a stack asks once per plane
def _stored(path: Path) -> PixelSize | None:
    return read_image(path).pixel_size_um
