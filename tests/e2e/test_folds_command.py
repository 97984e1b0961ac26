"""`ushape train --folds`: broken off, gone on with, and its ensemble used like any model."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SMALL = ("--folds", 2, "--steps", 5, "--width", 2, "--device", "cpu", "--seed", 3)


@pytest.mark.usefixtures("ctrl_c_at_its_default")
def test_a_cross_validation_broken_off_and_its_ensemble(discs: Path, ushape, tmp_path: Path) -> None:
    words = ["train", discs, "--output", tmp_path / "run", *SMALL]
    broken_off(words, tmp_path / "run" / "fold-1" / "out-of-fold.csv", tmp_path / "run")
    resumed = ushape(*words, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "fold 2 of 2" in resumed.stdout
    model = tmp_path / "run" / "model.safetensors"
    assert f"ensemble of all folds: {model}" in resumed.stdout
    with (tmp_path / "run" / "folds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["image"] for row in rows) == [*["all"] * 3, *(f"d{number}" for number in range(5))]
    assert rows[-1]["fold"] == "all"
    out = tmp_path / "out"
    done = ushape("predict", model, discs / "images" / "d0.png", "--output", out, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "d0.json").read_text())["model"]["members"] == 2
    assert np.asarray(Image.open(out / "d0_classes.png")).shape == (96, 120)


def broken_off(words: list[object], awaited: Path, output: Path) -> None:
    """Press Ctrl-C as soon as a file is there; see that what is said helps to go on."""
    command = [str(Path(sys.executable).with_name("ushape")), *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not awaited.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert not (output / "report.html").exists(), "it ended before it was broken off"
    said = out + err
    assert "to go on: ushape train" in said
    assert "--folds 2" in said
    assert "--resume" in said
