"""Objects of a large image that touch, parted by the watershed of `ushape.instances`, with a block in memory.

A watershed floods each connected component by itself. So components that lie inside a block are parted with
it, and one that crosses blocks by itself, out of the window that holds it. All are seen with one pixel around
them, where the distance to their border begins.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ushape.backends import available_memory, resident_memory
from ushape.config import Postprocessing
from ushape.errors import ConfigError
from ushape.instances import Numbering, split
from ushape.io import create_store, open_levels
from ushape.predict.blocks import BYTES_FOR_PARTS, BlockPlan, Window

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
        Part that each pixel belongs to, numbered in each plane by itself; 0 is background. Parts of one
        component never share a number.
    """

    def __init__(self, plan: BlockPlan, folder: Path, how: Postprocessing, max_memory: int | None) -> None:
        self.plan, self.how, self.max_memory = plan, how, max_memory
        chunks = (1,) * plan.is_stack + plan.chunk
        axes = "ZYX" if plan.is_stack else "YX"
        options: dict[str, Any] = {"version": plan.version, "pixel_size_um": plan.pixel_size_um, "colors": {}}
        self.labels = create_store(folder / "parts", axes, plan.shape, np.uint32, chunks, **options)[0]
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
        ndarray of int, shape (number of parts + 1,)
            Class of each part; of the background 0.

        Raises
        ------
        ConfigError
            If a component that crosses blocks is too large for the memory.
        """
        boxes = _Boxes(numbering.number)
        for number, window in enumerate(self.plan.windows):
            ids = numbering.ids(number, self.plan.read(kinds, plane, window))
            self._write(plane, window, ids)
            boxes.add(ids, window)
        classes = [np.concatenate([[0], numbering.classes])]
        for window in self.plan.windows:
            inside = boxes.inside(window)
            if inside.any():
                self._part_window(plane, window, partial(_among, inside), classes)
        for number in boxes.crossing(self.plan.windows):
            window = boxes.window(number)
            self._require_memory(window)
            self._part_window(plane, window, partial(np.equal, number), classes)
        return np.concatenate(classes)

    def _part_window(
        self, plane: int, window: Window, chosen: Callable[[Array], Array], classes: list[Array]
    ) -> None:
        """Part the chosen components of a window, which lie inside it, under new numbers."""
        seen = tuple(
            slice(max(side.start - 1, 0), min(side.stop + 1, length))
            for side, length in zip(window, (self.plan.height, self.plan.width), strict=True)
        )
        rows, columns = seen
        labels = self.plan.read(self.labels, plane, (rows, columns))
        is_chosen = chosen(labels)
        numbers, flat = np.unique(np.where(is_chosen, labels, 0), return_inverse=True)
        if numbers[0]:  # no background: then none is left out either
            numbers, flat = np.concatenate([[0], numbers]), flat + 1
        ids = flat.reshape(labels.shape).astype(np.int32)
        class_of = classes[0][numbers]
        foreground = (
            None if self._foreground is None else self.plan.read(self._foreground, plane, (rows, columns))
        )
        parts = split(ids, class_of[ids].astype(np.uint8), foreground, self.how)
        owners = np.zeros(int(parts.max()) + 1, np.int64)
        owners[parts] = ids
        before = sum(map(len, classes)) - 1
        classes.append(class_of[owners[1:]])
        labels = np.where(is_chosen, np.where(parts > 0, parts + before, 0), labels).astype(np.uint32)
        inner = tuple(
            slice(side.start - there.start, side.stop - there.start)
            for side, there in zip(window, seen, strict=True)
        )
        self._write(plane, window, labels[inner])

    def _write(self, plane: int, window: Window, labels: Array) -> None:
        place = self.plan.inside(plane, window)
        self.labels[place] = labels.reshape([side.stop - side.start for side in place])

    def _require_memory(self, window: Window) -> None:
        rows, columns = window
        height, width = rows.stop - rows.start, columns.stop - columns.start
        resident, needed = resident_memory(), BYTES_FOR_PARTS * (height + 2) * (width + 2)
        free = available_memory() / 2 if self.max_memory is None else self.max_memory - resident
        if needed > free:
            raise ConfigError(
                f"what is to be parted at row {rows.start}, column {columns.start} hangs together over "
                f"{height} x {width} px: --split {self.how.split} takes {needed / 1e9:.1f} GB for it; give "
                f"--max-memory {(needed + resident) / 1e9 + 0.1:.1f}GB, a higher --threshold, or --split none"
            )


def _among(chosen: Array, labels: Array) -> Array:
    """Whether each pixel is of a chosen component; numbers beyond those of components are of parts."""
    found: Array = chosen[np.where(labels < len(chosen), labels, 0)]
    return found


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
        """Whether each component lies in a window; the background does not."""
        found = np.ones(self.starts.shape[1], bool)
        for axis, side in enumerate(window):
            found &= (self.starts[axis] >= side.start) & (self.stops[axis] <= side.stop)
        found[0] = False
        return found

    def crossing(self, windows: list[Window]) -> Iterator[int]:
        """Components that lie in none of the windows."""
        within = np.zeros(self.starts.shape[1], bool)
        for window in windows:
            within |= self.inside(window)
        yield from (np.flatnonzero(~within[1:]) + 1).tolist()
