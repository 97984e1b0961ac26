"""The task that computes blocks of a large image.

It reads their windows, runs the tiles in them and writes their chunks, which no other task touches. It may be
run anywhere, in any order and more than once: the chunks come out the same.
"""

import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ushape.backends import Backend, Precision, peak_memory
from ushape.config import Normalization
from ushape.errors import ConfigError, ImageFormatError
from ushape.geometry import Geometry
from ushape.instances import kinds_of
from ushape.io import LargeImage, open_levels, to_disk, write_json, written_chunks
from ushape.predict.averaging import Average
from ushape.predict.blocks import BlockPlan
from ushape.predict.probabilities import most_probable, most_probable_kinds, tile_probabilities
from ushape.predict.scaled_image import ScaledImage
from ushape.predict.segmenter import Segmenter, loaded
from ushape.predict.typical_tiles import typical_windows
from ushape.tiling import Span, run_block

Array = np.ndarray[Any, Any]


def compute_blocks(
    model: str,
    source: str,
    plan: BlockPlan,
    numbers: Sequence[int],
    folder: str,
    progress: Callable[[], None] | None = None,
) -> None:
    """Compute blocks one after the other; of each write its chunks, then a note that it is done.

    While one is computed, the next one is read and the one before is written.

    Parameters
    ----------
    model, source : path
        The model file and the image.
    plan : BlockPlan
    numbers : sequence of int
        Of the blocks.
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
    segmenter = loaded(model, plan.asked.model, plan.device)
    wanted = segmenter.header.architecture.in_channels
    with (
        LargeImage(source, wanted) as image,
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
    ):
        if image.identity != plan.asked.image:
            raise ImageFormatError(f"{source} is not the image that the run began with; put that back")
        seen = ScaledImage(image, plan.asked.scale)
        backend = backend_for(segmenter, plan.asked.precision, seen, plan.normalization)
        _require_engine(backend, plan)
        forward = _forward(segmenter, backend, plan, progress or (lambda: None))
        read = partial(_read, seen, plan, geometry=backend.geometry)
        behind: Future[None] = writer.submit(lambda: None)
        try:
            for pixels in _one_ahead(reader, read, numbers):
                probabilities = _probabilities(pixels, forward, plan)
                behind.result()
                behind = writer.submit(_write_block, probabilities, plan, pixels.number, Path(folder))
            behind.result()
        finally:
            reader.shutdown(cancel_futures=True)


def _one_ahead(
    reader: ThreadPoolExecutor, read: "Callable[[int], _Pixels]", numbers: Sequence[int]
) -> "Iterator[_Pixels]":
    """Give what is read for each number, the next one of which is read while one is used."""
    waiting: deque[Future[_Pixels]] = deque()
    for number in numbers:
        waiting.append(reader.submit(read, number))
        if len(waiting) == 2:
            yield waiting.popleft().result()
    if waiting:
        yield waiting.popleft().result()


class _Pixels(NamedTuple):
    """What the tiles of a block read, normalised."""

    number: int
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    values: Array

    def read(self, top: int, bottom: int, left: int, right: int) -> Array:
        """Give the window of a tile."""
        y, x = self.rows[0].read_start, self.columns[0].read_start
        return self.values[:, top - y : bottom - y, left - x : right - x]


def _read(image: ScaledImage, plan: BlockPlan, number: int, *, geometry: Geometry) -> _Pixels:
    """Read what a block needs, mirrored at the border of the image, and normalise it."""
    plane, window = plan.place(number)
    rows, columns = plan.tiles(window, geometry)
    bottom, right = max(row.read_stop for row in rows), max(column.read_stop for column in columns)
    seen = image.read_mirrored(plane, rows[0].read_start, bottom, columns[0].read_start, right)
    return _Pixels(number, rows, columns, plan.normalization[plane].apply(seen))


def _forward(
    segmenter: Segmenter, backend: Backend, plan: BlockPlan, progress: Callable[[], None]
) -> Callable[[Array], Array]:
    """Make probabilities of a tile."""
    average = Average(*plan.asked.average)

    def forward(tile: Array) -> Array:
        found = tile_probabilities(tile, backend, average, segmenter.header.calibration)
        progress()
        return found

    return forward


def _probabilities(pixels: _Pixels, forward: Callable[[Array], Array], plan: BlockPlan) -> Array:
    """Probabilities (C, h, w) of a block, at the pixels of the image."""
    _, window = plan.place(pixels.number)
    rows, columns = pixels.rows, pixels.columns
    top, left = rows[0].keep_start, columns[0].keep_start
    kept = np.empty((plan.channels, rows[-1].keep_stop - top, columns[-1].keep_stop - left), np.float32)
    run_block(pixels.read, forward, rows, columns, plan.channels, kept)
    y, x = plan.from_network.source(window)
    return plan.from_network(kept[:, y.start - top : y.stop - top, x.start - left : x.stop - left], window)


def _require_engine(backend: Backend, plan: BlockPlan) -> None:
    if backend.engine != plan.engine:
        raise ConfigError(
            f"{socket.gethostname()} computes with {backend.engine}, but the run began with {plan.engine}; "
            "install the same there, or begin anew in another folder"
        )


def compute_stored_block(model: str, source: str, folder: str, run: str, number: int) -> int:
    """Compute a block of the plan that is stored in a folder, in any process that sees the same files.

    Parameters
    ----------
    model, source : str
        See `compute_blocks`.
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
        If the plan is not to be seen here, or is that of another run; and see `compute_blocks`.
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
    compute_blocks(model, source, plan, [number], str(Path(folder) / run))
    return peak_memory()


def backend_for(
    segmenter: Segmenter, precision: Precision, image: ScaledImage, normalization: Sequence[Normalization]
) -> Backend:
    """What computes this image; in int8 it is made for it if the model keeps no tiles."""
    tiles = partial(typical_windows, image, normalization, segmenter.network.geometry)
    return segmenter.backend(precision, tiles, (image.image.identity, image.scale))


def _write_block(probabilities: Array, plan: BlockPlan, number: int, folder: Path) -> None:
    """Write what is kept of the probabilities of a block, and then that it is done."""
    classes, place = most_probable(probabilities), plan.inside(*plan.place(number))
    how = plan.asked.postprocessing
    _write(folder / "classes", place, classes)
    if how is not None:
        foreground = probabilities[1:].sum(0)
        kinds = kinds_of(foreground, how.threshold, most_probable_kinds(probabilities))
        _write(folder / "kinds", place, kinds.astype(np.uint8))
        if plan.asked.foreground:
            _write(folder / "foreground", place, foreground)
    if "probabilities" in plan.asked.results:
        _write(folder / "probabilities", (slice(0, plan.channels), *place), probabilities)
    areas = np.bincount(classes.ravel(), minlength=plan.channels).tolist()
    if (folder / "done").is_dir():  # else the run was given up, and its folder must not come back
        write_json(folder / "done" / f"{number:08d}.json", {"areas_px": areas})


def _write(store: Path, place: tuple[slice, ...], values: Array) -> None:
    """Write into the full resolution, and have it on the disk before the block is called done."""
    array = open_levels(store)[0]
    array[place] = values.reshape([side.stop - side.start for side in place])
    for path in written_chunks(array, place):
        to_disk(path)
