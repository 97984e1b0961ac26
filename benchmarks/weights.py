"""How long gap and border weights take, beside one distance transform per object, on one core.

    python benchmarks/weights.py

Prints tables in Markdown: 520 x 696 pixels with 150 nuclei and a training tile; images from 512 x 512 to
8192 x 8192 with objects in proportion; and the largest difference to equation 2, written out object by
object, on real label images. README.md says what each row computes.
"""

# ruff: noqa: E402

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"  # before NumPy, which starts its threads when it is imported

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from scipy.ndimage import distance_transform_edt
from skimage.io import imread

from machine import DATA, circumstances
from ushape.weight_map import border_weights, cut_gap, falk_tail_px, tail_px, targets

PACKAGES = ("ushape", "numpy", "scipy", "numba", "edt")
SIDES = (512, 1024, 2048, 4096, 8192)
MOST_OBJECTS = 20_000
"""In the largest image; the others have as many per pixel."""

Array = np.ndarray[Any, Any]


def nuclei(height: int, width: int, count: int) -> Array:
    """Ids of ellipses with half axes of 9 to 15 pixels at random places, later ones over earlier ones."""
    rng = np.random.default_rng(0)
    objects = np.zeros((height, width), np.int32)
    for number in range(1, count + 1):
        center, axes = rng.uniform((0, 0), (height, width)), rng.uniform(9, 15, 2)
        cos, sin = np.cos(angle := rng.uniform(0, np.pi)), np.sin(angle)
        low = np.maximum(center.astype(int) - 16, 0)
        box = objects[low[0] : low[0] + 33, low[1] : low[1] + 33]
        y, x = np.indices(box.shape) + (low - center)[:, None, None]
        box[((x * cos + y * sin) / axes[0]) ** 2 + ((y * cos - x * sin) / axes[1]) ** 2 < 1] = number
    return objects


def object_by_object(objects: Array, w0: float = 10.0, sigma_px: float = 5.0) -> Array:
    """Equation 2 with one SciPy distance transform per object: how it is usually written."""
    d1 = d2 = np.full(objects.shape, np.inf)
    for number in np.unique(objects[objects > 0]):
        distance = distance_transform_edt(objects != number)
        d1, d2 = np.minimum(d1, distance), np.minimum(d2, np.maximum(d1, distance))
    return np.where(objects == 0, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma_px**2)), 0)


def tile_targets(objects: Array, border: Any) -> Callable[[], Any]:
    tail = tail_px() if border == "ronneberger" else falk_tail_px()
    tile = np.pad(objects, tail)[: 388 + 2 * tail, : 388 + 2 * tail]
    object_class = np.r_[0, np.ones(objects.max())].astype(np.uint8)
    return lambda: targets(tile, object_class, np.ones(2), border=border, crop=tail)


def seconds(run: Callable[[], Any], repeats: int) -> list[float]:
    """Processor time of each run after one that does not count: nothing here waits, or has two threads."""
    run()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return times


def one_image(repeats: int) -> Iterator[str]:
    objects = nuclei(520, 696, 150)
    separated = cut_gap(objects)
    covered = (objects > 0).mean()
    yield f"520 x 696 pixels, {len(np.unique(separated)) - 1} nuclei on {covered:.0%} of them"
    yield ""
    yield "| what | median ms | fastest to slowest | runs | times ours |"
    yield "|---" * 5 + "|"
    rows: list[tuple[str, Callable[[], Any], int]] = [
        ("border weights", lambda: border_weights(separated), repeats),
        ("one distance transform per nucleus", lambda: object_by_object(separated), 3),
        ("gap", lambda: cut_gap(objects), repeats),
        ("gap, classes and weights of a tile of 388 x 388", tile_targets(objects, "ronneberger"), repeats),
        ("the same in the later form (Falk 2019)", tile_targets(objects, "falk"), repeats),
    ]
    ours = None
    for what, run, most in rows:
        times = [1000 * each for each in seconds(run, most)]
        median = statistics.median(times)
        ours = ours or median
        spread = f"{min(times):.1f} to {max(times):.1f}"
        yield f"| {what} | {median:.1f} | {spread} | {most} | {median / ours:.1f} |"


def series(sides: tuple[int, ...]) -> Iterator[str]:
    """Each size in a process of its own, so that its peak memory is its own."""
    yield "| image | objects | s | ns per pixel | ids and weights, MB | peak beside them, MB |"
    yield "|---" * 6 + "|"
    for side in sides:
        done = subprocess.run([sys.executable, __file__, "--side", str(side)], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        yield done.stdout.strip()


def one_of_the_series(side: int) -> str:
    count = MOST_OBJECTS * side**2 // max(SIDES) ** 2
    border_weights(nuclei(64, 64, 3))
    separated = cut_gap(nuclei(side, side, count))
    times = seconds(lambda: border_weights(separated), 3)
    # The peak can only be read for the whole process: let what came before count as nothing.
    before = _reset_peak()
    weights = border_weights(separated)
    extra = (_peak_bytes() - before - weights.nbytes) / 1e6
    both = (separated.nbytes + weights.nbytes) / 1e6
    median = statistics.median(times)
    per_pixel = 1e9 * median / side**2
    return (
        f"| {side} x {side} | {count} | {median:.3f} | {per_pixel:.1f} | {both:.0f} | {max(extra, 0):.0f} |"
    )


def _reset_peak() -> int:
    """Forget the peak of this process where the system can, and say what it uses now, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak_bytes()
    return _status("VmRSS") or _peak_bytes()


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(key: str) -> int:
    """Entry of /proc/self/status in bytes, 0 where there is none."""
    file = Path("/proc/self/status")
    lines = file.read_text().splitlines() if file.exists() else []
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return 1024 * int(found[0]) if found else 0


def real_images(folder: Path) -> Iterator[str]:
    masks = sorted((folder / "dsb2018" / "masks").glob("*.png"))
    cells = sorted((folder / "DIC-C2DH-HeLa" / "01_ST" / "SEG").glob("man_seg*.tif"))
    yield "| images | of | objects | largest weight | largest difference |"
    yield "|---" * 5 + "|"
    for what, paths, read in (
        ("DSB 2018", masks[::8], imread),
        ("DIC-C2DH-HeLa", cells[::14], tifffile.imread),
    ):
        planes = [cut_gap(read(path).astype(np.int32)) for path in paths]
        expected = [object_by_object(plane) for plane in planes]
        largest = max(
            np.abs(border_weights(plane) - each).max() for plane, each in zip(planes, expected, strict=True)
        )
        objects = sum(len(np.unique(plane)) - 1 for plane in planes)
        highest = max(each.max() for each in expected)
        yield f"| {what} | {len(paths)} | {objects} | {highest:.2f} | {largest:.1e} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="How long gap and border weights take.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of dsb2018/ and DIC-C2DH-HeLa/")
    parser.add_argument("--repeats", type=int, default=25, help="runs of a row (default 25)")
    parser.add_argument("--side", type=int, help="one image of the series only, in this process")
    options = parser.parse_args()
    if options.side:
        print(one_of_the_series(options.side))
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(circumstances(PACKAGES, "one core"), flush=True)
    for table in (one_image(options.repeats), series(SIDES), real_images(options.data)):
        print(flush=True)
        for line in table:
            print(line, flush=True)


if __name__ == "__main__":
    main()
