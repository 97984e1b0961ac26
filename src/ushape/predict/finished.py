"""Results of an earlier run, which the same command with `--resume` keeps."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ushape.config import PixelSize
from ushape.errors import OutputError
from ushape.io import image_size, written_at
from ushape.predict.targets import Targets, is_unfinished

_FIX = "give the options of that run, --overwrite to replace its results, or another folder"


def results_there(
    targets: Mapping[Path, Targets],
    same: Mapping[str, Any],
    model: str,
    pixel_size_um: PixelSize | None = None,
) -> dict[Path, dict[str, Any]]:
    """Find the images whose results are whole, by the record that is written last.

    What lies there without a record was left by a run that was killed, and is computed again.

    Parameters
    ----------
    targets : dict
        Where the results of each image go, by kind.
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
        are not there.
    """
    found: dict[Path, dict[str, Any]] = {}
    for image, outputs in targets.items():
        record = _read(outputs["json"])
        if record is None or is_unfinished(outputs):
            continue
        if record["model"].get("sha256") != model:
            raise OutputError(f"--resume: {outputs['json']} is of another model; {_FIX}")
        differing = [name for name, value in same.items() if record.get(name) != value]
        if differing:
            raise OutputError(f"--resume: {outputs['json']} was made with another {differing[0]}; {_FIX}")
        _require_of(image, record["image"], pixel_size_um, outputs["json"])
        missing = [path for path in outputs.values() if not path.exists()]
        if missing:
            raise OutputError(f"--resume: {outputs['json']} is there, but {missing[0]} is not; {_FIX}")
        found[image] = record
    return found


def _require_of(image: Path, told: dict[str, Any], pixel_size_um: PixelSize | None, record: Path) -> None:
    """Refuse results of another image of that name, or of one that was written anew since."""
    size = image_size(image)
    now = size._asdict() | {"dtype": str(size.dtype)}
    if pixel_size_um is not None:
        now["pixel_size_um"] = [*pixel_size_um]
    is_another = Path(told["file"]).resolve() != image.resolve()
    if is_another or any(told.get(name) != value for name, value in now.items()):
        raise OutputError(f"--resume: {record} is of another image than {image}; {_FIX}")
    if written_at(image) > record.stat().st_mtime_ns:
        raise OutputError(f"--resume: {record} is older than {image}; {_FIX}")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict) or not {"model", "image"} <= record.keys():
        raise OutputError(f"--resume: {path} is no record of a prediction; choose another folder")
    return record
