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
from ushape.predict.budget import require_memory
from ushape.predict.resampling import Window

Array = np.ndarray[Any, Any]

LARGEST_PICTURE = 2048
"""Longer side of a picture of the whole image, in pixels, at most."""
_BYTES_FOR_OUTLINE = 32
"""Memory that an outline takes per pixel of what is read for it: ids twice, parts three times, and marks."""


def outlines_of(
    plan: BlockPlan,
    folder: Path,
    table: dict[str, Array],
    classes: tuple[ClassInfo, ...],
    max_memory: int | None,
) -> Iterator[dict[str, Any]]:
    """Give the objects as features of GeoJSON, block by block: by where their boxes begin.

    Raises
    ------
    ConfigError
        If the box of an object is too large for the memory; before any outline is made.
    """
    ids, is_far = open_levels(folder / "instances")[0], _reaches_far(plan, table)
    _require_room({name: values[is_far] for name, values in table.items()}, max_memory)
    for plane in range(plan.planes):
        for window in plan.windows:
            rows = _begin_in(window, table, plane if plan.is_stack else None)
            near, far = rows[~is_far[rows]], rows[is_far[rows]]
            for group in filter(len, (near, *far[:, np.newaxis])):
                yield from _features_of(plan, ids, {k: v[group] for k, v in table.items()}, plane, classes)


def _reaches_far(plan: BlockPlan, table: dict[str, Array]) -> Array:
    """Whether the box of each object ends beyond the block after its own; then it is read alone."""
    height, width = plan.block
    is_low = table["bottom"] > (table["top"] // height + 2) * height
    is_far: Array = is_low | (table["right"] > (table["left"] // width + 2) * width)
    return is_far


def _require_room(alone: dict[str, Array], max_memory: int | None) -> None:
    """Refuse objects, each of which is read in one piece, if the box of the largest does not fit."""
    if not len(alone["id"]):
        return
    heights, widths = alone["bottom"] - alone["top"], alone["right"] - alone["left"]
    largest = int(np.argmax(heights * widths))
    height, width = int(heights[largest]), int(widths[largest])
    top, left = int(alone["top"][largest]), int(alone["left"][largest])
    require_memory(
        _BYTES_FOR_OUTLINE * height * width,
        max_memory,
        f"the object at row {top}, column {left} reaches over {height} x {width} px: --outlines",
        "leave out --outlines",
    )


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
