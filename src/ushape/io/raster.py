"""Decode PNG, JPEG, BMP and GIF."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import GifImagePlugin, Image

from ushape.config import PixelSize
from ushape.io import pixel_size
from ushape.io.decoded import Array, Decoded, unread

SIGNATURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"GIF8": "GIF"}

_DTYPES = {"1": bool, "L": np.uint8, "LA": np.uint8, "RGB": np.uint8, "RGBA": np.uint8, "I;16": np.uint16}
_SAMPLES = {"LA": 2, "RGB": 3, "RGBA": 4}
_PALETTE = "P"

_PILLOW = threading.RLock()
"""Pillow keeps its limits in module variables; one thread at a time may change them."""


@contextmanager
def _pillow_for_microscopes() -> Iterator[None]:
    """No size limit meant for web servers, no warnings, palette indices kept in every frame of a GIF."""
    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, strategy = Image.MAX_IMAGE_PIXELS, GifImagePlugin.LOADING_STRATEGY
        Image.MAX_IMAGE_PIXELS = None
        GifImagePlugin.LOADING_STRATEGY = GifImagePlugin.LoadingStrategy.RGB_AFTER_DIFFERENT_PALETTE_ONLY
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, GifImagePlugin.LOADING_STRATEGY = limit, strategy


def decode_raster(path: Path, format_name: str, *, pixels: bool = True) -> Decoded:
    """Read a PNG, JPEG, BMP or GIF file; without `pixels`, only its header where that says enough.

    Parameters
    ----------
    path : Path
        The file.
    format_name : {"PNG", "JPEG", "BMP", "GIF"}
        What its first bytes say it is.
    pixels : bool
        False: the size is wanted, not the values.

    Notes
    -----
    Pixels stay in the order stored: an EXIF orientation is not applied, as the masks drawn over such an
    image do not have one. Exceptions of Pillow and imagecodecs pass; `ushape.io.read` turns them into one
    line.
    """
    with _pillow_for_microscopes(), Image.open(path, formats=[format_name]) as image:
        depth, has_deep_colour = _png_depth(path) if format_name == "PNG" else (8, False)
        size = _pixel_size(image)
        if has_deep_colour:
            array = _deep_png(path)
            palette = None
        elif not pixels and image.mode in _DTYPES and _frame_count(image, format_name) == 1:
            array, palette = _unread(image), None
        else:
            array, palette = _frames(image, _frame_count(image, format_name))
    if palette is None and depth in (2, 4):
        # Pillow spreads 2 and 4 bits over 0..255; a label must keep its number.
        array = array // (255 // (2**depth - 1))
    samples = array.shape[3]
    return Decoded(
        pixels=array if samples > 1 else array[..., 0],
        axes="ZYXS" if samples > 1 else "ZYX",
        palette=palette,
        has_alpha=samples in (2, 4),
        pixel_size_um=size,
    )


def _png_depth(path: Path) -> tuple[int, bool]:
    """Bits per sample, and whether these are colours of 16 bits, which Pillow would reduce to 8."""
    with path.open("rb") as file:
        header = file.read(26)
    depth, colour_type = header[24], header[25]
    return depth, depth == 16 and colour_type in (2, 4, 6)


def _deep_png(path: Path) -> Array:
    import imagecodecs

    return np.asarray(imagecodecs.png_decode(path.read_bytes()))[np.newaxis]


def _frame_count(image: Image.Image, format_name: str) -> int:
    """Frames that are planes; the second picture in a camera's JPEG is a preview."""
    return 1 if format_name == "JPEG" else int(getattr(image, "n_frames", 1))


def _unread(image: Image.Image) -> Array:
    shape = (1, image.height, image.width, _SAMPLES.get(image.mode, 1))
    return unread(shape, np.dtype(_DTYPES[image.mode]))


def _frames(image: Image.Image, count: int) -> tuple[Array, Array | None]:
    """Values (Z, H, W, samples) of all frames, and the palette they share, if they do."""
    frames, palettes = [], []
    for number in range(count):
        image.seek(number)
        image.load()
        frame = image if image.mode in _DTYPES or image.mode == _PALETTE else image.convert("RGB")
        frames.append(frame.copy())
        palettes.append(frame.getpalette("RGB") if frame.mode == _PALETTE else None)
    if any(frame.mode != frames[0].mode for frame in frames) or any(p != palettes[0] for p in palettes):
        frames, palettes = [frame.convert("RGB") for frame in frames], [None]
    array = np.stack([np.asarray(frame) for frame in frames])
    palette = None if palettes[0] is None else np.array(palettes[0], np.uint8).reshape(-1, 3)
    return array if array.ndim == 4 else array[..., np.newaxis], palette


def _pixel_size(image: Image.Image) -> PixelSize | None:
    dpi = image.info.get("dpi")
    if dpi is None:
        return None
    x, y = (float(value) / 25400 for value in dpi)
    return pixel_size.from_density((y, x))
