"""A large image block by block: how it is cut, and where the blocks are written.

Tiles lie where those of the whole image lie, so blocks do not show either.
"""

import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from ushape.backends import Backend, Precision
from ushape.config import Frozen, ModelHeader, Normalization, Postprocessing
from ushape.errors import ConfigError
from ushape.geometry import Geometry
from ushape.io import LargeImage, create_store
from ushape.predict.plane_statistics import normalization_of
from ushape.tiling import TilePlan, plan_for_memory, plan_tiles

Array = np.ndarray[Any, Any]
Window = tuple[slice, slice]

LARGEST_BLOCK = 2048
"""Side of a block, in pixels, beyond which larger ones save nothing."""
_LEAST_CHUNK = 512
_SHARE_OF_BLOCKS = 0.25
"""Share of the memory for the pixels of a block; the rest is for the network."""
_BYTES_FOR_OBJECTS = 60
"""Memory that finding and measuring objects takes per pixel of a block: labels, frames and their pairs."""
BYTES_FOR_PARTS = 110
"""The same with a watershed: also a landscape, the order of its pixels and the queue of the flood."""
_DECODED_AT_ONCE = 10
"""Chunks that zarr decodes at the same time."""


class BlockPlan(Frozen):
    """How a large image is cut and what is computed of it; stored beside the blocks as JSON.

    Attributes
    ----------
    run : str
        Name of the folder in which the blocks are written; every plan has another one, so that what a task
        of an earlier run still writes is never taken for a block of this one.
    settings : dict
        What makes two runs the same: image, model, precision, results wanted, post-processing.
    planes, height, width, channels : int
        Of the image; `channels` of the result.
    keep, chunk, block : (int, int)
        Height and width of what a tile keeps, of a stored chunk, and of a block: each a multiple of the one
        before, so that blocks cut no tile and share no chunk.
    reason : str
        Why tiles have this size, in words.
    precision, device, engine : str
    normalization : tuple of Normalization
        Of each plane, over the whole plane.
    version : {"0.4", "0.5"}
        Of the OME-Zarr in which blocks are written.
    pixel_size_um : tuple of float, optional
    probabilities : bool
        Whether they are wanted.
    threshold : float, optional
        Of objects, if they are wanted.
    foreground : bool
        Whether a watershed will need the probability that a pixel is not background.
    """

    format: Literal["ushape-blocks/3"] = "ushape-blocks/3"
    run: str
    settings: dict[str, Any]
    planes: int
    height: int
    width: int
    channels: int
    is_stack: bool
    keep: tuple[int, int]
    chunk: tuple[int, int]
    block: tuple[int, int]
    reason: str
    precision: Precision
    device: str
    engine: str
    normalization: tuple[Normalization, ...]
    version: str
    pixel_size_um: tuple[float, float] | None
    probabilities: bool = False
    threshold: float | None = None
    foreground: bool = False

    @property
    def layers(self) -> int:
        """Numbers that are kept of each pixel: class, kind of object, foreground, probabilities."""
        return 1 + (self.threshold is not None) + self.foreground + self.channels * self.probabilities

    def tiles(self, geometry: Geometry) -> TilePlan:
        """Tiles of a whole plane."""
        return plan_tiles(self.height, self.width, self.keep, geometry, reason=self.reason)

    @property
    def windows(self) -> list[Window]:
        """Blocks of a plane, line by line."""
        return _windows((self.height, self.width), self.block)

    def place(self, number: int) -> tuple[int, Window]:
        """Plane and window of a block."""
        plane, block = divmod(number, len(self.windows))
        return plane, self.windows[block]

    def __len__(self) -> int:
        return self.planes * len(self.windows)

    @property
    def tiles_of_blocks(self) -> list[int]:
        """Tiles in each block."""
        counts = [
            math.prod(
                -(-(side.stop - side.start) // keep) for side, keep in zip(window, self.keep, strict=True)
            )
            for window in self.windows
        ]
        return counts * self.planes

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

    def create(self, path: Path, dtype: Any, colors: Mapping[int, Sequence[int]] | None = None) -> Any:
        """Make such an array, without content, in a store of its own; of labels if it has `colors`."""
        axes, chunks = "ZYX" if self.is_stack else "YX", (1,) * self.is_stack + self.chunk
        options: dict[str, Any] = {"version": self.version, "pixel_size_um": self.pixel_size_um}
        return create_store(path, axes, self.shape, dtype, chunks, colors=colors, **options)[0]

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


def _windows(size: tuple[int, int], block: tuple[int, int]) -> list[Window]:
    rows, columns = (
        [slice(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(size, block, strict=True)
    )
    return [*product(rows, columns)]


def plan_blocks(
    image: LargeImage,
    backend: Backend,
    header: ModelHeader,
    normalization: Sequence[Normalization],
    settings: dict[str, Any],
    max_memory: int | None,
    *,
    resident: int,
    how: Postprocessing | None,
    probabilities: bool,
) -> BlockPlan:
    """Cut an image into blocks that memory allows; `how` objects are found, if they are wanted.

    Raises
    ------
    ConfigError
        If the file is stored in pieces too large for the memory.
    TilingError
        If the memory is too small for the smallest tile.
    """
    size = image.size
    budget = backend.available_memory() / 2 if max_memory is None else max_memory - resident
    decoded = _DECODED_AT_ONCE * image.chunk_bytes
    if decoded > budget / 2:
        raise ConfigError(
            f"{image.path} is stored in pieces of {image.chunk_bytes / 1e6:.0f} MB, {_DECODED_AT_ONCE} of "
            f"which are decoded at once; give --max-memory {(3 * decoded + resident) / 1e9:.1f}GB, or save "
            "it in smaller tiles or chunks"
        )
    room = budget - backend.fixed_bytes - decoded
    geometry = backend.geometry
    channels = max(header.architecture.classes, 2)
    tile_plan = plan_for_memory(
        size.height,
        size.width,
        geometry,
        backend.bytes_per_input_pixel,
        (1 - _SHARE_OF_BLOCKS) * room,
        largest=backend.largest_tile,
    )
    # A single tile is as long as the image, which need not be a multiple of the period.
    keep = tuple(-(-side // geometry.period) * geometry.period for side in tile_plan.keep)
    foreground = how is not None and how.split == "probability"
    per_pixel = 4 * (2 + foreground + channels * probabilities) + 2 * size.channels * (
        size.dtype.itemsize + 4
    )
    if how is not None:
        per_pixel = max(per_pixel, _BYTES_FOR_OBJECTS if how.split == "none" else BYTES_FOR_PARTS)
    side = min(LARGEST_BLOCK, int((_SHARE_OF_BLOCKS * max(room, 0) / per_pixel) ** 0.5))
    chunk, block = zip(
        *(
            _chunk_and_block(side_kept, length, side)
            for side_kept, length in zip(keep, size[1:3], strict=True)
        ),
        strict=True,
    )
    return BlockPlan(
        run=secrets.token_hex(4),
        settings=settings,
        planes=size.planes,
        height=size.height,
        width=size.width,
        channels=channels,
        is_stack=image.is_stack,
        keep=(keep[0], keep[1]),
        chunk=chunk,
        block=block,
        reason=tile_plan.reason,
        precision=cast(Precision, backend.precision),
        device=str(backend.device),
        engine=backend.engine,
        normalization=tuple(normalization),
        version=image.version or "0.5",
        pixel_size_um=image.pixel_size_um,
        probabilities=probabilities,
        threshold=None if how is None else how.threshold,
        foreground=foreground,
    )


def _chunk_and_block(keep: int, length: int, side: int) -> tuple[int, int]:
    """Side of a chunk, some tiles long, and of a block of nearly `side`, some chunks long."""
    tiles = -(-length // keep)
    chunk = min(-(-_LEAST_CHUNK // keep), tiles) * keep
    return chunk, max(min(side, tiles * keep) // chunk, 1) * chunk


def normalizations_of(image: LargeImage, header: ModelHeader) -> tuple[Normalization, ...]:
    """How each plane is normalised, as a whole: one pass over its pixels."""
    if header.normalization.kind == "fixed":
        return (header.normalization,) * image.size.planes
    windows = _windows(image.size[1:3], (LARGEST_BLOCK // 2, LARGEST_BLOCK // 2))
    return tuple(
        normalization_of(
            image.read(plane, rows.start, rows.stop, columns.start, columns.stop) for rows, columns in windows
        )
        for plane in range(image.size.planes)
    )


def create_results(plan: BlockPlan, folder: Path, header: ModelHeader) -> None:
    """Make the stores that the blocks are written into."""
    plan.create(folder / "classes", np.uint8, {i: info.color for i, info in enumerate(header.classes)})
    if plan.threshold is not None:
        plan.create(folder / "kinds", np.uint8)
    if plan.foreground:
        plan.create(folder / "foreground", np.float32)
    if plan.probabilities:
        create_store(
            folder / "probabilities",
            "CZYX" if plan.is_stack else "CYX",
            (plan.channels, *plan.shape),
            np.float32,
            (1,) * (1 + plan.is_stack) + plan.chunk,
            version=plan.version,
            pixel_size_um=plan.pixel_size_um,
        )
    (folder / "done").mkdir()


def done_blocks(folder: Path) -> dict[int, Path]:
    """Blocks that are whole, and what was noted of each."""
    return {int(path.stem): path for path in (folder / "done").glob("[0-9]*.json")}


def total_areas(notes: Iterable[dict[str, Any]]) -> list[int]:
    """Pixels of each class over all blocks."""
    return np.sum([note["areas_px"] for note in notes], 0).tolist()  # type: ignore[no-any-return]
