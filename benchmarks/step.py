"""Seconds per training step of the paper's network on this CPU: plain PyTorch, and as `ushape train` runs it.

    python benchmarks/step.py                     # all cores: 572 -> 388, 64 channels
    python benchmarks/step.py --width 8 --compiled

Prints a table in Markdown: median of the steps after the first, which allocates and compiles. "Cached" steps
see one and the same batch; with "real loading" each tile is drawn, deformed and weighted anew, as in a run.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from drawn_cells import cells
from machine import circumstances
from ushape import UNet
from ushape.backends import PyTorchBackend, training_format
from ushape.backends.pytorch import cpu_has_bf16
from ushape.config import Normalization
from ushape.training.budget import Budget
from ushape.training.feed import TileData
from ushape.training.loop import lightning, trainer_for, without_chatter
from ushape.training.module import TrainingModule
from ushape.training.recipe import PAPER, Recipe
from ushape.training.tiles import TileDataset

PACKAGES = ("ushape", "torch", "lightning", "opencv-python-headless", "numba")
CACHED, LOADED = "ushape, one cached batch", "ushape, real loading"


def plain_steps(
    width: int, tile: int, count: int, *, channels_last: bool, bf16: bool, compiled: bool
) -> list[float]:
    """Seconds of each step of twenty lines of PyTorch: SGD with momentum, cross-entropy, one random tile."""
    network = UNet(width=width)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.99)
    image = torch.randn(1, 1, tile, tile).contiguous(memory_format=layout)
    size_out = network.geometry.output_size(tile)
    classes = torch.randint(0, 2, (1, size_out, size_out))
    compute = torch.compile(network.forward) if compiled else network.forward

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = compute(image)
        F.cross_entropy(logits.float(), classes).backward()
        optimizer.step()

    return [seconds(step) for _ in range(count + 1)][1:]


def seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


class Cached(lightning.LightningDataModule):
    """The first batch of another feed, again and again."""

    def __init__(self, feed: TileData) -> None:
        super().__init__()
        self.batch = next(iter(feed.train_dataloader()))

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        return torch.utils.data.DataLoader([self.batch] * 100_000, batch_size=None)


class Clock(lightning.Callback):
    """Notes when each step ends; ends the run after `count` of them."""

    def __init__(self, count: int) -> None:
        self.count, self.ends = count, []

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: object) -> None:
        self.ends.append(time.perf_counter())
        trainer.should_stop = len(self.ends) > self.count


def our_steps(recipe: Recipe, count: int, *, cached: bool, workers: int, compiled: bool) -> list[float]:
    """Seconds from the end of one step to the end of the next, of the loop of `ushape train`."""
    network = UNet(width=recipe.width, norm=recipe.norm, dropout=recipe.dropout)
    samples = [cells(seed) for seed in range(4)]
    dataset = TileDataset(samples, recipe, network.geometry, Normalization(), seed=0)
    module = TrainingModule(network, recipe, Budget(count + 1, None), seed=0, compiled=compiled)
    backend = PyTorchBackend(network, "cpu")
    network.train().to(memory_format=training_format(backend))
    feed, clock = TileData(dataset, workers=workers), Clock(count)
    with tempfile.TemporaryDirectory() as folder, without_chatter():
        trainer_for(Path(folder), backend, [clock], 1, 1).fit(module, Cached(feed) if cached else feed)
    return [end - start for start, end in zip(clock.ends, clock.ends[1:], strict=False)]


def cases(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], list[float]]]]:
    def plain(**how: bool) -> Callable[[], list[float]]:
        how = {"channels_last": False, "bf16": False, "compiled": False} | how
        return lambda: plain_steps(options.width, options.tile, options.steps, **how)

    def ours(**how: Any) -> Callable[[], list[float]]:
        how = {"cached": True, "workers": 0, "compiled": False} | how
        recipe = PAPER.model_copy(update={"width": options.width, "tile": options.tile})
        return lambda: our_steps(recipe, options.steps, **how)

    yield "plain PyTorch: float32, channels first", plain()
    yield "float32, channels last", plain(channels_last=True)
    if cpu_has_bf16():
        yield "bfloat16, channels first", plain(bf16=True)
        yield "bfloat16, channels last", plain(bf16=True, channels_last=True)
    if options.compiled:
        yield "float32, channels first, torch.compile", plain(compiled=True)
        yield "float32, channels last, torch.compile", plain(compiled=True, channels_last=True)
        yield "ushape, cached batch, torch.compile", ours(compiled=True)
    yield CACHED, ours()
    yield LOADED, ours(cached=False)
    yield f"{LOADED}, one worker process", ours(cached=False, workers=1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds per training step of the paper's network.")
    parser.add_argument("--width", type=int, default=64, help="channels of the first level")
    parser.add_argument("--tile", type=int, default=572, help="height and width of the tile in pixels")
    parser.add_argument("--steps", type=int, default=7, help="steps that are timed, after one that is not")
    parser.add_argument(
        "--compiled", action="store_true", help="also with torch.compile; needs a C++ compiler"
    )
    options = parser.parse_args()
    print(circumstances(PACKAGES, f"{torch.get_num_threads()} threads"), "", sep="\n")
    print(
        f"width {options.width}, tile {options.tile} px, bfloat16 in hardware: {cpu_has_bf16()}", "", sep="\n"
    )
    print("| step | median s | fastest to slowest | plain / this |", "|---" * 4 + "|", sep="\n")
    medians: dict[str, float] = {}
    for name, run in cases(options):
        times = run()
        medians[name] = median = statistics.median(times)
        first = next(iter(medians.values()))
        spread = f"{min(times):.3f} to {max(times):.3f}"
        print(f"| {name} | {median:.3f} | {spread} | {first / median:.2f} |", flush=True)
    overhead = 100 * (medians[LOADED] / medians[CACHED] - 1)
    print(f"\nreal loading costs {overhead:+.1f} % of a step on one cached batch")


if __name__ == "__main__":
    main()
