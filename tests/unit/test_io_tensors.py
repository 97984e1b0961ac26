"""Tensors come back as they were written, and a Ctrl-C while they are read stays one."""

import random
import signal
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from ushape.io import read_tensors

TENSORS = {
    **{f"level{number}.weight": torch.randn(8, 3, 3) for number in range(100)},
    "half": torch.randn(5).bfloat16(),
    "double": torch.randn(2, 2, dtype=torch.float64),
    "steps": torch.tensor(7),
    "empty": torch.zeros(0, 4),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    safetensors.torch.save_file(TENSORS, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_tensors_are_those_that_were_written(path: Path) -> None:
    read = read_tensors(path)
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        torch.testing.assert_close(read[name], tensor, rtol=0, atol=0)


# What comes between the opening of a file and the block that closes it leaves it to Python.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_ctrl_c_is_not_taken_for_a_damaged_file(path: Path) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before, draw, interrupted = signal.signal(signal.SIGALRM, interrupt), random.Random(0), 0
    try:
        for _ in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-4, 2e-3))
                deadline = time.monotonic() + 1
                while time.monotonic() < deadline:
                    read_tensors(path)
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # One that comes while Python takes an object away is told on the screen, and lost.
    assert interrupted >= 190
