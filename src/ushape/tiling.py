"""The overlap-tile strategy, exact: an image of any size through a network, unpadded or padded.

One axis of an image, cut for the paper's network (margin 92, period 16)::

    mirrored |                 image                 | mirrored
             0                                     length
    :::::::::|=============|~:::::::::                            tile 0
              :::::::::|=============|~:::::::::                  tile 1   (drawn closer than it lies)
                               :::::::::|======|~:::::::::        tile 2

    ===  kept: from a multiple of the period, a multiple of the period long (384), clipped at the end
    ~    computed and dropped: 388 pixels come out, 384 are kept
    :::  margin: read, mirrored beyond the border of the image, not returned

2x2 max-pooling is equivariant only under shifts by the period, 2 ** depth. A tile that starts at a multiple
of the period sees every pooling window where a pass over the whole image sees it, so both give the same
numbers; a tile laid at stride 388, as the paper draws it, does not. For the same reason the last tile is
never pulled back to fit: it reads beyond the border instead.

A network of padded convolutions returns what it reads. Its tiles read so many pixels more as it looks at (its
halo, rounded up to the period) and end where the image ends, because there a pass over the whole image meets
its padding, too; the outer part of what comes out has met padding in the wrong place, and is dropped.

Source: Ronneberger 2015, figure 2 and section 2.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import isqrt
from operator import itemgetter
from typing import Any

import numpy as np

from ushape.errors import ShapeError, TilingError
from ushape.geometry import Geometry, PaddedGeometry

Array = np.ndarray[Any, Any]
Forward = Callable[[Array], Array]
Read = Callable[[int, int, int, int], Array]

LARGEST_TILE = 1084
"""Side, in input pixels, of the largest tile that is worth its memory.

The margin costs less the larger the tile, but larger maps leave the caches: measured (2 cores, bf16) 0.14
megapixels a second at 572, 0.15 at 1084, and 0.12 at 2108, which takes four times the memory, 4 to 7 GB.
"""


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels of the image, half-open.

    Attributes
    ----------
    read_start, read_stop : int
        What the network reads. It may lie outside the image, where the image is mirrored.
    keep_start, keep_stop : int
        What is kept of the output; inside the image.
    is_padded : bool
        Whether the network returns all that it reads, and not only what is kept.
    """

    read_start: int
    read_stop: int
    keep_start: int
    keep_stop: int
    is_padded: bool = False

    @property
    def read(self) -> int:
        """Pixels read."""
        return self.read_stop - self.read_start

    @property
    def keep(self) -> int:
        """Pixels kept."""
        return self.keep_stop - self.keep_start

    @property
    def output(self) -> int:
        """Pixels that the network returns."""
        return self.read if self.is_padded else self.read - 2 * (self.keep_start - self.read_start)

    @property
    def kept(self) -> slice:
        """Where in them those are that are kept."""
        start = self.keep_start - self.read_start if self.is_padded else 0
        return slice(start, start + self.keep)


@dataclass(frozen=True)
class TilePlan:
    """How an image is cut into tiles: every pixel is kept by exactly one of them.

    Attributes
    ----------
    rows, columns : tuple of Span
        Tiles along the height and along the width; the plan is their product.
    reason : str
        Why the tiles have this size, in words.
    """

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    reason: str = ""

    @property
    def height(self) -> int:
        """Height of the image."""
        return self.rows[-1].keep_stop

    @property
    def width(self) -> int:
        """Width of the image."""
        return self.columns[-1].keep_stop

    @property
    def keep(self) -> tuple[int, int]:
        """Height and width that the largest tile keeps."""
        return self.rows[0].keep, self.columns[0].keep

    @property
    def input(self) -> tuple[int, int]:
        """Height and width that the largest tile reads."""
        return self.rows[0].read, self.columns[0].read

    @property
    def tiles(self) -> Iterator[tuple[Span, Span]]:
        """Row and column of each tile, line by line."""
        return ((row, column) for row in self.rows for column in self.columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)


def plan_axis(
    length: int, keep: int, geometry: Geometry, *, part: tuple[int, int] | None = None
) -> tuple[Span, ...]:
    """Cut one axis, or a part of it, into tiles that together equal one pass over the whole axis.

    Parameters
    ----------
    length : int
        Pixels of the image along this axis, >= 1.
    keep : int
        Pixels kept of each tile; a positive multiple of the period. The last tile may keep fewer.
    geometry : Geometry
        Of the network.
    part : (int, int), optional
        First and last pixel (half-open) that are needed; some more are kept, to a multiple of the period.

    Returns
    -------
    tuple of Span
        Each reads the smallest valid input that gives the pixels it keeps, as the whole axis would.

    Raises
    ------
    ShapeError
        If `length` is not positive.
    TilingError
        If `keep` is no positive multiple of the period, or less than a network needs that looks at all of it.
    """
    _require_pixels(length)
    if keep < 1 or keep % geometry.period:
        nearest = max(round(keep / geometry.period), 1) * geometry.period
        raise TilingError(
            f"a tile that keeps {keep} px is not exact; keep a multiple of {geometry.period}, "
            f"for example {nearest}"
        )
    first, last = part or (0, length)
    begin, end = first - first % geometry.period, min(last + -last % geometry.period, length)
    kept = [(start, min(start + keep, end)) for start in range(begin, end, keep)]
    if isinstance(geometry, PaddedGeometry):
        halo = 0 if kept == [(0, length)] else geometry.whole_halo  # which takes time to find
        return tuple(
            Span(max(start - halo, 0), min(stop + halo, length), start, stop, is_padded=True)
            for start, stop in kept
        )
    margin = geometry.margin
    return tuple(
        Span(start - margin, start - margin + geometry.input_size(stop - start), start, stop)
        for start, stop in kept
    )


def plan_tiles(
    height: int, width: int, keep: tuple[int, int], geometry: Geometry, *, reason: str = "as asked"
) -> TilePlan:
    """Cut an image into tiles that keep `keep` pixels; see `plan_axis`."""
    return TilePlan(plan_axis(height, keep[0], geometry), plan_axis(width, keep[1], geometry), reason)


def plan_for_memory(
    height: int,
    width: int,
    geometry: Geometry,
    bytes_per_input_pixel: float,
    max_memory: float,
    *,
    largest: int = LARGEST_TILE,
) -> TilePlan:
    """Cut an image into nearly equal tiles that a memory budget allows, and that together read least.

    The time of a network grows with the pixels that it reads, so the plan that reads least saves most.

    Parameters
    ----------
    height, width : int
        Size of the image, >= 1.
    geometry : Geometry
        Of the network.
    bytes_per_input_pixel : float
        Memory that one forward pass takes per pixel of its input.
    max_memory : float
        Bytes that one forward pass may take.
    largest : int
        A tile has no more input pixels than a square of this side, however much memory there is.

    Raises
    ------
    ShapeError
        If `height` or `width` is not positive.
    TilingError
        If the budget is below what the smallest tile takes.
    """
    _require_pixels(min(height, width))
    affordable = int(max_memory // bytes_per_input_pixel)
    whole = geometry.input_size(height) * geometry.input_size(width)
    if isinstance(geometry, PaddedGeometry) and whole > largest**2:
        largest = _largest_padded(whole, largest, geometry)
    keep = _least_reading(height, width, min(affordable, largest**2), geometry)
    if not all(keep):
        needed = geometry.smallest_tile(height) * geometry.smallest_tile(width) * bytes_per_input_pixel
        raise TilingError(
            f"{max(max_memory, 0) / 1e6:.0f} MB are left for a tile, the smallest one takes "
            f"{needed / 1e6:.0f} MB; raise the limit (--max-memory) by "
            f"{(needed - max_memory) / 1e6 + 1:.0f} MB"
        )
    if keep[0] >= height and keep[1] >= width:
        reason = "the whole image fits in one tile"
    elif affordable < largest**2:
        reason = f"as large as {max_memory / 1e6:.0f} MB for a tile allow"
    else:
        reason = f"at most {largest} x {largest} px: larger ones save little"
    return plan_tiles(height, width, keep, geometry, reason=reason)


def _require_pixels(length: int) -> None:
    if length < 1:
        raise ShapeError(f"an image side of {length} px cannot be cut into tiles; at least 1 px is needed")


def _least_reading(height: int, width: int, pixels: int, geometry: Geometry) -> tuple[int, int]:
    """Height and width to keep, by tiles of at most so many input pixels; 0 if the smallest are larger."""
    plans = []
    for tiles in range(1, -(-height // geometry.period) + 1):
        tall = _even(height, tiles, geometry)
        keep = tall, _widest_even(width, pixels // geometry.tile_size(tall, height), geometry)
        if keep[0] >= height and keep[1] >= width:
            return keep  # reads less than any two
        if keep[1]:
            plans.append((_read(height, keep[0], geometry) * _read(width, keep[1], geometry), keep))
    return min(plans, key=itemgetter(0), default=(0, (0, 0)))[1]


def _even(length: int, tiles: int, geometry: Geometry) -> int:
    """Pixels that each of so many tiles keeps of an axis: a whole number of periods."""
    return -(-length // (tiles * geometry.period)) * geometry.period


def _widest_even(length: int, tile: int, geometry: Geometry) -> int:
    """Pixels to keep, so that the fewest tiles of `tile` input pixels cover `length` evenly; 0: too small."""
    if tile >= geometry.input_size(length):
        return _even(length, 1, geometry)
    most = geometry.exact_output(tile) // geometry.period * geometry.period
    return _even(length, -(-length // most), geometry) if most else 0


def _read(length: int, keep: int, geometry: Geometry) -> int:
    whole, rest = divmod(length, keep)
    return whole * geometry.tile_size(keep, length) + (geometry.tile_size(rest, length) if rest else 0)


def _largest_padded(pixels: int, largest: int, geometry: PaddedGeometry) -> int:
    """Side of the largest tile of a padded network: half of it is kept; what cannot be cut is taken whole."""
    return isqrt(pixels) + 1 if geometry.halo is None else max(largest, 4 * geometry.whole_halo)


def read_mirrored(image: Array, top: int, bottom: int, left: int, right: int) -> Array:
    """Cut a window out of an image that goes on beyond its border as its mirror image.

    Parameters
    ----------
    image : ndarray, shape (C, H, W)
    top, bottom, left, right : int
        The window, half-open, in pixels of the image; it may lie outside.

    Returns
    -------
    ndarray, shape (C, bottom - top, right - left)
        The edge is not repeated (numpy's "reflect"), the mirroring goes on as often as the window needs,
        and an axis of one pixel repeats it. A view where the window lies inside the image.
    """
    rows, columns = mirrored(top, bottom, image.shape[-2]), mirrored(left, right, image.shape[-1])
    window = image[:, rows] if isinstance(rows, slice) else image.take(rows, axis=1)
    return window[:, :, columns] if isinstance(columns, slice) else window.take(columns, axis=2)


def mirrored(start: int, stop: int, length: int) -> "slice | Array":
    """Where the pixels `start` to `stop` of the endless mirrored axis lie on the axis itself."""
    if start >= 0 and stop <= length:
        return slice(start, stop)
    place, turn = np.arange(start, stop), max(2 * (length - 1), 1)  # 0 1 2 3 2 1 | 0 1 2 ...
    return np.minimum(place % turn, -place % turn)


def run_tiled(
    image: Array, forward: Forward, plan: TilePlan, channels: int, out: Array | None = None
) -> Array:
    """Run a network over an image tile by tile.

    Parameters
    ----------
    image : ndarray, shape (C, H, W)
        Network input of the size the plan was made for.
    forward : callable
        Takes a tile (C, h, w) and returns its output, (channels, h - 2 * margin, w - 2 * margin): logits, or
        anything computed from them pixel by pixel.
    plan : TilePlan
    channels : int
        Channels of the output.
    out : ndarray, shape (channels, H, W), optional
        Where to write; it fixes the data type. A new float32 array if not given.

    Returns
    -------
    ndarray, shape (channels, H, W)
        `out`, every pixel written exactly once. Equal to one pass over the whole mirrored image: in float64
        to 1e-12 of the largest value, in float32 to 1e-5.

    Raises
    ------
    ShapeError
        If the image is not of the size of the plan.
    TilingError
        If `forward` returns another size than the geometry of the plan says.
    """
    if image.shape[1:] != (plan.height, plan.width):
        raise ShapeError(f"image shape {image.shape} does not fit the plan: (C, {plan.height}, {plan.width})")
    if out is None:
        out = np.empty((channels, plan.height, plan.width), np.float32)
    run_block(partial(read_mirrored, image), forward, plan.rows, plan.columns, channels, out)
    return out


def run_block(
    read: Read,
    forward: Forward,
    rows: Sequence[Span],
    columns: Sequence[Span],
    channels: int,
    out: Array,
) -> None:
    """Run a network over neighbouring tiles of a plan; all of them together are the whole image.

    Parameters
    ----------
    read : callable
        Takes `top, bottom, left, right`, in pixels of the image, and returns that window, (C, h, w); beyond
        the border of the image it is mirrored, as `read_mirrored` does.
    forward : callable
        See `run_tiled`.
    rows, columns : sequence of Span
        Consecutive spans of a plan.
    channels : int
        Channels of the output.
    out : ndarray, shape (channels, h, w)
        Where to write what the tiles keep; its first pixel is the first one kept.

    Raises
    ------
    TilingError
        If `forward` returns another size than the geometry of the plan says.
    """
    top, left = rows[0].keep_start, columns[0].keep_start
    for row, column in product(rows, columns):
        tile = read(row.read_start, row.read_stop, column.read_start, column.read_stop)
        output = forward(tile)
        expected = (channels, row.output, column.output)
        if output.shape != expected:
            raise TilingError(f"a tile of {tile.shape} gave {output.shape}, expected {expected}")
        kept = output[:, row.kept, column.kept]
        y, x = row.keep_start - top, column.keep_start - left
        out[:, y : y + row.keep, x : x + column.keep] = kept
