"""A large image block by block: how it is cut, and where the blocks are written.

Tiles lie where those of the whole image lie, or at other multiples of the period, so blocks do not show
either.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ushape.backends import Precision
from ushape.config import Frozen, ModelHeader, Normalization, PixelSize, Postprocessing
from ushape.geometry import Geometry
from ushape.io import create_store
from ushape.io.decoded import Spacing
from ushape.predict.resampling import Resampling, Size, Window
from ushape.predict.scaling import Scale, scaled_size
from ushape.tiling import Span, plan_axis

Array = np.ndarray[Any, Any]
Tiles = tuple[tuple[Span, ...], tuple[Span, ...]]
"""Rows and columns of the tiles of a block, in pixels of the network."""


class Asked(Frozen):
    """What a run was asked for: one that was asked for something else is not gone on with.

    Attributes
    ----------
    image : dict
        `LargeImage.identity`.
    model : str
        Hash of the model file.
    precision : {"fp32", "bf16", "int8", "fp64"}
    engine, device : str, optional
        What computes; None where that is known only when the image was read, for which int8 is made.
    average : (str, str)
        Arguments of `Average`.
    scale : (float, float)
        By what height and width are multiplied for the network.
    pixel_size_um : (float, float), optional
        As its file says, or a person.
    results : tuple of str
        Their kinds.
    postprocessing : Postprocessing, optional
        How objects are found, in pixels of the image, if they are wanted.
    """

    image: dict[str, Any]
    model: str
    precision: Precision
    engine: str | None = None
    device: str | None = None
    average: tuple[str, str] = ("none", "logits")
    scale: Scale = (1.0, 1.0)
    pixel_size_um: PixelSize | None = None
    results: tuple[str, ...] = ()
    postprocessing: Postprocessing | None = None

    @property
    def foreground(self) -> bool:
        """Whether a watershed will need the probability that a pixel is not background."""
        return self.postprocessing is not None and self.postprocessing.split == "probability"

    def first_difference(self, other: "Asked") -> str | None:
        """Name what was asked for otherwise, in words; None if nothing was."""
        differing = (name for name in Asked.model_fields if getattr(self, name) != getattr(other, name))
        return next((name.removesuffix("_um").replace("_", " ") for name in differing), None)


class BlockPlan(Frozen):
    """How a large image is cut and what is computed of it; stored beside the blocks as JSON.

    Attributes
    ----------
    run : str
        Name of the folder in which the blocks are written; every plan has another one, so that what a task
        of an earlier run still writes is never taken for a block of this one.
    asked : Asked
    max_memory : int
        Bytes that a process may take, for which tiles and blocks were cut.
    planes, height, width, channels : int
        Of the image; `channels` of the result.
    keep : (int, int)
        Height and width of what a tile keeps, in pixels of the network.
    chunk, block : (int, int)
        Height and width of a stored chunk and of a block: some chunks, which no two blocks share. Chunks are
        a whole number of tiles, unless the scale is another one than 1: then what lies at the border of two
        blocks is computed for both.
    reason : str
        Why tiles have this size, in words.
    device, engine : str
        What computes.
    normalization : tuple of Normalization
        Of each plane, over the whole plane.
    version : {"0.4", "0.5"}
        Of the OME-Zarr in which blocks are written.
    """

    format: Literal["ushape-blocks/7"] = "ushape-blocks/7"
    run: str
    asked: Asked
    max_memory: int
    planes: int
    height: int
    width: int
    channels: int
    is_stack: bool
    keep: tuple[int, int]
    chunk: tuple[int, int]
    block: tuple[int, int]
    reason: str
    device: str
    engine: str
    normalization: tuple[Normalization, ...]
    version: str

    def tiles(self, window: Window, geometry: Geometry) -> Tiles:
        """Tiles that a block needs."""
        rows, columns = (
            plan_axis(length, keep, geometry, part=(side.start, side.stop))
            for length, keep, side in zip(
                self.from_network.before, self.keep, self.from_network.source(window), strict=True
            )
        )
        return rows, columns

    @property
    def from_network(self) -> Resampling:
        """How probabilities become those of pixels of the image."""
        size = self.height, self.width
        return Resampling(scaled_size(*size, self.asked.scale), size)

    @cached_property
    def windows(self) -> list[Window]:
        """Blocks of a plane, line by line."""
        return windows_of((self.height, self.width), self.block)

    def place(self, number: int) -> tuple[int, Window]:
        """Plane and window of a block."""
        plane, block = divmod(number, len(self.windows))
        return plane, self.windows[block]

    def __len__(self) -> int:
        return self.planes * len(self.windows)

    def inside(self, plane: int, window: Window) -> tuple[slice, ...]:
        """Where the window of a plane lies in an array of all planes."""
        return (slice(plane, plane + 1), *window) if self.is_stack else window

    def read(self, array: Any, plane: int, window: Window) -> Array:
        """Read a window, (h, w), of one plane of such an array, which may be in a file."""
        values: Array = np.asarray(array[self.inside(plane, window)])
        return values.reshape(values.shape[-2:])

    def write(self, array: Any, plane: int, window: Window, values: Array) -> None:
        """Write a window, (h, w), of one plane of such an array."""
        place = self.inside(plane, window)
        array[place] = values.reshape([side.stop - side.start for side in place])

    def create(
        self,
        path: Path,
        dtype: Any,
        colors: Mapping[int, Sequence[int]] | None = None,
        *,
        channels: int = 0,
    ) -> Any:
        """Make such an array, without content, in a store of its own; of labels if it has `colors`.

        With `channels` it has one more axis, of this length, before the others.
        """
        axes = "C" * bool(channels) + "ZYX"[-len(self.shape) :]
        shape = (channels,) * bool(channels) + self.shape
        chunks = (1,) * (len(shape) - 2) + self.chunk
        options: dict[str, Any] = {"version": self.version, "pixel_size_um": self.asked.pixel_size_um}
        options |= {"spacings": self.spacings, "colors": colors}
        return create_store(path, axes, shape, dtype, chunks, **options)[0]

    @property
    def spacings(self) -> dict[str, Spacing]:
        """Where the pixels of the image lie, as its file says; a person may have told another size."""
        told = self.asked.image.get("spacings", {})
        return {axis: Spacing(*spacing) for axis, spacing in told.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an array of all planes."""
        return (self.planes, self.height, self.width) if self.is_stack else (self.height, self.width)


def with_surroundings(window: Window, size: tuple[int, int], pixels: int) -> tuple[Window, Window]:
    """The window with so many pixels around it, as far as the plane goes, and where in this it lies."""
    rows, columns = (
        slice(max(side.start - pixels, 0), min(side.stop + pixels, length))
        for side, length in zip(window, size, strict=True)
    )
    inside_rows, inside_columns = (
        slice(side.start - seen.start, side.stop - seen.start)
        for side, seen in zip(window, (rows, columns), strict=True)
    )
    return (rows, columns), (inside_rows, inside_columns)


def windows_of(size: Size, block: Size) -> list[Window]:
    """Windows of a size that cover a plane, line by line; the last ones may be smaller."""
    rows, columns = (
        [slice(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(size, block, strict=True)
    )
    return [*product(rows, columns)]


def create_results(plan: BlockPlan, folder: Path, header: ModelHeader) -> None:
    """Make the stores that the blocks are written into."""
    plan.create(folder / "classes", np.uint8, {i: info.color for i, info in enumerate(header.classes)})
    if plan.asked.postprocessing is not None:
        plan.create(folder / "kinds", np.uint8)
    if plan.asked.foreground:
        plan.create(folder / "foreground", np.float32)
    if "probabilities" in plan.asked.results:
        plan.create(folder / "probabilities", np.float32, channels=plan.channels)
    (folder / "done").mkdir()


def done_blocks(folder: Path) -> dict[int, Path]:
    """Blocks that are whole, and what was noted of each."""
    return {int(path.stem): path for path in (folder / "done").glob("[0-9]*.json")}


def total_areas(notes: Iterable[dict[str, Any]]) -> list[int]:
    """Pixels of each class over all blocks."""
    return np.sum([note["areas_px"] for note in notes], 0).tolist()  # type: ignore[no-any-return]
