"""DSB 2018 nuclei: objects found after twenty minutes of `ushape train`, beside the published figures.

    python benchmarks/nuclei.py --minutes 20 --seeds 0 1 2

Every 8th image in sorted order is held out and never shown to training, which validates, selects and tunes on
images of its own. All scores are of the data set: objects of all held-out images together. The published
figures are of another split.
"""

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from machine import DATA
from records import Record, median_and_spread, places, recorded

PACKAGES = ("ushape", "torch", "lightning")
THRESHOLDS = ("0.50", "0.60", "0.70", "0.80", "0.90")
COLUMNS = {f"ap_{threshold}": f"AP({threshold})" for threshold in THRESHOLDS} | {
    "f1_0.50": "F1(0.50)",
    "pq": "PQ",
    "aji": "AJI",
}
PUBLISHED = {
    "U-Net, 2 classes": (0.6739, 0.5975, 0.5339, 0.4151, 0.2032),
    "U-Net, 3 classes": (0.8060, 0.7431, 0.6543, 0.4910, 0.2258),
    "Mask R-CNN": (0.8323, 0.7728, 0.6838, 0.4893, 0.1891),
    "StarDist": (0.8641, 0.8043, 0.6850, 0.4495, 0.1191),
}
"""Schmidt et al., MICCAI 2018, table 1: another split of 497 images of the same data, 90 % to train on."""


def ushape(*words: object) -> None:
    """Run the installed command line; its own messages go through."""
    subprocess.run([Path(sys.executable).with_name("ushape"), *map(str, words)], check=True)


def linked(names: list[str], data: Path, folder: Path) -> Path:
    """A data set folder that holds links to the images of these names and to their masks."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name in names:
            target = folder / kind / name
            if not target.exists():
                target.symlink_to((data / kind / name).resolve())
    return folder


def run(data: Path, minutes: float, seed: int, place: Path) -> Record:
    """Train, predict and score once."""
    names = sorted(path.name for path in (data / "images").iterdir())
    held_out = names[::8]
    training = linked([name for name in names if name not in held_out], data, place / "training")
    scored = linked(held_out, data, place / "held-out")
    started = time.monotonic()
    ushape("train", training, "--output", place / "run", "--time", f"{minutes:g}m", "--seed", seed)
    seconds = time.monotonic() - started
    model = place / "run" / "model.safetensors"
    ushape("predict", model, scored / "images", "--output", place / "result", "--instances")
    scores, chosen = place / "scores.json", ",".join([*COLUMNS, "ap_mean"])
    ushape("evaluate", place / "result", scored / "masks", "--metrics", chosen, "--json", scores)
    facts = {"seconds": seconds, "seed": seed, "held_out": len(held_out)}
    return dict(json.loads(scores.read_text())) | facts


def main() -> None:
    """Make the runs that were asked for and are not there yet; print them beside the published ones."""
    parser = argparse.ArgumentParser(description="DSB 2018 nuclei: objects found after some minutes.")
    parser.add_argument("--data", type=Path, default=DATA / "dsb2018", help="folder of images/ and masks/")
    parser.add_argument("--minutes", type=float, default=20, help="training time of each run (default 20)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--output", type=Path, default=Path("runs/nuclei"), help="records, models, predictions"
    )
    options = parser.parse_args()
    records = [
        recorded(
            options.output / f"nuclei-{options.minutes:g}min-seed{seed}",
            PACKAGES,
            partial(run, options.data, options.minutes, seed),
        )
        for seed in options.seeds
    ]

    print("| | " + " | ".join(COLUMNS.values()) + " | s |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for found in records:
        shown = " | ".join(f"{found[name]:.4f}" for name in COLUMNS)
        print(f"| ushape, seed {found['seed']} | {shown} | {found['seconds']:.0f} |")
    spreads = [median_and_spread([found[name] for found in records]) for name in COLUMNS]
    print(f"| **ushape**, median (spread) of {len(records)} | " + " | ".join(spreads) + " | |")
    for name, published in PUBLISHED.items():
        print(f"| {name} (published) | " + " | ".join(f"{value:.4f}" for value in published) + " | | | | |")
    print("", *places(records), sep="\n")


if __name__ == "__main__":
    main()
