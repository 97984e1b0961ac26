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
from ushape.cluster import Cluster
from ushape.config import ModelHeader, Postprocessing
from ushape.errors import ConfigError
from ushape.instances import require_applicable
from ushape.io import (
    LargeImage,
    fill_levels,
    open_levels,
    write_csv,
    write_geojson,
    write_json,
    write_overlay,
    write_pyramid,
)
from ushape.predict.averaging import Average
from ushape.predict.block_task import backend_for, compute_block, compute_stored_block
from ushape.predict.blocks import (
    BlockPlan,
    create_results,
    done_blocks,
    normalizations_of,
    plan_blocks,
    total_areas,
)
from ushape.predict.large_objects import find_objects
from ushape.predict.large_pictures import outlines_of, picture_of, picture_step
from ushape.predict.record import how_entry, image_entry, object_rows, record_of, speed
from ushape.predict.segmentation import require_channels
from ushape.predict.segmenter import Segmenter, loaded
from ushape.predict.settings import Settings
from ushape.predict.targets import OF_OBJECTS, Targets, move, replace, unfinished

Array = np.ndarray[Any, Any]


def predict_large(
    settings: Settings,
    path: Path,
    targets: Targets,
    *,
    cluster: Cluster | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Segment a large image block by block, or go on with one.

    Parameters
    ----------
    settings : Settings
        With `overwrite`, an unfinished run that had other settings is started anew.
    path : Path
        The image; see `LargeImage`.
    targets : dict of Path
        Where the results go, by kind.
    cluster : Cluster, optional
        Whose workers compute the blocks.
    progress : callable, optional
        Called after each tile (on a cluster after each block) with the tiles done and their total number.

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
    segmenter, folder = loaded(settings.model, settings.identity, settings.device), unfinished(targets)
    with LargeImage(path) as image:
        require_channels(path, image.size.channels, segmenter.header.architecture.in_channels)
        how = settings.postprocessing if OF_OBJECTS & targets.keys() else None
        if how is not None:
            require_applicable(how, image.size[1:3], image.pixel_size_um, path)
        same = {
            "image": image.identity,
            "model": settings.identity,
            "precision": _precision(segmenter, settings.precision),
            "average": [settings.average, settings.average_of],
            "results": sorted(targets),
            "postprocessing": None if how is None else how.model_dump(mode="json"),
        }
        plan = _stored_plan(folder, same, settings.overwrite)
        if plan is None:
            normalization = normalizations_of(image, segmenter.header)
            plan = plan_blocks(
                image,
                backend_for(segmenter, settings.precision, image, normalization),
                segmenter.header,
                normalization,
                same,
                settings.max_memory,
                resident=resident,
                how=how,
                probabilities="probabilities" in targets,
            )
            _start(folder, plan, segmenter.header)
        kept, peak = _compute_missing(settings.model, path, plan, folder, cluster, progress)
        if not (folder / "whole.json").exists():
            memory = settings.max_memory if cluster is None else None  # that of a worker
            record = _finished(plan, folder / plan.run, image, segmenter, how, targets, memory)
            record["model"] |= {"file": settings.model, "sha256": settings.identity}
            record["blocks"] |= {"kept_of_an_interrupted_run": kept}
            record |= speed(plan.planes * plan.height * plan.width, time.perf_counter() - started)
            record["peak_memory_bytes"] = max(record["peak_memory_bytes"], peak)
            write_json(folder / "whole.json", record)
    move(folder / plan.run, targets)
    replace(folder / "whole.json", targets["json"])
    shutil.rmtree(folder, ignore_errors=True)
    return json.loads(targets["json"].read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _precision(segmenter: Segmenter, asked: Precision) -> str:
    """Precision that is computed in; int8 needs the image first, and is itself or nothing."""
    return asked if asked == "int8" else segmenter.backend(asked).precision


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
    (folder / plan.run).mkdir(parents=True)
    create_results(plan, folder / plan.run, header)
    write_json(folder / "plan.json", plan.model_dump(mode="json"))


def _compute_missing(
    model: str,
    path: Path,
    plan: BlockPlan,
    folder: Path,
    cluster: Cluster | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[int, int]:
    """Compute the blocks that are missing; return how many were there, and the memory of workers."""
    there, peak = done_blocks(folder / plan.run), 0
    missing = [number for number in range(len(plan)) if number not in there]
    per_block = plan.tiles_of_blocks
    tiles, total = sum(per_block[number] for number in there), sum(per_block)

    def show(more: int = 1) -> None:
        nonlocal tiles
        tiles += more
        if progress is not None:
            progress(tiles, total)

    try:
        if cluster is None:
            for number in missing:
                compute_block(model, str(path), plan, number, str(folder / plan.run), show)
        else:
            # Workers may stand in another folder.
            files = [str(Path(one).absolute()) for one in (model, path, folder)]
            for index, found in cluster.run(
                compute_stored_block, [(*files, plan.run, number) for number in missing]
            ):
                show(per_block[missing[index]])
                peak = max(peak, found)
    except BaseException:
        if not done_blocks(folder / plan.run):  # nothing to go on with
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return len(there), peak


def _finished(
    plan: BlockPlan,
    folder: Path,
    image: LargeImage,
    segmenter: Segmenter,
    how: Postprocessing | None,
    targets: Targets,
    max_memory: int | None,
) -> dict[str, Any]:
    """Make of the blocks what is asked for, under the names they will have, and the record."""
    areas = total_areas(json.loads(path.read_text()) for path in done_blocks(folder).values())
    header, table = segmenter.header, None
    if how is not None:
        table = find_objects(plan, folder, image, how, max_memory)
        if "objects" in targets:
            write_csv(folder / "objects", *object_rows(table, header.classes))
        if "outlines" in targets:
            write_geojson(folder / "outlines", outlines_of(plan, folder, table, header.classes))
    if "overlay" in targets:
        write_overlay(folder / "overlay", picture_of(plan, folder, image, header, objects=how is not None))
    for kind in ("classes", "probabilities", "instances"):
        if kind in targets:
            _finish(folder / kind, plan, image, header if kind == "classes" else None)
    return _record(plan, image, segmenter, how, areas, table, targets)


def _record(
    plan: BlockPlan,
    image: LargeImage,
    segmenter: Segmenter,
    how: Postprocessing | None,
    areas: list[int],
    table: dict[str, Array] | None,
    targets: Targets,
) -> dict[str, Any]:
    geometry = segmenter.network.geometry
    average = Average(*plan.settings["average"])
    record = record_of(
        segmenter.header,
        image_entry(image.path, image.size, plan.pixel_size_um),
        plan.tiles(geometry),
        geometry,
        how_entry(plan.precision, plan.device, plan.engine, average),
        areas,
        how,
        table,
        _notes(plan, targets),
    )
    return record | {"blocks": {"number": len(plan), "size": plan.block, "chunk": plan.chunk}}


def _notes(plan: BlockPlan, targets: Targets) -> list[str]:
    notes = ["planes are segmented one by one"] if plan.is_stack else []
    if "overlay" in targets:
        step = picture_step(plan)
        middle = " of the middle plane" if plan.is_stack else ""
        notes.append(
            f"the overlay shows every pixel{middle}"
            if step == 1
            else f"the overlay shows one pixel in {step} along each axis{middle}"
        )
    return notes


def _finish(store: Path, plan: BlockPlan, image: LargeImage, header: ModelHeader | None) -> None:
    """Add the lower resolutions, and make a TIFF of it all if the image was one."""
    levels = open_levels(store)
    fill_levels(levels)
    if image.version is not None:
        return
    planes = [(plane,) for plane in range(plan.planes)] if plan.is_stack else [()]
    pages, axes, leading = planes, "ZYX"[-levels[0].ndim :], plan.shape[:-2]
    if store.name == "probabilities":
        pages = [(channel, *plane) for plane in planes for channel in range(plan.channels)]
        axes, leading = "ZCYX"[-levels[0].ndim :], (*leading, plan.channels)
    colors = None if header is None else [info.color for info in header.classes]
    write_pyramid(
        store.with_suffix(".tif"),
        levels,
        pages,
        leading,
        axes,
        colors=colors,
        pixel_size_um=plan.pixel_size_um,
    )
