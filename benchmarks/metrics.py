"""How long the scores take, ours and the peers', one after the other on one core.

    python benchmarks/metrics.py

Prints a table in Markdown. Each row is run once to warm up, which compiles what is to be compiled, and then
repeatedly; the time is the median. Rows of noise, the slowest proposal, take minutes. A peer that is not
installed is named with the reason. README.md says what each row computes, and what is equal between them.
"""

# ruff: noqa: E402

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"  # before NumPy, which starts its threads when it is imported

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from scipy import ndimage

from machine import DATA, circumstances
from ushape import metrics

PEERS = ("python-elf", "scikit-image", "stardist", "py-ctcmetrics", "monai", "surface-distance")
PACKAGES = ("ushape", "numpy", "scipy", "numba", *PEERS)
TOLERANCE_PX = 2

Array = np.ndarray[Any, Any]
Planes = list[Array]


class Case(NamedTuple):
    """One row: who computes what; `run` returns a score, to see that all compute the same."""

    what: str
    who: str
    how: str
    run: Callable[[], float]


class Timing(NamedTuple):
    """Seconds of each run, empty if there was none, and the score or the reason."""

    seconds: list[float]
    result: str

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


# Membranes. The peers only compare: thresholds, components and thinning around them are scikit-image's.


def our_v_scores(probabilities: Planes, cells: Planes) -> float:
    return metrics.v_scores(probabilities, cells)[0].score


def our_isbi_scores(probabilities: Planes, cells: Planes) -> float:
    for score in (metrics.pixel_error, metrics.rand_error, metrics.warping_error):
        score(probabilities, cells)
    return our_v_scores(probabilities, cells)


def our_error(score: Callable[..., Any], probabilities: Planes, cells: Planes) -> float:
    return float(score(probabilities, cells).score)


def with_singletons(labels: Array) -> Array:
    """Give every unassigned pixel an id of its own, as the official V_rand does."""
    return np.where(labels == 0, np.arange(labels.size).reshape(labels.shape) + labels.max() + 1, labels)


def elf_scores(labels: Array, truth: Array) -> float:
    from elf.evaluation import rand_index, variation_of_information

    labels, truth = with_singletons(labels).astype(np.uint64), truth.astype(np.uint64)
    variation_of_information(labels, truth, ignore_gt=[0])
    return 1 - float(rand_index(labels, truth, ignore_gt=[0])[0])


def skimage_scores(labels: Array, truth: Array) -> float:
    from skimage.metrics import adapted_rand_error, variation_of_information

    labels = with_singletons(labels)
    variation_of_information(truth, labels, ignore_labels=(0,))
    return 1 - float(adapted_rand_error(truth, labels)[0])


def peer_v_scores(compare: Callable[[Array, Array], float], probabilities: Planes, cells: Planes) -> float:
    """V_rand and VI at each threshold: mean over the slices, then the best."""
    from skimage.measure import label
    from skimage.segmentation import watershed

    by_slice = []
    for plane, cell in zip(probabilities, cells, strict=True):
        truth, by_threshold = label(cell, connectivity=1), []
        for threshold in metrics.THRESHOLDS:
            proposal = plane > threshold
            basins = label(proposal, connectivity=1)
            thinned = watershed((~proposal).astype(np.uint8), basins, watershed_line=True)
            by_threshold.append(compare(thinned, truth))
        by_slice.append(by_threshold)
    return float(np.mean(by_slice, axis=0).max())


def peer_rand_error(compare: Callable[[Array, Array], float], probabilities: Planes, cells: Planes) -> float:
    """Rand error at each threshold: mean over the slices (ours adds up the pairs of all), then the best."""
    from skimage.measure import label

    by_slice = [
        [compare(label(plane > t, connectivity=1), label(cell, connectivity=1)) for t in metrics.THRESHOLDS]
        for plane, cell in zip(probabilities, cells, strict=True)
    ]
    return float(np.mean(by_slice, axis=0).min())


def elf_rand_error(labels: Array, truth: Array) -> float:
    from elf.evaluation import rand_index

    return float(rand_index(labels.astype(np.uint64), truth.astype(np.uint64))[0])


def skimage_rand_error(labels: Array, truth: Array) -> float:
    from skimage.metrics import adapted_rand_error

    return float(adapted_rand_error(truth, labels, ignore_labels=())[0])


def membrane_cases(probabilities: Planes, cells: Planes) -> Iterator[Case]:
    one = probabilities[:1], cells[:1]
    stack = probabilities, cells
    what = f"V_rand and V_info, 11 thresholds, one slice {cells[0].shape[0]} x {cells[0].shape[1]}"
    yield Case(what, "ushape", "v_scores", partial(our_v_scores, *one))
    for who, how, compare in (
        ("python-elf", "watershed, rand_index, variation_of_information", elf_scores),
        ("scikit-image", "watershed, adapted_rand_error, variation_of_information", skimage_scores),
    ):
        yield Case(what, who, how, partial(peer_v_scores, compare, *one))
    for of, planes in (("", probabilities), (" of uniform noise", uniform_noise(cells))):
        what = f"all five ISBI scores{of}, {len(cells)} slices"
        yield Case(what, "ushape", "all five", partial(our_isbi_scores, planes, cells))
        for name in ("pixel_error", "warping_error"):
            run = partial(our_error, getattr(metrics, name), planes, cells)
            yield Case(f"{name}{of}, {len(cells)} slices", "ushape", name, run)
    what = f"rand_error, {len(cells)} slices"
    yield Case(what, "ushape", "rand_error", partial(our_error, metrics.rand_error, *stack))
    for who, how, compare in (
        ("python-elf", "label, rand_index", elf_rand_error),
        ("scikit-image", "label, adapted_rand_error", skimage_rand_error),
    ):
        yield Case(what, who, how, partial(peer_rand_error, compare, *stack))


# Objects.


def our_mean_ap(pred: Array, true: Array) -> float:
    return float(np.mean([one.average_precision for one in metrics.matchings(pred, true)]))


def stardist_mean_ap(pred: Array, true: Array) -> float:
    from stardist.matching import matching

    return float(np.mean([one.accuracy for one in matching(true, pred, metrics.IOU_THRESHOLDS)]))


def elf_mean_ap(pred: Array, true: Array) -> float:
    from elf.evaluation import mean_segmentation_accuracy

    return float(mean_segmentation_accuracy(pred, true, metrics.IOU_THRESHOLDS))


def our_seg(files: list[tuple[str, str]]) -> float:
    frames = ((tifffile.imread(pred), tifffile.imread(true)) for true, pred in files)
    return metrics.total_seg(metrics.seg(pred, true) for pred, true in frames).score


def ctcmetrics_seg(files: list[tuple[str, str]]) -> float:
    from ctc_metrics.metrics import seg
    from ctc_metrics.utils.representations import match

    matches = [match(*pair) for pair in files]
    found = seg([one[0] for one in matches], [one[4] for one in matches])
    return float(found[0] if isinstance(found, tuple) else found)


def object_cases(files: list[tuple[str, str]]) -> Iterator[Case]:
    pred, true = thousand_objects()
    what = f"AP at ten thresholds, {true.shape[0]} x {true.shape[1]}, {true.max()} objects"
    for who, how, run in (
        ("ushape", "matchings", our_mean_ap),
        ("stardist", "matching", stardist_mean_ap),
        ("python-elf", "mean_segmentation_accuracy", elf_mean_ap),
    ):
        yield Case(what, who, how, partial(run, pred, true))
    what = f"SEG of {len(files)} frames of DIC-C2DH-HeLa, silver against gold, files read"
    yield Case(what, "ushape", "seg, total_seg", partial(our_seg, files))
    yield Case(what, "py-ctcmetrics", "match, seg", partial(ctcmetrics_seg, files))


# Boundaries.


def monai_hd95(pred: Array, true: Array) -> float:
    import torch
    from monai.metrics import compute_hausdorff_distance

    masks = (torch.from_numpy(mask)[None, None].float() for mask in (pred, true))
    return float(compute_hausdorff_distance(*masks, include_background=True, percentile=95))


def surface_distance_nsd(pred: Array, true: Array) -> float:
    import surface_distance

    distances = surface_distance.compute_surface_distances(true, pred, (1, 1))
    return float(surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE_PX))


def boundary_cases(pred: Array, true: Array) -> Iterator[Case]:
    what = f"HD95, one slice {true.shape[0]} x {true.shape[1]}"
    yield Case(what, "ushape", "hd95", partial(metrics.hd95, pred, true))
    yield Case(what, "monai", "compute_hausdorff_distance", partial(monai_hd95, pred, true))
    what = f"NSD at {TOLERANCE_PX} px, one slice {true.shape[0]} x {true.shape[1]}"
    yield Case(what, "ushape", "nsd", partial(metrics.nsd, pred, true, TOLERANCE_PX))
    yield Case(what, "surface-distance", "compute_surface_dice", partial(surface_distance_nsd, pred, true))


# Data.


def membranes(folder: Path, prediction: Path | None) -> tuple[Planes, Planes]:
    """P(cell) and cells of every labelled slice; P is given, or the truth blurred and noisy."""
    cells = tifffile.imread(folder / "train-labels.tif") > 0
    if prediction is not None:
        probabilities = tifffile.imread(prediction)
        probabilities = probabilities[:, -1] if probabilities.ndim == 4 else probabilities
    else:
        noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=cells.shape), (0, 1.5, 1.5))
        blurred = ndimage.gaussian_filter(cells.astype(np.float64), (0, 1.5, 1.5))
        probabilities = np.clip(blurred + 0.2 * noise / noise.std(), 0, 1)
    if probabilities.shape != cells.shape:
        raise SystemExit(f"{prediction} is {probabilities.shape}, the labels are {cells.shape}")
    return list(probabilities.astype(np.float32)), list(cells)


def uniform_noise(cells: Planes) -> Planes:
    """A proposal that knows nothing: much is left of the warping whose surroundings must be searched."""
    rng = np.random.default_rng(0)
    return [rng.random(plane.shape, np.float32) for plane in cells]


def thousand_objects(side: int = 1024, count: int = 1000) -> tuple[Array, Array]:
    """Predicted and true ids of 1,000 discs: shifted, grown or shrunk, a few missed and a few invented."""
    rng = np.random.default_rng(0)
    cells = 32  # places along each side, one disc in each
    pitch = side // cells
    places = rng.permutation(cells * cells)
    y, x = np.indices((side, side))

    def discs(centers: Array, radii: Array, chosen: Array) -> Array:
        squared = np.zeros((cells * cells, 3))
        squared[chosen] = np.column_stack([centers[chosen], radii[chosen]])
        of_pixel = squared[(y // pitch) * cells + x // pitch]
        inside = (y - of_pixel[..., 0]) ** 2 + (x - of_pixel[..., 1]) ** 2 < of_pixel[..., 2] ** 2
        ids = np.zeros(cells * cells, np.int32)
        ids[chosen] = rng.permutation(len(chosen)) + 1
        return np.where(inside, ids[(y // pitch) * cells + x // pitch], 0)

    middles = np.stack(np.divmod(np.arange(cells * cells), cells), axis=1) * pitch + pitch / 2
    centers = middles + rng.uniform(-3, 3, middles.shape)
    radii = rng.uniform(7, 13, len(middles))
    true = discs(centers, radii, places[:count])
    shifted = centers + rng.normal(0, 1.5, centers.shape)
    return discs(shifted, radii * rng.uniform(0.85, 1.15, len(radii)), places[len(places) - count :]), true


def gold_and_silver(folder: Path) -> list[tuple[str, str]]:
    """The gold frames and, as if it were a result, the silver truth of the same frames."""
    gold = sorted((folder / "01_GT" / "SEG").glob("man_seg*.tif"))
    return [(str(path), str(folder / "01_ST" / "SEG" / path.name)) for path in gold]


# Runs and the table.


def timed(case: Case, most: int, budget_s: float) -> Timing:
    """Run up to `most` times, and not much longer than `budget_s`, after a run that does not count."""
    try:
        score = case.run()
    except ImportError as error:
        return Timing([], f"not installed: {error}")
    seconds: list[float] = []
    while not seconds or (len(seconds) < most and sum(seconds) < budget_s):
        started = time.perf_counter()
        case.run()
        seconds.append(time.perf_counter() - started)
    return Timing(seconds, f"{score:.6f}")


def table(cases: Iterator[Case], most: int, budget_s: float) -> Iterator[str]:
    """Rows of Markdown; `times ours` is the median over that of our row of the task, which comes first."""
    yield "| what | who | how | median ms | fastest to slowest | runs | times ours | score |"
    yield "|---" * 8 + "|"
    ours: dict[str, float] = {}
    for case in cases:
        timing = timed(case, most, budget_s)
        start = f"| {case.what} | {case.who} | {case.how} |"
        if not timing.seconds:
            yield f"{start} | | | | {timing.result} |"
            continue
        ratio = timing.median / ours.setdefault(case.what, timing.median)
        low, high = (1000 * value for value in (min(timing.seconds), max(timing.seconds)))
        times = f"{1000 * timing.median:.1f} | {low:.1f} to {high:.1f} | {len(timing.seconds)} | {ratio:.1f}"
        yield f"{start} {times} | {timing.result} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="How long the scores take: ushape beside its peers.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of isbi2012/ and DIC-C2DH-HeLa/")
    parser.add_argument("--prediction", type=Path, help="P(cell) of the slices, (Z, H, W) or (Z, 2, H, W)")
    parser.add_argument("--repeats", type=int, default=15, help="most runs of a row (default 15)")
    parser.add_argument("--seconds", type=float, default=60, help="time of a row, about (default 60)")
    parser.add_argument("--only", default="", help="rows whose first column contains this")
    options = parser.parse_args()

    warnings.filterwarnings("ignore")  # of the peers, about old names in their dependencies
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(circumstances(PACKAGES, "one core"), "", sep="\n", flush=True)
    probabilities, cells = membranes(options.data / "isbi2012", options.prediction)
    cases = [
        *membrane_cases(probabilities, cells),
        *object_cases(gold_and_silver(options.data / "DIC-C2DH-HeLa")),
        *boundary_cases(probabilities[0] > 0.5, cells[0]),
    ]
    chosen = (case for case in cases if options.only.lower() in case.what.lower())
    for line in table(chosen, options.repeats, options.seconds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
