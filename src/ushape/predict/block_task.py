"""The task that computes one block of a large image.

It reads its window, runs the tiles in it and writes its chunks, which no other task touches. It may be run
anywhere, in any order and more than once: the chunks come out the same.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ushape.backends import Backend, Precision, peak_memory
from ushape.config import Normalization
from ushape.errors import ConfigError, ImageFormatError
from ushape.instances import kinds_of
from ushape.io import LargeImage, open_levels, write_json, written_chunks
from ushape.predict.averaging import Average
from ushape.predict.blocks import BlockPlan, Window
from ushape.predict.mirrored_window import mirrored_window
from ushape.predict.segmentation import most_probable, most_probable_kinds, tile_probabilities
from ushape.predict.segmenter import Segmenter, loaded
from ushape.predict.typical_tiles import typical_windows
from ushape.tiling import Span, TilePlan, run_block

Array = np.ndarray[Any, Any]


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
    if plan.foreground:
        _write(Path(folder) / "foreground", place, out[2])
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
    """What is kept of the probabilities of a tile, in float32: class, kind, foreground, themselves."""
    yield most_probable(probabilities).astype(np.float32)
    if plan.threshold is not None:
        foreground = probabilities[1:].sum(0)
        yield kinds_of(foreground, plan.threshold, most_probable_kinds(probabilities)).astype(np.float32)
        if plan.foreground:
            yield foreground.astype(np.float32)
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
