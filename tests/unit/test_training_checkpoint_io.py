"""Training checkpoints: any nesting Lightning hands over comes back, and no pickle is involved."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ushape.errors import CheckpointError
from ushape.training.checkpoint_io import SafeCheckpointIO, newest_whole

STATE: dict[str, Any] = {
    "global_step": 12,
    "state_dict": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)},
    "optimizer_states": [
        {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]}
    ],
    "loops": {"fit_loop": {"state": {}, "done": None, "flag": True}},
}


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def test_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoints = SafeCheckpointIO()
    checkpoints.save_checkpoint(STATE, tmp_path / "checkpoint")
    assert same(STATE, checkpoints.load_checkpoint(tmp_path / "checkpoint"))


def test_the_folder_holds_safetensors_and_json_only(tmp_path: Path) -> None:
    SafeCheckpointIO().save_checkpoint(STATE, tmp_path / "checkpoint")
    assert sorted(p.name for p in (tmp_path / "checkpoint").iterdir()) == [
        "state.json",
        "tensors.safetensors",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_a_second_checkpoint_replaces_the_first(tmp_path: Path) -> None:
    checkpoints = SafeCheckpointIO()
    checkpoints.save_checkpoint(STATE, tmp_path / "checkpoint")
    checkpoints.save_checkpoint(STATE | {"global_step": 99}, tmp_path / "checkpoint")
    assert checkpoints.load_checkpoint(tmp_path / "checkpoint")["global_step"] == 99


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of open files are in /proc")
def test_all_is_on_the_disk_before_the_old_one_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut leaves cannot be tried here; the order of what is asked of the disk can."""
    done: list[str] = []
    fsync, rename, rmtree = os.fsync, os.rename, shutil.rmtree

    def noted_fsync(number: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{number}')).name}")
        fsync(number)

    def noted_rename(one: Path, other: Path) -> None:
        done.append(f"{one.name} -> {other.name}")
        rename(one, other)

    def noted_rmtree(path: Path, **options: bool) -> None:
        done.append(f"remove {path.name}")
        rmtree(path, **options)

    checkpoints = SafeCheckpointIO()
    checkpoints.save_checkpoint(STATE, tmp_path / "checkpoint")
    monkeypatch.setattr("os.fsync", noted_fsync)
    monkeypatch.setattr("os.rename", noted_rename)
    monkeypatch.setattr("shutil.rmtree", noted_rmtree)
    checkpoints.save_checkpoint(STATE, tmp_path / "checkpoint")
    assert done[-6:] == [
        "sync checkpoint.new",
        "remove checkpoint.old",
        "checkpoint -> checkpoint.old",
        "checkpoint.new -> checkpoint",
        f"sync {tmp_path.name}",
        "remove checkpoint.old",
    ]
    assert done[:-6] == ["remove checkpoint.new", "sync tensors.safetensors", "sync state.part"]


@pytest.mark.parametrize("left", ["checkpoint.new", "checkpoint.old"])
def test_a_kill_between_two_renames_loses_nothing(tmp_path: Path, left: str) -> None:
    checkpoints = SafeCheckpointIO()
    checkpoints.save_checkpoint(STATE, tmp_path / "checkpoint")
    (tmp_path / "checkpoint").rename(tmp_path / left)
    assert newest_whole(tmp_path / "checkpoint").name == left
    assert same(STATE, checkpoints.load_checkpoint(tmp_path / "checkpoint"))


def test_what_a_kill_left_half_written_is_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        SafeCheckpointIO().save_checkpoint(STATE, tmp_path / "checkpoint")
    assert (tmp_path / "checkpoint.new").is_dir()
    assert not newest_whole(tmp_path / "checkpoint").exists()


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    checkpoints = SafeCheckpointIO()
    checkpoints.save_checkpoint(STATE, tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="no training checkpoint that can be read"):
        checkpoints.load_checkpoint(tmp_path / "checkpoint")
