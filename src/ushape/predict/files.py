"""Files in, files out: what `ushape predict` does."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from ushape.backends import Precision, available_memory, find_device, find_precision
from ushape.checkpoint import read_header
from ushape.cluster import Cluster
from ushape.config import ModelHeader, PixelSize, Postprocessing, parse_bytes
from ushape.errors import ConfigError, ImageFormatError
from ushape.io import image_size, is_store, output_folder, reads_windows
from ushape.predict.averaging import Average
from ushape.predict.batch import Failed, Progress, segment_each, told
from ushape.predict.block_planning import bytes_for_objects
from ushape.predict.finished import records_there, results_there, stale_results
from ushape.predict.record import asked_entry, objects_in_words, summary
from ushape.predict.scaling import Scale, find_scale, postprocessing_at, scaled_size
from ushape.predict.segmenter import identity_of
from ushape.predict.settings import Settings
from ushape.predict.targets import (
    OF_OBJECTS,
    Targets,
    drop_all,
    find_inputs,
    is_unfinished,
    remove,
    require_free,
    require_one_image_each,
    targets_of,
)

_BYTES_FOR_IDS = 12
"""Memory that ids take per pixel of all planes while they are numbered on from plane to plane."""
_OPTIONS = {
    "threshold": "--threshold",
    "connectivity": "--connectivity",
    "min_area": "--min-area",
    "min_area_um2": "--min-area",
    "split": "--split",
    "fill_holes": "--fill-holes",
    "border": "--border",
    "foi_px": "--foi",
}
"""How settings of the post-processing are called on the command line."""


@dataclass(frozen=True)
class FileResult:
    """What was made of one input file.

    Attributes
    ----------
    input : Path
    outputs : dict
        Path of each file written, by kind: "classes", "json" and, if asked for, "probabilities",
        "instances", "objects", "outlines", "overlay".
    report : dict
        Content of the JSON file.
    is_kept : bool
        Whether an earlier run made it.
    """

    input: Path
    outputs: dict[str, Path]
    report: dict[str, Any]
    is_kept: bool = False

    @property
    def summary(self) -> str:
        """One line: size, tiles, precision, objects, time."""
        return f"{self.input.name}: kept" if self.is_kept else summary(self.input.name, self.report)

    @property
    def warnings(self) -> list[str]:
        """What looks wrong, a line each."""
        return [f"{self.input.name}: warning: {line}" for line in self.report["warnings"]]

    @property
    def objects_in_words(self) -> str | None:
        """One line: how objects were found; None if they were not looked for."""
        return objects_in_words(self.report)


def predict_files(
    model: str | Path,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    precision: Precision = "auto",
    max_memory: int | str | None = None,
    instances: bool = False,
    probabilities: bool = False,
    overlay: bool = False,
    outlines: bool = False,
    layout: str = "plain",
    postprocessing: Mapping[str, Any] | None = None,
    scale: float | None = None,
    pixel_size: float | str | PixelSize | None = None,
    average: str = "none",
    average_of: str = "logits",
    overwrite: bool = False,
    resume: bool = False,
    device: str = "auto",
    cluster: Cluster | None = None,
    progress: Progress | None = None,
    finished: Callable[[FileResult], None] | None = None,
    failed: Failed | None = None,
) -> list[FileResult]:
    """Segment image files and write, for `a.tif`, `a_classes.tif`, `a.json` and what else is asked for.

    Parameters
    ----------
    model : path
        A model file.
    inputs : sequence of path
        Images, folders of images, globs. Results of ours beside their image are left out.
    output : path
        Folder for the results; made if it does not exist.
    precision, max_memory, device
        See `Segmenter`.
    instances : bool
        Also `a_instances.tif` and the table `a_objects.csv`.
    probabilities : bool
        Also `a_probabilities.tif`.
    overlay : bool
        Also `a_overlay.png`: outlines of the objects if they are asked for, else class colours; of a stack
        its middle plane.
    outlines : bool
        Also `a_outlines.geojson`.
    layout : {"plain", "ctc"}
        "ctc": nothing but object ids of 16 bits and JSON, as the Cell Tracking Challenge names them:
        `01/t007.tif` becomes `01_RES/mask007.tif`, also where there is no object.
    postprocessing : mapping, optional
        Settings of `Postprocessing`, in pixels of the images, that replace those of the model.
    scale, pixel_size, average, average_of
        See `Segmenter`.
    overwrite : bool
        Replace results that exist, and take away those that the record to be replaced lists and that are not
        asked for this time; a run that was interrupted is started anew.
    resume : bool
        Go on with an earlier run: keep the results that are whole, replace those without a record, which a
        kill left. An image larger than memory goes on with its blocks in any case.
    cluster : Cluster, optional
        Its workers compute, if `cluster.local_cluster` or `connected_cluster` gave one: images in memory one
        by one, larger ones block by block. They must see all files under the same names. `max_memory` is
        then that of each worker.
    progress : callable, optional
        Called with what is done, how much it is in all, and a name for it: tiles of an image, after each
        one and on a cluster after each block; or, on a cluster, images in memory.
    finished : callable, optional
        Called with the result of each input when all its files are written. Results of an input are there
        all or, if anything comes between, not at all.
    failed : callable, optional
        Called with an input of several that cannot be segmented, and the error, when it is met: it is
        damaged, has other channels, or more objects than the layout can number. The others are segmented
        then. If not given, the error is raised.

    Returns
    -------
    list of FileResult
        In the order of the inputs, without those that failed.

    Raises
    ------
    ImageFormatError
        If an input does not exist or cannot be read.
    DataError
        If the results of two inputs would have the same names, or an input does not fit the layout.
    OutputError
        If a result exists and neither `overwrite` nor `resume` is given, it was made in another way than what
        is resumed, a file that is no record of ours has the name of one, or the folder cannot be written to;
        all before anything is computed.
    ConfigError
        If options contradict each other, or the post-processing cannot be applied.
    CheckpointError, ShapeError, TilingError
        See `Segmenter`.
    """
    wanted = {
        "probabilities": probabilities,
        "instances": instances,
        "outlines": outlines,
        "overlay": overlay,
    }
    kinds = ["classes", *(kind for kind, is_wanted in wanted.items() if is_wanted), "json"]
    changes = dict(postprocessing or {})
    Average(average, average_of)  # refuses a name that is not known
    _require_sense(kinds, layout, changes)
    if overwrite and resume:
        raise ConfigError("--resume keeps results, --overwrite replaces them; drop one of them")
    folder = Path(output)
    found = find_inputs(inputs)
    tell = failed if len(found) > 1 else None
    targets: dict[Path, Targets] = {}
    for path in found:
        with told(tell, path, ImageFormatError):
            targets[path] = targets_of(path, folder, kinds, layout)
    require_one_image_each(targets)
    records = records_there(targets)
    if not overwrite and not resume:
        require_free(targets)
    # A wrong model is found before a folder is made.
    header = read_header(model)
    factors, stated = find_scale(header, scale, pixel_size)
    how = postprocessing_at(header, factors, changes)
    memory = parse_bytes(max_memory) if isinstance(max_memory, str) else max_memory
    settings = Settings(
        model=str(model),
        identity=identity_of(model),
        precision=precision,
        max_memory=memory,
        device=device,
        layout=layout,
        changes=changes,
        scale=scale,
        pixel_size=pixel_size,
        average=average,
        average_of=average_of,
        overwrite=overwrite,
        command=secrets.token_hex(4),
    )
    kept = {}
    if resume:
        same = _as_recorded(settings, factors, how if layout == "ctc" or OF_OBJECTS & {*kinds} else None)
        kept = results_there(targets, records, same, settings.identity, stated)
    # Also where an interrupted run goes on: its first try was told to replace them.
    replaced = {path: record for path, record in records.items() if overwrite or is_unfinished(targets[path])}
    stale = stale_results(targets, replaced)
    room = memory
    if cluster is not None:
        settings, room = _for_workers(settings, cluster)
    large = {path for path, one in targets.items() if _takes_blocks(path, one, header, factors, how, room)}
    results = {path: FileResult(path, targets[path], record, is_kept=True) for path, record in kept.items()}
    left = {path: one for path, one in targets.items() if path not in kept}
    with output_folder(folder):
        drop_all(targets.values())
        for result in results.values():
            (finished or _nothing)(result)
        for path, record in segment_each(settings, left, large, memory, cluster, progress, tell):
            remove(stale.get(path, ()))
            results[path] = FileResult(path, targets[path], record)
            (finished or _nothing)(results[path])
    return [results[path] for path in targets if path in results]


def _for_workers(settings: Settings, cluster: Cluster) -> tuple[Settings, int]:
    """Decide here what each worker would decide for itself, perhaps in another way; and tell its memory."""
    device = find_device(settings.device)
    precision = cast(Precision, find_precision(settings.precision, device))
    room = cluster.memory_per_task if settings.max_memory is None else settings.max_memory
    memory = room if device.type == "cpu" else settings.max_memory
    return replace(settings, precision=precision, max_memory=memory), room


def _as_recorded(settings: Settings, scale: Scale, how: Postprocessing | None) -> dict[str, Any]:
    """What the records say of results that are asked for."""
    precision = find_precision(settings.precision, find_device(settings.device))
    told = asked_entry(precision, Average(settings.average, settings.average_of), scale)
    return told | {"postprocessing": None if how is None else how.model_dump(mode="json")}


def _nothing(result: FileResult) -> None: ...


def _require_sense(kinds: Sequence[str], layout: str, changes: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other."""
    if layout == "ctc":
        more = [kind for kind in kinds if kind in ("probabilities", "outlines", "overlay")]
        if more:
            raise ConfigError(f"--layout ctc writes masks of objects only; drop --{more[0]} or --layout ctc")
    elif changes and not OF_OBJECTS & {*kinds}:
        option = _OPTIONS.get(next(iter(changes)), next(iter(changes)))
        raise ConfigError(
            f"{option} says how to find objects, but none are asked for; add --instances or --outlines"
        )


def _takes_blocks(
    path: Path,
    targets: Targets,
    header: ModelHeader,
    scale: Scale,
    how: Postprocessing,
    max_memory: int | None,
) -> bool:
    """Whether an image takes blocks: any OME-Zarr, a TIFF too large for memory, and one begun by blocks."""
    if is_store(path) or not reads_windows(path):
        return is_store(path)
    if is_unfinished(targets):
        return True
    needed = _bytes_in_memory(path, targets, header, scale, how)
    return needed > (available_memory() if max_memory is None else max_memory) / 4


def _bytes_in_memory(
    path: Path, targets: Targets, header: ModelHeader, scale: Scale, how: Postprocessing
) -> int:
    """Memory of an image and its results, were all of it there at once."""
    size, classes = image_size(path), max(header.architecture.classes, 2)
    pixels, (height, width) = size.height * size.width, scaled_size(size.height, size.width, scale)
    with_objects = bool(OF_OBJECTS & targets.keys())
    # One plane normalised and its probabilities, at both sizes if they differ, and its classes or objects.
    plane = 4 * height * width * (size.channels + classes)
    plane += (bytes_for_objects(how) if with_objects else 9) * pixels
    plane += 8 * classes * pixels if (height, width) != size[1:3] else 0
    # The image and the results of all planes; probabilities of a single one are counted already.
    stack = size.channels * size.dtype.itemsize + 1 + _BYTES_FOR_IDS * with_objects
    stack += 4 * classes * ("probabilities" in targets and size.planes > 1)
    return plane + stack * size.planes * pixels
