"""Decode TIFF: one page or many, any compression, planar or interleaved colour, ImageJ and OME."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ushape.errors import ImageFormatError
from ushape.io import pixel_size
from ushape.io.decoded import Array, Decoded, unread

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_INCOMPLETE = (
    "invalid page offset",
    "invalid offset to page",
    "circular reference",
    "corrupted tag list of page",
    "ImageJ series metadata invalid",
)
"""Log lines after which tifffile goes on with fewer planes than the file once had."""

_PHOTOGRAPH = re.compile(r"\b(label|macro|overview|thumbnail|barcode)\b", re.IGNORECASE)
"""What programs call the photographs of the glass in an OME-TIFF."""

_SMOOTH = 32
"""Steps of a colour in a lookup table, at most (our choice); those of ImageJ lie between 32 colours."""

_UNREADABLE = {"CFA", "CIELAB", "ICCLAB", "ITULAB", "LOGL", "LOGLUV", "LINEAR_RAW", "SEPARATED"}
"""Photometric interpretations whose samples are neither grey values nor red, green and blue."""


class _Collect(logging.Filter):
    """Keeps what tifffile logs off the user's screen, and for our own judgement."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.lines.append(record.getMessage())
        return False


@contextmanager
def _collected_log() -> Iterator[list[str]]:
    logger, collect = logging.getLogger("tifffile"), _Collect()
    logger.addFilter(collect)
    try:
        yield collect.lines
    finally:
        logger.removeFilter(collect)


def decode_tiff(path: Path, *, pixels: bool = True) -> Decoded:
    """Read the image of a TIFF file; without `pixels`, only what its tags say.

    Raises
    ------
    ImageFormatError
        If the file holds no image, several unrelated ones, less data than its tags promise, or colours
        that are neither grey, RGB nor a palette.

    Notes
    -----
    Other exceptions of tifffile and imagecodecs pass; `ushape.io.read` turns them into one line.
    """
    with _described(path) as (_, series, found):
        return replace(found, pixels=series.asarray().reshape(found.pixels.shape)) if pixels else found


@contextmanager
def opened_tiff(path: Path) -> Iterator[Decoded]:
    """Open the image of a TIFF file; its pixels are read when they are indexed, full resolution.

    Raises
    ------
    ImageFormatError
        See `decode_tiff`.
    """
    with _described(path) as (tif, series, found):
        page: Any = series.keyframe
        if series.dataoffset is not None and page.is_memmappable:
            dtype = np.dtype(tif.byteorder + series.dtype.char)
            pixels: Any = _Uncompressed(path, found.pixels.shape, dtype, series.dataoffset)
            yield replace(found, pixels=pixels)
            return
        import zarr

        store = series.aszarr(level=0, squeeze=False)
        try:
            pixels = zarr.open_array(store, mode="r")
            yield replace(found, pixels=pixels)
        finally:
            store.close()


@dataclass(frozen=True)
class _Uncompressed:
    """Pixels that lie in a file one after the other; none stays in memory after a window is read."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    def __getitem__(self, window: tuple[slice, ...]) -> Array:
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        return np.array(mapped[window])


@contextmanager
def _described(path: Path) -> Iterator[tuple[tifffile.TiffFile, Any, Decoded]]:
    """Open a TIFF file and say what its tags say, pixels left unread."""
    # A file of a set is read alone: whoever names the folder names its neighbours as well.
    with _collected_log() as log, tifffile.TiffFile(path, _multifile=False) as tif:
        if not len(tif.pages):
            raise ImageFormatError("holds no image; export it again")
        series = _only_series(tif)
        _require_complete(tif, series, log)
        page: Any = series.keyframe
        _require_known_colour(page)
        shape, axes = _unsqueezed(series)
        palette = _palette(page)
        if 0 in shape or axes.count("Y") != 1 or axes.count("X") != 1:
            raise ImageFormatError(f"holds no image: its data have the shape {shape}; export it again")
        yield (
            tif,
            series,
            Decoded(
                pixels=unread(shape, np.dtype(series.dtype)),
                axes=axes,
                palette=palette,
                palette_is_display=palette is not None and tif.is_imagej and _is_display(palette),
                has_alpha="S" in axes and _has_alpha(page),
                white_is_zero=_white_is_zero(page),
                max_value=2 ** min(page.bitspersample, 64) - 1,
                pixel_size_um=pixel_size.of_tiff(tif),
            ),
        )


def _unsqueezed(series: Any) -> tuple[tuple[int, ...], str]:
    """Shape and axes of a series, those of length 1 included."""
    if hasattr(series, "get_shape"):  # tifffile before 2026.9
        return series.get_shape(False), series.get_axes(False)
    return series.shape, series.axes


def _only_series(tif: tifffile.TiffFile) -> Any:
    """The image of the file; thumbnails, the label and the overview of a slide are left aside."""
    # From 2026.9 on tifffile squeezes series as a whole, before that what they are asked for.
    first, *others = tif.series(squeeze=False) if callable(tif.series) else tif.series
    if first.kind in {"generic", "uniform", "shaped", "ome", "imagej"}:
        images = 1 + sum(not (one.keyframe.is_reduced or _is_of_a_slide(one)) for one in others)
        if images > 1:
            raise ImageFormatError(
                f"holds {images} images of different kinds; save each as a file of its own"
            )
    return first


def _is_of_a_slide(series: Any) -> bool:
    """Whether this is a photograph of the glass, by the name that programs give it in an OME-TIFF."""
    is_colour = series.keyframe.samplesperpixel > 1
    return series.kind == "ome" and is_colour and bool(_PHOTOGRAPH.search(series.name or ""))


def _require_complete(tif: tifffile.TiffFile, series: Any, log: list[str]) -> None:
    """Refuse a file that was cut off: tifffile would read fewer planes, or fill the gap with zeros."""
    end = tif.filehandle.size
    if series.dataoffset is not None:
        complete = series.dataoffset + series.nbytes <= end
    elif None in series.pages:
        raise ImageFormatError("lacks planes that its metadata name; export it again, as one file")
    else:
        complete = all(_last_byte(page) <= end for page in series.pages)
    if not complete or any(sign in line for sign in _INCOMPLETE for line in log):
        raise ImageFormatError("is truncated: it ends before its last plane; copy or export it again")


def _last_byte(page: Any) -> int:
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
    return max(ends, default=0)


def _require_known_colour(page: Any) -> None:
    name = getattr(page.photometric, "name", str(page.photometric))
    if name in _UNREADABLE:
        raise ImageFormatError(f"has {name} colours; save it as grey or RGB")


def _palette(page: Any) -> Array | None:
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE or page.colormap is None:
        return None
    colormap = np.asarray(page.colormap)
    # The standard says 16 bits per colour; some programs write 8.
    shift = 8 if colormap.max() > 255 else 0
    return np.ascontiguousarray((colormap >> shift).T.astype(np.uint8))


def _is_display(palette: Array) -> bool:
    """Whether a palette is a lookup table of ImageJ, which keeps the display of an image of 8 bits so.

    Those run smoothly ("Fire"), or brightness only rises or only falls in them (a contrast that was set).
    What ImageJ made of colours ("8-bit Color") is unordered.
    """
    table = palette.astype(np.int64)
    steps = np.diff(table.sum(1))
    is_smooth = np.abs(np.diff(table, axis=0)).max() <= _SMOOTH
    return bool(is_smooth or (steps >= 0).all() or (steps <= 0).all())


def _white_is_zero(page: Any) -> bool:
    """Whether the file says so; of one bit tifffile says so unasked, and means its True by 1."""
    is_bool = page.bitspersample == 1 and str(page.software).startswith("tifffile")
    return page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and not is_bool


def _has_alpha(page: Any) -> bool:
    """Whether the last sample is opacity; a fourth sample beside RGB always is, tagged or not."""
    if page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR):
        return bool(page.samplesperpixel == 4)
    alpha = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
    return len(page.extrasamples) == 1 and page.extrasamples[0] in alpha
