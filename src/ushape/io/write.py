"""Write results: each file beside its place, then renamed, so that there is never half of one."""

import csv
import errno
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from ushape.config import PixelSize
from ushape.errors import OutputError, ShapeError, UShapeError
from ushape.io.decoded import Array

Color = tuple[int, int, int]

_UNNAMED_COLOR = (128, 128, 128)
_IGNORED_COLOR = (255, 255, 255)

_FIXES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some space or choose another folder",
    errno.EFBIG: "choose a folder on a disk that allows larger files",
    errno.EEXIST: "a file has the name of a folder on the way: choose another",
    errno.ENOTDIR: "a file has the name of a folder on the way: choose another",
    errno.EISDIR: "remove that folder or choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
}

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def written_beside(path: Path | str) -> Iterator[Path]:
    """Write a file completely or not at all.

    Parameters
    ----------
    path : path
        The file to be written; missing folders are made, an existing file is replaced.

    Yields
    ------
    Path
        A hidden name in the same folder, with the same suffix, to write to. It is flushed to the disk and
        renamed to `path` when the block ends, and removed if the block raises, Ctrl-C included.

    Raises
    ------
    OutputError
        If the system refuses: no permission, disk full, name taken by a folder.
    """
    path = Path(path)
    beside = path.parent / f".{secrets.token_hex(6)}{path.suffix}"
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():  # the rename would replace even /dev/null
            raise OutputError(
                f"cannot write {path}: it is a device or a pipe, not a file; choose another name"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        name_whole(beside, path)
    except UShapeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {_reason_and_fix(error)}") from error
    finally:
        with suppress(OSError):  # the folder itself is gone or forbidden: nothing was written there
            beside.unlink(missing_ok=True)


@contextmanager
def output_folder(path: Path | str) -> Iterator[Path]:
    """Make a folder for results, and take it away again if nothing was written to it.

    Parameters
    ----------
    path : path
        The folder; missing parents are made.

    Yields
    ------
    Path
        The folder, in which files can be made.

    Raises
    ------
    OutputError
        If the system refuses: no permission, name taken by a file; or the disk is full later on.
    """
    folder = Path(path)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "a file has that name" if isinstance(error, FileExistsError) else error.strerror
        raise OutputError(f"cannot write to {folder}: {reason}; choose another folder") from error
    try:
        yield folder
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OutputError(f"cannot write to {folder}: {_reason_and_fix(error)}") from error
    finally:
        if is_new:
            with suppress(OSError):  # it holds results
                folder.rmdir()


def _reason_and_fix(error: OSError) -> str:
    if error.errno is None:  # NumPy, of a short write: "4096 requested and 17 written"
        return "the disk is full; free some space or choose another folder"
    fix = _FIXES.get(error.errno, "choose a folder that you may write to")
    return f"{error.strerror}; {fix}"


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would outlive a power cut.

    Before a name points to the file, so that none is empty.
    """
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def name_whole(part: Path, path: Path) -> None:
    """Give a file that is written its name; from then on it is there whole, also after a power cut."""
    to_disk(part)
    os.replace(part, path)
    with suppress(OSError):  # not every file system can
        to_disk(path.parent)


def write_classes(
    path: Path | str, classes: Array, *, colors: Sequence[Color], pixel_size_um: PixelSize | None = None
) -> None:
    """Write class indices with a palette, so that the file is seen in colours and read as indices.

    Parameters
    ----------
    path : path
        `.png` for one plane, `.tif` for one plane or a stack.
    classes : ndarray of uint8, shape (H, W) or (Z, H, W)
        Class index of each pixel.
    colors : sequence of (red, green, blue), each 0 to 255
        Colour of each class; indices beyond are shown grey, 255 (does not count) white.
    pixel_size_um : tuple of float, optional
        Height and width of a pixel in micrometres.

    Raises
    ------
    ShapeError
        If `classes` is not one plane (PNG) or a stack of planes (TIFF), or not uint8.
    OutputError
        If the file cannot be written.
    """
    if classes.dtype != np.uint8 or classes.ndim not in (2, 3):
        raise ShapeError(f"classes are uint8 of 2 or 3 axes, got {classes.dtype} of shape {classes.shape}")
    if Path(path).suffix.lower() == ".png":
        _write_palette_png(Path(path), classes, _palette(colors), pixel_size_um)
        return
    _write_tiff(path, classes, "ZYX"[-classes.ndim :], pixel_size_um, **in_colors(colors), compression="zlib")


def write_probabilities(
    path: Path | str, probabilities: Array, *, pixel_size_um: PixelSize | None = None
) -> None:
    """Write class probabilities, uncompressed, so that a large file can be memory-mapped.

    Parameters
    ----------
    path : path
        `.tif`.
    probabilities : ndarray of float32, shape (C, H, W) or (Z, C, H, W)
        Softmax, 0 to 1. tifffile reads back exactly this shape.
    pixel_size_um : tuple of float, optional
        Height and width of a pixel in micrometres.

    Raises
    ------
    ShapeError
        If there are not 3 or 4 axes.
    OutputError
        If the file cannot be written.
    """
    if probabilities.ndim not in (3, 4):
        raise ShapeError(f"probabilities have shape (C, H, W) or (Z, C, H, W), got {probabilities.shape}")
    array = probabilities.astype(np.float32, copy=False)
    _write_tiff(path, array, "ZCYX"[-array.ndim :], pixel_size_um, photometric="minisblack")


def write_instances(path: Path | str, ids: Array, *, pixel_size_um: PixelSize | None = None) -> None:
    """Write object ids as uint16, or as uint32 if there are more than 65535.

    Parameters
    ----------
    path : path
        `.tif`.
    ids : ndarray of int, shape (H, W) or (Z, H, W)
        Object ids from 1, 0 = background.
    pixel_size_um : tuple of float, optional
        Height and width of a pixel in micrometres.

    Raises
    ------
    ShapeError
        If there are not 2 or 3 axes.
    OutputError
        If the file cannot be written.
    """
    if ids.ndim not in (2, 3):
        raise ShapeError(f"object ids have shape (H, W) or (Z, H, W), got {ids.shape}")
    dtype = np.uint16 if ids.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
    options = {"photometric": "minisblack", "compression": "zlib"}
    _write_tiff(path, ids.astype(dtype), "ZYX"[-ids.ndim :], pixel_size_um, **options)


def write_overlay(path: Path | str, rgb: Array) -> None:
    """Write a picture as PNG: uint8 of shape (H, W, 3).

    Raises
    ------
    ShapeError
        If `rgb` is anything else.
    OutputError
        If the file cannot be written.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ShapeError(f"an overlay is uint8 of shape (H, W, 3), got {rgb.dtype} of shape {rgb.shape}")
    with written_beside(path) as beside:
        Image.fromarray(rgb).save(beside, format="PNG")


def write_json(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write a mapping as JSON; NumPy numbers and arrays and paths are understood.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, which JSON does not have.
    OutputError
        If the file cannot be written.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    if not is_unicode(text):  # the name of a folder: "\udcfc" in ASCII reads back as it was
        text = json.dumps(content, indent=2, allow_nan=False, default=_plain)
    with written_beside(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def is_unicode(text: str) -> bool:
    """Whether all of it can be written in UTF-8; names of old file systems cannot."""
    return not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)


def write_geojson(path: Path | str, features: Iterable[Mapping[str, Any]]) -> None:
    """Write a FeatureCollection of GeoJSON (RFC 7946), one feature on each line.

    Parameters
    ----------
    path : path
        `.geojson`.
    features : iterable of mapping

    Raises
    ------
    ValueError
        If a number is NaN or infinite, which JSON does not have.
    OutputError
        If the file cannot be written.
    """
    lines = (json.dumps(one, ensure_ascii=False, allow_nan=False, default=_plain) for one in features)
    with written_beside(path) as beside, beside.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [\n')
        for place, line in enumerate(lines):
            file.write(f",\n{line}" if place else line)
        file.write("\n]}\n")


def write_csv(path: Path | str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table: comma-separated, UTF-8, one header line.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with (
        written_beside(path) as beside,
        beside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def _palette(colors: Sequence[Color]) -> Array:
    """All 256 colours of an 8-bit palette."""
    palette = np.full((256, 3), _UNNAMED_COLOR, np.uint8)
    palette[255] = _IGNORED_COLOR
    palette[: len(colors)] = np.asarray(colors, np.uint8).reshape(-1, 3)
    return palette


def in_colors(colors: Sequence[Color]) -> dict[str, Any]:
    """How a TIFF shows indices in colours: options of tifffile."""
    return {"photometric": "palette", "colormap": _palette(colors).T.astype(np.uint16) * 257}  # 255 -> 65535


def _write_palette_png(path: Path, classes: Array, palette: Array, pixel_size_um: PixelSize | None) -> None:
    if classes.ndim != 2:
        raise ShapeError(f"a PNG holds one plane, got {classes.shape}; write a stack as .tif")
    image = Image.fromarray(classes)
    image.putpalette(palette.tobytes())
    options = {} if pixel_size_um is None else {"dpi": (25400 / pixel_size_um[1], 25400 / pixel_size_um[0])}
    with written_beside(path) as beside:
        image.save(beside, format="PNG", **options)


def _write_tiff(
    path: Path | str, planes: Array, axes: str, pixel_size_um: PixelSize | None, **options: Any
) -> None:
    """Write planes and name their axes."""
    with written_beside(path) as beside:
        tifffile.imwrite(beside, planes, **named(axes, pixel_size_um), **options)


def named(axes: str, pixel_size_um: PixelSize | None) -> dict[str, Any]:
    """How a TIFF tells its axes and the size of its pixels: options of tifffile."""
    metadata: dict[str, Any] = {"axes": axes}
    if pixel_size_um is None:
        return {"metadata": metadata}
    metadata["pixel_size_um"] = list(pixel_size_um)
    return {"metadata": metadata, **resolution(pixel_size_um)}


def resolution(pixel_size_um: PixelSize) -> dict[str, Any]:
    """How a TIFF tells the size of its pixels: per centimetre, width first."""
    return {"resolution": (1e4 / pixel_size_um[1], 1e4 / pixel_size_um[0]), "resolutionunit": 3}
