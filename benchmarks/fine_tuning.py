"""Few images of a new kind: training from a model of another kind, at several rates, and from scratch.

    python benchmarks/fine_tuning.py --width 8 --steps 60 --shares 1 0.5 0.25 0.1

A model is trained on fluorescent nuclei (DSB 2018, every 8th image), then on four frames of DIC cells and on
four slices of membranes, each for so many steps; the images scored are others and choose nothing. Shares are
of the learning rate of recipe `fast`; `scratch` has its whole.
"""

import argparse
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ushape
from machine import DATA
from records import Record, places, recorded
from ushape.checkpoint import read_header
from ushape.training import fine_tuning

PACKAGES = ("ushape", "torch", "lightning")


def nuclei(folder: Path) -> Path:
    """A data set folder that holds links to every 8th image, and its mask."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for path in sorted((DATA / "dsb2018" / kind).iterdir())[::8]:
            link = folder / kind / path.name
            if not link.exists():
                link.symlink_to(path)
    return folder


def membranes(folder: Path) -> tuple[Path, str]:
    """Four slices to train on and four to score."""
    import tifffile

    (folder / "em").mkdir(parents=True, exist_ok=True)
    for name in ("train-volume.tif", "train-labels.tif"):
        stack = tifffile.imread(DATA / "isbi2012" / name)
        tifffile.imwrite(folder / "em" / name, stack[[1, 6, 16, 21, 3, 9, 18, 23]])
    return folder / "em", "4,5,6,7"


def cells(folder: Path) -> tuple[Path, str]:
    """Four frames of DIC cells to train on and four to score; silver truth."""
    import tifffile

    for kind in ("images", "masks"):
        (folder / "dic" / kind).mkdir(parents=True, exist_ok=True)
    source = DATA / "DIC-C2DH-HeLa"
    for number in (2, 12, 22, 32, 45, 55, 65, 75):
        for kind, path in (
            ("images", f"01/t{number:03}.tif"),
            ("masks", f"01_ST/SEG/man_seg{number:03}.tif"),
        ):
            tifffile.imwrite(folder / "dic" / kind / f"{number:03}.tif", tifffile.imread(source / path))
    return folder / "dic", "045,055,065,075"


def run(data: Path, how: dict[str, Any], output: Path) -> Record:
    """Train, and give the score of the last model."""
    ushape.train(data, output, device="cpu", **how)
    header = read_header(output / "last.safetensors")
    return {"score": float(header.provenance["validation"]["score"])}


def compared(
    data: Path, how: dict[str, Any], options: argparse.Namespace, source: Path, folder: Path
) -> Iterator[tuple[str, Record]]:
    """From scratch, then from the source at each share of the learning rate; by name, made if not there."""
    scratch = how | {"width": options.width}
    yield "scratch", recorded(folder / "scratch", PACKAGES, partial(run, data, scratch))
    for share in options.shares:
        fine_tuning.SHARE = share
        started = partial(run, data, how | {"from_model": source})
        yield f"share {share:g}", recorded(folder / f"share-{share:g}", PACKAGES, started)


def main() -> None:
    """Make the runs that are not there yet; print the table."""
    parser = argparse.ArgumentParser(description="Fine-tuning at several learning rates, and from scratch.")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--before", type=int, default=300, help="steps of the model that is trained on")
    parser.add_argument("--shares", type=float, nargs="+", default=[1, 0.5, 0.25, 0.1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, default=Path("runs/fine-tuning"))
    options = parser.parse_args()
    place = options.output
    source = place / f"source-width{options.width}-{options.before}steps"
    how = {"width": options.width, "steps": options.before}
    records = [recorded(source, PACKAGES, partial(run, nuclei(place / "nuclei"), how))]
    for name, (data, held_out) in {"DIC cells": cells(place), "membranes": membranes(place)}.items():
        rows: dict[str, list[float]] = {}
        for seed in options.seeds:
            how = {"validation": held_out, "steps": options.steps, "seed": seed}
            folder = place / f"{data.name}-after-{source.name}-{options.steps}steps-seed{seed}"
            for what, record in compared(data, how, options, source / "last.safetensors", folder):
                rows.setdefault(what, []).append(record["score"])
                records.append(record)
        for what, scores in rows.items():
            each = " ".join(f"{score:.4f}" for score in scores)
            print(f"{name:10} {what:12} {statistics.median(scores):.4f}  ({each})", flush=True)
    print("", *places(records), sep="\n")


if __name__ == "__main__":
    main()
