"""Training checkpoints without a pickle: tensors in safetensors, all else in JSON, both in one folder.

Lightning hands over a nested dictionary: weights, optimiser state, counters of its loops, states of
callbacks. Every tensor in it goes into `tensors.safetensors` under its path; the rest goes into
`state.json`, where a tensor's place is taken by its path.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from ushape.errors import CheckpointError, OutputError
from ushape.io import name_whole, read_tensors, to_disk

TENSOR, TUPLE, ITEMS = "__tensor__", "__tuple__", "__items__"
_FIX = "train from the start, into another folder"
# What Lightning adds that is not a plain value; none of it is needed to go on.
_LEFT_OUT = ("hparams_type", "datamodule_hparams_type")


class SafeCheckpointIO(CheckpointIO):
    """Reads and writes the folder `checkpoint/` of a run; a kill or a power cut leaves the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to the folder `path`, replacing what was there in one step."""
        tensors: dict[str, Tensor] = {}
        state = _flatten({k: v for k, v in checkpoint.items() if k not in _LEFT_OUT}, "", tensors)
        target = Path(path)
        fresh = target.with_name(target.name + ".new")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            (fresh / "tensors.safetensors").write_bytes(safetensors.torch.save(tensors))
            to_disk(fresh / "tensors.safetensors")
            part = fresh / "state.part"
            part.write_text(json.dumps(state))
            name_whole(part, fresh / "state.json")  # `newest_whole` goes by it
            _replace_folder(fresh, target)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise OutputError(
                f"cannot write {target}: {error.strerror}; free some space, then go on with --resume"
            ) from error

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the folder `path`.

        Raises
        ------
        CheckpointError
            If there is no checkpoint, or it is damaged.
        """
        folder = newest_whole(Path(path))
        try:
            tensors = read_tensors(folder / "tensors.safetensors")
            restored = _restore(json.loads((folder / "state.json").read_text()), tensors)
        except (OSError, ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise CheckpointError(
                f"{path}: no training checkpoint that can be read ({reason}); {_FIX}"
            ) from error
        assert isinstance(restored, dict)
        return restored

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the folder `path`."""
        shutil.rmtree(path, ignore_errors=True)


def newest_whole(target: Path) -> Path:
    """Return the folder to read: `target`, or what a kill between two renames left of it."""
    for folder in (target, target.with_name(target.name + ".new"), target.with_name(target.name + ".old")):
        if (folder / "state.json").is_file():
            return folder
    return target


def _replace_folder(fresh: Path, target: Path) -> None:
    # A folder cannot be renamed over a full one; the old one steps aside, and `newest_whole` finds either.
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.rename(target, old)
    os.rename(fresh, target)
    to_disk(target.parent)  # before the old one goes
    shutil.rmtree(old, ignore_errors=True)


def _flatten(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().clone().contiguous()
        return {TENSOR: path}
    if isinstance(value, Mapping):
        # JSON keys are strings; optimiser states are keyed by integers.
        return {ITEMS: [[key, _flatten(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {TUPLE: [_flatten(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_flatten(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
    return value


def _restore(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_restore(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:
        return tensors[value[TENSOR]]
    if TUPLE in value:
        return tuple(_restore(item, tensors) for item in value[TUPLE])
    return {key: _restore(item, tensors) for key, item in value[ITEMS]}
