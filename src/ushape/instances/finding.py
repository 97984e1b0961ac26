"""Find the objects of a plane: threshold, connected components, holes, a watershed, and which to keep."""

import math
from pathlib import Path
from typing import Any

import cc3d
import numpy as np

from ushape.config import Connectivity, PixelSize, Postprocessing
from ushape.errors import ConfigError, ShapeError
from ushape.instances.splitting import split

Array = np.ndarray[Any, Any]

OPPOSITE: dict[Connectivity, Connectivity] = {4: 8, 8: 4}
"""Connectivity of the background: where objects pass between two corners, it does not, and the other way."""


def instances(
    foreground: Array,
    postprocessing: Postprocessing | None = None,
    *,
    classes: Array | None = None,
    pixel_size_um: PixelSize | None = None,
) -> Array:
    """Number the objects of one plane.

    What is above the threshold falls into connected components. Holes are filled, a watershed parts what
    touches, and objects that are too small, at the border or outside the field of interest are dropped;
    each only if `postprocessing` says so.

    Parameters
    ----------
    foreground : ndarray of float, shape (H, W)
        Probability that a pixel is not background, 0 to 1.
    postprocessing : Postprocessing, optional
        How objects are found. If not given: the components above 0.5 that touch by edges.
    classes : ndarray of int, shape (H, W), optional
        Foreground class of each pixel, >= 1: pixels of different classes never form one object.
    pixel_size_um : tuple of float, optional
        Height and width of a pixel in micrometres; needed for a smallest area in square micrometres.

    Returns
    -------
    ndarray of uint16 (uint32 from 65,536 objects on), shape (H, W)
        Ids 1..n without gaps, in the order in which the objects are met line by line; 0 is background.

    Raises
    ------
    ShapeError
        If `foreground` is not 2-D.
    ConfigError
        If `postprocessing` cannot be applied to this plane; see `require_applicable`.

    Notes
    -----
    With `split="probability"`, seeds are the components above `seed_threshold`, and each grows downhill from
    the most probable pixels to those at the threshold (`skimage.segmentation.watershed`). A component in
    which nothing exceeds `seed_threshold` is no object. With `split="distance"`, seeds are the peaks of the
    distance to the border of the component that rise by more than `seed_depth_px` over the pass to a higher
    one; a plateau is one peak. Components with one seed are left as they are.

    A hole is filled with the one object that encloses it; what several objects enclose together stays open.
    """
    if foreground.ndim != 2:
        raise ShapeError(f"foreground of shape {foreground.shape} is not one plane (height, width)")
    how = postprocessing or Postprocessing()
    require_applicable(how, foreground.shape, pixel_size_um)
    kinds = kinds_of(foreground, how.threshold, classes)
    ids = _components(kinds, how.connectivity)
    if how.fill_holes:
        ids = _filled(ids, how.connectivity)
    if how.split != "none":
        ids = split(ids, foreground, how)
    ids = _renumbered(ids, _kept(ids, how, pixel_size_um))
    # Once more, where a speck in a hole was dropped.
    return _filled(ids, how.connectivity) if how.fill_holes else ids


def kinds_of(foreground: Array, threshold: float, classes: Array | None) -> Array:
    """Class of each pixel that is above the threshold, 1 if there are no classes; 0 elsewhere: uint8."""
    above = foreground > threshold
    return above.astype(np.uint8) if classes is None else np.where(above, classes, 0).astype(np.uint8)


def require_applicable(
    postprocessing: Postprocessing,
    size: tuple[int, ...],
    pixel_size_um: PixelSize | None,
    image: Path | str = "the image",
) -> None:
    """Refuse a smallest area in micrometres without a pixel size, and a frame that covers everything.

    Parameters
    ----------
    postprocessing : Postprocessing
    size : tuple of int
        Height and width of the plane.
    pixel_size_um : tuple of float, or None
        Height and width of a pixel in micrometres.
    image : path or str
        What the message calls the image.

    Raises
    ------
    ConfigError
        If the settings cannot be applied.
    """
    if postprocessing.min_area_um2 and pixel_size_um is None:
        raise ConfigError(
            f"the smallest area is {postprocessing.min_area_um2:g} um2, but {image} does not tell the size "
            "of its pixels; give the area in pixels, such as --min-area 30"
        )
    if postprocessing.foi_px and 2 * postprocessing.foi_px >= min(size):
        raise ConfigError(
            f"a frame of {postprocessing.foi_px} px (--foi) covers all of {image}, {size[0]} x {size[1]} px; "
            f"give at most {(min(size) - 1) // 2}"
        )


def _components(kinds: Array, connectivity: Connectivity) -> Array:
    """Components of pixels of one class, numbered 1..n line by line; 0 stays 0."""
    components: Array = cc3d.connected_components(np.ascontiguousarray(kinds), connectivity=connectivity)
    return components


def _filled(ids: Array, connectivity: Connectivity) -> Array:
    """Give background that a single object encloses to that object, the innermost if there are several."""
    background = _components((ids == 0).astype(np.uint8), OPPOSITE[connectivity])
    is_hole = np.ones(int(background.max()) + 1, bool)
    is_hole[0] = False
    is_hole[_at_border(background)] = False
    if not is_hole.any():
        return ids
    from scipy import ndimage

    holes = is_hole[background]
    around = ids[ndimage.binary_dilation(holes) & (ids > 0)]
    windows = ndimage.find_objects(ids.astype(np.int32))
    structure = ndimage.generate_binary_structure(2, 2 if connectivity == 4 else 1)
    filled = ids.copy()
    for number in sorted(np.unique(around).tolist(), key=lambda number: -_area(windows[number - 1])):
        window = windows[number - 1]
        inside = ndimage.binary_fill_holes(ids[window] == number, structure)
        filled[window][inside & (ids[window] == 0)] = number
    return filled


def _area(window: tuple[slice, slice]) -> int:
    height, width = (side.stop - side.start for side in window)
    return int(height * width)


def _at_border(ids: Array) -> Array:
    """Ids on the four border lines of a plane, with repetitions."""
    return np.concatenate([ids[0], ids[-1], ids[:, 0], ids[:, -1]])


def _kept(ids: Array, how: Postprocessing, pixel_size_um: PixelSize | None) -> Array:
    """Whether each id, 0..n, is an object to keep."""
    keep = np.bincount(ids.ravel()) >= smallest_area(how, pixel_size_um)
    keep[0] = False
    if how.border == "remove":
        keep[_at_border(ids)] = False
    if how.foi_px:
        inside = np.zeros_like(keep)
        inside[ids[how.foi_px : -how.foi_px, how.foi_px : -how.foi_px]] = True
        keep &= inside
    return keep


def smallest_area(how: Postprocessing, pixel_size_um: PixelSize | None) -> int:
    """Pixels of the smallest object to keep."""
    smallest = max(how.min_area, 1)
    if how.min_area_um2 and pixel_size_um is not None:
        pixels = how.min_area_um2 / (pixel_size_um[0] * pixel_size_um[1])
        smallest = max(smallest, math.ceil(pixels * (1 - 1e-9)))  # whole numbers come out a hair too large
    return smallest


def _renumbered(ids: Array, keep: Array) -> Array:
    """Drop objects, close the gaps in the same order, and take the smallest integer type."""
    numbers = np.cumsum(keep) * keep
    dtype = np.uint16 if numbers.max() < 2**16 else np.uint32
    renumbered: Array = numbers.astype(dtype)[ids]
    return renumbered
