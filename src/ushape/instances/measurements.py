"""Measure objects: where they lie, how large and how elongated they are, how bright.

All objects of a plane are measured together, on their pixels sorted by object: that takes as long for ten
objects as for ten thousand. The numbers are those of `skimage.measure.regionprops`.
"""

import math
from functools import partial
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
PixelSize = tuple[float, float]
Table = dict[str, Array]

# Length of the border that a border pixel stands for, by its neighbours in the same border: 1 + 2 for each
# that shares an edge, + 10 for each that shares a corner (Benkrid and Crookes; as in scikit-image).
_BORDER_LENGTH = np.zeros(50)
_BORDER_LENGTH[[5, 7, 15, 17, 25, 27]] = 1
_BORDER_LENGTH[[21, 33]] = math.sqrt(2)
_BORDER_LENGTH[[13, 23]] = (1 + math.sqrt(2)) / 2


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
    pixels = _Pixels(ids)
    table = pixels.places() | pixels.shapes(ids)
    if classes is not None:
        table["class"] = classes.ravel()[pixels.flat[pixels.starts]].astype(np.int64)
    if image is not None:
        names = [""] if len(image) == 1 else [f"_{channel}" for channel in range(len(image))]
        for name, channel in zip(names, image, strict=True):
            table |= pixels.intensities(channel, name)
    return table if pixel_size_um is None else table | _in_micrometres(table, pixels, pixel_size_um)


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

    def places(self) -> Table:
        return {
            "id": self.numbers,
            "class": np.ones_like(self.numbers),
            "centroid_y": self.total(self.y) / self.areas,
            "centroid_x": self.total(self.x) / self.areas,
            "top": self.least(self.y),
            "left": self.least(self.x),
            "bottom": self.most(self.y) + 1,
            "right": self.most(self.x) + 1,
            "area_px": self.areas,
        }

    def shapes(self, ids: Array) -> Table:
        return {"perimeter_px": _perimeters(ids, self.numbers), "eccentricity": self.eccentricity((1, 1))}

    def eccentricity(self, spacing: PixelSize) -> Array:
        """Eccentricity of the ellipses with the same second moments: sqrt(1 - smaller / larger moment)."""
        dy, dx = (
            step * (values - np.repeat(self.total(values) / self.areas, self.areas))
            for step, values in zip(spacing, (self.y, self.x), strict=True)
        )
        yy, xx, xy = (self.total(product) / self.areas for product in (dy * dy, dx * dx, dy * dx))
        mean, half = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)  # moments: mean + half and mean - half
        larger = np.maximum(mean + half, np.finfo(float).tiny)  # a single pixel has none
        return np.sqrt(2 * np.minimum(half, mean) / larger)

    def intensities(self, channel: Array, name: str) -> Table:
        values = channel.ravel()[self.flat]
        return {
            f"intensity_mean{name}": self.total(values.astype(np.float64)) / self.areas,
            f"intensity_min{name}": self.least(values),
            f"intensity_max{name}": self.most(values),
        }


def _perimeters(ids: Array, numbers: Array) -> Array:
    """Perimeter of each object, as `skimage.measure.perimeter` with a neighbourhood of 4."""
    framed = np.pad(ids, 1)
    middle = framed[1:-1, 1:-1]
    near = framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]
    border = np.zeros(framed.shape, bool)
    for side in near:
        border[1:-1, 1:-1] |= side != middle
    border &= framed != 0
    flat, row = framed.ravel(), framed.shape[1]
    pixels = np.flatnonzero(border)
    code = np.ones(len(pixels), np.int64)
    for steps, weight in (((-row, -1, 1, row), 2), ((-row - 1, -row + 1, row - 1, row + 1), 10)):
        for step in steps:
            code += weight * (border.ravel()[pixels + step] & (flat[pixels + step] == flat[pixels]))
    lengths = np.bincount(flat[pixels].astype(np.int64), _BORDER_LENGTH[code])
    return lengths[numbers]


def _in_micrometres(table: Table, pixels: _Pixels, size: PixelSize) -> Table:
    height, width = size
    steps = {"centroid_y": height, "centroid_x": width}
    columns = {f"{name}_um": (table[name] + 0.5) * step for name, step in steps.items()}
    sides = {"top": height, "left": width, "bottom": height, "right": width}
    columns |= {f"{name}_um": table[name] * step for name, step in sides.items()}
    columns["area_um2"] = table["area_px"] * (height * width)
    if has_square_pixels(size):
        columns["perimeter_um"] = table["perimeter_px"] * math.sqrt(height * width)
    return columns | {"eccentricity_um": pixels.eccentricity(size)}
