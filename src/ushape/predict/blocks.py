"""A large image block by block: how it is cut, and the task that computes one block.

A task reads its window, runs the tiles in it and writes its chunks, which no other task touches. It may be
run anywhere, in any order and more than once: the chunks come out the same. Tiles lie where those of the
whole image lie, so blocks do not show either.
"""

import math
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from ushape.backends import Backend, Precision, peak_memory
from ushape.config import Frozen, ModelHeader, Normalization
from ushape.errors import ConfigError, ImageFormatError
from ushape.geometry import Geometry
from ushape.instances import kinds_of
from ushape.io import LargeImage, create_store, open_levels, write_json, written_chunks
from ushape.predict.averaging import Average
from ushape.predict.mirrored_window import mirrored_window
from ushape.predict.plane_statistics import normalization_of
from ushape.predict.segmentation import most_probable_kinds, tile_probabilities
from ushape.predict.segmenter import Segmenter, loaded
from ushape.predict.typical_tiles import typical_windows
from ushape.tiling import Span, TilePlan, plan_for_memory, plan_tiles, run_block

Array = np.ndarray[Any, Any]
Window = tuple[slice, slice]

LARGEST_BLOCK = 2048
"""Side of a block, in pixels, beyond which larger ones save nothing."""
_LEAST_CHUNK = 512
_SHARE_OF_BLOCKS = 0.25
"""Share of the memory for the pixels of a block; the rest is for the network."""
_BYTES_FOR_OBJECTS = 60
"""Memory that finding and measuring objects takes per pixel of a block: labels, frames and their pairs."""
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
    """

    format: Literal["ushape-blocks/2"] = "ushape-blocks/2"
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

    @property
    def layers(self) -> int:
        """Numbers that are kept of each pixel: class, kind of object, probabilities."""
        return 1 + (self.threshold is not None) + self.channels * self.probabilities

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

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an array of all planes."""
        return (self.planes, self.height, self.width) if self.is_stack else (self.height, self.width)


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
    threshold: float | None,
    probabilities: bool,
) -> BlockPlan:
    """Cut an image into blocks that memory allows.

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
    per_pixel = 4 * (2 + channels * probabilities) + 2 * size.channels * (size.dtype.itemsize + 4)
    if threshold is not None:
        per_pixel = max(per_pixel, _BYTES_FOR_OBJECTS)
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
        threshold=threshold,
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
    chunks = (1,) * plan.is_stack + plan.chunk
    options: dict[str, Any] = {"version": plan.version, "pixel_size_um": plan.pixel_size_um}
    colors = {index: info.color for index, info in enumerate(header.classes)}
    axes = "ZYX" if plan.is_stack else "YX"
    create_store(folder / "classes", axes, plan.shape, np.uint8, chunks, colors=colors, **options)
    if plan.threshold is not None:
        create_store(folder / "kinds", axes, plan.shape, np.uint8, chunks, **options)
    if plan.probabilities:
        shape, chunks = (plan.channels, *plan.shape), (1, *chunks)
        create_store(folder / "probabilities", f"C{axes}", shape, np.float32, chunks, **options)
    (folder / "done").mkdir()


def done_blocks(folder: Path) -> dict[int, Path]:
    """Blocks that are whole, and what was noted of each."""
    return {int(path.stem): path for path in (folder / "done").glob("[0-9]*.json")}


def compute_block(
    model: str,
    source: str,
    plan: BlockPlan,
    number: int,
    folder: str,
    progress: Callable[[], None] | None = None,
) -> None:
    """Compute one block and write its chunks, then a note that it is done.

    Parameters
    ----------
    model, source : path
        The model file and the image.
    plan : BlockPlan
    number : int
        Of the block.
    folder : path
        Where `create_results` made the stores.
    progress : callable, optional
        Called after each tile.

    Raises
    ------
    CheckpointError
        If the model file is another one than the plan was made for.
    ConfigError
        If the engine that computes here is another one.
    ImageFormatError
        If the image is another one, or its pixels cannot be read.
    """
    segmenter = loaded(model, plan.settings["model"], plan.device)
    plane, window = plan.place(number)
    with LargeImage(source) as image:
        if image.identity != plan.settings["image"]:
            raise ImageFormatError(f"{source} is not the image that the run began with; put that back")
        backend = backend_for(segmenter, plan.precision, image, plan.normalization)
        _require_engine(backend, plan)
        rows, columns = _spans(plan.tiles(backend.geometry), window)
        read = _reader(image, plan, plane, rows, columns)
    out = np.empty((plan.layers, *(side.stop - side.start for side in window)), np.float32)

    average = Average(*plan.settings["average"])

    def forward(tile: Array) -> Array:
        probabilities = tile_probabilities(tile, backend, average, segmenter.header.temperature)
        if progress is not None:
            progress()
        return np.stack([*_layers(probabilities, plan)])

    run_block(read, forward, rows, columns, plan.layers, out)
    place = plan.inside(plane, window)
    classes = out[0].astype(np.uint8)
    _write(Path(folder) / "classes", place, classes)
    if plan.threshold is not None:
        _write(Path(folder) / "kinds", place, out[1].astype(np.uint8))
    if plan.probabilities:
        probabilities = out[-plan.channels :]
        everywhere = (slice(0, plan.channels), *place)
        _write(Path(folder) / "probabilities", everywhere, probabilities)
    areas = np.bincount(classes.ravel(), minlength=plan.channels).tolist()
    done = Path(folder) / "done"
    if done.is_dir():  # else the run was given up, and its folder must not come back
        write_json(done / f"{number:08d}.json", {"areas_px": areas})


def _require_engine(backend: Backend, plan: BlockPlan) -> None:
    if backend.engine != plan.engine:
        raise ConfigError(
            f"{socket.gethostname()} computes with {backend.engine}, but the run began with {plan.engine}; "
            "install the same there"
        )


def compute_stored_block(model: str, source: str, folder: str, run: str, number: int) -> int:
    """Compute a block of the plan that is stored in a folder, in any process that sees the same files.

    Parameters
    ----------
    model, source : str
        See `compute_block`.
    folder, run : str
        Where the plan is, and which one it must be.
    number : int
        Of the block.

    Returns
    -------
    int
        Most memory that this process has taken, in bytes.

    Raises
    ------
    ConfigError
        If the plan is not to be seen here, or is that of another run; and see `compute_block`.
    """
    path = Path(folder) / "plan.json"
    try:
        plan = BlockPlan.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} is not to be seen on {socket.gethostname()} ({error.strerror}); workers must see the "
            "folder of the results under the same name"
        ) from None
    if plan.run != run:
        raise ConfigError(f"{folder} holds another run by now")
    compute_block(model, source, plan, number, str(Path(folder) / run))
    return peak_memory()


def backend_for(
    segmenter: Segmenter, precision: Precision, image: LargeImage, normalization: Sequence[Normalization]
) -> Backend:
    """What computes this image; in int8 it is made for it."""
    tiles = partial(typical_windows, image, normalization, segmenter.network.geometry)
    return segmenter.backend(precision, tiles, image.identity)


def _layers(probabilities: Array, plan: BlockPlan) -> Iterator[Array]:
    """What is kept of the probabilities of a tile, in float32: class, kind of object, themselves."""
    yield probabilities.argmax(0).astype(np.float32)
    if plan.threshold is not None:
        foreground = probabilities[1:].sum(0)
        yield kinds_of(foreground, plan.threshold, most_probable_kinds(probabilities)).astype(np.float32)
    if plan.probabilities:
        yield from probabilities.astype(np.float32)


def _spans(tiles: TilePlan, window: Window) -> tuple[list[Span], list[Span]]:
    """Rows and columns of the tiles in a block."""
    rows, columns = (
        [span for span in spans if side.start <= span.keep_start < side.stop]
        for spans, side in zip((tiles.rows, tiles.columns), window, strict=True)
    )
    return rows, columns


def _reader(
    image: LargeImage, plan: BlockPlan, plane: int, rows: list[Span], columns: list[Span]
) -> Callable[[int, int, int, int], Array]:
    """Read and normalise what the tiles of a block need, mirrored at the border of the image, once."""
    top, left = rows[0].read_start, columns[0].read_start
    bottom, right = max(row.read_stop for row in rows), max(column.read_stop for column in columns)
    values = plan.normalization[plane].apply(mirrored_window(image, plane, top, bottom, left, right))
    return lambda y0, y1, x0, x1: values[:, y0 - top : y1 - top, x0 - left : x1 - left]


def _write(store: Path, place: tuple[slice, ...], values: Array) -> None:
    """Write into the full resolution, and have it on the disk before the block is called done."""
    array = open_levels(store)[0]
    array[place] = values.reshape([side.stop - side.start for side in place])
    for path in written_chunks(array, place):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def total_areas(notes: Iterable[dict[str, Any]]) -> list[int]:
    """Pixels of each class over all blocks."""
    return np.sum([note["areas_px"] for note in notes], 0).tolist()  # type: ignore[no-any-return]
