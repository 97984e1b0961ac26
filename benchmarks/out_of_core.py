"""Memory and time of images larger than memory, and what a kill costs.

    python benchmarks/out_of_core.py --sides 4096 16384 32768 --max-memory 3GB

Each image is a synthetic OME-Zarr; the network is narrow, with random weights. Each prediction is a process
of its own, whose peak resident memory the system reports; sampled windows are compared with a reference path:
the window and its margin, read by zarr, normalised over the whole image and passed through PyTorch at once.
The last line kills a run in the middle with SIGKILL, gives the command again, counts the blocks that were
computed twice, and compares all labels with those of the run that was not killed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from machine import circumstances
from ushape import UNet
from ushape.checkpoint import save_model
from ushape.config import ClassInfo, ModelHeader, UNetConfig, parse_bytes
from ushape.io import create_store

CHUNK, WINDOW = 1024, 64
ALLOWED = 1.1
"""Peak memory, in units of `--max-memory`, that is asked for."""
NOTES = ".a.unfinished/*/done/0*.json"
"""A file for each block that is done, below the folder of the results of `a.ome.zarr`."""

Array = np.ndarray[Any, Any]


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
    print(circumstances(("ushape", "torch", "zarr", "openvino"), f"{len(os.sched_getaffinity(0))} cores"))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder, memory = Path(name), ("--max-memory", arguments.max_memory)
        network = write_model(folder / "model.safetensors", arguments.width, arguments.depth)
        print(f"width {arguments.width}, depth {arguments.depth}, {' '.join(memory)}, fp32", end="\n\n")
        print("| side | blocks | peak MB | seconds | Mpx/s | pixels of class 1 | labels as reference |")
        print("|---" * 7 + "|", flush=True)
        peaks = []
        for side in arguments.sides:
            image = synthetic(folder / "a.ome.zarr", side)
            shutil.rmtree(folder / "whole", ignore_errors=True)
            record, seconds = predicted(folder, "whole", *memory)
            peaks.append(record["peak_memory_bytes"])
            share = record["classes"][1]["area_px"] / side**2
            equal = compared(folder / "whole", image, network)
            speed = f"{seconds:.1f} | {side**2 / 1e6 / seconds:.2f}"
            head = f"| {side} | {record['blocks']['number']} | {peaks[-1] / 1e6:.0f} | {speed}"
            print(f"{head} | {share:.0%} | {equal:.4%} |", flush=True)
        print("", verdict(peaks, parse_bytes(arguments.max_memory)), killed(folder, *memory), sep="\n")


def write_model(path: Path, width: int, depth: int) -> UNet:
    """A network of random weights that gives either class to about half of the pixels of `synthetic`."""
    torch.manual_seed(0)
    network = UNet(width=width, depth=depth).eval()
    size = network.geometry.input_size(256)
    sample = waves(np.arange(size), size)
    tile = torch.from_numpy(((sample - sample.mean()) / sample.std()).astype(np.float32))[None, None]
    with torch.no_grad():  # else nearly all pixels are of one class, and labels are equal whatever happens
        scores = network(tile)[0]
        network.score.bias[1] -= (scores[1] - scores[0]).median()
    names = ("background", "object")
    classes = tuple(ClassInfo(name=name, value=i, color=(200 * i, 0, 0)) for i, name in enumerate(names))
    architecture = UNetConfig(width=width, depth=depth)
    save_model(path, network, ModelHeader(name="synthetic", architecture=architecture, classes=classes))
    return network


def synthetic(path: Path, side: int) -> Any:
    """Waves and noise, chunk by chunk."""
    image = create_store(path, "YX", (side, side), np.uint8, (CHUNK, CHUNK), version="0.5")[0]
    for top in range(0, side, CHUNK):
        image[top : top + CHUNK] = waves(np.arange(top, min(top + CHUNK, side)), side)
    return image


def waves(rows: Array, side: int) -> Array:
    noise = np.random.default_rng(int(rows[0])).normal(0, 20, (len(rows), side))
    values = 128 + 60 * np.sin(rows / 11)[:, None] * np.sin(np.arange(side) / 7) + noise
    return np.clip(values, 0, 255).astype(np.uint8)


def command(folder: Path, output: str, *more: object) -> list[str]:
    words = ["predict", folder / "model.safetensors", folder / "a.ome.zarr", "--output", folder / output]
    words += ["--precision", "fp32", "--device", "cpu", "--quiet", *more]
    return [str(Path(sys.executable).with_name("ushape")), *map(str, words)]


def predicted(folder: Path, output: str, *more: object, **variables: str) -> tuple[dict[str, Any], float]:
    """What is noted of a prediction, and its seconds, start of Python included."""
    started = time.perf_counter()
    subprocess.run(command(folder, output, *more), check=True, env=os.environ | variables)
    return noted(folder / output), time.perf_counter() - started


def noted(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / "a.json").read_text()))


def labels(output: Path) -> Any:
    return zarr.open_group(str(output / "a_classes.ome.zarr"), mode="r")["s0"]


def compared(output: Path, image: Any, network: UNet) -> float:
    """Share of equal labels in windows, some of them at the border and across blocks."""
    found = labels(output)
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


def verdict(peaks: list[int], max_memory: int) -> str:
    """Whether memory stayed where it was asked to, and how much it grows with the image."""
    allowed = ALLOWED * max_memory
    kept = "kept" if max(peaks) <= allowed else "NOT KEPT"
    return (
        f"largest peak {max(peaks) / 1e6:.0f} MB, {allowed / 1e6:.0f} MB allowed: {kept}; "
        f"largest / smallest {max(peaks) / min(peaks):.2f}"
    )


def differing(one: Path, other: Path) -> int:
    """Number of pixels that have another label in the one result than in the other."""
    left, right = labels(one), labels(other)
    bands = (slice(top, top + CHUNK) for top in range(0, left.shape[0], CHUNK))
    return sum(int(np.count_nonzero(left[band] != right[band])) for band in bands)


def killed(folder: Path, *memory: str) -> str:
    """Kill a run in the middle and give it again; `whole` is the result of one that was not killed."""
    output = folder / "out"
    process = subprocess.Popen(command(folder, "out", *memory))
    number = noted(folder / "whole")["blocks"]["number"]
    if not wait_for_blocks(process, output, max(number // 2, 1)):
        return "too few blocks to kill a run in the middle; give a larger side"
    process.kill()
    process.wait()
    there = {path: path.stat().st_mtime_ns for path in output.glob(NOTES)}
    process = subprocess.Popen(command(folder, "out", *memory))
    again = 0
    while process.poll() is None:  # a block computed twice is noted twice
        again = max(again, sum(path.exists() and path.stat().st_mtime_ns != at for path, at in there.items()))
        time.sleep(0.01)
    return (
        f"killed with {len(there)} of {number} blocks done; {again} of them computed again; "
        f"{differing(output, folder / 'whole')} labels differ from those of the run that was not killed"
    )


def wait_for_blocks(process: subprocess.Popen[bytes], output: Path, count: int) -> bool:
    """Wait until so many blocks are done; False if the process was done before."""
    while process.poll() is None:
        if len([*output.glob(NOTES)]) >= count:
            return True
        time.sleep(0.01)
    return False


if __name__ == "__main__":
    main()
