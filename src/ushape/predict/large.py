"""An image larger than memory, from file to files: blocks, then objects and lower resolutions, then names.

Everything is written into a hidden folder beside the results, `.a.unfinished`, and renamed when it is whole.
Whatever ends the run, the same command goes on with the blocks that are missing.
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ushape.backends import Precision, resident_memory
from ushape.config import ModelHeader, Postprocessing
from ushape.errors import ConfigError
from ushape.instances import Regions, merged, require_applicable, sums_of, table_of
from ushape.io import (
    LargeImage,
    create_store,
    fill_levels,
    open_levels,
    write_csv,
    write_json,
    write_tiles,
)
from ushape.predict.blocks import (
    BlockPlan,
    compute_block,
    create_results,
    done_blocks,
    loaded,
    plan_blocks,
    total_areas,
)
from ushape.predict.record import class_areas, notes_on_pixels, object_rows, speed, warnings_of
from ushape.predict.segmentation import require_channels
from ushape.predict.targets import Targets, unfinished

Array = np.ndarray[Any, Any]
_PERIMETER_SEES = 2
"""Pixels beyond a block that the perimeter of an object depends on."""


def predict_large(
    model: str,
    identity: str,
    path: Path,
    targets: Targets,
    *,
    precision: Precision = "auto",
    max_memory: int | None = None,
    device: str = "auto",
    average: tuple[str, str] = ("none", "logits"),
    postprocessing: Postprocessing,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Segment a large image block by block, or go on with one.

    Parameters
    ----------
    model, identity : str
        The model file and its hash.
    path : Path
        The image; see `LargeImage`.
    targets : dict of Path
        Where the results go, by kind.
    precision, max_memory, device
        See `Segmenter`.
    average : (str, str)
        Which one, and of what; see `Average`.
    postprocessing : Postprocessing
        How objects are found, if they are asked for.
    overwrite : bool
        Start anew where an unfinished run had other settings, and replace results.
    progress : callable, optional
        Called after each tile with the tiles done and their total number.

    Returns
    -------
    dict
        The content of the JSON file.

    Raises
    ------
    ConfigError
        If an unfinished run had other settings, or what is asked for cannot be had of a large image.
    ImageFormatError, ShapeError, TilingError, OutputError
        See `Segmenter`; damaged pieces of the image are met when their block is computed.
    """
    started, resident = time.perf_counter(), resident_memory()
    segmenter, folder = loaded(model, identity, device), unfinished(targets)
    with LargeImage(path) as image:
        require_channels(path, image.size.channels, segmenter.header.architecture.in_channels)
        how = postprocessing if "instances" in targets else None
        if how is not None:
            _require_possible(how, image)
        settings = {
            "image": image.identity,
            "model": identity,
            "precision": segmenter.backend(precision).precision,
            "average": list(average),
            "results": sorted({"probabilities", "instances"} & targets.keys()),
            "postprocessing": None if how is None else how.model_dump(mode="json"),
        }
        plan = _stored_plan(folder, settings, overwrite)
        if plan is None:
            plan = plan_blocks(
                image,
                segmenter,
                settings,
                max_memory,
                precision=precision,
                resident=resident,
                threshold=None if how is None else how.threshold,
                probabilities="probabilities" in targets,
            )
            _start(folder, plan, segmenter.header)
        kept = _compute_missing(model, path, plan, folder, progress)
        whole = folder / "whole.json"
        if not whole.exists():
            record = _finished(plan, folder, image, segmenter.header, how, targets)
            record["model"] |= {"file": model, "sha256": identity}
            geometry = segmenter.backend(plan.precision).geometry
            first = plan.tiles(geometry)
            record["tiles"] |= {
                "keep": first.keep,
                "input": first.input,
                "margin": geometry.margin,
                "period": geometry.period,
            }
            record["blocks"] |= {"kept_of_an_interrupted_run": kept}
            pixels = plan.planes * plan.height * plan.width
            write_json(whole, record | speed(pixels, time.perf_counter() - started))
    _move(folder, targets)
    return json.loads(targets["json"].read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _require_possible(how: Postprocessing, image: LargeImage) -> None:
    require_applicable(how, image.size[1:3], image.pixel_size_um, image.path)
    if how.split != "none":
        raise ConfigError(
            f"{image.path} is read block by block, and a watershed (split {how.split}) needs the whole "
            "image; add --split none"
        )


def _stored_plan(folder: Path, settings: dict[str, Any], overwrite: bool) -> BlockPlan | None:
    """Plan of an unfinished run with the same settings; None if there is none to go on with."""
    path = folder / "plan.json"
    if not path.exists():
        return None
    try:
        plan = BlockPlan.model_validate_json(path.read_text(encoding="utf-8"))
        differing = [name for name in settings if plan.settings.get(name) != settings[name]]
    except (ValidationError, ValueError):
        differing = ["plan"]
    if not differing:
        return plan
    if overwrite:
        return None
    raise ConfigError(
        f"{folder} holds an unfinished run with another {differing[0]}; give the same command as before to "
        "go on with it, or --overwrite to start anew"
    )


def _start(folder: Path, plan: BlockPlan, header: ModelHeader) -> None:
    """Make the folder of a run; it is one as soon as its plan is written."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    create_results(plan, folder, header)
    write_json(folder / "plan.json", plan.model_dump(mode="json"))


def _compute_missing(
    model: str, path: Path, plan: BlockPlan, folder: Path, progress: Callable[[int, int], None] | None
) -> int:
    """Compute the blocks that are missing; return how many were there."""
    there = done_blocks(folder)
    per_block = plan.tiles_of_blocks
    tiles, total = sum(per_block[number] for number in there), sum(per_block)

    def show() -> None:
        nonlocal tiles
        tiles += 1
        if progress is not None:
            progress(tiles, total)

    try:
        for number in range(len(plan)):
            if number not in there:
                compute_block(model, str(path), plan, number, str(folder), show)
    except BaseException:
        if not done_blocks(folder):  # nothing to go on with
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return len(there)


def _finished(
    plan: BlockPlan,
    folder: Path,
    image: LargeImage,
    header: ModelHeader,
    how: Postprocessing | None,
    targets: Targets,
) -> dict[str, Any]:
    """Make of the blocks what is asked for, under the names they will have, and the record."""
    areas = total_areas(json.loads(path.read_text()) for path in done_blocks(folder).values())
    table = None
    if how is not None:
        table = _find_objects(plan, folder, image, how)
        write_csv(folder / "objects", *object_rows(table, header.classes))
    for kind in ("classes", "probabilities", "instances"):
        if kind in targets:
            _finish(folder / kind, plan, image, header if kind == "classes" else None)
    return _record(plan, image, header, how, areas, table)


def _record(
    plan: BlockPlan,
    image: LargeImage,
    header: ModelHeader,
    how: Postprocessing | None,
    areas: list[int],
    table: dict[str, Array] | None,
) -> dict[str, Any]:
    """What `record_of` tells of an image in memory, and its blocks."""
    size, average = image.size, plan.settings["average"]
    with_objects = table is not None
    notes = ["planes are segmented one by one"] if plan.is_stack else []
    return {
        "model": {"name": header.name, "members": header.members},
        "image": {
            "file": str(image.path),
            **size._asdict(),
            "dtype": str(size.dtype),
            "pixel_size_um": plan.pixel_size_um,
        },
        "scale": [1.0, 1.0],
        "tiles": {
            "number": sum(plan.tiles_of_blocks) // plan.planes,
            "keep": plan.keep,
            "reason": plan.reason,
        },
        "blocks": {"number": len(plan), "size": plan.block, "chunk": plan.chunk},
        "precision": plan.precision,
        "device": plan.device,
        "engine": plan.engine,
        "average": average[0],
        "average_of": None if average[0] == "none" else average[1],
        "classes": class_areas(header, areas, plan.pixel_size_um),
        "postprocessing": None if how is None else how.model_dump(),
        "objects": None if table is None else len(table["id"]),
        "notes": notes + notes_on_pixels(plan.pixel_size_um, with_objects),
        "warnings": warnings_of(
            header, plan.pixel_size_um, None if table is None else table["area_px"], (1.0, 1.0)
        ),
    }


def _finish(store: Path, plan: BlockPlan, image: LargeImage, header: ModelHeader | None) -> None:
    """Add the lower resolutions of an OME-Zarr, or make a TIFF of it."""
    levels = open_levels(store)
    if image.version is not None:
        fill_levels(levels)
        return
    colors = None if header is None else [info.color for info in header.classes]
    array = levels[0]
    if store.name != "probabilities":
        pages = [(plane,) for plane in range(plan.planes)] if plan.is_stack else [()]
        axes, shape = "ZYX"[-array.ndim :], array.shape
    else:
        planes = [(plane,) for plane in range(plan.planes)] if plan.is_stack else [()]
        pages = [(channel, *plane) for plane in planes for channel in range(plan.channels)]
        axes, shape = "ZCYX"[-array.ndim :], (*plan.shape[:-2], plan.channels, *plan.shape[-2:])
    write_tiles(
        store.with_suffix(".tif"), array, pages, shape, axes, colors=colors, pixel_size_um=plan.pixel_size_um
    )


def _find_objects(plan: BlockPlan, folder: Path, image: LargeImage, how: Postprocessing) -> dict[str, Array]:
    """Number and measure the objects of all planes; write their ids."""
    kinds = open_levels(folder / "kinds")[0]

    def block(array: Any, plane: int, window: tuple[slice, slice]) -> Array:
        values: Array = np.asarray(array[plan.inside(plane, window)])
        return values.reshape(values.shape[-2:])

    numberings = []
    for plane in range(plan.planes):
        regions = Regions(plan.height, plan.width, how, plan.pixel_size_um)
        for window in plan.windows:
            regions.add(block(kinds, plane, window), window[0].start, window[1].start)
        numberings.append(regions.numbered())
    total = sum(numbering.number for numbering in numberings)
    chunks = (1,) * plan.is_stack + plan.chunk
    ids = create_store(
        folder / "instances",
        "ZYX" if plan.is_stack else "YX",
        plan.shape,
        np.uint16 if total < 2**16 else np.uint32,
        chunks,
        version=plan.version,
        pixel_size_um=plan.pixel_size_um,
        colors={},
    )[0]
    before, tables = 0, []
    for plane, numbering in enumerate(numberings):
        for number, window in enumerate(plan.windows):
            found = numbering.ids(number, block(kinds, plane, window)).astype(np.int64)
            place = plan.inside(plane, window)
            found = np.where(found > 0, found + before, 0).astype(ids.dtype)
            ids[place] = found.reshape([side.stop - side.start for side in place])
        sums = []
        for rows, columns in plan.windows:
            outer = (
                slice(max(rows.start - _PERIMETER_SEES, 0), min(rows.stop + _PERIMETER_SEES, plan.height)),
                slice(
                    max(columns.start - _PERIMETER_SEES, 0), min(columns.stop + _PERIMETER_SEES, plan.width)
                ),
            )
            inside = (
                slice(rows.start - outer[0].start, rows.stop - outer[0].start),
                slice(columns.start - outer[1].start, columns.stop - outer[1].start),
            )
            grey = image.read(plane, rows.start, rows.stop, columns.start, columns.stop)
            origin = rows.start, columns.start
            sums.append(sums_of(block(ids, plane, outer), image=grey, inside=inside, origin=origin))
        table = merged(sums)
        table["class"] = numbering.classes
        table = table_of(table, plan.pixel_size_um)
        if plan.is_stack:
            table["plane"] = np.full(len(table["id"]), plane)
        tables.append(table)
        before += numbering.number
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _move(folder: Path, targets: Targets) -> None:
    """Give whole results their names, the record last; after a kill in the middle it goes on."""
    for kind, target in targets.items():
        made = folder / ("whole.json" if kind == "json" else kind)
        if target.suffix == ".tif":
            made = made.with_suffix(".tif")
        if kind == "json" or not made.exists():
            continue
        _replace(made, target)
    _replace(folder / "whole.json", targets["json"])
    shutil.rmtree(folder, ignore_errors=True)


def _replace(made: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    made.replace(target)
