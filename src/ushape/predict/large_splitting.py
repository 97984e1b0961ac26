"""Objects of a large image that touch, parted by the watershed of `ushape.instances`, with a block in memory.

A watershed floods each connected component by itself. So components that lie inside a block are parted with
it, those across a border of blocks with a window that lies across it, and larger ones each out of the window
that holds it. All are seen with one pixel around them, where the distance to their border begins.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ushape.config import Postprocessing
from ushape.instances import Numbering, split
from ushape.io import open_levels
from ushape.predict.block_planning import BYTES_FOR_PARTS
from ushape.predict.blocks import BlockPlan, with_surroundings
from ushape.predict.budget import require_memory
from ushape.predict.resampling import Window

Array = np.ndarray[Any, Any]


class PartedPlanes:
    """Parts of the components of all planes, in a store beside the blocks.

    Parameters
    ----------
    plan : BlockPlan
    folder : Path
        Where blocks wrote, for a split by probability, what the probability is.
    how : Postprocessing
    max_memory : int, optional
        Bytes that the process may take; half of what is available if not given.

    Attributes
    ----------
    labels : array of uint32, in a file
        Part that each pixel belongs to, numbered in each plane by itself; 0 is background.
    """

    def __init__(self, plan: BlockPlan, folder: Path, how: Postprocessing, max_memory: int | None) -> None:
        self.plan, self.how, self.max_memory = plan, how, max_memory
        self.labels = plan.create(folder / "parts", np.uint32, {})
        self._foreground = open_levels(folder / "foreground")[0] if how.split == "probability" else None

    def part(self, plane: int, kinds: Any, numbering: Numbering) -> Array:
        """Part the components of one plane.

        Parameters
        ----------
        plane : int
        kinds : array in a file
            Class of each pixel; what `numbering` was made from.
        numbering : Numbering
            Of the components, with filled holes if they are to be filled; none dropped.

        Returns
        -------
        ndarray of int
            Class of each number that may be found in `labels`: 0 of the background, of components, of parts.

        Raises
        ------
        ConfigError
            If a component that crosses blocks is too large for the memory.
        """
        boxes = _Boxes(numbering.number)
        for number, window in enumerate(self.plan.windows):
            ids = numbering.ids(number, self.plan.read(kinds, plane, window))
            self.plan.write(self.labels, plane, window, ids)
            boxes.add(ids, window)
        classes = [np.concatenate([[0], numbering.classes])]
        left = np.ones(numbering.number + 1, bool)
        left[0] = False
        for window in self._windows():
            inside = boxes.inside(window) & left
            if inside.any():
                self._part_window(plane, window, inside, classes)
            left &= ~inside
        for number in np.flatnonzero(left).tolist():
            self._require_memory(boxes.window(number))
            self._part_window(plane, boxes.window(number), np.arange(len(left)) == number, classes)
        return np.concatenate(classes)

    def _windows(self) -> Iterator[Window]:
        """Blocks, and windows as large across their borders: few components lie in none of these."""
        for shifts in product((0, 1), (0, 1)):
            sides = [
                [
                    slice(max(start, 0), min(start + step, length))
                    for start in range(-shift * (step // 2), length, step)
                ]
                for length, step, shift in zip(
                    (self.plan.height, self.plan.width), self.plan.block, shifts, strict=True
                )
            ]
            yield from product(*sides)

    def _part_window(self, plane: int, window: Window, chosen: Array, classes: list[Array]) -> None:
        """Part the chosen components of a window, which lie inside it, under new numbers."""
        seen, inner = with_surroundings(window, (self.plan.height, self.plan.width), 1)
        labels = self.plan.read(self.labels, plane, seen)
        is_chosen = chosen[np.where(labels < len(chosen), labels, 0)]  # beyond are parts
        numbers, ids = _compact(np.where(is_chosen, labels, 0))
        foreground = None if self._foreground is None else self.plan.read(self._foreground, plane, seen)
        parts = split(ids, foreground, self.how)
        owners = np.zeros(int(parts.max()) + 1, np.int64)
        owners[parts] = ids
        before = sum(map(len, classes)) - 1
        classes.append(classes[0][numbers][owners[1:]])
        labels = np.where(is_chosen, np.where(parts > 0, parts + before, 0), labels).astype(np.uint32)
        self.plan.write(self.labels, plane, window, labels[inner])

    def _require_memory(self, window: Window) -> None:
        rows, columns = window
        height, width = rows.stop - rows.start, columns.stop - columns.start
        require_memory(
            BYTES_FOR_PARTS * (height + 2) * (width + 2),
            self.max_memory,
            f"what is to be parted at row {rows.start}, column {columns.start} hangs together over "
            f"{height} x {width} px: --split {self.how.split}",
            "a higher --threshold or --split none",
        )


def _compact(labels: Array) -> tuple[Array, Array]:
    """The numbers in an array of labels, 0 among them, and the array with their places instead: int32."""
    numbers, places = np.unique(np.append(labels, labels.dtype.type(0)), return_inverse=True)
    return numbers, places[:-1].reshape(labels.shape).astype(np.int32)


class _Boxes:
    """Window of each of the components 1..number, gathered from blocks."""

    def __init__(self, number: int) -> None:
        self.starts = np.full((2, number + 1), np.iinfo(np.int64).max)
        self.stops = np.zeros((2, number + 1), np.int64)

    def add(self, ids: Array, window: Window) -> None:
        places = np.nonzero(ids)
        found = ids[places]
        for axis, (at, side) in enumerate(zip(places, window, strict=True)):
            np.minimum.at(self.starts[axis], found, at + side.start)
            np.maximum.at(self.stops[axis], found, at + side.start + 1)

    def window(self, number: int) -> Window:
        (top, left), (bottom, right) = self.starts[:, number].tolist(), self.stops[:, number].tolist()
        return slice(top, bottom), slice(left, right)

    def inside(self, window: Window) -> Array:
        """Whether each component lies in a window."""
        found = np.ones(self.starts.shape[1], bool)
        for axis, side in enumerate(window):
            found &= (self.starts[axis] >= side.start) & (self.stops[axis] <= side.stop)
        return found
