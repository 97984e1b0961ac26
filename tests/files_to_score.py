"""Predictions and truths as files, for the tests of `evaluate`."""

from io import StringIO
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from rich.console import Console

from ushape import io
from ushape.evaluate import Evaluation

COLORS = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]


def cells(planes: int = 1, size: int = 32, seed: int = 0) -> np.ndarray:
    """Squares of cell between membranes, with some holes: (Z, H, W) bool."""
    truth = np.random.default_rng(seed).random((planes, size, size)) < 0.97
    truth[:, ::8] = truth[:, :, ::8] = False
    return truth


def noisy(truth: np.ndarray, seed: int = 1) -> np.ndarray:
    """Probabilities of cell that are mostly right."""
    return (0.2 + 0.6 * truth + np.random.default_rng(seed).uniform(-0.2, 0.2, truth.shape)).astype(
        np.float32
    )


def squares(*corners: tuple[int, int], size: int = 6, shape: tuple[int, int] = (32, 40)) -> np.ndarray:
    """Ids 1, 2, ... of squares by their upper left corners."""
    ids = np.zeros(shape, np.uint16)
    for number, (y, x) in enumerate(corners, start=1):
        ids[y : y + size, x : x + size] = number
    return ids


def stack(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    tifffile.imwrite(path, array, photometric="minisblack")
    return path


def png(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(array).save(path)
    return path


def predicted(path: Path, classes: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    io.write_classes(path, classes.astype(np.uint8), colors=COLORS)
    return path


def shown(evaluation: Evaluation, *, per_image: bool = False) -> str:
    console = Console(width=400, file=StringIO())
    console.print(evaluation.render(per_image=per_image), markup=False, highlight=False)
    return console.file.getvalue()


def rows_of(text: str) -> list[list[str]]:
    """Cells of the rows of the one table on the screen, without its header."""
    bar = "\N{BOX DRAWINGS LIGHT VERTICAL}"
    lines = [line.strip(bar).split(bar) for line in text.splitlines() if bar in line]
    return [[cell.strip() for cell in line] for line in lines]
