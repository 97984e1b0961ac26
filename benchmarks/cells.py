"""DIC-C2DH-HeLa: SEG of cells that touch, after minutes of training on the first 26 frames.

    python benchmarks/cells.py --minutes 10 --seeds 0 1 2
    python benchmarks/cells.py --minutes 60 --seeds 0 --who weighted

`ushape train` sees frames 0 to 25 with their silver truth; scored are the gold frames from 31 on but 067,
which annotates three of its cells. `unweighted` is the same recipe without the border term (w0 = 0). The
paper's 0.7756 is of the challenge's own split, after ten hours on a GPU.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import tifffile

from machine import DATA
from records import Record, median_and_spread, places, recorded
from ushape import Segmenter
from ushape.metrics import seg, total_seg
from ushape.training import FAST, train

PACKAGES = ("ushape", "torch", "lightning")
LAST_TRAINED = 25
PARTLY_ANNOTATED = 67
RECIPES = {"weighted": FAST, "unweighted": FAST.model_copy(update={"border_w0": 0.0})}


def first_frames(data: Path, folder: Path) -> Path:
    """The frames to train on and their silver truth, linked in the layout of the challenge."""
    for kind, prefix in (("01", "t"), ("01_ST/SEG", "man_seg")):
        (folder / kind).mkdir(parents=True)
        for number in range(LAST_TRAINED + 1):
            name = f"{prefix}{number:03d}.tif"
            (folder / kind / name).symlink_to((data / kind / name).resolve())
    return folder


def scored_frames(data: Path) -> list[int]:
    """Numbers of the gold frames that are scored."""
    numbers = sorted(int(path.stem.removeprefix("man_seg")) for path in (data / "01_GT/SEG").glob("*.tif"))
    return [number for number in numbers if number > LAST_TRAINED + 5 and number != PARTLY_ANNOTATED]


def run(data: Path, who: str, minutes: float, seed: int, place: Path) -> Record:
    """Train, predict and score once."""
    started = time.monotonic()
    training = first_frames(data, place / "training")
    options: dict[str, Any] = {"time": 60 * minutes, "seed": seed, "device": "cpu", "quiet": False}
    result = train(training, place / "run", recipe=RECIPES[who], started=started, **options)
    seconds, segmenter = time.monotonic() - started, Segmenter.load(result.model, device="cpu")
    frames = []
    for number in scored_frames(data):
        found = segmenter(data / "01" / f"t{number:03d}.tif").instances()
        frames.append(seg(found, tifffile.imread(data / "01_GT/SEG" / f"man_seg{number:03d}.tif")))
    facts = {"who": who, "seed": seed, "seconds": seconds, "steps": result.steps}
    scores = {"seg": total_seg(frames).score, "by_frame": [frame.score for frame in frames]}
    how = {"objects": segmenter.header.postprocessing.in_words(), "model": segmenter.header.name}
    return facts | scores | how


def main() -> None:
    """Make the runs that were asked for and are not there yet; print all of them."""
    parser = argparse.ArgumentParser(description="DIC-C2DH-HeLa: SEG after minutes of training.")
    parser.add_argument(
        "--data", type=Path, default=DATA / "DIC-C2DH-HeLa", help="folder of 01/, 01_ST/ and 01_GT/"
    )
    parser.add_argument("--minutes", type=float, default=10, help="training time of each run (default 10)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--who", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--output", type=Path, default=Path("runs/cells"), help="records and models")
    options = parser.parse_args()
    records = [
        recorded(
            options.output / f"cells-{who}-{options.minutes:g}min-seed{seed}",
            PACKAGES,
            partial(run, options.data, who, options.minutes, seed),
        )
        for seed in options.seeds
        for who in options.who
    ]
    print("| border weights | seed | steps | s | SEG | by frame |\n|---|---|---|---|---|---|")
    for who in options.who:
        chosen = [record for record in records if record["who"] == who]
        for record in chosen:
            frames = ", ".join(f"{score:.3f}" for score in record["by_frame"])
            head = f"| {who} | {record['seed']} | {record['steps']} | {record['seconds']:.0f} "
            print(f"{head}| {record['seg']:.4f} | {frames} |")
        spread = median_and_spread([record["seg"] for record in chosen])
        print(f"| **{who}** | median (spread) of {len(chosen)} | | | {spread} | |")
    print("", *places(records), sep="\n")


if __name__ == "__main__":
    main()
