"""An image larger than memory, from file to files: blocks, then objects and lower resolutions, then names.

Everything is written into a hidden folder beside the results, `.a.unfinished`, and renamed when it is whole.
Whatever ends the run, the same command goes on with the blocks that are missing.
"""

import json
import time
from collections.abc import Callable
from itertools import chain
from math import ceil
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from ushape.backends import Precision, resident_memory
from ushape.cluster import Cluster
from ushape.config import ModelHeader
from ushape.errors import ConfigError, OutputError
from ushape.instances import require_applicable
from ushape.io import (
    LARGEST_TIFF,
    LargeImage,
    fill_levels,
    open_levels,
    output_folder,
    write_csv,
    write_geojson,
    write_json,
    write_overlay,
    write_pyramid,
)
from ushape.predict.averaging import Average
from ushape.predict.block_planning import normalizations_of, plan_blocks, require_readable
from ushape.predict.block_task import backend_for, compute_blocks, compute_stored_block
from ushape.predict.blocks import Asked, BlockPlan, Tiles, create_results, done_blocks, total_areas
from ushape.predict.large_objects import find_objects
from ushape.predict.large_pictures import outlines_of, picture_of, picture_step
from ushape.predict.record import how_entry, image_entry, object_rows, record_of, speed, tiles_entry
from ushape.predict.scaled_image import ScaledImage
from ushape.predict.scaling import find_scale, postprocessing_at
from ushape.predict.segmentation import GREY_IN_COLOUR, require_channels
from ushape.predict.segmenter import Segmenter, loaded
from ushape.predict.settings import Settings
from ushape.predict.targets import (
    OF_OBJECTS,
    Targets,
    clear,
    is_unfinished,
    move,
    replace,
    require_frame_numbers,
    unfinished,
)

Array = np.ndarray[Any, Any]


def predict_large(
    settings: Settings,
    path: Path,
    targets: Targets,
    *,
    stated_memory: int | None = None,
    cluster: Cluster | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Segment a large image block by block, or go on with one.

    Parameters
    ----------
    settings : Settings
        With `overwrite`, an unfinished run is started anew.
    path : Path
        The image; see `LargeImage`.
    targets : dict of Path
        Where the results go, by kind.
    stated_memory : int, optional
        The limit that a person gave; `settings.max_memory` may be the share of a worker, which varies.
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
        If an unfinished run had other settings or a larger limit, or the memory does not suffice.
    DataError
        If there are more objects than the layout can number.
    ImageFormatError, ShapeError, TilingError, OutputError
        See `Segmenter`; damaged pieces of the image are met when their block is computed.
    """
    started = time.perf_counter()
    segmenter, folder = loaded(settings.model, settings.identity, settings.device), unfinished(targets)
    wanted = segmenter.header.architecture.in_channels
    with output_folder(folder.parent), LargeImage(path, wanted) as image:
        plan = _planned(settings, segmenter, image, targets, stated_memory)
        tiles = [plan.tiles(window, segmenter.network.geometry) for window in plan.windows]
        missing, peak = _compute_missing(settings.model, path, plan, tiles, folder, cluster, progress)
        segmenter.release_memory()  # objects need it next
        if not (folder / "whole.json").exists():
            memory = settings.max_memory if cluster is None else None  # that of a worker
            results, layout = folder / plan.run, settings.layout
            _require_all(plan, results)
            table = _finished(plan, results, image, segmenter.header, targets, layout, memory)
            record = _record(plan, results, tiles, image, segmenter, table, targets)
            record["model"] |= {"file": settings.model, "sha256": settings.identity}
            record["blocks"] |= {"kept_of_an_interrupted_run": len(plan) - len(missing)}
            windows = [plan.place(number)[1] for number in missing]
            pixels = sum((y.stop - y.start) * (x.stop - x.start) for y, x in windows)
            record |= speed(pixels, time.perf_counter() - started)
            record["peak_memory_bytes"] = max(record["peak_memory_bytes"], peak)
            write_json(folder / "whole.json", record)
    move(folder / plan.run, targets)
    replace(folder / "whole.json", targets["json"])
    clear(folder)
    return json.loads(targets["json"].read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _planned(
    settings: Settings,
    segmenter: Segmenter,
    image: LargeImage,
    targets: Targets,
    stated_memory: int | None,
) -> BlockPlan:
    """Plan of the unfinished run, if it is the same one, or that of a new one, which is begun."""
    asked = _asked(settings, segmenter, image, targets)
    plan = None if settings.overwrite else _stored_plan(targets, asked, stated_memory)
    if plan is None:
        segmenter.release_memory()  # what is kept for tiles of an earlier image is free for these
        require_readable(image, settings.max_memory, resident_memory())
        seen = ScaledImage(image, asked.scale)
        normalization = normalizations_of(seen, segmenter.header)
        backend = backend_for(segmenter, settings.precision, seen, normalization)
        backend.release_memory()  # in int8 it may have been made just now
        plan = plan_blocks(
            seen,
            backend,
            segmenter.header,
            normalization,
            asked,
            settings.max_memory,
            resident=resident_memory(),
        )
        _start(unfinished(targets), plan, segmenter.header)
    return plan


def _asked(settings: Settings, segmenter: Segmenter, image: LargeImage, targets: Targets) -> Asked:
    """What is asked for of this image; refused where it cannot be."""
    header, how = segmenter.header, None
    require_channels(image.path, image.size.channels, header.architecture.in_channels)
    scale, stated = find_scale(header, settings.scale, settings.pixel_size)
    size_um = stated or image.pixel_size_um
    if OF_OBJECTS & targets.keys():
        how = postprocessing_at(header, scale, settings.changes)
        require_applicable(how, image.size[1:3], size_um, image.path)
    return Asked(
        image=image.identity,
        model=settings.identity,
        **_computing(segmenter, settings.precision),
        average=(settings.average, settings.average_of),
        scale=scale,
        pixel_size_um=size_um,
        results=tuple(sorted(targets)),
        postprocessing=how,
    )


def _computing(segmenter: Segmenter, asked: Precision) -> dict[str, Any]:
    """What computes, as far as it is known before the image is read, for which int8 may have to be made."""
    if asked == "int8" and segmenter.tiles is None:
        return {"precision": asked}
    backend = segmenter.backend(asked)
    return {"precision": backend.precision, "engine": backend.engine, "device": str(backend.device)}


def _stored_plan(targets: Targets, asked: Asked, limit: int | None) -> BlockPlan | None:
    """Plan of an unfinished run that was asked for the same; None if there is none to go on with."""
    if not is_unfinished(targets):
        return None
    folder = unfinished(targets)
    try:
        plan = BlockPlan.model_validate_json((folder / "plan.json").read_text(encoding="utf-8"))
        differing = plan.asked.first_difference(asked)
    except ValueError:  # pydantic's is one
        differing = "plan"
    if differing is not None:
        raise ConfigError(
            f"{folder} holds an unfinished run with another {differing}; give the same command as before "
            "to go on with it, or --overwrite to start anew"
        )
    if limit is not None and limit < plan.max_memory:
        planned = ceil(plan.max_memory / 1e6)
        raise ConfigError(
            f"{folder} holds an unfinished run planned for {planned} MB, more than --max-memory "
            f"{limit // 10**6}MB; give --max-memory {planned}MB to go on with it, or --overwrite to start "
            "anew"
        )
    return plan


def _start(folder: Path, plan: BlockPlan, header: ModelHeader) -> None:
    """Make the folder of a run; it is one as soon as its plan is written."""
    clear(folder)
    (folder / plan.run).mkdir(parents=True)
    create_results(plan, folder / plan.run, header)
    write_json(folder / "plan.json", plan.model_dump(mode="json"))


def _compute_missing(
    model: str,
    path: Path,
    plan: BlockPlan,
    tiles: list[Tiles],
    folder: Path,
    cluster: Cluster | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[int], int]:
    """Compute the blocks that are missing; return their numbers, and the memory of workers."""
    there, peak = done_blocks(folder / plan.run), 0
    missing = [number for number in range(len(plan)) if number not in there]
    per_block = [len(rows) * len(columns) for rows, columns in tiles] * plan.planes
    done, total = sum(per_block[number] for number in there), sum(per_block)

    def show(more: int = 1) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    try:
        if cluster is None:
            if missing:
                compute_blocks(model, str(path), plan, missing, str(folder / plan.run), show)
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
            clear(folder)
        raise
    return missing, peak


def _require_all(plan: BlockPlan, folder: Path) -> None:
    """Refuse to make results of blocks that this machine does not see, whoever computed them."""
    if (there := len(done_blocks(folder))) < len(plan):
        raise OutputError(
            f"{folder} shows {there} of the {len(plan)} blocks that are done: its file system is late; give "
            "the same command again"
        )


def _finished(
    plan: BlockPlan,
    folder: Path,
    image: LargeImage,
    header: ModelHeader,
    targets: Targets,
    layout: str,
    max_memory: int | None,
) -> dict[str, Array] | None:
    """Make of the blocks what is asked for, under the names it will have; the objects, if they are."""
    how, table = plan.asked.postprocessing, None
    if how is not None:
        table = find_objects(plan, folder, image, how, max_memory)
        if layout == "ctc":
            require_frame_numbers(image.path, len(table["id"]))
        if "objects" in targets:
            write_csv(folder / "objects", *object_rows(table, header.classes))
        if "outlines" in targets:
            write_geojson(folder / "outlines", outlines_of(plan, folder, table, header.classes, max_memory))
    if "overlay" in targets:
        write_overlay(folder / "overlay", picture_of(plan, folder, image, header, objects=how is not None))
    for kind in ("classes", "probabilities", "instances"):
        if kind in targets:
            _finish(folder / kind, plan, targets[kind], layout, header if kind == "classes" else None)
    return table


def _record(
    plan: BlockPlan,
    folder: Path,
    tiles: list[Tiles],
    image: LargeImage,
    segmenter: Segmenter,
    table: dict[str, Array] | None,
    targets: Targets,
) -> dict[str, Any]:
    number = sum(len(rows) * len(columns) for rows, columns in tiles)
    largest = [max(chain(*sides), key=attrgetter("read")) for sides in zip(*tiles, strict=True)]
    areas = total_areas(json.loads(path.read_text()) for path in done_blocks(folder).values())
    average = Average(*plan.asked.average)
    record = record_of(
        segmenter.header,
        image_entry(image.path, image.stored_size, plan.asked.pixel_size_um),
        tiles_entry(number, (largest[0], largest[1]), segmenter.network.geometry, plan.reason),
        how_entry(plan.asked.precision, plan.device, plan.engine, average, plan.asked.scale),
        areas,
        plan.asked.postprocessing,
        table,
        _notes(plan, targets, image),
        results=targets,
    )
    return record | {"blocks": {"number": len(plan), "size": plan.block, "chunk": plan.chunk}}


def _notes(plan: BlockPlan, targets: Targets, image: LargeImage) -> list[str]:
    notes = [GREY_IN_COLOUR] if image.is_grey_in_colour else []
    notes += ["planes are segmented one by one"] if plan.is_stack else []
    if "overlay" in targets:
        step = picture_step(plan)
        middle = " of the middle plane" if plan.is_stack else ""
        notes.append(
            f"the overlay shows every pixel{middle}"
            if step == 1
            else f"the overlay shows one pixel in {step} along each axis{middle}"
        )
    return notes


def _finish(store: Path, plan: BlockPlan, target: Path, layout: str, header: ModelHeader | None) -> None:
    """Add lower resolutions, which the challenge does not want, and make a TIFF of it all if asked."""
    levels = open_levels(store)
    if layout == "ctc":
        levels = levels[:1]
    fill_levels(levels)
    if target.suffix != ".tif":
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
        pixel_size_um=plan.asked.pixel_size_um,
        is_big=layout != "ctc" or 2 * plan.height * plan.width > LARGEST_TIFF,  # old programs read no BigTIFF
    )
