"""Results of earlier runs, by their records: what `--resume` keeps, and what `--overwrite` takes away."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ushape.config import PixelSize
from ushape.errors import OutputError
from ushape.io import image_size, written_at
from ushape.predict.targets import Targets, is_unfinished, possible_results

Record = dict[str, Any]

_PARTS = ("model", "image", "tiles")
"""What every record of ours has told, and annotations of other programs do not."""
_FIX = "give the options of that run, --overwrite to replace its results, or another folder"


def records_there(targets: Mapping[Path, Targets]) -> dict[Path, Record]:
    """Read the records that have the names of those to be written.

    Parameters
    ----------
    targets : dict
        Where the results of each image go, by kind.

    Returns
    -------
    dict
        Record of each image that has one.

    Raises
    ------
    OutputError
        If what has the name of a record is somebody else's: it is not ours to replace.
    """
    found = {image: _read(outputs["json"]) for image, outputs in targets.items()}
    return {image: record for image, record in found.items() if record is not None}


def results_there(
    targets: Mapping[Path, Targets],
    records: Mapping[Path, Record],
    same: Mapping[str, Any],
    model: str,
    pixel_size_um: PixelSize | None = None,
) -> dict[Path, Record]:
    """Find the images whose results are whole, by the record that is written last.

    What lies there without a record was left by a run that was killed, and is computed again.

    Parameters
    ----------
    targets : dict
        Where the results of each image go, by kind.
    records : dict
        See `records_there`.
    same : mapping
        What the records must say for their results to be those that are asked for now.
    model : str
        Hash of the model file.
    pixel_size_um : (float, float), optional
        That was stated.

    Returns
    -------
    dict
        Record of each image that is finished.

    Raises
    ------
    OutputError
        If results were made of another image, by another model or in another way, or some that are asked for
        are not there or not of that run.
    """
    whole = {image: record for image, record in records.items() if not is_unfinished(targets[image])}
    for image, record in whole.items():
        path = targets[image]["json"]
        if record["model"].get("sha256") != model:
            raise OutputError(f"--resume: {path} is of another model; {_FIX}")
        differing = [name for name, value in same.items() if record.get(name) != value]
        if differing:
            raise OutputError(f"--resume: {path} was made with another {differing[0]}; {_FIX}")
        _require_of(image, record["image"], pixel_size_um, path)
        _require_own(record, targets[image])
    return whole


def stale_results(targets: Mapping[Path, Targets], records: Mapping[Path, Record]) -> dict[Path, list[Path]]:
    """Results beside each record that would outlive it: listed there, and not among those to be written.

    Parameters
    ----------
    targets : dict
        Where the results of each image go, by kind.
    records : dict
        Those that are to be replaced; see `records_there`.

    Returns
    -------
    dict
        Paths by image. An image that is predicted now is never among them.
    """
    images = {image.resolve() for image in targets}
    stale: dict[Path, list[Path]] = {}
    for image, record in records.items():
        written, listed = {*targets[image].values()}, _own(record).values()
        # Of what we would write: a record that somebody changed cannot name other files to take away.
        left = [path for path in possible_results(targets[image]["json"]) if path.name in listed]
        stale[image] = [path for path in left if path not in written and path.resolve() not in images]
    return stale


def _own(record: Record) -> dict[str, Any]:
    """Names of the results of a record, by kind; none if an older version wrote it."""
    told = record.get("results")
    return told if isinstance(told, dict) else {}


def _require_own(record: Record, outputs: Targets) -> None:
    """Refuse results that are not there, or that lie beside the record of another run."""
    own, path = _own(record), outputs["json"]
    if not own:
        raise OutputError(
            f"--resume: {path} does not say which results are its own, as an older version wrote it; "
            "--overwrite replaces them, or choose another folder"
        )
    for kind, output in outputs.items():
        if kind != "json" and own.get(kind) != output.name:
            raise OutputError(f"--resume: {path} is of a run without {output.name}; {_FIX}")
        if not output.exists():
            raise OutputError(f"--resume: {path} is there, but {output} is not; {_FIX}")


def _require_of(image: Path, told: dict[str, Any], pixel_size_um: PixelSize | None, record: Path) -> None:
    """Refuse results of another image of that name, or of one that was written anew since."""
    size = image_size(image)
    now = size._asdict() | {"dtype": str(size.dtype)}
    if pixel_size_um is not None:
        now["pixel_size_um"] = [*pixel_size_um]
    is_another = Path(str(told.get("file"))).resolve() != image.resolve()
    if is_another or any(told.get(name) != value for name, value in now.items()):
        raise OutputError(f"--resume: {record} is of another image than {image}; {_FIX}")
    if written_at(image) > record.stat().st_mtime_ns:
        raise OutputError(f"--resume: {record} is older than {image}; {_FIX}")


def _read(path: Path) -> Record | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # whether it can be written is seen later
        return None
    except PermissionError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    except (OSError, ValueError):
        record = None
    if not (isinstance(record, dict) and all(isinstance(record.get(part), dict) for part in _PARTS)):
        raise OutputError(f"{path} is no record of a prediction; move it away, or choose another folder")
    return record
