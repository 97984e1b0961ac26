"""Training tiles per second of the paper's network on a GPU, and the share of its matrix rate that they are.

    python benchmarks/train_gpu.py
    python benchmarks/train_gpu.py --device cpu --width 4 --tile 188 --batches 1 2 --steps 2    # a trial

Each row is a run of the loop of `ushape train`: recipe `paper`, bfloat16, channels last, tiles made on the
device, every step with new ones. The first steps, which compile and choose kernels, are not counted; how long
they took is in the table. README.md says what the columns are.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from drawn_cells import cells
from machine import circumstances
from ushape import UNet
from ushape.backends import PyTorchBackend, training_format
from ushape.config import Normalization
from ushape.models.summary import summarize
from ushape.training.budget import Budget
from ushape.training.feed import TileData
from ushape.training.loop import lightning, trainer_for, without_chatter
from ushape.training.module import TrainingModule
from ushape.training.recipe import PAPER
from ushape.training.tiles import TileDataset

PACKAGES = ("ushape", "torch", "lightning")
WARM_UP = 5

REFERENCE = """
Published, NVIDIA DeepLearningExamples, UNet_Medical in TensorFlow 2, 572 x 572, not the same network (3x3
up-convolutions, 157.5 against 150.4 G multiply-accumulates a tile), a lighter augmentation; tiles per second:

| card | precision | batch 1 | batch 8 |
|---|---|---|---|
| A100 80 GB | AMP | 75.04 | 141.03 |
| A100 80 GB | TF32 | 46.88 | 63.33 |
| V100 16 GB | AMP | 39.63 | 60.65 |"""


class Clock(lightning.Callback):
    """Time of the first steps, and of `count` after them, each waited for to its end on the device."""

    def __init__(self, count: int, device: torch.device) -> None:
        self.count, self.device = count, device
        self.started = self.warm = self.ended = 0.0

    def on_train_start(self, *arguments: object) -> None:
        self.started = self.now()

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: object) -> None:
        if trainer.global_step == WARM_UP:
            self.warm = self.now()
        if trainer.global_step == WARM_UP + self.count:
            self.ended, trainer.should_stop = self.now(), True

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def flop_per_tile(width: int, tile: int) -> float:
    """Of one step: forward, gradients of weights and of inputs except the image's; convolutions alone."""
    work = [step.multiply_accumulates for step in summarize(UNet(width=width), tile, tile)]
    first = next(count for count in work if count)
    return 2.0 * (3 * sum(work) - first)


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Floating-point operations per second of the product of two square matrices: median of 20."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    clock, times = Clock(0, device), []
    for _ in range(23):
        started = clock.now()
        left @ right
        times.append(clock.now() - started)
    return 2 * size**3 / statistics.median(times[3:])


def run(options: argparse.Namespace, batch: int, compiled: bool) -> Clock:
    recipe = PAPER.model_copy(update={"width": options.width, "tile": options.tile, "tiles": batch})
    network = UNet(width=recipe.width, dropout=recipe.dropout)
    dataset = TileDataset(
        [cells(seed) for seed in range(8)], recipe, network.geometry, Normalization(), seed=0
    )
    backend = PyTorchBackend(network, options.device)
    module = TrainingModule(network, recipe, Budget(10_000, None), seed=0, compiled=compiled)
    network.train().to(memory_format=training_format(backend))
    feed = TileData(dataset, workers=options.workers, device=backend.device, augment_on=options.augment_on)
    clock = Clock(options.steps, backend.device)
    with tempfile.TemporaryDirectory() as folder, without_chatter():
        trainer_for(Path(folder), backend, [clock], 1, 1).fit(module, feed)
    return clock


def row(options: argparse.Namespace, batch: int, compiled: bool, rate: float) -> str:
    start = f"| {batch} | {'yes' if compiled else 'no'} |"
    try:
        clock = run(options, batch, compiled)
    except torch.OutOfMemoryError:
        return f"{start} out of memory | | | |"
    tiles = batch * options.steps / (clock.ended - clock.warm)
    done = tiles * flop_per_tile(options.width, options.tile)
    first = f"{clock.warm - clock.started:.1f}"
    return f"{start} {tiles:.2f} | {done / 1e12:.2f} | {100 * done / rate:.1f} % | {first} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Training tiles per second on a GPU.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--width", type=int, default=64, help="channels of the first level")
    parser.add_argument("--tile", type=int, default=572, help="height and width of the tile in pixels")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 16], help="tiles per step")
    parser.add_argument("--steps", type=int, default=50, help="steps that are timed")
    parser.add_argument("--workers", type=int, help="processes that draw (default: by device)")
    parser.add_argument("--augment-on", choices=["cpu", "device"], default="device")
    parser.add_argument("--only-eager", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()

    backend = PyTorchBackend(UNet(width=1), options.device)
    is_gpu = backend.device.type == "cuda"
    dtype = torch.bfloat16 if backend.precision == "bf16" else torch.float32
    rate = matrix_rate(backend.device, dtype, 8192 if is_gpu else 1024)
    name = torch.cuda.get_device_name(backend.device) if is_gpu else "the CPU"
    print(circumstances(PACKAGES, f"{torch.get_num_threads()} threads"), "", sep="\n")
    print(
        f"{name}, {backend.precision}; product of matrices measured: {rate / 1e12:.2f} TFLOP/s", "", sep="\n"
    )
    print(
        "| batch | torch.compile | tiles/s | TFLOP/s | of the matrix rate | first steps, s |",
        "|---" * 6 + "|",
        sep="\n",
    )
    for batch in options.batches:
        for compiled in (False,) if options.only_eager else (False, True):
            print(row(options, batch, compiled, rate), flush=True)
    print(REFERENCE)


if __name__ == "__main__":
    main()
