"""Networks converted for OpenVINO, kept on disk: a conversion takes seconds, reading it back a tenth of one.

An entry is one safetensors file: the weights as bytes, and in its header the description of the network
(OpenVINO's XML) and a checksum of both. It is named after everything it was made of, so that it is never out
of date, and read with nothing that could run code; a network that cannot be named so is not kept (see
`openvino.from_cache`). What is wrong with it, it is made anew: a cache may be deleted, damaged or unwritable
at any time.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs
import safetensors
import safetensors.numpy

from ushape.backends.runtime import core, import_openvino
from ushape.io import written_beside

if TYPE_CHECKING:
    import openvino

LARGEST_BYTES = 2_000_000_000
"""The entries used longest ago are deleted beyond it: sixteen networks of the paper's width."""


def cache_folder() -> Path:
    """Where entries are kept: `USHAPE_CACHE`, else the system's folder for such files of this user."""
    named = os.environ.get("USHAPE_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("ushape")


def key_of(parts: Iterable[str | bytes | memoryview]) -> str:
    """SHA-256 of everything a converted network depends on, in hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else memoryview(part)
        digest.update(len(data).to_bytes(8, "little"))  # else "ab", "c" would be "a", "bc"
        digest.update(data)
    return digest.hexdigest()


def cached(key: str, make: "Callable[[], openvino.Model]") -> "openvino.Model":
    """Read a converted network from the cache, or make it and keep it there.

    Parameters
    ----------
    key : str
        See `key_of`.
    make : callable
        Makes it; what it raises is passed on, and nothing is kept.
    """
    path = cache_folder() / f"{key}.safetensors"
    # A cache that fails must not be what makes a prediction fail, whatever the reason.
    with suppress(Exception):
        model = _read(path)
        with suppress(OSError):  # a folder may be readable alone
            os.utime(path)
        return model
    model = make()
    with suppress(Exception):  # OpenVINO has a RuntimeError for a full disk
        _write(path, model)
        _make_room(path)
    return model


def _read(path: Path) -> "openvino.Model":
    with safetensors.safe_open(path, framework="numpy") as entry:
        metadata, weights = entry.metadata(), entry.get_tensor("weights")
    if metadata["sha256"] != key_of([metadata["xml"], weights.data]):
        raise ValueError("damaged")
    # Copied, because the network would not keep an array of NumPy alive.
    return core().read_model(metadata["xml"], import_openvino().Tensor(weights))


def _write(path: Path, model: "openvino.Model") -> None:
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "model.xml"
        import_openvino().save_model(model, xml, compress_to_fp16=False)
        text, weights = xml.read_text(encoding="utf-8"), np.fromfile(xml.with_suffix(".bin"), np.uint8)
    metadata = {"xml": text, "sha256": key_of([text, weights.data])}
    with written_beside(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save({"weights": weights}, metadata=metadata))


def _make_room(newest: Path) -> None:
    """Delete entries, and nothing else: the folder that a person names may hold models, too."""
    entries = []
    for path in newest.parent.glob("*.safetensors"):
        if re.fullmatch("[0-9a-f]{64}", path.stem):
            with suppress(FileNotFoundError):  # another process makes room, too
                state = path.stat()
                entries.append((state.st_mtime, state.st_size, path))
    total = 0
    for _, size, path in sorted(entries, reverse=True):
        total += size
        if total > LARGEST_BYTES and path != newest:
            path.unlink(missing_ok=True)
