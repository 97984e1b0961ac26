"""Which images are predicted, and which files their results become."""

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from glob import glob, has_magic
from pathlib import Path
from unicodedata import normalize

from ushape.errors import ConfigError, DataError, ImageFormatError, OutputError
from ushape.io import holds_image, image_size, is_store, reads_windows, stem_of

LAYOUTS = ("plain", "ctc")
"""Names of results: after the image in one folder, or as the Cell Tracking Challenge wants them."""

OF_OBJECTS = {"instances", "outlines"}
"""Results for which objects are looked for."""
_PNG_INPUTS = {".png", ".jpg", ".jpeg"}
_ENDINGS = {
    "probabilities": "_probabilities.tif",
    "instances": "_instances.tif",
    "objects": "_objects.csv",
    "outlines": "_outlines.geojson",
    "overlay": "_overlay.png",
    "json": ".json",
}
_STORES = ("classes", "probabilities", "instances")
"""Results that are OME-Zarr if the image is."""
_ALL_ENDINGS = (
    "_classes.png",
    "_classes.tif",
    *(end for kind, end in _ENDINGS.items() if kind != "json"),
    *(f"_{kind}.ome.zarr" for kind in _STORES),
)
"""Of all that can lie beside a record in the layout "plain"."""
_LARGEST_CTC_ID = 65535
_IN_HAND = ".in-hand-"
_OUR_PICTURES = re.compile(r"(.+)_(?:classes|probabilities|instances|overlay)")

Targets = dict[str, Path]


def find_inputs(inputs: Sequence[str | Path]) -> list[Path]:
    """Image files named by paths, folders and globs, each once, in the order given.

    In folders and globs, results of ours beside their record or their image are left out. So are named ones
    beside their record, if their image is named, too: then a shell expanded a glob.

    Raises
    ------
    ImageFormatError
        If a file does not exist, a folder holds no image, or a glob matches none.
    """
    found: dict[Path, Path] = {}
    for one in inputs:
        for path in _expanded(one):
            found.setdefault(path.parent.resolve() / path.name, path)
    images = {place.parent / stem_of(place) for place in found}
    return [path for place, path in found.items() if not (_has_record(place) and _image_of(place) in images)]


def targets_of(path: Path, folder: Path, kinds: Sequence[str], layout: str) -> Targets:
    """Files that the results of an image become, by kind.

    Parameters
    ----------
    path : Path
        The image.
    folder : Path
        For the results.
    kinds : sequence of str
        Of the layout "plain": "classes", "probabilities", "instances" (which brings "objects"), "outlines",
        "overlay", "json".
    layout : {"plain", "ctc"}
        "ctc": `01/t007.tif` becomes `01_RES/mask007.tif`, and `mask007.json` beside it.

    Raises
    ------
    ImageFormatError
        If the image cannot be opened.
    DataError
        If it is no frame of the Cell Tracking Challenge, with the layout "ctc".
    ConfigError
        If the layout is not known.
    """
    planes = image_size(path).planes  # also finds a file that is no image before anything is computed
    if layout == "ctc":
        return _frame_targets(path, folder, planes)
    if layout != "plain":
        raise ConfigError(f"layout {layout!r} is not known; use {' or '.join(LAYOUTS)}")
    # By its content, too: a TIFF of another name may be too large for a PNG.
    is_small = path.suffix.lower() in _PNG_INPUTS and planes == 1 and not reads_windows(path)
    classes = ".png" if is_small else ".tif"
    wanted = {*kinds, "objects"} if "instances" in kinds else {*kinds}
    endings = {"classes": f"_classes{classes}"} | _ENDINGS
    if is_store(path):
        endings |= {kind: f"_{kind}.ome.zarr" for kind in _STORES}
    return {kind: folder / f"{stem_of(path)}{end}" for kind, end in endings.items() if kind in wanted}


def possible_results(record: Path) -> list[Path]:
    """All names that results beside a record can have in the layout "plain"."""
    return [record.with_name(f"{record.stem}{end}") for end in _ALL_ENDINGS]


def unfinished(targets: Targets) -> Path:
    """Folder in which the results of an image larger than memory grow."""
    return targets["json"].with_name(f".{targets['json'].stem}.unfinished")


def is_unfinished(targets: Targets) -> bool:
    """Whether a run was interrupted that can be gone on with."""
    folder = unfinished(targets)
    return (folder / "plan.json").exists() and any([*folder.glob("*/classes"), *folder.glob("whole.json")])


def clear(folder: Path) -> None:
    """Take away the folder of a run, its plan first: what a kill leaves of it is no run to go on with."""
    (folder / "plan.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def aside(targets: Targets, command: str) -> Targets:
    """Names in a hidden folder of a command beside the results, for a process that may be killed."""
    folder = targets["json"].with_name(f".{targets['json'].stem}{_IN_HAND}{command}")
    return {kind: folder / target.name for kind, target in targets.items()}


def drop(targets: Targets, command: str) -> None:
    """Take away what a process left aside that did not come to its end."""
    shutil.rmtree(aside(targets, command)["json"].parent, ignore_errors=True)


def drop_all(targets: Iterable[Targets]) -> None:
    """Take away what earlier commands left aside of these results."""
    hidden = {one["json"].with_name(f".{one['json'].stem}") for one in targets}
    for folder in {path.parent for path in hidden}:
        for path in folder.glob(f".*{_IN_HAND}*"):
            if path.with_name(path.name.rpartition(_IN_HAND)[0]) in hidden:
                shutil.rmtree(path, ignore_errors=True)


def move(folder: Path, targets: Targets) -> None:
    """Give results their names, all but the record; they are called by their kinds in `folder`.

    What is not there was moved before: after a kill in the middle it goes on.
    """
    for kind, target in targets.items():
        made = folder / kind
        if target.suffix == ".tif":
            made = made.with_suffix(".tif")
        if kind != "json" and made.exists():
            replace(made, target)


def require_replaceable(made: Path, target: Path) -> None:
    """Refuse to put a file in the place of a folder: no result of ours has been there.

    Raises
    ------
    OutputError
    """
    if target.is_dir() and not made.is_dir():
        raise OutputError(
            f"cannot write {target}: a folder has that name; move it away, or choose another folder"
        )


def replace(made: Path, target: Path) -> None:
    """Give a file or a folder its name, in place of what has it; see `require_replaceable`."""
    require_replaceable(made, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        _take_away(target)
    made.replace(target)


def remove(results: Iterable[Path]) -> None:
    """Take away results that are there; a folder of such a name that is no OME-Zarr is not one of ours."""
    for path in results:
        if path.is_file() or is_store(path):
            _take_away(path)


def _take_away(path: Path) -> None:
    """Take away a file or a folder; of a link the link alone: a disk elsewhere is not ours to clear."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _frame_targets(path: Path, folder: Path, planes: int) -> Targets:
    match = re.fullmatch(r"t(\d{3,})", stem_of(path))
    if match is None:
        raise DataError(
            f"{path} is not named tNNN.tif, as --layout ctc wants it; rename it, or drop --layout ctc"
        )
    if planes > 1:
        raise DataError(f"{path} has {planes} planes; --layout ctc takes frames of one: drop --layout ctc")
    # Of a link its own name, not that of the folder it leads to.
    sequence = os.path.basename(os.path.abspath(path.parent))
    results = folder / f"{sequence}_RES"
    return {"instances": results / f"mask{match[1]}.tif", "json": results / f"mask{match[1]}.json"}


def require_frame_numbers(path: Path | None, objects: int) -> None:
    """Refuse more objects than a mask of the Cell Tracking Challenge, of 16 bits, can number.

    Raises
    ------
    DataError
    """
    if objects > _LARGEST_CTC_ID:
        raise DataError(
            f"{path} has {objects} objects, but a mask of --layout ctc holds at most {_LARGEST_CTC_ID}; drop "
            "small ones with --min-area and --overwrite, or drop --layout ctc"
        )


def require_one_image_each(targets: dict[Path, Targets]) -> None:
    """Refuse two images whose results would have the same names, or names that many disks take for the same.

    Raises
    ------
    DataError
    """
    sources: dict[str, Path] = {}
    for path, outputs in targets.items():
        # Those of macOS and Windows do not tell A from a, that of macOS not two spellings of one letter.
        other = sources.setdefault(normalize("NFC", str(outputs["json"]).casefold()), path)
        if other != path:
            name = next(iter(outputs.values())).stem
            where = "" if targets[other]["json"] == outputs["json"] else " where capitals do not count"
            raise DataError(
                f"{other} and {path} would both be written as {name}{where}; rename one of them, or predict "
                "them into different folders"
            )


def require_free(targets: dict[Path, Targets]) -> None:
    """Refuse to replace what exists.

    Raises
    ------
    OutputError
        Naming the first file that exists, and the inputs without results.
    """
    there = [
        path
        for outputs in targets.values()
        if not is_unfinished(outputs)
        for path in outputs.values()
        if path.exists()
    ]
    if there:
        missing = [one.name for one, outputs in targets.items() if not {*there} & {*outputs.values()}]
        fixes = ["add --overwrite to replace it"]
        if missing:  # an earlier run was interrupted
            names = ", ".join(missing[:3] + ["..."] * (len(missing) > 3))
            left = f"the {len(missing)} of {len(targets)} inputs without results ({names})"
            fixes.append(f"--resume to go on with {left}")
        raise OutputError(f"{there[0]} exists; {', '.join(fixes)}, or choose another folder")


def _expanded(one: str | Path) -> list[Path]:
    path = Path(one)
    if path.is_dir() and not is_store(path):
        found = _without_results(sorted(path.iterdir()))
        if not found:
            raise ImageFormatError(
                f"{path}: no image in this folder; give TIFF, PNG, JPEG, BMP, GIF or OME-Zarr"
            )
        return found
    if path.exists() or not has_magic(str(one)):
        return [path]
    found = _without_results(map(Path, sorted(glob(str(one), recursive=True))))
    if not found:
        raise ImageFormatError(f"{one}: no image matches, results of ours aside; check the pattern")
    return found


def _without_results(paths: Iterable[Path]) -> list[Path]:
    """Images among paths, but no result that has its record beside it, or its image among them."""
    found = [path for path in paths if holds_image(path)]
    images = {path.parent / stem_of(path) for path in found}
    return [path for path in found if not _has_record(path) and _image_of(path) not in images]


def _image_of(path: Path) -> Path | None:
    """The image, without its ending, if a file has the name of a result of one."""
    named = _OUR_PICTURES.fullmatch(stem_of(path))
    return None if named is None else path.parent / named[1]


def _has_record(path: Path) -> bool:
    """Whether a file has the name of a result, and the JSON file that goes with it lies beside it."""
    image = _image_of(path)
    return image is not None and image.with_name(f"{image.name}.json").exists()
