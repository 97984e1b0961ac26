"""Processes that train together, whoever starts them: `ushape` itself, torchrun, or srun."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from ushape import UNet
from ushape.checkpoint import save_model
from ushape.config import ClassInfo, ModelHeader, UNetConfig

BIN = Path(sys.executable).parent
ALLOCATION = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_NODEID": "0", "SLURM_PROCID": "0"}
"""What the shell of `salloc --ntasks 8` has, where nothing was started by srun."""


def start_without_batch_norm(path: Path) -> Path:
    """A model file to start from; batch norm and dropout see which tiles a process has."""
    config = UNetConfig(width=4, depth=4, norm=None, dropout=0.0)  # 4 tiles in a step: even
    classes = tuple(ClassInfo(name=n, value=i, color=(i, i, i)) for i, n in enumerate("ab"))
    torch.manual_seed(0)
    header = ModelHeader(name="start", architecture=config, classes=classes)
    save_model(path, UNet.from_config(config), header)
    return path


@pytest.fixture(scope="module")
def words(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of five steps, but for its folder and the number of processes."""
    start = start_without_batch_norm(tmp_path_factory.mktemp("start") / "start.safetensors")
    # In bfloat16 sums of other tiles are rounded to three digits.
    where = ("--device", "cpu", "--precision", "fp32")
    options = ("--from", start, "--steps", 5, *where, "--seed", 3)
    return [str(BIN / "ushape"), "train", *map(str, (discs, *options))]


@pytest.fixture(scope="module")
def alone(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Folder and lines of the run of one process; it happens to be in an allocation of SLURM."""
    run = tmp_path_factory.mktemp("alone") / "run"
    (lines,) = together([[*words, "--output", str(run)]], [ALLOCATION])
    return run, lines


def by_ushape(words: list[str]) -> list[list[str]]:
    return together([words], [{}])


def by_ushape_in_one_task_of_srun(words: list[str]) -> list[list[str]]:
    return together([words], [ALLOCATION | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_LOCALID": "0"}])


def by_torchrun(words: list[str]) -> list[list[str]]:
    torchrun = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2", "--no-python"]
    return together([torchrun + words], [{}])


def by_srun(words: list[str]) -> list[list[str]]:
    """The two tasks with the variables that srun gives them on one machine, by `srun --ntasks 2`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {"SLURM_JOB_ID": "7", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost", "SLURM_NNODES": "1"}
    job |= {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "MASTER_PORT": port}
    tasks = [job | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in ("0", "1")]
    return together([words, words], tasks)


def together(commands: list[list[str]], variables: list[dict[str, str]]) -> list[list[str]]:
    """Lines that commands print which run at the same time, each with variables of its own."""
    started = [
        subprocess.Popen(
            command, env=os.environ | own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for command, own in zip(commands, variables, strict=True)
    ]
    try:
        ended = [(process, *process.communicate(timeout=300)) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, _, err in ended:
        assert process.returncode == 0, err
        assert "Traceback" not in err, err
        assert "Warning" not in err, err
    return [out.splitlines() for _, out, _ in ended]


@pytest.mark.parametrize("started", [by_ushape, by_ushape_in_one_task_of_srun, by_torchrun, by_srun])
def test_two_processes_train_what_one_trains(
    started, words: list[str], alone: tuple[Path, list[str]], tmp_path: Path
) -> None:
    first, *others = started([*words, "--output", str(tmp_path / "run"), "--devices", "2"])
    assert len(first) == len(alone[1]), "only the first process prints"
    assert not any(others)
    assert any("2 on each of 2 devices" in line for line in first)
    # The network of the last step and its running average, by the checkpoint that a resume would read.
    one, two = (
        safetensors.numpy.load_file(run / "checkpoint" / "tensors.safetensors")
        for run in (alone[0], tmp_path / "run")
    )
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], atol=1e-5, rtol=0, err_msg=name)
