"""What a person looks at of a large image: outlines of its objects, and all of it made small."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ushape import pictures
from ushape.config import ClassInfo, ModelHeader
from ushape.instances import features
from ushape.io import LargeImage, open_levels
from ushape.predict.blocks import BlockPlan
from ushape.predict.resampling import Window

Array = np.ndarray[Any, Any]

LARGEST_PICTURE = 2048
"""Longer side of a picture of the whole image, in pixels, at most."""


def outlines_of(
    plan: BlockPlan, folder: Path, table: dict[str, Array], classes: tuple[ClassInfo, ...]
) -> Iterator[dict[str, Any]]:
    """Give the objects as features of GeoJSON, block by block: by where their boxes begin."""
    ids = open_levels(folder / "instances")[0]
    for plane in range(plan.planes):
        for window in plan.windows:
            rows = _begin_in(window, table, plane if plan.is_stack else None)
            # Boxes that end soon after the block are read with it, larger ones alone.
            soon = (table["bottom"][rows] <= window[0].stop + plan.block[0]) & (
                table["right"][rows] <= window[1].stop + plan.block[1]
            )
            for group in ([rows[soon]] if soon.any() else []) + [
                rows[i : i + 1] for i in np.flatnonzero(~soon)
            ]:
                yield from _features_of(plan, ids, {k: v[group] for k, v in table.items()}, plane, classes)


def _begin_in(window: Window, table: dict[str, Array], plane: int | None) -> Array:
    """Rows of the objects whose box begins in a window."""
    here = np.ones(len(table["id"]), bool) if plane is None else table["plane"] == plane
    for side, inside in zip(("top", "left"), window, strict=True):
        here &= (table[side] >= inside.start) & (table[side] < inside.stop)
    return np.flatnonzero(here)


def _features_of(
    plan: BlockPlan, ids: Any, objects: dict[str, Array], plane: int, classes: tuple[ClassInfo, ...]
) -> Iterator[dict[str, Any]]:
    top, left = int(objects["top"].min()), int(objects["left"].min())
    bottom, right = int(objects["bottom"].max()), int(objects["right"].max())
    window = plan.read(ids, plane, (slice(top, bottom), slice(left, right)))
    alone = np.where(np.isin(window, objects["id"]), window, 0)
    shown = plane if plan.is_stack else None
    yield from features(alone, objects, classes, plane=shown, origin=(top, left))


def picture_step(plan: BlockPlan) -> int:
    """How many pixels of the image lie between two of its picture, along each axis."""
    return -(-max(plan.height, plan.width) // LARGEST_PICTURE)


def picture_of(
    plan: BlockPlan, folder: Path, image: LargeImage, header: ModelHeader, *, objects: bool
) -> Array:
    """Draw the result on every n-th pixel of the middle plane: outlines of objects, or class colours.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)
        The longer side at most `LARGEST_PICTURE`.
    """
    plane, step = plan.planes // 2, picture_step(plan)
    found = open_levels(folder / ("instances" if objects else "classes"))[0]
    size = -(-plan.height // step), -(-plan.width // step)
    grey = np.empty((image.size.channels, *size), image.size.dtype)
    results = np.empty(size, found.dtype)
    for window in plan.windows:
        rows, columns = (slice(-(-side.start // step), -(-side.stop // step)) for side in window)
        top, left = rows.start * step - window[0].start, columns.start * step - window[1].start
        read = image.read(plane, window[0].start, window[0].stop, window[1].start, window[1].stop)
        grey[:, rows, columns] = read[:, top::step, left::step]
        results[rows, columns] = plan.read(found, plane, window)[top::step, left::step]
    picture = pictures.display(grey)
    if objects:
        return pictures.draw_outlines(picture, results)
    return pictures.blend(picture, results, [info.color for info in header.classes])
