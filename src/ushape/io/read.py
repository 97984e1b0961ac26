"""Read images and label images: PNG, JPEG, BMP, GIF, TIFF and OME-Zarr.

A file is decoded as it is stored (`tiff`, `raster`) and then understood in one of two ways: as an image,
where a palette means colours, or as labels, where a palette index is the label and nothing is ever
interpolated, rescaled or gamma-corrected.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ushape.errors import ImageFormatError, ShapeError
from ushape.io import multiscale, raster, tiff
from ushape.io.decoded import Array, Decoded, in_order, unread, without_unit_axes
from ushape.io.image import Image, ImageSize, LabelImage
from ushape.io.write import is_unicode

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".svs"})
"""Suffixes, in lower case, of the files that can be read."""

Source = Path | str | Array

_LABELS = "save numbers of classes or objects (probabilities are no mask: threshold them)"

_DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What Pillow, tifffile and imagecodecs raise on damaged files; any of these, as a fuzz test shows."""


def is_image(path: Path | str) -> bool:
    """Whether the name is that of a file that can be read; hidden files are not."""
    path = Path(path)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def holds_image(path: Path) -> bool:
    """Whether an entry of a folder is an image: a file by its name, or a folder of OME-Zarr."""
    if path.is_dir():
        return path.suffix == ".zarr" and multiscale.is_store(path)
    return is_image(path)  # a link that leads nowhere too, so that it is not passed over in silence


def read_image(source: Source, *, axes: str | None = None) -> Image:
    """Read an image or a stack.

    Parameters
    ----------
    source : path or ndarray
        A PNG, JPEG, BMP, GIF or TIFF file, recognised by its content, or an OME-Zarr folder, of which the
        full resolution is read; or an array.
    axes : str, optional
        What the axes are, in the order stored, for example "ZYX" or "CYX", where the file does not say or
        is wrong. Default for an array: 2-D "YX"; "YXC" or "ZYXC" if the last axis is 3 or 4 long;
        otherwise 3-D is "ZYX".

    Returns
    -------
    Image
        A palette is replaced by its colours, by grey values if it has only greys; where ImageJ keeps the
        contrast of the display in it, by the numbers that are shown so. Opacity is dropped, and
        "white is zero" inverted: bright is high. 1-bit files give 0 and 1, files of 2 to 16 bits their
        numbers. Other numeric dtypes become float32.

    Raises
    ------
    ImageFormatError
        If the file is missing, is not an image, is damaged, or holds NaN, infinite or complex values.
    ShapeError
        If `axes` does not fit, or an array is empty or has an ambiguous number of axes.
    """
    decoded, path = _decode(source, axes)
    return image_of(decoded, path, keep_unit_axes=axes is not None or path is None)


def image_of(decoded: Decoded, path: Path | None, *, keep_unit_axes: bool) -> Image:
    """Make an image of what a decoder found in `path`; see `read_image`."""
    name = _name(path)
    decoded = _as_grey_or_colour(_bright_is_high(_opaque(decoded)[0]))
    array, order = _arranged(decoded, keep_unit_axes=keep_unit_axes)
    return Image(_finite(_converted(array, name), name), order, decoded.pixel_size_um, path)


def read_labels(source: Source) -> LabelImage:
    """Read a label image: class numbers, object ids or colours, exactly as stored.

    Parameters
    ----------
    source : path or ndarray
        The file or array.

    Returns
    -------
    LabelImage
        Palette files give their indices, 1-bit files 0 and 1 (1 is what a viewer shows white, or what NumPy
        wrote as True), RGB files their colours. Whole numbers in floating point become integers.

    Raises
    ------
    ImageFormatError
        As `read_image`; also if the values are not whole numbers, if there are 2 or more than 3 channels,
        or if the opacity varies.
    ShapeError
        If an array is empty or has an ambiguous number of axes.
    """
    decoded, path = _decode(source, None)
    name = _name(path)
    decoded, opacity = _opaque(decoded)
    if opacity.min() != opacity.max():
        raise ImageFormatError(f"{name} is a label image of varying opacity; save it without transparency")
    if decoded.pixels.dtype == bool:
        decoded = _bright_is_high(decoded)
    array, order = _arranged(decoded, keep_unit_axes=path is None)
    if "C" in order and array.shape[-1] != 3:
        raise ImageFormatError(
            f"{name} has {array.shape[-1]} channels; a label image has 1 (numbers) or 3 (colours)"
        )
    labels = _whole(array, name)
    if "C" in order and labels.dtype.itemsize > 2:
        if labels.min() < 0 or labels.max() > np.iinfo(np.uint16).max:
            raise ImageFormatError(f"{name} has colours beyond 16 bits; save them with 8 bits per channel")
        labels = labels.astype(np.uint16)
    return LabelImage(labels, order, None if decoded.palette_is_display else decoded.palette, path)


def image_size(path: Path | str) -> ImageSize:
    """Size of the image in a file, from its header where that is enough.

    Raises
    ------
    ImageFormatError
        As `read_image`, except for faults that only the values show.
    """
    path = Path(path)
    return size_of(_decode_file(path, pixels=False), path)


def stores_floats(path: Path | str) -> bool:
    """Whether a file holds floats, and not wide integers of which `read_image` makes some.

    Raises
    ------
    ImageFormatError
        As `image_size`.
    """
    return bool(_decode_file(Path(path), pixels=False).pixels.dtype.kind == "f")


def size_of(decoded: Decoded, path: Path) -> ImageSize:
    """Size of the image that a decoder found in `path`."""
    decoded = _opaque(decoded)[0]
    if decoded.palette is not None and not decoded.palette_is_display:  # colours of no pixels take no memory
        samples = () if _is_grey(decoded.palette) else (3,)
        pixels, axes = unread(decoded.pixels.shape + samples, np.dtype(np.uint8)), decoded.axes
        decoded = replace(decoded, pixels=pixels, axes=axes + "S" * len(samples))
    array, axes = _arranged(decoded, keep_unit_axes=False)
    planes = Image(array, axes).planes
    count, channels, height, width = planes.shape
    return ImageSize(count, height, width, channels, _image_dtype(array.dtype, _name(path)))


def _name(path: Path | None) -> str:
    return "the array" if path is None else str(path)


def _decode(source: Source, axes: str | None) -> tuple[Decoded, Path | None]:
    if isinstance(source, np.ndarray):
        return _decode_array(source, axes), None
    path = Path(source)
    decoded = _decode_file(path)
    return (decoded if axes is None else _relabelled(decoded, axes, path)), path


def _decode_array(array: Array, axes: str | None) -> Decoded:
    if array.size == 0:
        raise ShapeError(f"the array is empty: shape {array.shape}")
    if axes is not None:
        return _relabelled(Decoded(array, "Q" * array.ndim), axes, None)
    is_colour = array.ndim > 2 and array.shape[-1] in (3, 4)
    guess = {2: "YX", 3: "YXS" if is_colour else "ZYX", 4: "ZYXS" if is_colour else ""}.get(array.ndim)
    if not guess:
        raise ShapeError(f'the array has shape {array.shape}; say what its axes are, such as axes="ZCYX"')
    return Decoded(array, guess, has_alpha=is_colour and array.shape[-1] == 4)


def _relabelled(decoded: Decoded, axes: str, path: Path | None) -> Decoded:
    """The same pixels with the user's axes; a single plane may be called a stack."""
    array, stored = decoded.pixels, decoded.axes
    if path is not None:
        array, stored = without_unit_axes(array, stored)
    axes = axes.upper()
    has_alpha = decoded.has_alpha and ("S", "C") in zip(stored, axes, strict=False)
    if array.ndim == 2 and axes.endswith("YX"):
        array = array.reshape((1,) * (len(axes) - 2) + array.shape)
    if array.ndim != len(axes) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        raise ShapeError(
            f"axes {axes!r} do not fit {_name(path)} of shape {array.shape}; give one letter per axis"
        )
    return replace(decoded, pixels=array, axes=axes, has_alpha=has_alpha)


def _decode_file(path: Path, *, pixels: bool = True) -> Decoded:
    decode = _decoder(path)
    with reading(path):
        return decode(path, pixels=pixels)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever decoders raise into one line about the file."""
    try:
        yield
    except ImageFormatError as error:
        raise ImageFormatError(f"{path} {error}") from error
    except MemoryError as error:
        raise ImageFormatError(f"{path} does not fit into memory; cut it into smaller images") from error
    except _DECODER_ERRORS as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ImageFormatError(
            f"{path} is damaged, truncated or of an unusual kind ({reason}); export it again as PNG or TIFF"
        ) from error


def _decoder(path: Path) -> Callable[..., Decoded]:
    """The function that decodes this file, chosen by its first bytes; a wrong suffix does no harm."""
    if multiscale.is_store(path):
        return multiscale.decode_store
    start = _first_bytes(path)
    if start.startswith(tiff.SIGNATURES):
        return tiff.decode_tiff
    for signature, name in raster.SIGNATURES.items():
        if start.startswith(signature):
            return partial(raster.decode_raster, format_name=name)
    raise ImageFormatError(f"{path} is not an image: it begins with {start!r}; export it as PNG or TIFF")


def _first_bytes(path: Path) -> bytes:
    if not is_unicode(path.name):
        raise ImageFormatError(f"the name of {str(path)!a} is not UTF-8; rename the file")
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageFormatError(f"no such file: {path}; check the name") from error
    except IsADirectoryError as error:
        raise ImageFormatError(f"{path} is a folder, not an image; name a file in it") from error
    except OSError as error:
        raise ImageFormatError(f"{path} cannot be opened: {error.strerror}; check its permissions") from error
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        readable = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ImageFormatError(f"{path} cannot be read: export it as TIFF or PNG (readable: {readable})")
    if not start:
        raise ImageFormatError(f"{path} is empty (0 bytes); copy or export it again")
    return start


def _opaque(decoded: Decoded) -> tuple[Decoded, Array]:
    """The same image without its opacity, and the opacity (one value where there is none)."""
    if not decoded.has_alpha:
        return decoded, np.zeros(1, np.uint8)
    axis = max(decoded.axes.find("S"), decoded.axes.find("C"))
    samples = np.moveaxis(decoded.pixels, axis, -1)
    axes = decoded.axes[:axis] + decoded.axes[axis + 1 :] + "S"
    return replace(decoded, pixels=samples[..., :-1], axes=axes, has_alpha=False), samples[..., -1]


def _bright_is_high(decoded: Decoded) -> Decoded:
    """The same image with 0 for black."""
    if not decoded.white_is_zero or decoded.pixels.dtype.kind not in "bu":
        return decoded
    pixels = decoded.pixels
    inverse = ~pixels if pixels.dtype == bool else pixels.dtype.type(decoded.max_value) - pixels
    return replace(decoded, pixels=inverse, white_is_zero=False)


def _as_grey_or_colour(decoded: Decoded) -> Decoded:
    """The same image with the colours of its palette instead of their indices."""
    if decoded.palette is None or decoded.palette_is_display:
        return replace(decoded, palette=None)
    pixels = decoded.pixels
    if pixels.dtype == bool:  # else they would choose entries, and not be numbers of them
        pixels = pixels.astype(np.uint8)
    palette = np.zeros((max(len(decoded.palette), 2 ** (8 * pixels.dtype.itemsize)), 3), np.uint8)
    palette[: len(decoded.palette)] = decoded.palette
    if _is_grey(decoded.palette):
        return replace(decoded, pixels=palette[pixels, 0], palette=None)
    return replace(decoded, pixels=palette[pixels], axes=decoded.axes + "S", palette=None)


def _is_grey(palette: Array) -> bool:
    return bool((palette == palette[:, :1]).all())


def _arranged(decoded: Decoded, *, keep_unit_axes: bool) -> tuple[Array, str]:
    array, axes = decoded.pixels, decoded.axes
    if not keep_unit_axes:
        array, axes = without_unit_axes(array, axes)
    return in_order(array, axes)


def _image_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    if dtype.kind not in "buif":
        raise ImageFormatError(f"{name} has {dtype} values; an image has real numbers: save its magnitude")
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    native = dtype.newbyteorder("=")
    return native if native in (np.uint8, np.uint16, np.int16, np.float32) else np.dtype(np.float32)


def _converted(array: Array, name: str) -> Array:
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, and is refused as such
        converted: Array = array.astype(_image_dtype(array.dtype, name), copy=False)
    return converted


def _finite(array: Array, name: str) -> Array:
    if array.dtype.kind == "f":
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise ImageFormatError(
                f"{name} has {bad} of {array.size} values that are NaN or infinite; replace them by numbers"
            )
    return array


def _whole(array: Array, name: str) -> Array:
    """Labels as integers of the machine's byte order."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind in "ui":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind != "f":
        raise ImageFormatError(f"{name} has {array.dtype} values; {_LABELS}")
    _finite(array, name)
    fractions = int(np.count_nonzero(array != np.round(array)))
    if fractions:
        raise ImageFormatError(f"{name} has {fractions} of {array.size} values that are fractions; {_LABELS}")
    largest = float(np.abs(array).max())
    if largest > np.iinfo(np.int32).max:
        raise ImageFormatError(f"{name} has values up to {largest:g}, beyond 32 bits; {_LABELS}")
    return array.astype(np.int32)
