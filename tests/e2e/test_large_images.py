"""`ushape predict` on an OME-Zarr, killed in the middle and given again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from ushape import UNet
from ushape.checkpoint import save_model
from ushape.config import ClassInfo, ModelHeader, UNetConfig
from ushape.io import create_store, read_labels

MAIN = "from ushape.cli import main; main()"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    classes = (
        ClassInfo(name="background", value=0, color=(0, 0, 0)),
        ClassInfo(name="cell", value=255, color=(255, 80, 0)),
    )
    architecture = UNetConfig(width=4, depth=1)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(
        path, UNet(width=4, depth=1), ModelHeader(name="s", architecture=architecture, classes=classes)
    )
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_killed_run_goes_on_and_computes_no_block_twice(model: Path, version: str, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4500, 2300), dtype=np.uint8)
    source = tmp_path / "a.ome.zarr"
    create_store(source, "YX", image.shape, np.uint8, (512, 512), version=version)[0][:] = image

    def words(output: str) -> list[str]:
        more = ["--output", str(tmp_path / output), "--instances", "--precision", "fp32", "--device", "cpu"]
        return [sys.executable, "-c", MAIN, "predict", str(model), str(source), *more]

    whole = subprocess.run(words("whole"), capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(words("out"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    unfinished = tmp_path / "out" / ".a.unfinished"
    while len([*unfinished.glob("*/done/0*.json")]) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = len([*unfinished.glob("*/done/0*.json")])
    assert not (tmp_path / "out" / "a_classes.ome.zarr").exists()

    again = subprocess.run(words("out"), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert f"went on with {kept} of 3 blocks" in " ".join(again.stdout.split())
    assert not list((tmp_path / "out").glob(".*"))
    for kind in ("classes", "instances"):
        results = [tmp_path / folder / f"a_{kind}.ome.zarr" for folder in ("whole", "out")]
        np.testing.assert_array_equal(*(read_labels(path).array for path in results))
        levels = [zarr.open_group(str(path), mode="r")["s2"][:] for path in results]
        np.testing.assert_array_equal(*levels)
    tables = [(tmp_path / folder / "a_objects.csv").read_bytes() for folder in ("whole", "out")]
    assert tables[0] == tables[1]


def test_two_processes_write_what_one_writes(model: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2300, 2300), dtype=np.uint8)
    source = tmp_path / "a.ome.zarr"
    create_store(source, "YX", image.shape, np.uint8, (512, 512), version="0.5")[0][:] = image
    written = []
    for more in ([], ["--workers", "2"]):
        out = tmp_path / f"out{len(more)}"
        words = ["predict", str(model), str(source), "-o", str(out), "--precision", "fp32", "--device", "cpu"]
        done = subprocess.run([sys.executable, "-c", MAIN, *words, *more], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("a.ome.zarr: 2300 x 2300")
        written.append(read_labels(out / "a_classes.ome.zarr").array)
    np.testing.assert_array_equal(*written)
