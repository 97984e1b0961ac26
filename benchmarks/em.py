"""ISBI 2012 EM: ten minutes of `ushape train` beside ten minutes of two peers, on the same CPU.

    python benchmarks/em.py --minutes 10 --seeds 0 1 2
    python benchmarks/em.py --minutes 60 --seeds 0 --who paper

Slices 3, 7, 11 (clean) and 18, 20, 22 (noisy) of the 24 labelled ones are held out and scored by the
challenge's definitions (`ushape.metrics`). Each run leaves a JSON file in `--output` when it ends; a later
call skips the runs whose file is there and prints the table of all that it was asked for. README.md says what
is equal between them, and what is not.
"""

import argparse
import csv
import itertools
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
import torch

import milesial
import smp_unet
from machine import DATA
from records import Record, median_and_spread, places, recorded
from ushape.io import write_probabilities
from ushape.metrics import pixel_error, rand_error, v_rand, v_scores, warping_error

PACKAGES = ("ushape", "torch", "lightning", "numpy")
HELD_OUT = (3, 7, 11, 18, 20, 22)
SUBSETS = {"all": slice(0, 6), "clean": slice(0, 3), "noisy": slice(3, 6)}  # places in HELD_OUT
FINE_THRESHOLDS = np.arange(1, 100) / 100
COLUMNS = (
    *(("all", "v_rand"), ("clean", "v_rand"), ("noisy", "v_rand"), ("all", "v_rand_fine"), ("all", "v_info")),
    *(("all", "pixel_error"), ("clean", "pixel_error"), ("noisy", "pixel_error")),
    *(("all", "rand_error"), ("all", "warping_error")),
)
PUBLISHED = {
    "v_rand": 0.97276,
    "v_info": 0.98662,
    "pixel_error": 0.0611,
    "rand_error": 0.0382,
    "warping_error": 0.000353,
}
SOURCE = (
    "U-Net (published): warping, Rand and pixel error of the paper's table 1 (6 March 2015); V_rand and"
    " V_info of the challenge's test server, later; trained on 30 slices, scored on 30 others"
)

Array = np.ndarray[Any, Any]


class Slices(NamedTuple):
    """The data set in its official layout, and the parts that the runs share."""

    folder: Path
    images: Array  # (24, 512, 512) uint8
    cells: Array  # (24, 512, 512) bool

    @property
    def training(self) -> list[int]:
        """Numbers of the slices to train on, counted from 0."""
        return [number for number in range(len(self.images)) if number not in HELD_OUT]


class Outcome(NamedTuple):
    """What a run is scored on, P(cell) (6, H, W) of the held-out slices by model, and facts to report."""

    probabilities: dict[str, Array]
    facts: dict[str, Any]


def run_milesial(data: Slices, minutes: float, seed: int, run: Path) -> Outcome:
    """Train the peer for `minutes`, from building the network on, and predict with its last model."""
    started = time.monotonic()
    torch.manual_seed(seed)
    network = milesial.PaddedUNet().to(memory_format=torch.channels_last)
    images = torch.from_numpy(data.images[:, None] / np.float32(255)).contiguous(
        memory_format=torch.channels_last
    )
    cells = torch.from_numpy(data.cells)
    facts = milesial.train(network, images[data.training], cells[data.training], started + 60 * minutes)
    facts["seconds"] = time.monotonic() - started
    facts["parameters"] = sum(parameter.numel() for parameter in network.parameters())
    cell = milesial.predict(network, images[list(HELD_OUT)]).numpy()
    write_probabilities(run / "held-out_probabilities.tif", np.stack([1 - cell, cell], axis=1))
    return Outcome({"milesial, last model": cell}, facts)


def run_smp(data: Slices, minutes: float, seed: int, run: Path) -> Outcome:
    """Train the other peer for `minutes`, from building the network on, and predict with its last model."""
    started = time.monotonic()
    torch.manual_seed(seed)
    unet = smp_unet.network()
    images = smp_unet.standardize(torch.from_numpy(data.images[:, None] / np.float32(255)), data.training)
    cells = torch.from_numpy(data.cells)
    deadline = started + 60 * minutes
    facts = smp_unet.train(unet, images[data.training], cells[data.training], deadline, seed)
    facts["seconds"] = time.monotonic() - started
    facts["parameters"] = sum(parameter.numel() for parameter in unet.parameters())
    cell = smp_unet.predict(unet, images[list(HELD_OUT)]).numpy()
    write_probabilities(run / "held-out_probabilities.tif", np.stack([1 - cell, cell], axis=1))
    return Outcome({"smp, last model": cell}, facts)


# Ours, as a user calls it.


def ushape_command(*words: object) -> None:
    """Run the installed command line; its own messages go through."""
    subprocess.run([Path(sys.executable).with_name("ushape"), *map(str, words)], check=True)


def run_ushape(data: Slices, minutes: float, seed: int, run: Path, recipe: str = "fast") -> Outcome:
    """Train through the command line for `minutes`, start-up included; predict with both of its models.

    The last model predicts once more, with the mean over the paper's seven versions.
    """
    started = time.monotonic()
    held_out = ",".join(map(str, HELD_OUT))
    options = ("--time", f"{minutes:g}m", "--seed", seed, "--validation", held_out, "--device", "cpu")
    ushape_command("train", data.folder, "--output", run, "--recipe", recipe, *options)
    facts: dict[str, Any] = {"seconds": time.monotonic() - started}
    with (run / "metrics.csv").open() as file:
        facts["validations"] = list(csv.DictReader(file))
    facts["steps"] = int(facts["validations"][-1]["step"])

    stack = run / "held-out.tif"
    tifffile.imwrite(stack, data.images[list(HELD_OUT)], photometric="minisblack", metadata={"axes": "ZYX"})
    ours = "ushape" if recipe == "fast" else f"ushape {recipe}"
    asked = {ours: ("model", "none"), f"{ours}, last model": ("last", "none")}
    asked[f"{ours}, last model, --average paper"] = ("last", "paper")
    probabilities = {}
    for name, (model, average) in asked.items():
        results = run / f"prediction-{model}-{average}"
        how = ("--output", results, "--probabilities", "--average", average)
        ushape_command("predict", run / f"{model}.safetensors", stack, *how)
        probabilities[name] = tifffile.imread(results / "held-out_probabilities.tif")[:, 1]
    return Outcome(probabilities, facts)


def run_paper(data: Slices, minutes: float, seed: int, run: Path) -> Outcome:
    """The paper's recipe at full width; its last model also with the mean over seven versions."""
    return run_ushape(data, minutes, seed, run, recipe="paper")


RUNNERS: dict[str, Callable[[Slices, float, int, Path], Outcome]] = {
    "ushape": run_ushape,
    "milesial": run_milesial,
    "smp": run_smp,
    "paper": run_paper,
}
COMPARED = ("ushape", "milesial", "smp")


# Scores and reports.


def score(probabilities: Array, cells: Array) -> dict[str, dict[str, float]]:
    """Scores of P(cell) (6, H, W) on all held-out slices, the clean, the noisy; each at its own threshold."""
    # A binary proposal has the same score at every official threshold: so any threshold can be asked for.
    fine = np.array(
        [
            [one.score for one in v_rand((probabilities > t).astype(np.float32), cells).by_slice]
            for t in FINE_THRESHOLDS
        ]
    )
    scores = {}
    for name, part in SUBSETS.items():
        rand, info = v_scores(probabilities[part], cells[part])
        means = fine[:, part].mean(axis=1)
        pixel = pixel_error(probabilities[part], cells[part])
        scores[name] = {
            "v_rand": rand.score,
            "v_rand_threshold": rand.threshold,
            "v_rand_fine": float(means.max()),
            "v_rand_fine_threshold": float(FINE_THRESHOLDS[means.argmax()]),
            "v_info": info.score,
            "rand_error": rand_error(probabilities[part], cells[part]).score,
            "pixel_error": pixel.score,
            "pixel_error_threshold": pixel.threshold,
            "warping_error": warping_error(probabilities[part], cells[part]).score,
        }
    return scores


def run(who: str, data: Slices, minutes: float, seed: int, place: Path) -> Record:
    """One run and its scores."""
    outcome = RUNNERS[who](data, minutes, seed, place)
    cells = data.cells[list(HELD_OUT)]
    scores = {name: score(p, cells) for name, p in outcome.probabilities.items()}
    settings = {"who": who, "minutes": minutes, "seed": seed, "held_out": list(HELD_OUT)}
    return {**settings, "scores": scores, "training": outcome.facts}


def digits(score: str) -> int:
    """Warping errors are some thousandths."""
    return 6 if score == "warping_error" else 4


def table(records: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: a row per model and seed; per model the median and in brackets the spread (max - min)."""
    yield "| model | seed | steps | s | " + " | ".join(f"{score}, {part}" for part, score in COLUMNS) + " |"
    yield "|---" * (4 + len(COLUMNS)) + "|"
    for model in dict.fromkeys(name for record in records for name in record["scores"]):
        chosen = [record for record in records if model in record["scores"]]
        # A record may be older than a score.
        values = [
            [record["scores"][model][part].get(score, math.nan) for part, score in COLUMNS]
            for record in chosen
        ]
        for record, row in zip(chosen, values, strict=True):
            training = record["training"]
            head = f"| {model} | {record['seed']} | {training['steps']} | {training['seconds']:.0f} | "
            shown = (f"{value:.{digits(score)}f}" for value, (_, score) in zip(row, COLUMNS, strict=True))
            yield head + " | ".join(shown) + " |"
        summary = (
            median_and_spread(column, digits(score))
            for column, (_, score) in zip(zip(*values, strict=True), COLUMNS, strict=True)
        )
        yield f"| **{model}** | median (spread) of {len(values)} | | | " + " | ".join(summary) + " |"
    if any(record["who"] == "paper" for record in records):
        theirs = (
            f"{PUBLISHED[score]:.{digits(score)}f}" if part == "all" and score in PUBLISHED else "-"
            for part, score in COLUMNS
        )
        yield "| U-Net (published) | | | | " + " | ".join(theirs) + " |"


def notes(records: list[dict[str, Any]]) -> Iterator[str]:
    """Of the recipe of the paper: what the published figures are of, and whether the loss fell throughout."""
    runs = [record for record in records if record["who"] == "paper"]
    if runs:
        yield SOURCE
    for record in runs:
        losses = [float(row["loss"]) for row in record["training"]["validations"]]
        rises = sum(after > before for before, after in itertools.pairwise(losses))
        yield (
            f"ushape paper, seed {record['seed']}: training loss {losses[0]:.4f} at the first of "
            f"{len(losses)} validations, {losses[-1]:.4f} at the last; it rose {rises} times (each is the "
            "mean of the steps since the one before)"
        )


def main() -> None:
    """Make the runs that were asked for and are not there yet; print all of them."""
    parser = argparse.ArgumentParser(description="ISBI 2012 EM: ushape beside its peers.")
    parser.add_argument(
        "--data", type=Path, default=DATA / "isbi2012", help="folder of train-volume.tif and train-labels.tif"
    )
    parser.add_argument("--minutes", type=float, default=10, help="training time of each run (default 10)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--who", nargs="+", choices=list(RUNNERS), default=list(COMPARED))
    parser.add_argument("--output", type=Path, default=Path("runs/em"), help="records, models, predictions")
    options = parser.parse_args()

    images, labels = (tifffile.imread(options.data / f"train-{name}.tif") for name in ("volume", "labels"))
    data = Slices(options.data, images, labels > 0)
    records = [
        recorded(
            options.output / f"{who}-{options.minutes:g}min-seed{seed}",
            PACKAGES,
            partial(run, who, data, options.minutes, seed),
        )
        for seed in options.seeds
        for who in options.who
    ]
    print(*table(records), "", *notes(records), "", *places(records), sep="\n")


if __name__ == "__main__":
    main()
