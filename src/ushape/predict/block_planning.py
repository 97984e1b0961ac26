"""How a large image is cut into blocks and tiles, and normalised, so that the memory suffices."""

import secrets
from collections.abc import Sequence
from math import ceil
from typing import Any

from ushape.backends import Backend, available_memory
from ushape.config import ModelHeader, Normalization, Postprocessing
from ushape.errors import ConfigError, TilingError
from ushape.geometry import Geometry, PaddedGeometry
from ushape.io import LargeImage
from ushape.predict.blocks import Asked, BlockPlan, windows_of
from ushape.predict.budget import budget_of, free_memory
from ushape.predict.plane_statistics import normalization_of
from ushape.predict.resampling import Size
from ushape.predict.scaled_image import READ_AT_ONCE, ScaledImage
from ushape.tiling import plan_for_memory

LARGEST_BLOCK = 2048
"""Side of a block, in pixels, beyond which larger ones save nothing."""
_LEAST_CHUNK = 512
_SHARE_OF_BLOCKS = 0.25
"""Share of the memory for the pixels of a block; the rest is for the network."""
_BYTES_FOR_OBJECTS = 60
"""Memory that finding and measuring objects takes per pixel seen at once: labels, frames and their pairs."""
BYTES_FOR_PARTS = 110
"""The same with a watershed: also a landscape, the order of its pixels and the queue of the flood."""
_DECODED_AT_ONCE = 10
"""Chunks that zarr decodes at the same time, at most."""


def plan_blocks(
    image: ScaledImage,
    backend: Backend,
    header: ModelHeader,
    normalization: Sequence[Normalization],
    asked: Asked,
    max_memory: int | None,
    *,
    resident: int,
) -> BlockPlan:
    """Cut an image into blocks that memory allows.

    Raises
    ------
    TilingError
        If the memory is too small for the smallest tile.
    """
    file, channels = image.image, max(header.architecture.classes, 2)
    budget = budget_of(backend, max_memory, resident)
    if backend.has_own_memory:  # in which only the tile lies
        planned, for_tile = budget, budget - backend.fixed_bytes
        room = available_memory() / 2 - _bytes_to_read(image)
    else:
        planned, room = budget + resident, budget - backend.fixed_bytes - _bytes_to_read(image)
        for_tile = (1 - _SHARE_OF_BLOCKS) * room
    per_pixel = _bytes_per_pixel(image, channels, asked)
    side = int((_SHARE_OF_BLOCKS * max(room, 0) / per_pixel) ** 0.5)
    return BlockPlan(
        run=secrets.token_hex(4),
        asked=asked,
        max_memory=round(planned),
        planes=file.size.planes,
        height=file.size.height,
        width=file.size.width,
        channels=channels,
        is_stack=file.is_stack,
        **_cut(image, backend, side, for_tile),
        device=str(backend.device),
        engine=backend.engine,
        normalization=tuple(normalization),
        version=file.version or "0.5",
    )


def bytes_for_objects(how: Postprocessing) -> int:
    """Memory that finding and measuring objects takes per pixel that is seen at once."""
    return _BYTES_FOR_OBJECTS if how.split == "none" else BYTES_FOR_PARTS


def require_readable(file: LargeImage, max_memory: int | None, resident: int) -> None:
    """Refuse a file in pieces too large for the memory, before any of them is read.

    Raises
    ------
    ConfigError
    """
    decoded = _decoded_bytes(file)
    if decoded > free_memory(max_memory, resident) / 2:
        raise ConfigError(
            f"{file.path} is stored in pieces of {file.chunk_bytes / 1e6:.0f} MB: what is decoded at once "
            f"takes {decoded / 1e6:.0f} MB; give --max-memory {(3 * decoded + resident) / 1e9:.1f}GB, or "
            "save it in smaller tiles or chunks"
        )


def _decoded_bytes(file: LargeImage) -> int:
    """Memory of the pieces that are decoded at the same time: ten, or as many as fill the file."""
    return min(_DECODED_AT_ONCE, file.chunks) * file.chunk_bytes


def _bytes_to_read(image: ScaledImage) -> int:
    """Memory that reading takes beside the pixels of a block: what zarr decodes, what is resampled."""
    channels = image.image.size.channels
    return _decoded_bytes(image.image) + (16 * channels * READ_AT_ONCE**2 if image.is_scaled else 0)


def _bytes_per_pixel(image: ScaledImage, channels: int, asked: Asked) -> float:
    """Memory per pixel of a block: what is read and computed for it, or later the finding of its objects."""
    file, seen = image.image.size, image.size
    height, width = seen.height / file.height, seen.width / file.width
    read = 2 * seen.channels * (4 + (4 if image.is_scaled else seen.dtype.itemsize))
    ahead = 4 * seen.channels  # normalised pixels of the block that is read meanwhile
    per_pixel = height * width * (read + ahead + 4 * channels) + 4 * (4 + asked.foreground)
    per_pixel += 4 * channels  # probabilities of the block that is written meanwhile
    if image.is_scaled:  # probabilities at the size of the image, and what one axis gives
        per_pixel += 4 * channels * (1 + width)
    if channels > 2:  # what NumPy makes to find the largest
        per_pixel += 4 * channels + 8
    if asked.postprocessing is not None:
        grey = 2 * file.channels * file.dtype.itemsize
        per_pixel = max(per_pixel, bytes_for_objects(asked.postprocessing) + grey)
    return per_pixel


def _cut(image: ScaledImage, backend: Backend, side: int, bytes_for_tile: float) -> dict[str, Any]:
    """What a tile keeps and why, a chunk, and a block of about `side` pixels, in words of `BlockPlan`."""
    if image.is_scaled:
        return _cut_scaled(image, backend, side, bytes_for_tile)
    lengths, both = (image.image.size.height, image.image.size.width), (0, 1)
    keep, reason = _tile(lengths, backend, bytes_for_tile)
    chunk = [_chunk(keep[axis], lengths[axis]) for axis in both]
    block = [_block(chunk[axis], lengths[axis], min(side, LARGEST_BLOCK)) for axis in both]
    return {"keep": keep, "chunk": chunk, "block": block, "reason": reason}


def _cut_scaled(image: ScaledImage, backend: Backend, side: int, bytes_for_tile: float) -> dict[str, Any]:
    """Blocks are cut in pixels of the image then, and tiles so that they fit one of them."""
    lengths, sizes = (image.image.size.height, image.image.size.width), (image.size.height, image.size.width)
    both, around = (0, 1), _around(backend.geometry)
    sides = [min(side, int(LARGEST_BLOCK / min(one, 1))) for one in image.scale]
    if around is None:
        if lengths[0] * lengths[1] > side**2:
            raise TilingError(
                f"{image.image.path} is too large for memory, and the network looks at all of it; raise "
                "the limit (--max-memory), or train with another encoder: resnet34"
            )
        sides, around = [*lengths], 0
        chunk = [*lengths]
    else:
        chunk = [max(min(_LEAST_CHUNK, one), 1) for one in sides]
    block = [_block(chunk[axis], lengths[axis], sides[axis]) for axis in both]
    height, width = (min(ceil(block[axis] * image.scale[axis]) + around, sizes[axis]) for axis in both)
    keep, reason = _tile((height, width), backend, bytes_for_tile)
    if (height, width) != sizes and keep[0] >= height and keep[1] >= width:
        reason = "a block fits in one tile"
    return {"keep": keep, "chunk": chunk, "block": block, "reason": reason}


def _around(geometry: Geometry) -> int | None:
    """Pixels of the network that a block sees beside its own; None: all of the plane."""
    to_a_period = 2 * (geometry.period + 1)  # an interpolated pixel lies between two
    if not isinstance(geometry, PaddedGeometry):
        return to_a_period
    return None if geometry.halo is None else to_a_period + 2 * geometry.whole_halo


def _tile(size: Size, backend: Backend, bytes_for_tile: float) -> tuple[list[int], str]:
    """What a tile of a plane of some size keeps, and why."""
    period = backend.geometry.period
    plan = plan_for_memory(
        *size,
        backend.geometry,
        backend.bytes_per_input_pixel,
        bytes_for_tile,
        largest=backend.largest_tile,
    )
    # A single tile is as long as the plane, which need not be a multiple of the period.
    return [-(-side // period) * period for side in plan.keep], plan.reason


def _chunk(keep: int, length: int) -> int:
    """Side of a chunk, some tiles long."""
    return min(-(-_LEAST_CHUNK // keep), -(-length // keep)) * keep


def _block(chunk: int, length: int, side: int) -> int:
    """Side of a block of nearly `side`, some chunks long."""
    return max(min(side // chunk, -(-length // chunk)), 1) * chunk


def normalizations_of(image: ScaledImage, header: ModelHeader) -> tuple[Normalization, ...]:
    """How each plane is normalised, as a whole: one pass over its pixels."""
    if header.normalization.kind == "fixed":
        return (header.normalization,) * image.size.planes
    windows = windows_of(image.size[1:3], (LARGEST_BLOCK // 2, LARGEST_BLOCK // 2))
    return tuple(
        normalization_of(
            image.read(plane, rows.start, rows.stop, columns.start, columns.stop) for rows, columns in windows
        )
        for plane in range(image.size.planes)
    )
