"""An image in memory, from file to files."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ushape.errors import ConfigError, OutputError
from ushape.io import (
    ImageSize,
    output_folder,
    read_image,
    write_classes,
    write_csv,
    write_geojson,
    write_instances,
    write_json,
    write_overlay,
    write_probabilities,
)
from ushape.predict.record import how_entry, image_entry, object_rows, record_of, speed, tiles_entry
from ushape.predict.segmentation import Segmentation
from ushape.predict.segmenter import loaded
from ushape.predict.settings import Settings
from ushape.predict.targets import (
    OF_OBJECTS,
    Targets,
    aside,
    drop,
    replace,
    require_frame_numbers,
    require_replaceable,
)


def predict_whole(
    settings: Settings, path: Path, targets: Targets, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Segment the image in a file and write what is asked for: all of it or, if it fails, nothing.

    Parameters
    ----------
    settings : Settings
    path : Path
        The image.
    targets : dict of Path
        Where the results go, by kind.
    progress : callable, optional
        Called after each tile with the tiles done and their total number.

    Returns
    -------
    dict
        The content of the JSON file.

    Raises
    ------
    DataError
        If there are more objects than the layout can number.
    CheckpointError, ConfigError, ImageFormatError, OutputError, ShapeError, TilingError
        See `Segmenter`.
    """
    with output_folder(targets["json"].parent):
        try:
            record = predict_aside(settings, path, targets, progress)
            take(path, targets, settings.command)
        finally:
            drop(targets, settings.command)
    return record


def predict_aside(
    settings: Settings, path: Path, targets: Targets, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Do the same under other names, which `take` then changes: a process may be killed at any time."""
    started = time.perf_counter()
    hidden = aside(targets, settings.command)
    drop(targets, settings.command)  # of a worker that died
    segmenter = loaded(settings.model, settings.identity, settings.device)
    segmentation = segmenter(
        read_image(path),
        settings.precision,
        settings.max_memory,
        progress=progress,
        scale=settings.scale,
        pixel_size=settings.pixel_size,
        postprocessing=settings.changes,
        average=settings.average,
        average_of=settings.average_of,
    )
    try:
        (_write_frame if settings.layout == "ctc" else _write_results)(segmentation, hidden)
    except OutputError as error:
        own, asked = (str(one["json"].parent) for one in (hidden, targets))
        raise OutputError(str(error).replace(own, asked)) from error  # the hidden folder is ours alone
    record = _record(segmentation, targets)
    record["model"] |= {"file": settings.model, "sha256": settings.identity}
    record |= speed(segmentation.image.planes[:, 0].size, time.perf_counter() - started)
    write_json(hidden["json"], record)
    return record


def take(path: Path, targets: Targets, command: str) -> None:
    """Give results of `predict_aside` their names, the record last.

    Raises
    ------
    ConfigError
        If they are not there: the worker wrote into another file system.
    OutputError
        If a folder has the name of one of them; then all stay away.
    """
    hidden = aside(targets, command)
    if not hidden["json"].exists():
        raise ConfigError(
            f"results of {path} that a worker wrote are not to be seen here; workers must see the folder of "
            "the results under the same name"
        )
    for kind, target in targets.items():
        require_replaceable(hidden[kind], target)
    targets["json"].unlink(missing_ok=True)  # results without a record are known to be incomplete
    for kind, target in sorted(targets.items(), key=lambda item: item[0] == "json"):
        replace(hidden[kind], target)
    drop(targets, command)  # with what a worker may still write that was thought dead


def _record(segmentation: Segmentation, targets: Targets) -> dict[str, Any]:
    image, header, backend = segmentation.image, segmentation.header, segmentation.backend
    plan, with_objects = segmentation.plan, bool(OF_OBJECTS & targets.keys())
    planes, channels, height, width = image.planes.shape
    notes = [*segmentation.notes]
    if image.is_stack:
        notes.append("planes are segmented one by one; an overlay shows the middle one")
    return record_of(
        header,
        image_entry(
            image.path, ImageSize(planes, height, width, channels, image.array.dtype), image.pixel_size_um
        ),
        tiles_entry(len(plan), (plan.rows[0], plan.columns[0]), backend.geometry, plan.reason),
        how_entry(
            segmentation.precision,
            str(backend.device),
            backend.engine,
            segmentation.average,
            segmentation.scale,
        ),
        np.bincount(segmentation.classes.ravel(), minlength=len(header.classes)).tolist(),
        segmentation.postprocessing if with_objects else None,
        segmentation.objects() if with_objects else None,
        notes,
        results=targets,
    )


def _write_results(segmentation: Segmentation, targets: Targets) -> None:
    pixel_size = segmentation.image.pixel_size_um
    with_objects = bool(OF_OBJECTS & targets.keys())
    segmentation.compute(probabilities="probabilities" in targets, instances=with_objects)
    colors = [info.color for info in segmentation.header.classes]
    write_classes(targets["classes"], segmentation.classes, colors=colors, pixel_size_um=pixel_size)
    if "probabilities" in targets:
        write_probabilities(targets["probabilities"], segmentation.probabilities, pixel_size_um=pixel_size)
    if "instances" in targets:
        write_instances(targets["instances"], segmentation.instances(), pixel_size_um=pixel_size)
        write_csv(targets["objects"], *object_rows(segmentation.objects(), segmentation.header.classes))
    if "outlines" in targets:
        write_geojson(targets["outlines"], segmentation.outlines()["features"])
    if "overlay" in targets:
        write_overlay(targets["overlay"], segmentation.overlay(objects=with_objects))


def _write_frame(segmentation: Segmentation, targets: Targets) -> None:
    ids = segmentation.instances()
    require_frame_numbers(segmentation.image.path, int(ids.max()))
    write_instances(targets["instances"], ids, pixel_size_um=segmentation.image.pixel_size_um)
