"""How long an image takes on a GPU, file to file, beside the loop that everybody writes, and MONAI.

    python benchmarks/inference_gpu.py
    python benchmarks/inference_gpu.py --device cpu --width 4 --size 512 --tiles 188 --repeats 1    # a trial

Two tables: one pass of the paper's network over tiles of several sizes, which says what the card can do and
how much memory it takes; and the whole job, from reading the image to writing its classes, with the model
loaded.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from drawn_cells import cells
from inference import MARGIN, STRIDE, TILE, monai_network, normalized, write_model
from machine import circumstances
from ushape import Segmenter
from ushape.backends import PyTorchBackend
from ushape.io import write_classes
from ushape.models import UNet

PACKAGES = ("ushape", "torch", "monai")
Array = np.ndarray[Any, Any]


def seconds_of(job: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median of `repeats` runs after one that is not counted, each waited for to its end."""
    times = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        job()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def pass_row(backend: PyTorchBackend, side: int, repeats: int) -> str:
    """One tile that is on the device already: kept pixels a second, memory, and what is planned for it."""
    tile = torch.randn(1, side, side, device=backend.device)
    is_gpu = backend.device.type == "cuda"
    if is_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if is_gpu else 0
    start = f"| {backend.precision} | {side} |"
    try:
        seconds = seconds_of(lambda: backend.logits(tile), backend.device, repeats)
    except torch.OutOfMemoryError:
        return f"{start} out of memory | | | |"
    kept = backend.geometry.output_size(side) ** 2
    taken = (torch.cuda.max_memory_allocated() - before) / side**2 if is_gpu else float("nan")
    planned = backend.fixed_bytes / side**2 + backend.bytes_per_input_pixel
    return f"{start} {1000 * seconds:.1f} | {kept / 1e6 / seconds:.1f} | {taken:.0f} | {planned:.0f} |"


def the_loop(network: UNet, source: Path, target: Path, device: torch.device, is_bf16: bool) -> None:
    """Tiles of 572 -> 388 one by one, softmax and argmax on the device: what everybody writes."""
    image = normalized(source)
    height, width = image.shape[1:]
    mirrored = np.pad(image, [(0, 0), *[(MARGIN, MARGIN + STRIDE)] * 2], mode="reflect")
    classes = np.empty((height + STRIDE, width + STRIDE), np.uint8)
    for top in range(0, height, STRIDE):
        for left in range(0, width, STRIDE):
            tile = torch.from_numpy(mirrored[None, :, top : top + TILE, left : left + TILE].copy()).to(device)
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
                found = network(tile).softmax(1).argmax(1)[0]
            classes[top : top + STRIDE, left : left + STRIDE] = found.cpu().numpy()
    tifffile.imwrite(target, classes[:height, :width])


def monai(network: torch.nn.Module, source: Path, target: Path, device: torch.device) -> None:
    """Windows of 560 px, a quarter of them overlapping, four at a time, in bf16; another network, as wide."""
    from monai.inferers import sliding_window_inference

    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        image = torch.from_numpy(normalized(source)[None]).to(device)
        logits = sliding_window_inference(image, (TILE - TILE % 16,) * 2, 4, network)
        tifffile.imwrite(target, logits.softmax(1).argmax(1)[0].to(torch.uint8).cpu().numpy())  # type: ignore[union-attr]


def ours(segmenter: Segmenter, source: Path, target: Path, precision: str) -> None:
    found = segmenter(source, precision)  # type: ignore[arg-type]
    write_classes(target, found.classes, colors=[info.color for info in found.header.classes])


def image_of_cells(side: int) -> Array:
    """Grey values (side, side) of cells, mirrored until they are enough."""
    grey = (80 + 60 * cells(0).image[0]).clip(0, 255).astype(np.uint8)
    beyond = [(0, max(side - length, 0)) for length in grey.shape]
    return np.pad(grey, beyond, mode="reflect")[:side, :side]


def jobs(
    segmenter: Segmenter, peer: torch.nn.Module, source: Path, target: Path, device: torch.device
) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    network = segmenter.network
    assert isinstance(network, UNet)
    return {
        "loop of 572 -> 388, fp32 (TF32)": lambda: the_loop(network, source, target, device, False),
        "loop of 572 -> 388, bf16": lambda: the_loop(network, source, target, device, True),
        "MONAI sliding window, bf16": lambda: monai(peer, source, target, device),
        "ushape, fp32": lambda: ours(segmenter, source, target, "fp32"),
        f"ushape, {segmenter.backend('auto').precision}": lambda: ours(segmenter, source, target, "auto"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="How long an image takes on a GPU, file to file.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--width", type=int, default=64, help="channels of the first level (default 64)")
    parser.add_argument("--size", type=int, nargs="+", default=[2048, 8192], help="sides of the images")
    parser.add_argument("--tiles", type=int, nargs="+", default=[572, 1084, 2108, 4156])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model.safetensors", options.width)
        segmenter = Segmenter.load(folder / "model.safetensors", device=options.device, engine="pytorch")
        device = segmenter.backend("auto").device
        card = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
        print(circumstances(PACKAGES, f"{torch.get_num_threads()} threads"), card, sep="; ", end="\n\n")
        print(
            "| precision | tile | ms | kept Mpx/s | bytes per px read | planned |", "|---" * 6 + "|", sep="\n"
        )
        for precision in ("fp32", "auto"):
            backend = segmenter.backend(precision)  # type: ignore[arg-type]
            assert isinstance(backend, PyTorchBackend)
            for side in options.tiles:
                print(pass_row(backend, side, options.repeats), flush=True)
        print("", "| image | what | s | Mpx/s |", "|---" * 4 + "|", sep="\n")
        peer = monai_network(options.width).to(device)
        for side in options.size:
            source = folder / f"{side}.tif"
            tifffile.imwrite(source, image_of_cells(side))
            for what, job in jobs(segmenter, peer, source, folder / "classes.tif", device).items():
                seconds = seconds_of(job, device, options.repeats)
                print(f"| {side} | {what} | {seconds:.2f} | {side**2 / 1e6 / seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
