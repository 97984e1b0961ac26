"""Objects of a large image: numbered over its blocks, written and measured, with one block in memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ushape.config import Postprocessing
from ushape.instances import Numbering, Regions, merged, sums_of, table_of
from ushape.io import LargeImage, open_levels
from ushape.predict.blocks import BlockPlan, with_surroundings
from ushape.predict.budget import require_memory
from ushape.predict.large_splitting import PartedPlanes
from ushape.predict.resampling import Window

Array = np.ndarray[Any, Any]
_BYTES_PER_REGION = 300
"""Memory that numbering takes per region: what is known of it, its neighbours, and copies of both."""
_LITTLE = 50e6
"""Bytes that are taken in any case: what is free is not known better."""
_PERIMETER_SEES = 2
"""Pixels beyond a block that the perimeter of an object depends on."""


def find_objects(
    plan: BlockPlan, folder: Path, image: LargeImage, how: Postprocessing, max_memory: int | None
) -> dict[str, Array]:
    """Number the objects of all planes, write their ids into `folder`, and measure them.

    Parameters
    ----------
    plan : BlockPlan
    folder : Path
        Where blocks wrote which kind of object each pixel belongs to.
    image : LargeImage
        For its grey values.
    how : Postprocessing
    max_memory : int, optional
        See `PartedPlanes`.

    Returns
    -------
    dict of ndarray
        The table, as `Segmentation.objects` gives it for an image in memory.

    Raises
    ------
    ConfigError
        If there are more pieces, or larger ones to be parted, than memory is left for.
    """
    labels = open_levels(folder / "kinds")[0]
    if how.split == "none":
        gathered = (_gathered(plan, plane, labels, how, max_memory) for plane in range(plan.planes))
        numberings = [regions.numbered() for regions in gathered]
    else:
        parted = PartedPlanes(plan, folder, how, max_memory)
        numberings = [_parted(plan, plane, labels, how, parted, max_memory) for plane in range(plan.planes)]
        labels = parted.labels
    number = sum(one.number for one in numberings)
    ids = plan.create(folder / "instances", np.uint16 if number < 2**16 else np.uint32, {})
    before, tables = 0, []
    for plane, numbering in enumerate(numberings):
        _write_ids(plan, plane, labels, numbering, before, ids)
        tables.append(_measured(plan, plane, ids, numbering, image))
        before += numbering.number
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _gathered(
    plan: BlockPlan, plane: int, labels: Any, how: Postprocessing, max_memory: int | None
) -> Regions:
    regions = Regions(plan.height, plan.width, how, plan.asked.pixel_size_um)
    for window in plan.windows:
        regions.add(plan.read(labels, plane, window), window[0].start, window[1].start)
        _require_room(regions, window, max_memory)
    return regions


def _require_room(regions: Regions, window: Window, max_memory: int | None) -> None:
    """Refuse to number what is noise: more pieces than the memory that is left holds."""
    bottom = window[0].stop
    require_memory(
        _BYTES_PER_REGION * regions.count * regions.height / bottom,
        max_memory,
        f"down to row {bottom} there are {regions.count} pieces of objects and background, as in noise: "
        "numbering all",
        "another --threshold",
        in_any_case=_LITTLE,
    )


def _parted(
    plan: BlockPlan,
    plane: int,
    kinds: Any,
    how: Postprocessing,
    parted: PartedPlanes,
    max_memory: int | None,
) -> Numbering:
    """Number the parts of the components of a plane, in the order of `ushape.instances.instances`."""
    whole = Postprocessing(connectivity=how.connectivity, fill_holes=how.fill_holes)
    classes = parted.part(plane, kinds, _gathered(plan, plane, kinds, whole, max_memory).numbered())
    numbering = _gathered(plan, plane, parted.labels, how, max_memory).numbered(of_parts=True)
    return replace(numbering, classes=classes[numbering.classes])


def _write_ids(plan: BlockPlan, plane: int, labels: Any, numbering: Numbering, before: int, ids: Any) -> None:
    """Write the ids of a plane, numbered on from the planes before."""
    for number, window in enumerate(plan.windows):
        found = numbering.ids(number, plan.read(labels, plane, window)).astype(np.int64)
        plan.write(ids, plane, window, np.where(found > 0, found + before, 0).astype(ids.dtype))


def _measured(
    plan: BlockPlan, plane: int, ids: Any, numbering: Numbering, image: LargeImage
) -> dict[str, Array]:
    """Measure the objects of a plane: sums over blocks, and what follows from them."""
    sums = []
    for window in plan.windows:
        seen, inside = with_surroundings(window, (plan.height, plan.width), _PERIMETER_SEES)
        rows, columns = window
        grey = image.read(plane, rows.start, rows.stop, columns.start, columns.stop)
        origin = rows.start, columns.start
        sums.append(sums_of(plan.read(ids, plane, seen), image=grey, inside=inside, origin=origin))
    table = merged(sums)
    table["class"] = numbering.classes
    table = table_of(table, plan.asked.pixel_size_um)
    if plan.is_stack:
        table["plane"] = np.full(len(table["id"]), plane)
    return table
