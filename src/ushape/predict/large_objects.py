"""Objects of a large image: numbered over its blocks, written and measured, with one block in memory."""

from pathlib import Path
from typing import Any

import numpy as np

from ushape.config import Postprocessing
from ushape.instances import Numbering, Regions, merged, sums_of, table_of
from ushape.io import LargeImage, create_store, open_levels
from ushape.predict.blocks import BlockPlan

Array = np.ndarray[Any, Any]
_PERIMETER_SEES = 2
"""Pixels beyond a block that the perimeter of an object depends on."""


def find_objects(plan: BlockPlan, folder: Path, image: LargeImage, how: Postprocessing) -> dict[str, Array]:
    """Number the objects of all planes, write their ids into `folder`, and measure them.

    Parameters
    ----------
    plan : BlockPlan
    folder : Path
        Where blocks wrote which kind of object each pixel belongs to.
    image : LargeImage
        For its grey values.
    how : Postprocessing

    Returns
    -------
    dict of ndarray
        The table, as `Segmentation.objects` gives it for an image in memory.
    """
    kinds = open_levels(folder / "kinds")[0]
    numberings = [_numbering(plan, plane, kinds, how) for plane in range(plan.planes)]
    ids = _create_ids(plan, folder, sum(one.number for one in numberings))
    before, tables = 0, []
    for plane, numbering in enumerate(numberings):
        _write_ids(plan, plane, kinds, numbering, before, ids)
        tables.append(_measured(plan, plane, ids, numbering, image))
        before += numbering.number
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _numbering(plan: BlockPlan, plane: int, kinds: Any, how: Postprocessing) -> Numbering:
    regions = Regions(plan.height, plan.width, how, plan.pixel_size_um)
    for window in plan.windows:
        regions.add(plan.read(kinds, plane, window), window[0].start, window[1].start)
    return regions.numbered()


def _create_ids(plan: BlockPlan, folder: Path, number: int) -> Any:
    return create_store(
        folder / "instances",
        "ZYX" if plan.is_stack else "YX",
        plan.shape,
        np.uint16 if number < 2**16 else np.uint32,
        (1,) * plan.is_stack + plan.chunk,
        version=plan.version,
        pixel_size_um=plan.pixel_size_um,
        colors={},
    )[0]


def _write_ids(plan: BlockPlan, plane: int, kinds: Any, numbering: Numbering, before: int, ids: Any) -> None:
    """Write the ids of a plane, numbered on from the planes before."""
    for number, window in enumerate(plan.windows):
        found = numbering.ids(number, plan.read(kinds, plane, window)).astype(np.int64)
        place = plan.inside(plane, window)
        found = np.where(found > 0, found + before, 0).astype(ids.dtype)
        ids[place] = found.reshape([side.stop - side.start for side in place])


def _measured(
    plan: BlockPlan, plane: int, ids: Any, numbering: Numbering, image: LargeImage
) -> dict[str, Array]:
    """Measure the objects of a plane: sums over blocks, and what follows from them."""
    sums = []
    for rows, columns in plan.windows:
        seen, inside = zip(_seen(rows, plan.height), _seen(columns, plan.width), strict=True)
        grey = image.read(plane, rows.start, rows.stop, columns.start, columns.stop)
        origin = rows.start, columns.start
        sums.append(sums_of(plan.read(ids, plane, seen), image=grey, inside=inside, origin=origin))
    table = merged(sums)
    table["class"] = numbering.classes
    table = table_of(table, plan.pixel_size_um)
    if plan.is_stack:
        table["plane"] = np.full(len(table["id"]), plane)
    return table


def _seen(side: slice, length: int) -> tuple[slice, slice]:
    """What must be looked at to measure one side of a block, and where in it the block lies."""
    seen = slice(max(side.start - _PERIMETER_SEES, 0), min(side.stop + _PERIMETER_SEES, length))
    return seen, slice(side.start - seen.start, side.stop - seen.start)
