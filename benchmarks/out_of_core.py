"""Memory and time of images larger than memory, and what a kill costs.

    python benchmarks/out_of_core.py --sides 4096 16384 32768 --max-memory 3GB

Each image is a synthetic OME-Zarr; the network is narrow, with random weights. Each prediction is a process
of its own, whose peak resident memory the system reports; sampled windows are compared with a reference path:
the window and its margin, read by zarr, normalised over the whole image and passed through PyTorch at once.
The last line kills a run in the middle with SIGKILL, gives the command again and counts the blocks that were
computed twice.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import zarr

from machine import circumstances
from ushape import UNet
from ushape.checkpoint import save_model
from ushape.config import ClassInfo, ModelHeader, UNetConfig
from ushape.io import create_store

CHUNK, WINDOW = 1024, 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[4096, 16384, 32768])
    parser.add_argument("--max-memory", default="3GB")
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument(
        "--folder", type=Path, help="where images and results go; a temporary one if not given"
    )
    arguments = parser.parse_args()
    print(circumstances(("torch", "zarr", "openvino"), f"{len(os.sched_getaffinity(0))} cores"))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        network = write_model(folder / "model.safetensors", arguments.width, arguments.depth)
        print(f"width {arguments.width}, depth {arguments.depth}, --max-memory {arguments.max_memory}, fp32")
        print(f"{'side':>6} {'blocks':>7} {'peak MB':>8} {'seconds':>8} {'Mpx/s':>6}  labels as reference")
        for side in arguments.sides:
            image = synthetic(folder / "a.ome.zarr", side)
            started = time.perf_counter()
            subprocess.run(command(folder, arguments.max_memory), check=True)
            seconds = time.perf_counter() - started
            record = json.loads((folder / "out" / "a.json").read_text())
            equal = compared(folder, image, network)
            print(
                f"{side:>6} {record['blocks']['number']:>7} {record['peak_memory_bytes'] / 1e6:>8.0f} "
                f"{seconds:>8.1f} {side**2 / 1e6 / seconds:>6.2f}  {equal:.4%}"
            )
            shutil.rmtree(folder / "out")
        print(killed(folder, arguments.max_memory))


def write_model(path: Path, width: int, depth: int) -> UNet:
    torch.manual_seed(0)
    network = UNet(width=width, depth=depth).eval()
    names = ("background", "object")
    classes = tuple(ClassInfo(name=name, value=i, color=(200 * i, 0, 0)) for i, name in enumerate(names))
    architecture = UNetConfig(width=width, depth=depth)
    save_model(path, network, ModelHeader(name="synthetic", architecture=architecture, classes=classes))
    return network


def synthetic(path: Path, side: int):
    """Waves and noise, chunk by chunk."""
    image = create_store(path, "YX", (side, side), np.uint8, (CHUNK, CHUNK), version="0.5")[0]
    x = np.sin(np.arange(side) / 7)
    for top in range(0, side, CHUNK):
        rows = np.arange(top, min(top + CHUNK, side))
        noise = np.random.default_rng(top).normal(0, 20, (len(rows), side))
        values = 128 + 60 * np.sin(rows / 11)[:, None] * x + noise
        image[top : top + CHUNK] = np.clip(values, 0, 255).astype(np.uint8)
    return image


def command(folder: Path, max_memory: str) -> list[str]:
    words = ["predict", folder / "model.safetensors", folder / "a.ome.zarr", "--output", folder / "out"]
    words += ["--max-memory", max_memory, "--precision", "fp32", "--device", "cpu", "--quiet"]
    return [sys.executable, "-c", "from ushape.cli import main; main()", *map(str, words)]


def compared(folder: Path, image, network: UNet) -> float:
    """Share of equal labels in windows, some of them at the border and across blocks."""
    found = zarr.open_group(str(folder / "out" / "a_classes.ome.zarr"), mode="r")["s0"]
    side, margin, period = image.shape[0], network.geometry.margin, network.geometry.period
    counts = sum(np.bincount(image[top : top + 256].ravel(), minlength=256) for top in range(0, side, 256))
    mean = counts @ np.arange(256) / side**2
    std = (counts @ (np.arange(256) - mean) ** 2 / side**2) ** 0.5
    rng, equal = np.random.default_rng(1), []
    for top, left in [(0, 0), (side - WINDOW, side - WINDOW), *rng.integers(0, side - WINDOW, (6, 2))]:
        top, left = (int(place) // period * period for place in (top, left))
        size = network.geometry.input_size(WINDOW)
        reach = [np.arange(start - margin, start - margin + size) for start in (top, left)]
        rows, columns = (np.abs((side - 1) - np.abs((side - 1) - np.abs(places))) for places in reach)
        window = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        window = window[np.ix_(rows - rows.min(), columns - columns.min())]
        tile = torch.from_numpy(((window - mean) / std).astype(np.float32))[None, None]
        with torch.inference_mode():
            expected = network(tile)[0].argmax(0).numpy()[:WINDOW, :WINDOW]
        equal.append(found[top : top + WINDOW, left : left + WINDOW] == expected)
    return float(np.mean(equal))


def killed(folder: Path, max_memory: str) -> str:
    unfinished, notes = folder / "out" / ".a.unfinished", "*/done/0*.json"
    process = subprocess.Popen(command(folder, max_memory))
    while len(list(unfinished.glob(notes))) < 2 and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = {path: path.stat().st_mtime_ns for path in unfinished.glob(notes)}
    process = subprocess.Popen(command(folder, max_memory))
    again = 0
    while process.poll() is None:  # a block computed twice is noted twice
        again = max(again, sum(path.exists() and path.stat().st_mtime_ns != at for path, at in there.items()))
        time.sleep(0.01)
    blocks = json.loads((folder / "out" / "a.json").read_text())["blocks"]
    return f"killed with {len(there)} of {blocks['number']} blocks done; {again} of them computed again"


if __name__ == "__main__":
    main()
