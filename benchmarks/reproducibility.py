"""Same seed, same bits: repeated, with data workers, killed at random moments, stopped by Ctrl-C.

    python benchmarks/reproducibility.py --steps 60 --width 16 --kills 4

Trains the same run again and again on ISBI 2012 and prints the SHA-256 of `model.safetensors`; another number
of threads gives another one. A second table tells how far the weights of two processes are from those of one,
by optimiser and number of steps, on DSB 2018, whose images are small enough for two tiles in a step of a
network of depth 3; beside it what another number of threads changes. Rounding grows from step to step.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.numpy
import torch

from machine import DATA, circumstances
from ushape import UNet, train
from ushape.checkpoint import save_model
from ushape.config import ClassInfo, ModelHeader, UNetConfig
from ushape.training import FAST, PAPER
from ushape.training.tiles import tile_size

SPAWN = (
    "import multiprocessing; multiprocessing.set_start_method('{}'); "
    "from ushape.cli.entry import main; main()"
)
PACKAGES = ("ushape", "torch", "lightning", "numpy")
DSB_IMAGE = (256, 320)
"""Pixels of a typical image of DSB 2018; the shorter side decides the size of tiles."""
USHAPE = [str(Path(sys.executable).with_name("ushape"))]
PAIRS = (("sgd", None), ("adamw", None), ("adamw", "batch"))
"""Optimiser and normalisation of the runs of one and two processes."""


class Runs:
    """The same run, made in several ways, each in a folder of its own."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.output = options.output
        self.data, self.width = options.data, ("--width", str(options.width))
        self.words = ["--steps", str(options.steps), "--device", "cpu", "--seed", "7", "--quiet"]
        self.random = random.Random(options.steps)
        self.environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        self.seconds = 0.0

    def straight(self, name: str, *more: str, start: str = "", **environment: str) -> Path:
        """From start to end; `start` is how data workers are started."""
        run, begun = self._fresh(name), time.monotonic()
        command = [sys.executable, "-c", SPAWN.format(start)] if start else USHAPE
        words = [*command, "train", str(self.data / "isbi2012"), *self.words, *self.width, *more]
        subprocess.run([*words, "--output", str(run)], check=True, env=self.environment | environment)
        self.seconds = self.seconds or time.monotonic() - begun
        return run

    def broken(self, name: str, times: int, number: signal.Signals) -> tuple[Path, list[str]]:
        """Broken off at random moments, and gone on with; returns where it was broken off, too."""
        run, places = self._fresh(name), []
        while True:
            has_state = (run / "checkpoint").is_dir()
            if not has_state:
                self._fresh(name)
            words = [*USHAPE, "train", str(self.data / "isbi2012"), *self.words, *self.width]
            words += ["--output", str(run)]
            words += ["--resume"] if has_state else []
            process = subprocess.Popen(words, env=self.environment)
            if len(places) == times:
                assert process.wait() == 0
                return run, places
            try:
                process.wait(timeout=self.random.uniform(0.3, 0.9) * self.seconds)
                return run, places
            except subprocess.TimeoutExpired:
                process.send_signal(number)
                process.wait()
            places.append(_last_row(run))

    def of_pair(self, start: Path, optimizer: str, steps: int, devices: int, **environment: str) -> Path:
        """On DSB 2018 from a model file, by this script, in one process or two."""
        run = self._fresh(f"{start.stem}-{optimizer}-{steps}-{devices}{'-threads' * bool(environment)}")
        words = [sys.executable, __file__, "--data", self.data, "--pair"]
        words += [start, run, optimizer, steps, devices]
        subprocess.run([*map(str, words)], check=True, env=self.environment | environment)
        return run

    def _fresh(self, name: str) -> Path:
        shutil.rmtree(self.output / name, ignore_errors=True)
        return Path(self.output / name)


def _last_row(run: Path) -> str:
    table = run / "metrics.csv"
    return table.read_text().splitlines()[-1].split(",")[0] if table.exists() else "0"


def digest(run: Path) -> str:
    """SHA-256 of the best model."""
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def difference(left: Path, right: Path) -> float:
    """Largest difference of a weight of the last models."""
    one, two = (safetensors.numpy.load_file(run / "last.safetensors") for run in (left, right))
    return max(float(np.abs(one[name] - two[name]).max()) for name in one)


def starting_point(path: Path, norm: Literal["batch"] | None) -> Path:
    """A narrow network with fresh weights and without dropout, whose draws differ between processes."""
    config = UNetConfig(width=8, depth=3, norm=norm, dropout=0.0)
    classes = tuple(ClassInfo(name=n, value=i, color=(i, i, i)) for i, n in enumerate("ab"))
    torch.manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = ModelHeader(name="start", architecture=config, classes=classes)
    network = UNet.from_config(config)
    _, tiles = tile_size([DSB_IMAGE], FAST.tile, network.geometry)
    assert tiles == 2, (
        f"one process makes {tiles} tiles a step, two make 2: they would be different trainings"
    )
    save_model(path, network, header)
    return path


def train_pair(data: Path, start: str, run: str, optimizer: str, steps: str, devices: str) -> None:
    """What each process of such a run does; Lightning starts the second one by the same words."""
    train(
        data / "dsb2018",
        run,
        from_model=start,
        recipe=FAST if optimizer == "adamw" else PAPER.model_copy(update={"tiles": 2}),
        steps=int(steps),
        devices=int(devices),
        device="cpu",
        precision="fp32",
        seed=7,
    )


def main() -> None:
    """Make all runs and print the table."""
    parser = argparse.ArgumentParser(description="Same seed, same bits, on real images.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of isbi2012/, dsb2018/")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--kills", type=int, default=4, help="kill -9 this often (default 4)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs/reproducibility"))
    parser.add_argument("--pair", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pair:
        train_pair(options.data, *options.pair)
        return
    print(circumstances(PACKAGES, f"{options.threads} threads"), "", sep="\n", flush=True)
    runs = Runs(options)
    reference = runs.straight("straight")
    expected = digest(reference)

    print("| run | broken off after validation at step | model.safetensors | same |")
    print("|---|---|---|---|")

    def row(name: str, make: Callable[[], Path | tuple[Path, list[str]]]) -> None:
        made = make()
        run, places = made if isinstance(made, tuple) else (made, [])
        found = digest(run)
        same = "yes" if found == expected else "NO"
        print(f"| {name} | {', '.join(places)} | `{found[:16]}` | {same} |", flush=True)

    row("straight", lambda: reference)
    row("once more", lambda: runs.straight("again"))
    row("2 workers, forked", lambda: runs.straight("forked", "--workers", "2", start="fork"))
    row("2 workers, spawned", lambda: runs.straight("spawned", "--workers", "2", start="spawn"))
    row("kill -9, resumed", lambda: runs.broken("killed", options.kills, signal.SIGKILL))
    row("Ctrl-C, resumed", lambda: runs.broken("interrupted", 1, signal.SIGINT))
    threads = str(options.threads + 1)
    row(f"{threads} threads", lambda: runs.straight("threads", OMP_NUM_THREADS=threads))

    print(f"\n| optimiser | norm | steps | two processes: weights off by | {threads} threads |")
    print("|---" * 5 + "|")
    for optimizer, norm in PAIRS:
        start = starting_point(options.output / f"start-{norm}.safetensors", norm)
        for steps in (5, options.steps):
            one, two = (runs.of_pair(start, optimizer, steps, devices) for devices in (1, 2))
            other = runs.of_pair(start, optimizer, steps, 1, OMP_NUM_THREADS=threads)
            figures = f"{difference(one, two):.1e} | {difference(one, other):.1e}"
            print(f"| {optimizer} | {norm or 'none'} | {steps} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
