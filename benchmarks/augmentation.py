"""How long a training tile takes, ours and the peers', on one core.

    python benchmarks/augmentation.py --peers FOLDER

Prints a table in Markdown. Every row deforms the same 572 x 572 image and its object ids, draws included, all
libraries with one thread. FOLDER is one more place to look for peers; README.md says how to get them.
"""

# ruff: noqa: E402

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"  # before NumPy, which starts its threads when it is imported

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import torch

from drawn_cells import cells
from machine import circumstances
from ushape import UNet, augment
from ushape.config import Normalization
from ushape.training.feed import TileData
from ushape.training.recipe import DEGRADED, FAST, PAPER, Recipe
from ushape.training.tiles import TileDataset

SIZE = 572
PACKAGES = ("ushape", "numpy", "opencv-python-headless", "numba", "torch", "batchgeneratorsv2", "monai")
BATCH = 8

Run = Callable[[int], Any]


def whole_tiles(recipe: Recipe) -> Run:
    """Everything: image, grey values, classes with gap, weights; 388 px of them, as in training."""
    dataset = TileDataset([cells(0, SIZE)], recipe, UNet(width=1).geometry, Normalization(), seed=0)
    return dataset.__getitem__


def image_and_ids(interpolation: augment.tile.Interpolation, strengths: augment.GreyValues | None) -> Run:
    sample = cells(0, SIZE)

    def run(number: int) -> Any:
        rng = augment.generator(0, number)
        tile, ids = augment.random_tile(
            sample.image,
            sample.objects,
            size_in=SIZE,
            size_objects=SIZE,
            deformation=augment.Deformation.draw(rng),
            interpolation=interpolation,
        )
        if strengths is not None:
            tile = augment.vary_grey_values(tile, strengths.draw(rng, 1), rng)
        return tile, ids

    return run


def on_device(recipe: Recipe, device: str) -> Run:
    """A batch of whole tiles made by PyTorch; what workers draw for it is made beforehand."""
    recipe = recipe.model_copy(update={"tiles": BATCH})
    dataset = TileDataset([cells(0, SIZE)], recipe, UNet(width=1).geometry, Normalization(), seed=0)
    feed = TileData(dataset, device=torch.device(device), augment_on="device")
    draws = next(iter(feed.train_dataloader()))
    draws = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in draws.items()}

    def run(number: int) -> Any:
        feed.on_after_batch_transfer(draws, 0)
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def draws_alone(recipe: Recipe) -> Run:
    dataset = TileDataset([cells(0, SIZE)], recipe, UNet(width=1).geometry, Normalization(), seed=0)
    loader = iter(TileData(dataset, augment_on="device").train_dataloader())
    return lambda number: next(loader)


def batchgenerators() -> Run:
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    transform = SpatialTransform(
        (SIZE, SIZE),
        0,
        random_crop=False,
        p_elastic_deform=1,
        p_rotation=1,
        mode_seg="nearest",
        border_mode_seg="reflection",
        padding_mode_image="reflection",
    )
    sample = cells(0, SIZE)
    image, ids = torch.from_numpy(sample.image), torch.from_numpy(sample.objects[None])
    return lambda number: transform(image=image, segmentation=ids)


def monai() -> Run:
    from monai.transforms import Rand2DElasticd

    spacing = (SIZE - 1) / 2  # three control points
    transform = Rand2DElasticd(
        ["image", "ids"],
        spacing=(spacing, spacing),
        magnitude_range=(0, 10),
        prob=1.0,
        rotate_range=np.pi,
        mode=["bilinear", "nearest"],
        padding_mode="reflection",
    )
    sample = cells(0, SIZE)
    data = {"image": torch.from_numpy(sample.image), "ids": torch.from_numpy(sample.objects[None]).float()}
    return lambda number: transform(data)


def cases() -> Iterator[tuple[str, str, int, Callable[[], Run]]]:
    """What, who, tiles per run, and how to set it up."""
    both = "image and ids"
    yield both, "ushape, linear (recipe paper)", 1, lambda: image_and_ids("linear", None)
    yield both, "batchgeneratorsv2 SpatialTransform", 1, batchgenerators
    yield both, "MONAI Rand2DElasticd", 1, monai
    yield both, "ushape, cubic (recipe fast)", 1, lambda: image_and_ids("cubic", None)
    yield "and grey values", "ushape, recipe paper", 1, lambda: image_and_ids("linear", PAPER.grey)
    yield "and grey values", "ushape, recipe fast (noise)", 1, lambda: image_and_ids("cubic", DEGRADED)
    everything = "and gap and weights (388 px)"
    for recipe in (PAPER, FAST.model_copy(update={"plain": 0.0})):
        yield everything, f"ushape, recipe {recipe.name}", 1, lambda recipe=recipe: whole_tiles(recipe)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        yield (
            everything,
            f"PyTorch on {device}, recipe paper",
            BATCH,
            lambda device=device: on_device(PAPER, device),
        )
    yield "the draw alone, for a GPU", "ushape, recipe paper", 1, lambda: draws_alone(PAPER)


def milliseconds(run: Run, repeats: int, clock: Callable[[], float]) -> list[float]:
    run(0)  # compiles what is to be compiled
    times = []
    for number in range(repeats):
        started = clock()
        run(number)
        times.append(1000 * (clock() - started))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a training tile takes.")
    parser.add_argument("--peers", help="one more folder to look for peer packages")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument(
        "--cpu-time", action="store_true", help="count time of this process alone, on a busy core"
    )
    options = parser.parse_args()
    if options.peers:
        sys.path.append(options.peers)
    warnings.filterwarnings("ignore")  # of the peers, about old names in their dependencies
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    clock = time.process_time if options.cpu_time else time.perf_counter
    print(circumstances(PACKAGES, "one core"), "", sep="\n")
    print(
        "| what | who | median ms per tile | fastest to slowest | times our first row |",
        "|---" * 5 + "|",
        sep="\n",
    )
    first = None
    for what, who, tiles, set_up in cases():
        try:
            run = set_up()
        except ImportError as error:
            print(f"| {what} | {who} | | | left out: {error} |")
            continue
        times = [t / tiles for t in milliseconds(run, max(3, options.repeats // tiles), clock)]
        median = statistics.median(times)
        first = first or median
        ratio = f"{median / first:.1f}" if what == "image and ids" else ""
        print(
            f"| {what} | {who} | {median:.1f} | {min(times):.1f} to {max(times):.1f} | {ratio} |", flush=True
        )


if __name__ == "__main__":
    main()
