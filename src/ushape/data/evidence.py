"""What one mask holds, as evidence of how the masks of a data set are to be read.

Labels are compared as one integer per pixel, the *code*: the number itself, or red, green and blue packed
into 24 bits (48 for 16-bit colours).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ushape.errors import ImageFormatError
from ushape.io import LabelImage, image_size

Array = np.ndarray[Any, Any]

MAX_SMEARED_SHARE = 0.04
"""Soft pixels per edge pixel. Measured: true masks of six data sets 0.016 at most; JPEG of quality 98
and more than 0.07, quality 92 more than 0.24, interpolated ones more than 0.26."""

MIN_SMEARED_PIXELS = 8
"""Fewer soft pixels than this say nothing."""

MAX_MASK_VALUES = 16
"""More distinct values than this are no image used as a mask; fewer no mask that is a photograph."""

MIN_SOLID_SHARE = 0.4
"""Share of pixels in uniform 2x2 blocks below which a mask is a photograph. Measured: true masks more
than 0.94, JPEG of quality 30 more than 0.59, cell images 0.20 at most but for clipped dark ones."""


@dataclass(frozen=True)
class Evidence:
    """What one mask holds.

    Attributes
    ----------
    path : Path or None
        The file.
    values : ndarray of int64, shape (n,)
        Codes that occur, ascending.
    pixels : ndarray of int64, shape (n,)
        Pixels of each.
    pieces : ndarray of int64, shape (n,)
        8-connected components of each.
    bits : int
        Bits per sample of the file's dtype.
    is_rgb : bool
        Whether the file holds colours.
    is_grey : bool
        Whether it holds only greys; True for numbers.
    palette : ndarray of uint8, shape (m, 3), or None
        Colours of the numbers.
    outside : int
        Pixels that do not count, by a region mask; they are not in `pixels`.
    smeared : {"", "JPEG-smeared", "anti-aliased", "an image"}
        "" for a sound mask, else what happened to it, or what it looks like.
    levels : tuple of int
        Grey values that were probably meant; empty for a sound mask.
    """

    path: Path | None
    values: Array
    pixels: Array
    pieces: Array
    bits: int
    is_rgb: bool
    is_grey: bool
    palette: Array | None
    outside: int
    smeared: str
    levels: tuple[int, ...] = ()


def label_plane(label: LabelImage, plane: int | None = None) -> Array:
    """One plane of a label image, shape (H, W) or (H, W, 3)."""
    return np.asarray(label.array[plane or 0] if "Z" in label.axes else label.array)


def plane_count(path: Path, unreadable: int = 1) -> int:
    """Planes of an image or of a mask, or what is said of a file that reading will tell the fault of."""
    try:
        return image_size(path).planes
    except ImageFormatError:
        return unreadable


def packed(plane: Array) -> Array:
    """Codes, shape (H, W) int64, of numbers (H, W) or colours (H, W, 3).

    Examples
    --------
    >>> [f"{code:06x}" for code in packed(np.array([[[255, 0, 16]]], np.uint8)).ravel()]
    ['ff0010']
    """
    if plane.ndim == 2:
        return plane.astype(np.int64)
    bits = 8 * plane.dtype.itemsize
    red, green, blue = np.moveaxis(plane.astype(np.int64), -1, 0)
    return np.asarray((red << 2 * bits) | (green << bits) | blue)


def unpacked(code: int, bits: int = 8) -> tuple[int, int, int]:
    """Red, green and blue of a code."""
    top = (1 << bits) - 1
    return (code >> 2 * bits) & top, (code >> bits) & top, code & top


def common_codes(item: Evidence, is_rgb: bool) -> Array:
    """Codes of one mask in the form that all masks of the data set share."""
    if is_rgb and not item.is_rgb:
        return np.asarray(item.values << 2 * item.bits | item.values << item.bits | item.values)
    return item.values & ((1 << item.bits) - 1) if item.is_rgb and not is_rgb else item.values


def examine(label: LabelImage, plane: int | None = None, region: Array | None = None) -> Evidence:
    """Gather the evidence of one mask.

    Parameters
    ----------
    label : LabelImage
        As `ushape.io.read_labels` gives it.
    plane : int, optional
        Which plane of a stack.
    region : ndarray of bool, shape (H, W), optional
        Pixels that count.
    """
    array = label_plane(label, plane)
    is_rgb = array.ndim == 3
    is_grey = not is_rgb or bool((array == array[..., :1]).all())
    values, ranks = ranked(packed(array))
    counted = ranks if region is None else ranks[region]
    shades, shade_ranks = _shades(array) if is_rgb else (values, ranks)
    smeared, levels = _smeared(shades, shade_ranks, is_jpeg(label.path))
    return Evidence(
        label.path,
        values,
        np.bincount(counted.ravel(), minlength=len(values)),
        pieces_of(ranks, len(values)),
        8 * array.dtype.itemsize,
        is_rgb,
        is_grey,
        label.palette,
        ranks.size - counted.size,
        smeared,
        levels,
    )


def ranked(codes: Array) -> tuple[Array, Array]:
    """Values that occur, ascending, and the rank of each pixel's value among them (int32).

    Examples
    --------
    >>> values, ranks = ranked(np.array([[255, 0, 7, 255]]))
    >>> values.tolist(), ranks.tolist()
    ([0, 7, 255], [[2, 0, 1, 2]])
    """
    if codes.dtype.kind != "f" and codes.min() >= 0 and codes.max() < 1 << 16:
        counts = np.bincount(codes.ravel())
        return np.flatnonzero(counts), (np.cumsum(counts > 0, dtype=np.int32) - 1)[codes]
    values, ranks = np.unique(codes, return_inverse=True)
    return values, ranks.reshape(codes.shape).astype(np.int32)


def is_jpeg(path: Path | None) -> bool:
    """Whether the file's name is that of a JPEG."""
    return path is not None and path.suffix.lower() in (".jpg", ".jpeg")


def _shades(colors: Array) -> tuple[Array, Array]:
    """Mean brightness of colours, whole and ascending, and the rank of each pixel's."""
    return ranked(colors.sum(-1, dtype=np.int64) // 3)


def pieces_of(ranks: Array, num_values: int) -> Array:
    """8-connected components of each value."""
    import cc3d

    # cc3d takes 0 for background, but a 0 is a class here: count ranks from 1.
    ranks = (ranks + 1).astype(np.uint32)
    pieces, count = cc3d.connected_components(ranks, connectivity=8, return_N=True)
    rank_of_piece = np.zeros(count + 1, np.int64)
    rank_of_piece[pieces.ravel()] = ranks.ravel()
    return np.bincount(rank_of_piece[1:] - 1, minlength=num_values)


def _smeared(shades: Array, ranks: Array, from_jpeg: bool) -> tuple[str, tuple[int, ...]]:
    """What happened to a mask whose edges are soft, and the levels meant; "" if they are sharp.

    A pixel is soft if a darker and a brighter one touch it and no 2x2 block of equal pixels holds it. A
    blurred edge is soft nearly everywhere, a sharp one almost nowhere, even where three labels meet.
    """
    if len(shades) < 3:
        return "", ()
    import cv2

    window, grey = np.ones((3, 3), np.uint8), ranks.astype(np.float32)
    low, high = cv2.erode(grey, window), cv2.dilate(grey, window)
    solid = _solid(grey)
    soft = (low < grey) & (grey < high) & ~solid
    share = soft.sum() / max(1, np.count_nonzero(low != high))
    if len(shades) > MAX_MASK_VALUES and solid.mean() < MIN_SOLID_SHARE:
        return "an image", ()
    if soft.sum() < MIN_SMEARED_PIXELS or share < (0 if from_jpeg else MAX_SMEARED_SHARE):
        return "", ()
    levels = shades[_levels(ranks, solid)]
    kind = "JPEG-smeared" if from_jpeg or _has_ripples(shades[ranks[~solid]], levels) else "anti-aliased"
    return kind, tuple(levels.tolist())


def _solid(grey: Array) -> Array:
    """Pixels that lie in a 2x2 block of equal pixels."""
    solid = np.zeros(grey.shape, bool)
    corner = grey[:-1, :-1]
    block = (corner == grey[1:, :-1]) & (corner == grey[:-1, 1:]) & (corner == grey[1:, 1:])
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        solid[y : y + block.shape[0], x : x + block.shape[1]] |= block
    return solid


def _levels(ranks: Array, solid: Array) -> Array:
    """Ranks with larger uniform areas; the lowest and highest if there is but one."""
    levels = np.flatnonzero(np.bincount(ranks[solid]) >= 0.01 * ranks.size)
    return levels if len(levels) > 1 else np.array([0, ranks.max()])


def _has_ripples(grey: Array, levels: Array) -> bool:
    """Whether most values that are no level lie near one, as after JPEG; interpolated ones lie between."""
    off = grey[~np.isin(grey, levels)]
    above = np.searchsorted(levels, off).clip(1, len(levels) - 1)
    distance = np.minimum(abs(off - levels[above]), abs(off - levels[above - 1]))
    return bool(off.size and (distance <= 0.08 * (levels[-1] - levels[0])).mean() > 0.5)
