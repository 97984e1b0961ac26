"""Draw: grey values stretched, classes and objects in colours, objects outlined, pictures in a row."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ushape.config import IGNORE
from ushape.errors import ShapeError
from ushape.instances import outlines

Array = np.ndarray[Any, Any]
Color = tuple[int, int, int]

BACKGROUND: Color = (16, 18, 22)
OUTLINE: Color = (255, 221, 51)
UNNAMED: Color = (128, 128, 128)  # classes without a colour, and pixels that do not count
_LOW_PERCENTILE, _HIGH_PERCENTILE = 1.0, 99.8
_MOST_SAMPLES = 1_000_000  # pixels, about, that the percentiles of a large image are taken from

# From dark blue over teal to pale yellow, each step lighter than the one before, so that the order survives
# grey printing and any colour vision.
_HEAT = np.array(
    [(8, 10, 40), (40, 48, 120), (30, 110, 140), (60, 170, 120), (170, 215, 80), (255, 250, 200)], np.float64
)


def display(planes: Array) -> Array:
    """Stretch grey values so that an image of any type and exposure can be seen.

    Parameters
    ----------
    planes : ndarray, shape (C, H, W)
        Any real type. Three channels are red, green and blue; of any other number each channel is stretched
        by itself and the mean is shown.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        1st percentile black, 99.8th white; of colour images both over all channels, which keeps the hue.

    Raises
    ------
    ShapeError
        If `planes` is not 3-D.
    """
    if planes.ndim != 3:
        raise ShapeError(f"a picture needs axes (channel, height, width), got shape {planes.shape}")
    if len(planes) == 3:
        return np.moveaxis(_stretched(planes), 0, -1).copy()
    grey = np.mean([_stretched(plane) for plane in planes], axis=0)
    return np.stack([np.rint(grey).astype(np.uint8)] * 3, axis=-1)


def colorize(classes: Array, colors: Sequence[Color]) -> Array:
    """Show class indices in the colours of the classes.

    Parameters
    ----------
    classes : ndarray of uint8, shape (H, W)
    colors : sequence of (red, green, blue)
        Colour of class 0, 1, ...; indices beyond, IGNORE among them, become mid-grey.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
    """
    table = np.full((IGNORE + 1, 3), UNNAMED, np.uint8)
    table[: len(colors)] = colors
    colored: Array = table[classes]
    return colored


def color_objects(ids: Array) -> Array:
    """Give every object a colour that follows from its number; the background is nearly black.

    Parameters
    ----------
    ids : ndarray of int, shape (H, W)
        0 = background.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
    """
    present, places = np.unique(ids, return_inverse=True)
    # Multiples of these fractions spread evenly, whatever the number of objects (Roberts 2018, R2 sequence).
    hue, brightness = np.outer([0.7548776662466927, 0.5698402909980532], present) % 1
    channels = np.clip(np.abs((6 * hue[:, np.newaxis] + (0, 4, 2)) % 6 - 3) - 1, 0, 1)
    table = np.rint(255 * (0.6 + 0.4 * brightness[:, np.newaxis]) * (0.35 + 0.65 * channels)).astype(np.uint8)
    table[present == 0] = BACKGROUND
    colored: Array = table[places.reshape(ids.shape)]
    return colored


def heat(probability: Array) -> Array:
    """Show numbers from 0 (dark blue) to 1 (pale yellow) on a scale of rising lightness.

    Parameters
    ----------
    probability : ndarray of float, shape (H, W)
        Values outside 0 to 1 are clipped.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
    """
    steps = np.linspace(0, 1, len(_HEAT))
    scale = np.stack([np.interp(np.linspace(0, 1, 256), steps, channel) for channel in _HEAT.T], axis=1)
    levels = np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8)
    shown: Array = np.rint(scale).astype(np.uint8)[levels]
    return shown


def blend(rgb: Array, classes: Array, colors: Sequence[Color], *, opacity: float = 0.4) -> Array:
    """Lay the colours of the classes over a picture, but not over background and pixels that do not count.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (H, W, 3)
    classes : ndarray of uint8, shape (H, W)
        Class indices; 0 is the background.
    colors : sequence of (red, green, blue)
    opacity : float
        0 shows the picture alone, 1 the colours alone.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Raises
    ------
    ShapeError
        If picture and classes differ in size.
    """
    _require_equal_size(rgb, classes)
    shown = (classes != 0) & (classes != IGNORE)
    blended = rgb.copy()
    mixed = (1 - opacity) * rgb[shown] + opacity * colorize(classes[shown], colors)
    blended[shown] = np.rint(mixed).astype(np.uint8)
    return blended


def draw_outlines(rgb: Array, ids: Array, color: Color = OUTLINE) -> Array:
    """Draw a line of one pixel along the inner border of every object.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (H, W, 3)
    ids : ndarray of int, shape (H, W)
        Object ids, 0 = background. Touching objects get a line each.
    color : (red, green, blue)

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Raises
    ------
    ShapeError
        If picture and ids differ in size.
    """
    _require_equal_size(rgb, ids)
    drawn = rgb.copy()
    drawn[outlines(ids)] = color
    return drawn


def side_by_side(pictures: Sequence[Array], titles: Sequence[str] = (), *, gap: int = 8) -> Array:
    """Set pictures in one row on white, each under its title.

    Parameters
    ----------
    pictures : sequence of ndarray of uint8, shape (H, W, 3)
        Sizes may differ; all start at the same height.
    titles : sequence of str
        One per picture, or none at all.
    gap : int
        Pixels between the pictures and around them.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Raises
    ------
    ShapeError
        If there is no picture, or the number of titles is another one.
    """
    if not pictures or (titles and len(titles) != len(pictures)):
        raise ShapeError(f"a row needs pictures and as many titles, got {len(pictures)} and {len(titles)}")
    labels = [_lettering(title) for title in titles] or [np.zeros((0, 0, 3), np.uint8)] * len(pictures)
    strip = max(len(label) for label in labels)
    top = gap + strip + (gap // 2 if strip else 0)
    widths = [max(p.shape[1], label.shape[1]) for p, label in zip(pictures, labels, strict=True)]
    height = top + max(len(picture) for picture in pictures) + gap
    row = np.full((height, sum(widths) + gap * (len(widths) + 1), 3), 255, np.uint8)
    left = gap
    for picture, label, width in zip(pictures, labels, widths, strict=True):
        row[gap : gap + len(label), left : left + label.shape[1]] = label
        row[top : top + len(picture), left : left + picture.shape[1]] = picture
        left += width + gap
    return row


def reduced(rgb: Array, longest_px: int) -> Array:
    """Make a picture smaller, each pixel the mean of those it stands for; never larger.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (H, W, 3)
    longest_px : int
        Of the longer side; a picture that fits is returned as it is.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)
    """
    from PIL import Image

    factor = longest_px / max(rgb.shape[:2])
    if factor >= 1:
        return rgb
    height, width = (max(1, round(side * factor)) for side in rgb.shape[:2])
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BOX))


def _stretched(values: Array) -> Array:
    step = max(1, math.isqrt(values.size // _MOST_SAMPLES))
    sample = values[..., ::step, ::step].astype(np.float32)
    low, high = np.percentile(sample, (_LOW_PERCENTILE, _HIGH_PERCENTILE))
    if low == high:  # all but a few pixels are alike: show those few
        low, high = sample.min(), sample.max()
    scale = 255 / (high - low) if high > low else 0.0
    shown: Array = np.rint(np.clip((values.astype(np.float32) - low) * scale, 0, 255)).astype(np.uint8)
    return shown


def _require_equal_size(rgb: Array, plane: Array) -> None:
    if rgb.shape[:2] != plane.shape:
        raise ShapeError(f"the picture has {rgb.shape[:2]} pixels, what is drawn on it {plane.shape}")


def _lettering(text: str, size_px: int = 14) -> Array:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size_px)
    left, _, right, _ = font.getbbox(text)
    # One height for all texts, whether or not they have letters that reach below the line.
    canvas = Image.new("RGB", (max(1, round(right - left)), size_px + 5), "white")
    ImageDraw.Draw(canvas).text((-left, 0), text, fill=(30, 30, 30), font=font)
    return np.asarray(canvas)
