"""Files in, files out: what `ushape predict` does."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ushape.backends import Precision, available_memory
from ushape.checkpoint import model_hash, read_header
from ushape.config import ModelHeader, PixelSize, parse_bytes
from ushape.errors import ConfigError, DataError
from ushape.io import (
    image_size,
    is_store,
    output_folder,
    read_image,
    reads_windows,
    write_classes,
    write_csv,
    write_geojson,
    write_instances,
    write_json,
    write_overlay,
    write_probabilities,
)
from ushape.predict.averaging import Average
from ushape.predict.blocks import loaded
from ushape.predict.large import predict_large
from ushape.predict.record import object_rows, objects_in_words, record_of, speed, summary
from ushape.predict.scaling import find_scale
from ushape.predict.segmentation import Segmentation
from ushape.predict.targets import (
    Targets,
    all_or_none,
    find_inputs,
    require_free,
    require_one_image_each,
    targets_of,
)

Progress = Callable[[int, int, str], None]

_OF_OBJECTS = {"instances", "outlines"}
_OPTIONS = {
    "threshold": "--threshold",
    "min_area": "--min-area",
    "min_area_um2": "--min-area",
    "split": "--split",
    "fill_holes": "--fill-holes",
    "border": "--border",
    "foi_px": "--foi",
}
"""How settings of the post-processing are called on the command line."""
_LARGEST_CTC_ID = 65535


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
    """

    input: Path
    outputs: dict[str, Path]
    report: dict[str, Any]

    @property
    def summary(self) -> str:
        """One line: size, tiles, precision, objects, time."""
        return summary(self.input.name, self.report)

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
    device: str = "auto",
    progress: Progress | None = None,
    finished: Callable[[FileResult], None] | None = None,
) -> list[FileResult]:
    """Segment image files and write, for `a.tif`, `a_classes.tif`, `a.json` and what else is asked for.

    Parameters
    ----------
    model : path
        A model file.
    inputs : sequence of path
        Images, folders of images, globs. In a folder, results of ours beside their image are left out.
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
        Replace results that exist.
    progress : callable, optional
        Called after each tile with the tiles of this image done, their total, and the name of the image.
    finished : callable, optional
        Called with the result of each input when all its files are written. Results of an input are there
        all or, if anything comes between, not at all.

    Returns
    -------
    list of FileResult
        In the order of the inputs.

    Raises
    ------
    ImageFormatError
        If an input does not exist or cannot be read.
    DataError
        If the results of two inputs would have the same names, or an input does not fit the layout.
    OutputError
        If a result exists and `overwrite` is not given, or the folder cannot be written to; both before
        anything is computed.
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
    folder = Path(output)
    targets = {path: targets_of(path, folder, kinds, layout) for path in find_inputs(inputs)}
    require_one_image_each(targets)
    if not overwrite:
        require_free(targets)
    # A wrong model is found before a folder is made.
    header = read_header(model)
    how = header.postprocessing.changed(changes)
    find_scale(header, scale, pixel_size)
    memory = parse_bytes(max_memory) if isinstance(max_memory, str) else max_memory
    large = {path for path in targets if _takes_blocks(path, header, memory)}
    for path in sorted(large):
        _require_possible_in_blocks(path, kinds, layout, scale, pixel_size, precision)
    options: dict[str, Any] = {"scale": scale, "pixel_size": pixel_size, "postprocessing": changes}
    options |= {"average": average, "average_of": average_of}
    with output_folder(folder):
        identity = model_hash(model)
        segmenter = loaded(str(model), identity, device)
        results = []
        for number, (path, outputs) in enumerate(targets.items(), start=1):
            message = path.name if len(targets) == 1 else f"{path.name} ({number} of {len(targets)})"
            show = _named(progress, message)
            if path in large:
                record = predict_large(
                    str(model),
                    identity,
                    path,
                    outputs,
                    precision=precision,
                    max_memory=memory,
                    device=device,
                    average=(average, average_of),
                    postprocessing=how,
                    overwrite=overwrite,
                    progress=show,
                )
            else:
                started = time.perf_counter()
                with all_or_none(outputs.values()):
                    segmentation = segmenter(read_image(path), precision, memory, progress=show, **options)
                    (_write_frame if layout == "ctc" else _write_results)(segmentation, outputs)
                    record = record_of(segmentation, with_objects=bool(_OF_OBJECTS & outputs.keys()))
                    record["model"] |= {"file": str(model), "sha256": identity}
                    record |= speed(segmentation.image.planes[:, 0].size, time.perf_counter() - started)
                    write_json(outputs["json"], record)
            results.append(FileResult(path, outputs, record))
            if finished is not None:
                finished(results[-1])
    return results


def _require_sense(kinds: Sequence[str], layout: str, changes: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other."""
    if layout == "ctc":
        more = [kind for kind in kinds if kind in ("probabilities", "outlines", "overlay")]
        if more:
            raise ConfigError(f"--layout ctc writes masks of objects only; drop --{more[0]} or --layout ctc")
    elif changes and not _OF_OBJECTS & {*kinds}:
        option = _OPTIONS.get(next(iter(changes)), next(iter(changes)))
        raise ConfigError(
            f"{option} says how to find objects, but none are asked for; add --instances or --outlines"
        )


def _takes_blocks(path: Path, header: ModelHeader, max_memory: int | None) -> bool:
    """Whether an image is read and written block by block: any OME-Zarr, and a TIFF too large for memory."""
    if is_store(path) or not reads_windows(path):
        return is_store(path)
    size, classes = image_size(path), max(header.architecture.classes, 2)
    # One plane normalised, its probabilities and classes; the image and the classes of all planes.
    plane = size.height * size.width * (4 * (size.channels + classes) + 9)
    stack = size.planes * size.height * size.width * (size.channels * size.dtype.itemsize + 1)
    return plane + stack > (available_memory() if max_memory is None else max_memory) / 4


def _require_possible_in_blocks(
    path: Path,
    kinds: Sequence[str],
    layout: str,
    scale: float | None,
    pixel_size: Any,
    precision: str,
) -> None:
    asked = {f"--{kind}": kind in kinds for kind in ("overlay", "outlines")}
    asked |= {"--layout ctc": layout == "ctc", "--scale": scale is not None}
    asked |= {"--pixel-size": pixel_size is not None, "--precision int8": precision == "int8"}
    for option, is_asked in asked.items():
        if is_asked:
            raise ConfigError(f"{path} is predicted block by block, which {option} cannot be; drop {option}")


def _named(progress: Progress | None, message: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(done, total, message)


def _write_results(segmentation: Segmentation, targets: Targets) -> None:
    pixel_size = segmentation.image.pixel_size_um
    with_objects = bool(_OF_OBJECTS & targets.keys())
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
    if ids.max() > _LARGEST_CTC_ID:
        raise DataError(
            f"{segmentation.image.path} has {ids.max()} objects, but a mask of --layout ctc holds at most "
            f"{_LARGEST_CTC_ID}; drop small ones with --min-area, or drop --layout ctc"
        )
    write_instances(targets["instances"], ids, pixel_size_um=segmentation.image.pixel_size_um)
