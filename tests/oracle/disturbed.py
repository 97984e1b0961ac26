"""Real label images, and copies of them disturbed at random, to compare implementations on. Nothing of ours.

Nuclei (DSB 2018), cells (DIC-C2DH-HeLa, gold and silver frames) and the cells between membranes (ISBI 2012,
4-connected components), cropped to about `side` x `side` pixels. Equal arguments give equal images.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

Pair = tuple[str, np.ndarray, np.ndarray]
Step = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def label_pairs(data_dir: Path, count: int, seed: int = 0, side: int = 256) -> Iterator[Pair]:
    """Name, true ids and disturbed ids (H, W) int32; the true ids are those of the file.

    Of every 25 pairs one has ids permuted and nothing else, one an empty disturbed image; of every 50, one
    has an empty truth.
    """
    kinds = _sources(data_dir)
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        kind = kinds[number % len(kinds)]
        path, plane = kind[rng.integers(len(kind))]
        truth = _crop(_read(path, plane), rng, side)
        disturbed = _renumber(truth if number % 25 == 11 else disturb(truth, rng), rng)
        if number % 25 == 24:
            disturbed = np.zeros_like(truth)
        if number % 50 == 37:
            truth = np.zeros_like(truth)
        yield f"{number} ({path.name}, plane {plane})", truth, disturbed


def binary_pairs(data_dir: Path, count: int, seed: int = 0) -> Iterator[Pair]:
    """The same as masks: name, truth and disturbed truth (H, W) bool."""
    for name, truth, disturbed in label_pairs(data_dir, count, seed):
        yield name, truth > 0, disturbed > 0


def probability_pairs(data_dir: Path, count: int, seed: int = 0, side: int = 256) -> Iterator[Pair]:
    """Name, truth (H, W) bool and P(truth) (H, W) float32, noisy, of the disturbed image.

    Objects that touch are cut apart, so that the components of the truth are objects.
    """
    for number, (name, truth, disturbed) in enumerate(label_pairs(data_dir, count, seed, side)):
        rng = np.random.default_rng([seed, number, 1])
        blurred = ndimage.gaussian_filter(_apart(disturbed).astype(np.float64), rng.uniform(0.5, 2))
        noise = ndimage.gaussian_filter(rng.normal(size=truth.shape), rng.uniform(0.5, 3))
        noise *= rng.uniform(0, 0.25) / noise.std()
        yield name, _apart(truth), np.clip(blurred + noise, 0, 1).astype(np.float32)


def disturb(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply about half of the disturbances, in random order."""
    steps: tuple[Step, ...] = (_shift, _split, _merge, _drop, _add, _shrink, _grow)
    for place in rng.permutation(len(steps)):
        if rng.random() < 0.5:
            ids = steps[place](ids, rng)
    return ids


def _sources(data_dir: Path) -> list[list[tuple[Path, int]]]:
    """Files and planes of each kind; pairs take the kinds in turn."""
    cells = data_dir / "DIC-C2DH-HeLa"
    nuclei = [(path, 0) for path in sorted((data_dir / "dsb2018" / "masks").glob("*.png"))]
    frames = [
        (path, 0) for part in ("01_GT", "01_ST") for path in sorted((cells / part / "SEG").glob("*.tif"))
    ]
    slices = [(data_dir / "isbi2012" / "train-labels.tif", plane) for plane in range(24)]
    return [nuclei, frames, nuclei, slices]


def _read(path: Path, plane: int) -> np.ndarray:
    if path.suffix == ".png":
        return np.asarray(Image.open(path)).astype(np.int32)
    labels = tifffile.imread(path, key=plane)
    if path.parent.name == "isbi2012":
        labels, _ = ndimage.label(labels > 0)
    return labels.astype(np.int32)


def _crop(ids: np.ndarray, rng: np.random.Generator, side: int) -> np.ndarray:
    height, width = np.minimum(ids.shape, rng.integers(side * 7 // 8, side + 1, 2))
    y, x = rng.integers(ids.shape[0] - height + 1), rng.integers(ids.shape[1] - width + 1)
    return ids[y : y + height, x : x + width].copy()


def _some(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A few of the objects."""
    present = np.unique(ids[ids > 0])
    return rng.permutation(present)[: min(20, 1 + int(rng.uniform(0, 0.4) * present.size))]


def _shift(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return ndimage.shift(ids, rng.integers(-4, 5, 2), order=0)


def _split(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give one side of a line through an object an id of its own."""
    ids = ids.copy()
    for number in _some(ids, rng):
        y, x = np.nonzero(ids == number)
        angle = rng.uniform(0, 2 * np.pi)
        along = (y - y.mean()) * np.sin(angle) + (x - x.mean()) * np.cos(angle)
        side = along > rng.uniform(-0.7, 0.7) * np.abs(along).max()
        ids[y[side], x[side]] = ids.max() + 1
    return ids


def _merge(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give an object the id of a neighbour that is at most 3 pixels away."""
    ids = ids.copy()
    for number in _some(ids, rng):
        around = np.unique(ids[ndimage.binary_dilation(ids == number, iterations=3)])
        others = around[(around > 0) & (around != number)]
        if others.size:
            ids[ids == number] = rng.choice(others)
    return ids


def _drop(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(np.isin(ids, _some(ids, rng)), 0, ids)


def _add(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put discs on the background."""
    ids = ids.copy()
    y, x = np.indices(ids.shape)
    for _ in range(rng.integers(1, 6)):
        center, radius = rng.uniform(0, ids.shape), rng.uniform(2, 12)
        disc = (y - center[0]) ** 2 + (x - center[1]) ** 2 < radius**2
        ids[disc & (ids == 0)] = ids.max() + 1
    return ids


def _shrink(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Take the outermost pixels from every object: borders between objects thicken on both sides."""
    for _ in range(rng.integers(1, 4)):
        inside = ndimage.minimum_filter(ids, 3) == ndimage.maximum_filter(ids, 3)
        ids = np.where(inside, ids, 0)
    return ids


def _grow(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    for _ in range(rng.integers(1, 4)):
        ids = np.where(ids == 0, ndimage.maximum_filter(ids, 3), ids)
    return ids


def _renumber(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute the ids and leave gaps between them."""
    present = np.unique(ids[ids > 0])
    table = np.zeros(ids.max(initial=0) + 1, np.int32)
    table[present] = rng.choice(np.arange(1, 3 * present.size + 1), present.size, replace=False)
    return table[ids]


def _apart(ids: np.ndarray) -> np.ndarray:
    """Where the objects are, without the pixels that have another object beside them."""
    lowest = ndimage.minimum_filter(np.where(ids == 0, ids.max(initial=0) + 1, ids), 3)
    return (ids > 0) & (lowest == ids) & (ndimage.maximum_filter(ids, 3) == ids)
