"""Measure objects: where they lie, how large and how elongated they are, how bright.

All objects of a plane are measured together, on their pixels sorted by object: that takes as long for ten
objects as for ten thousand. The numbers are those of `skimage.measure.regionprops`.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ushape.config import PixelSize

Array = np.ndarray[Any, Any]
Table = dict[str, Array]

# Length of the border that a border pixel stands for, by its neighbours in the same border: 1 + 2 for each
# that shares an edge, + 10 for each that shares a corner (Benkrid and Crookes; as in scikit-image).
_BORDER_LENGTH = np.zeros(50)
_BORDER_LENGTH[[5, 7, 15, 17, 25, 27]] = 1
_BORDER_LENGTH[[21, 33]] = math.sqrt(2)
_BORDER_LENGTH[[13, 23]] = (1 + math.sqrt(2)) / 2
_ENDS = ("min", "max")


def measure(
    ids: Array,
    *,
    classes: Array | None = None,
    image: Array | None = None,
    pixel_size_um: PixelSize | None = None,
) -> Table:
    """Measure the objects of one plane.

    Parameters
    ----------
    ids : ndarray of int, shape (H, W)
        0 is background; other numbers may have gaps.
    classes : ndarray of int, shape (H, W), optional
        Class of each pixel; an object's class is that of its first pixel, line by line. 1 if not given.
    image : ndarray, shape (C, H, W), optional
        Grey values, for the columns of intensity.
    pixel_size_um : tuple of float, optional
        Height and width of a pixel in micrometres, for the columns in micrometres.

    Returns
    -------
    dict of ndarray, shape (number of objects,)
        Columns by name, objects by ascending id; `pandas.DataFrame` takes it as it is.

        `id`, `class` : int
        `centroid_y`, `centroid_x` : float, in pixels
            Mean of the pixel centres; the centre of the first pixel is 0.
        `top`, `left`, `bottom`, `right` : int, in pixels
            Bounding box, half-open.
        `area_px` : int
        `perimeter_px` : float
            Length of a line through the centres of the border pixels, of which the corners are cut
            (`skimage.measure.perimeter`; the border of the image counts as border).
        `eccentricity` : float, 0 to 1
            Of the ellipse with the same second moments: 0 is a circle. Of pixels taken as squares.
        `intensity_mean`, `intensity_min`, `intensity_max` : float or as `image`
            With several channels `intensity_mean_0`, `intensity_mean_1`, ...
        `centroid_y_um`, `centroid_x_um`, `top_um`, `left_um`, `bottom_um`, `right_um` : float
            In micrometres from the upper left corner of the image, as in QuPath.
        `area_um2`, `perimeter_um`, `eccentricity_um` : float
            The eccentricity of the true shape. No `perimeter_um` where pixels are not square: the length of
            an oblique step then depends on its direction, which the perimeter in pixels does not know.
    """
    return table_of(sums_of(ids, classes=classes, image=image), pixel_size_um)


def sums_of(
    ids: Array,
    *,
    classes: Array | None = None,
    image: Array | None = None,
    inside: tuple[slice, slice] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> Table:
    """Sum over the objects of a plane, or over the parts of them that lie in a block of it.

    Parameters
    ----------
    ids : ndarray of int, shape (H, W)
        Of the plane, or of the block with two more pixels on each side that is not the border of the plane:
        the perimeter looks that far.
    classes, image
        See `measure`; of the block.
    inside : (slice, slice), optional
        Where the block lies in `ids`.
    origin : tuple of int
        Place in the plane of the first pixel of the block.

    Returns
    -------
    dict of ndarray
        By ascending id; `merged` joins such tables, `table_of` makes measurements of one.
    """
    block = ids if inside is None else ids[inside]
    pixels = _Pixels(block)
    table = pixels.places(origin)
    table["perimeter"] = _perimeters(ids, pixels.numbers, inside)
    if classes is not None:
        table["class"] = classes.ravel()[pixels.flat[pixels.starts]].astype(np.int64)
    for channel, values in enumerate([] if image is None else image):
        table |= pixels.intensities(values, channel)
    return table


def merged(tables: Sequence[Table]) -> Table:
    """Join sums over parts of objects; the class is that of the first part."""
    parts = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    order = np.argsort(parts["id"], kind="stable")
    parts = {name: values[order] for name, values in parts.items()}
    starts = np.flatnonzero(np.diff(parts["id"], prepend=0))
    how = {"id": np.minimum, "top": np.minimum, "left": np.minimum, "bottom": np.maximum, "right": np.maximum}
    how |= {name: np.minimum if name.startswith("min") else np.maximum for name in parts if name[:3] in _ENDS}
    table = {
        name: how.get(name, np.add).reduceat(values, starts) if len(starts) else values
        for name, values in parts.items()
    }
    table["class"] = parts["class"][starts]
    # Second moments are about the middle of each part.
    number = np.diff(starts, append=len(order))
    y, x = (
        parts[name] / parts["area"] - np.repeat(table[name] / table["area"], number) for name in ("y", "x")
    )
    for name, product in (("yy", y * y), ("xx", x * x), ("yx", y * x)):
        if len(starts):
            table[name] = table[name] + np.add.reduceat(parts["area"] * product, starts)
    return table


def table_of(sums: Table, pixel_size_um: PixelSize | None = None) -> Table:
    """Measurements from sums; see `measure`."""
    area = sums["area"]
    table = {
        "id": sums["id"],
        "class": sums["class"],
        "centroid_y": sums["y"] / area,
        "centroid_x": sums["x"] / area,
        **{side: sums[side] for side in ("top", "left", "bottom", "right")},
        "area_px": area,
        "perimeter_px": sums["perimeter"],
        "eccentricity": _eccentricity(sums, (1, 1)),
    }
    channels = sum(name.startswith("total_") for name in sums)
    for channel in range(channels):
        name = "" if channels == 1 else f"_{channel}"
        table[f"intensity_mean{name}"] = sums[f"total_{channel}"] / area
        table[f"intensity_min{name}"] = sums[f"min_{channel}"]
        table[f"intensity_max{name}"] = sums[f"max_{channel}"]
    return table if pixel_size_um is None else table | _in_micrometres(table, sums, pixel_size_um)


def has_square_pixels(pixel_size_um: PixelSize) -> bool:
    """Whether height and width of a pixel differ by no more than a thousandth."""
    return math.isclose(*pixel_size_um, rel_tol=1e-3)


class _Pixels:
    """The pixels of the objects of a plane, sorted by object, and sums over each object."""

    def __init__(self, ids: Array) -> None:
        inside = np.flatnonzero(ids)
        owners = ids.ravel()[inside]
        order = np.argsort(owners, kind="stable")  # of one object line by line
        self.flat, owners = inside[order], owners[order]
        self.starts = np.flatnonzero(np.diff(owners, prepend=0))
        self.numbers = owners[self.starts].astype(np.int64)
        self.areas = np.diff(self.starts, append=len(owners))
        self.y, self.x = np.divmod(self.flat, ids.shape[1])
        self.total = partial(np.add.reduceat, indices=self.starts)
        self.least = partial(np.minimum.reduceat, indices=self.starts)
        self.most = partial(np.maximum.reduceat, indices=self.starts)

    def places(self, origin: tuple[int, int]) -> Table:
        y, x = (self.total(values) for values in (self.y, self.x))
        dy, dx = (
            values - np.repeat(sums / self.areas, self.areas) for values, sums in ((self.y, y), (self.x, x))
        )
        return {
            "id": self.numbers,
            "class": np.ones_like(self.numbers),
            "area": self.areas,
            "y": y + origin[0] * self.areas,
            "x": x + origin[1] * self.areas,
            "top": self.least(self.y) + origin[0],
            "left": self.least(self.x) + origin[1],
            "bottom": self.most(self.y) + 1 + origin[0],
            "right": self.most(self.x) + 1 + origin[1],
            **{name: self.total(one) for name, one in (("yy", dy * dy), ("xx", dx * dx), ("yx", dy * dx))},
        }

    def intensities(self, values: Array, channel: int) -> Table:
        values = values.ravel()[self.flat]
        return {
            f"total_{channel}": self.total(values.astype(np.float64)),
            f"min_{channel}": self.least(values),
            f"max_{channel}": self.most(values),
        }


def _eccentricity(sums: Table, spacing: PixelSize) -> Array:
    """Eccentricity of the ellipses with the same second moments: sqrt(1 - smaller / larger moment)."""
    dy, dx = spacing
    yy, xx, yx = (
        step * sums[name] / sums["area"] for name, step in (("yy", dy * dy), ("xx", dx * dx), ("yx", dy * dx))
    )
    mean, half = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)  # moments: mean + half and mean - half
    larger = np.maximum(mean + half, np.finfo(float).tiny)  # a single pixel has none
    return np.sqrt(2 * np.minimum(half, mean) / larger)


def _perimeters(ids: Array, numbers: Array, inside: tuple[slice, slice] | None) -> Array:
    """Perimeter of each object, as `skimage.measure.perimeter` with a neighbourhood of 4."""
    framed = np.pad(ids, 1)
    middle = framed[1:-1, 1:-1]
    near = framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]
    border = np.zeros(framed.shape, bool)
    for side in near:
        border[1:-1, 1:-1] |= side != middle
    border &= framed != 0
    flat, row = framed.ravel(), framed.shape[1]
    counted = border
    if inside is not None:
        counted = np.zeros_like(border)
        counted[1:-1, 1:-1][inside] = border[1:-1, 1:-1][inside]
    pixels = np.flatnonzero(counted)
    code = np.ones(len(pixels), np.int64)
    for steps, weight in (((-row, -1, 1, row), 2), ((-row - 1, -row + 1, row - 1, row + 1), 10)):
        for step in steps:
            code += weight * (border.ravel()[pixels + step] & (flat[pixels + step] == flat[pixels]))
    most = int(numbers[-1]) + 1 if len(numbers) else 0
    lengths = np.bincount(flat[pixels].astype(np.int64), _BORDER_LENGTH[code], minlength=most)
    return lengths[numbers]


def _in_micrometres(table: Table, sums: Table, size: PixelSize) -> Table:
    height, width = size
    steps = {"centroid_y": height, "centroid_x": width}
    columns = {f"{name}_um": (table[name] + 0.5) * step for name, step in steps.items()}
    sides = {"top": height, "left": width, "bottom": height, "right": width}
    columns |= {f"{name}_um": table[name] * step for name, step in sides.items()}
    columns["area_um2"] = table["area_px"] * (height * width)
    if has_square_pixels(size):
        columns["perimeter_um"] = table["perimeter_px"] * math.sqrt(height * width)
    return columns | {"eccentricity_um": _eccentricity(sums, size)}
