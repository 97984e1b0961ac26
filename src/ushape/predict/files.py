"""Files in, files out: what `ushape predict` does."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np

from ushape.backends import Precision, peak_memory
from ushape.checkpoint import model_hash, read_header
from ushape.errors import DataError, ImageFormatError, OutputError
from ushape.io import (
    image_size,
    is_image,
    output_folder,
    read_image,
    write_classes,
    write_csv,
    write_instances,
    write_json,
    write_overlay,
    write_probabilities,
)
from ushape.predict.segmenter import Segmentation, Segmenter

Progress = Callable[[int, int, str], None]

_PNG_INPUTS = {".png", ".jpg", ".jpeg"}
_OUR_ENDINGS = ("_classes", "_probabilities", "_instances", "_overlay")
_OBJECT_COLUMNS = ("id", "class", "centroid_y", "centroid_x", "top", "left", "bottom", "right", "area_px")


@dataclass(frozen=True)
class FileResult:
    """What was made of one input file.

    Attributes
    ----------
    input : Path
    outputs : dict
        Path of each file written, by kind: "classes", "json" and, if asked for, "probabilities",
        "instances", "objects", "overlay".
    report : dict
        Content of the JSON file.
    """

    input: Path
    outputs: dict[str, Path]
    report: dict[str, Any]

    @property
    def summary(self) -> str:
        """One line: size, tiles, precision, objects, time."""
        size, tiles = self.report["image"], self.report["tiles"]
        planes = f"{size['planes']} x " if size["planes"] > 1 else ""
        keep = " x ".join(str(side) for side in dict.fromkeys(tiles["keep"]))
        parts = [
            f"{planes}{size['height']} x {size['width']} px",
            f"{tiles['number']} tiles of {keep}" if tiles["number"] > 1 else "1 tile",
            "exact" if self.report["precision"] != "bf16" else "bf16",
            f"{self.report['seconds']:.1f} s",
        ]
        if self.report["objects"] is not None:
            parts.insert(3, f"{self.report['objects']} objects")
        return f"{self.input.name}: {', '.join(parts)}"


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
        Also `a_overlay.png`: with `instances` outlines of objects, else class colours; of a stack its
        middle plane.
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
        If two inputs have the same stem, so that their results would have the same names.
    OutputError
        If a result exists and `overwrite` is not given, or the folder cannot be written to; both before
        anything is computed.
    CheckpointError, ShapeError, TilingError, ConfigError
        See `Segmenter`.
    """
    paths = find_inputs(inputs)
    options = {"instances": instances, "probabilities": probabilities, "overlay": overlay}
    kinds = ["classes", *(kind for kind, wanted in options.items() if wanted), "json"]
    folder = Path(output)
    targets = {path: _targets(path, folder, kinds) for path in paths}
    if not overwrite:
        _refuse_existing(targets)
    read_header(model)  # a wrong model is found before a folder is made
    with output_folder(folder):
        segmenter, identity = Segmenter.load(model, device=device), model_hash(model)
        results = []
        for number, path in enumerate(paths, start=1):
            message = path.name if len(paths) == 1 else f"{path.name} ({number} of {len(paths)})"
            started = time.perf_counter()
            with _all_or_none(targets[path].values()):
                segmentation = segmenter(
                    read_image(path), precision, max_memory, progress=_named(progress, message)
                )
                _write_results(segmentation, targets[path])
                report = _report(segmentation, instances)
                report["model"] |= {"file": str(model), "sha256": identity}
                report |= _speed(segmentation, time.perf_counter() - started)
                write_json(targets[path]["json"], report)
            results.append(FileResult(path, targets[path], report))
            if finished is not None:
                finished(results[-1])
    return results


def find_inputs(inputs: Sequence[str | Path]) -> list[Path]:
    """Image files named by paths, folders and globs, each once, in the order given.

    Raises
    ------
    ImageFormatError
        If a file does not exist, a folder holds no image, or a glob matches none.
    DataError
        If two different files have the same stem.
    """
    by_stem: dict[str, Path] = {}
    for one in inputs:
        for path in _expanded(one):
            other = by_stem.setdefault(path.stem, path)
            if other.resolve() != path.resolve():
                raise DataError(
                    f"{other} and {path} would both be written as {path.stem}_classes; rename one of them, "
                    "or predict them into different folders"
                )
    return list(by_stem.values())


def _expanded(one: str | Path) -> Iterator[Path]:
    path = Path(one)
    if path.is_dir():
        found = [entry for entry in sorted(path.iterdir()) if is_image(entry) and not _is_result(entry)]
        if not found:
            raise ImageFormatError(f"{path}: no image in this folder; give TIFF, PNG, JPEG, BMP or GIF files")
    elif path.exists() or not any(mark in str(one) for mark in "*?["):
        found = [path]
    else:
        found = [Path(name) for name in sorted(glob(str(one), recursive=True)) if is_image(name)]
        if not found:
            raise ImageFormatError(f"{one}: no image matches; check the pattern")
    yield from found


def _is_result(path: Path) -> bool:
    """Whether a file is a result of ours whose JSON file lies beside it."""
    stems = [path.stem.removesuffix(ending) for ending in _OUR_ENDINGS if path.stem.endswith(ending)]
    return any(path.with_name(f"{stem}.json").exists() for stem in stems)


def _targets(path: Path, folder: Path, kinds: list[str]) -> dict[str, Path]:
    planes = image_size(path).planes  # also finds a file that is no image before anything is computed
    classes = ".png" if path.suffix.lower() in _PNG_INPUTS and planes == 1 else ".tif"
    endings = {
        "classes": f"_classes{classes}",
        "probabilities": "_probabilities.tif",
        "instances": "_instances.tif",
        "objects": "_objects.csv",
        "overlay": "_overlay.png",
        "json": ".json",
    }
    wanted = {*kinds, "objects"} if "instances" in kinds else {*kinds}
    return {kind: folder / f"{path.stem}{end}" for kind, end in endings.items() if kind in wanted}


def _refuse_existing(targets: dict[Path, dict[str, Path]]) -> None:
    there = [path for outputs in targets.values() for path in outputs.values() if path.exists()]
    if there:
        missing = [one.name for one, outputs in targets.items() if not {*there} & {*outputs.values()}]
        fixes = ["add --overwrite to replace it"]
        if missing:  # an earlier run was interrupted
            names = ", ".join(missing[:3] + ["..."] * (len(missing) > 3))
            fixes.append(f"give only the {len(missing)} of {len(targets)} inputs without results ({names})")
        raise OutputError(f"{there[0]} exists; {', '.join(fixes)}, or choose another folder")


@contextmanager
def _all_or_none(paths: Iterable[Path]) -> Iterator[None]:
    """Take away what is new among the results of an input, unless all get written.

    Else they would stand in the way when the input is given again.
    """
    new = [path for path in paths if not path.exists()]
    try:
        yield
    except BaseException:  # Ctrl-C too
        for path in new:
            path.unlink(missing_ok=True)
        raise


def _named(progress: Progress | None, message: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(done, total, message)


def _write_results(segmentation: Segmentation, targets: dict[str, Path]) -> None:
    pixel_size = segmentation.image.pixel_size_um
    segmentation.compute(probabilities="probabilities" in targets, instances="instances" in targets)
    colors = [info.color for info in segmentation.header.classes]
    write_classes(targets["classes"], segmentation.classes, colors=colors, pixel_size_um=pixel_size)
    if "probabilities" in targets:
        write_probabilities(targets["probabilities"], segmentation.probabilities, pixel_size_um=pixel_size)
    if "instances" in targets:
        write_instances(targets["instances"], segmentation.instances(), pixel_size_um=pixel_size)
        write_csv(targets["objects"], *_object_table(segmentation))
    if "overlay" in targets:
        write_overlay(targets["overlay"], segmentation.overlay(objects="instances" in targets))


def _object_table(segmentation: Segmentation) -> tuple[list[str], list[list[Any]]]:
    classes = segmentation.header.classes
    is_stack, pixel_area = segmentation.image.is_stack, _pixel_area(segmentation)
    header = [*_OBJECT_COLUMNS, *(["area_um2"] if pixel_area else []), *(["plane"] if is_stack else [])]
    rows = []
    for plane, one in segmentation.objects():
        centroid = [f"{one.centroid_y:.2f}", f"{one.centroid_x:.2f}"]
        row = [one.id, classes[one.class_index].name, *centroid, *one[4:]]
        row += [f"{one.area_px * pixel_area:.4f}"] if pixel_area else []
        rows.append(row + ([plane] if is_stack else []))
    return header, rows


def _report(segmentation: Segmentation, with_objects: bool) -> dict[str, Any]:
    image, plan = segmentation.image, segmentation.plan
    count, channels, height, width = image.planes.shape
    geometry = segmentation.backend.geometry
    notes = [*segmentation.notes]
    if image.is_stack:
        notes.append("planes are segmented one by one; an overlay shows the middle one")
    return {
        "model": {"name": segmentation.header.name},
        "image": {
            "file": str(image.path),
            "planes": count,
            "height": height,
            "width": width,
            "channels": channels,
            "dtype": str(image.array.dtype),
            "pixel_size_um": image.pixel_size_um,
        },
        "tiles": {
            "number": len(plan),
            "keep": plan.keep,
            "input": plan.input,
            "margin": geometry.margin,
            "period": geometry.period,
            "reason": plan.reason,
        },
        "precision": segmentation.precision,
        "device": str(segmentation.backend.device),
        "average": "none",
        "classes": _class_areas(segmentation),
        "objects": len(segmentation.objects()) if with_objects else None,
        "notes": notes,
    }


def _speed(segmentation: Segmentation, seconds: float) -> dict[str, float]:
    count, _, height, width = segmentation.image.planes.shape
    return {
        "seconds": seconds,
        "megapixels_per_s": count * height * width / 1e6 / seconds,
        "peak_memory_bytes": peak_memory(),
    }


def _class_areas(segmentation: Segmentation) -> list[dict[str, Any]]:
    classes = segmentation.header.classes
    counts = np.bincount(segmentation.classes.ravel(), minlength=len(classes)).tolist()
    pixel_area = _pixel_area(segmentation)
    return [
        {"index": index, "name": info.name, "area_px": counts[index]}
        | ({"area_um2": counts[index] * pixel_area} if pixel_area else {})
        for index, info in enumerate(classes)
    ]


def _pixel_area(segmentation: Segmentation) -> float | None:
    """Area of a pixel in square micrometres, where the file says so."""
    size = segmentation.image.pixel_size_um
    return None if size is None else size[0] * size[1]
