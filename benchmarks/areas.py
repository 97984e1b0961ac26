"""Vessels and streets: what `ushape train` reaches by its defaults beyond cells and membranes.

    python benchmarks/areas.py --minutes 10 --seeds 0 1 2
    python benchmarks/areas.py --only drive --steps 300 --seeds 0

`drive`: retinal images, the last five held out; F1 and AUC in the field of view. `camvid`: streets, the 40
validation images held out; mean over 11 classes of the IoU of all images together, class 11 does not count.
Training validates, selects and calibrates on images of its own; the held-out ones are only predicted. A run
leaves a JSON file in `--output`, and a later call skips it.
"""

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import tifffile

from encoders import TASKS
from machine import DATA
from nuclei import ushape
from records import Record, median_and_spread, places, recorded

PACKAGES = ("ushape", "torch", "lightning", "scikit-learn")
PUBLISHED = {
    "drive": ("U-Net, in the paper of R2U-Net, other images", {"F1": 0.8142, "AUC": 0.9755}),
    "camvid": ("U-Net of Open Model Zoo, from scratch, 12 classes", {"mIoU": 0.7195}),
}

Words = tuple[list[object], list[Path]]


def drive(data: Path, folder: Path, held_out: int) -> Words:
    """What `ushape train` is told, and the images that it does not see."""
    source = data / "drive" / "training"
    for kind in ("images", "1st_manual", "mask"):
        (folder / kind).mkdir(parents=True)
        for path in sorted((source / kind).iterdir())[:-held_out]:
            (folder / kind / path.name).symlink_to(path.resolve())
    return [folder], sorted((source / "images").iterdir())[-held_out:]


def camvid(data: Path, folder: Path, held_out: int) -> Words:
    """The same; the two parts are folders already."""
    images = sorted((data / "camvid" / "val" / "images").iterdir())
    assert len(images) == held_out
    return [data / "camvid" / "train", "--ignore", 11], images


WORDS: dict[str, Callable[[Path, Path, int], Words]] = {"drive": drive, "camvid": camvid}


def run(area: str, data: Path, budget: tuple[object, ...], seed: int, place: Path) -> Record:
    """Train, predict and score once."""
    task = TASKS[area](data)
    words, images = WORDS[area](data, place / "training", len(task.held_out))
    started = time.monotonic()
    ushape("train", *words, "--output", place / "run", *budget, "--seed", seed)
    seconds, results = time.monotonic() - started, place / "result"
    ushape("predict", place / "run" / "model.safetensors", *images, "--output", results, "--probabilities")
    found = [tifffile.imread(results / f"{path.stem}_probabilities.tif") for path in images]
    with (place / "run" / "metrics.csv").open() as file:
        steps = int([*csv.DictReader(file)][-1]["step"])
    scores = task.score(found, [truth for _, truth in task.held_out])
    return {"area": area, "seed": seed, "steps": steps, "seconds": seconds, "scores": scores}


def table(area: str, records: list[Record]) -> Iterator[str]:
    """Markdown: a row per seed, and the median and in brackets the spread (max - min)."""
    who, published = PUBLISHED[area]
    names = [*published]
    yield f"| {area} | steps | s | " + " | ".join(names) + " |"
    yield "|---" * (3 + len(names)) + "|"
    for record in records:
        shown = " | ".join(f"{record['scores'][name]:.4f}" for name in names)
        yield f"| ushape, seed {record['seed']} | {record['steps']} | {record['seconds']:.0f} | {shown} |"
    spreads = (median_and_spread([record["scores"][name] for record in records]) for name in names)
    yield f"| **ushape**, median (spread) of {len(records)} | | | " + " | ".join(spreads) + " |"
    yield f"| {who} (published) | | | " + " | ".join(f"{published[name]:.4f}" for name in names) + " |"


def main() -> None:
    """Make the runs that were asked for and are not there yet; print all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=[*WORDS], default=[*WORDS], help="default: both")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of drive/ and camvid/")
    parser.add_argument("--minutes", type=float, default=10, help="training time of each run (default 10)")
    parser.add_argument("--steps", type=int, help="train for so many steps instead")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/areas"), help="records and models")
    options = parser.parse_args()
    budget: tuple[object, ...] = ("--time", f"{options.minutes:g}m")
    length = f"{options.minutes:g}min"
    if options.steps is not None:
        budget, length = ("--steps", options.steps), f"{options.steps}steps"
    made: list[Record] = []
    for area in options.only:
        records = [
            recorded(
                options.output / f"{area}-{length}-seed{seed}",
                PACKAGES,
                partial(run, area, options.data, budget, seed),
            )
            for seed in options.seeds
        ]
        made += records
        print(*table(area, records), "", sep="\n", flush=True)
    print(*places(made), sep="\n")


if __name__ == "__main__":
    main()
