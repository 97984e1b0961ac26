"""What a tile is trained towards: classes with a gap between touching objects, and the weight of each pixel.

::

    objects   1 1 1 2 2 2 0 0 0 3 3      ids, as resampled
    gap       1 1 0 0 2 2 0 0 0 3 3      touching pixels of two objects become background
    classes   1 1 0 0 1 1 0 0 0 1 1
    weights   w_c of the class, and on background the border term of the two nearest objects

Source: Ronneberger 2015, section 3 and eq. 2.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ushape.config import IGNORE
from ushape.errors import ConfigError, ShapeError

Array = npt.NDArray[Any]

_NEGLIGIBLE = 1e-6
"""Border terms below this are taken as 0."""

_ZERO, _ONE = np.float32(0), np.float32(1)


def tail_px(sigma_px: float = 5.0, w0: float = 10.0) -> int:
    """Width of the margin around a tile that decides the weights inside it.

    Parameters
    ----------
    sigma_px : float
        Decay of the border term in pixels, > 0.
    w0 : float
        Height of the border term, >= 0.

    Returns
    -------
    int
        Pixels per side: objects further away change no weight by more than 1e-6. One more pixel is there
        because the gap at the very edge of the margin cannot be known.

    Examples
    --------
    >>> tail_px()
    30
    """
    return _reach(sigma_px, w0) + 1


def _reach(sigma_px: float, w0: float) -> int:
    """Sum of both distances, in pixels, from which on the border term is negligible."""
    if not (sigma_px > 0 and w0 >= 0):
        raise ConfigError(f"sigma_px must be positive and w0 not negative, got {sigma_px} and {w0}")
    return math.ceil(sigma_px * math.sqrt(2 * math.log(max(w0 / _NEGLIGIBLE, 1.0))))


def cut_gap(objects: Array) -> Array:
    """Separate touching objects by a gap of background.

    Parameters
    ----------
    objects : ndarray of int, shape (H, W)
        Object ids, 0 = background. Not modified.

    Returns
    -------
    ndarray of int32, shape (H, W)
        A pixel that has another object among its 8 neighbours has become background.

    Notes
    -----
    Both objects give up a pixel, so the gap is 2 pixels wide and turns and mirrors with the tile. The paper
    speaks of morphological operations without saying which; the authors' later plugin takes the pixel from
    one side only (the right or lower one), which a network that sees rotated tiles cannot foresee.

    Examples
    --------
    >>> cut_gap(np.array([[1, 1, 1, 2, 2, 2]]))
    array([[1, 1, 0, 0, 2, 2]], dtype=int32)
    """
    objects = _as_plane(objects)
    separated: Array = _compiled()[0](objects)
    return separated


def border_weights(objects: Array, *, w0: float = 10.0, sigma_px: float = 5.0, crop: int = 0) -> Array:
    """Per-pixel loss weights that force thin borders between neighbouring objects.

    Parameters
    ----------
    objects : ndarray of int, shape (H, W)
        Object ids, 0 = background. Not modified.
    w0 : float
        Height of the border term, >= 0.
    sigma_px : float
        Decay of the border term in pixels, > 0.
    crop : int
        Pixels to leave away on each side of the result: a margin that only lends its objects.

    Returns
    -------
    ndarray of float32, shape (H - 2 * crop, W - 2 * crop)
        w0 * exp(-(d1 + d2)**2 / (2 * sigma_px**2)) on background, d1 and d2 the distances in pixels to the
        nearest pixel of the nearest and of the second-nearest object, from centre to centre. 0 where that
        is below 1e-6, where there are fewer than two objects, and inside objects.

    Raises
    ------
    ShapeError
        If `objects` is not 2-D, or `crop` leaves nothing.
    ConfigError
        If `sigma_px` is not positive or `w0` is negative.

    Notes
    -----
    Ronneberger 2015, eq. 2. The equation does not say what d1 is inside an object; our choice is that the
    border term is one of the background only, as in the authors' later code. Time grows with the number of
    pixels times `sigma_px`, not with the number of objects.
    """
    objects = _as_plane(objects)
    reach = _reach(sigma_px, w0)
    height, width = (side - 2 * crop for side in objects.shape)
    if crop < 0 or height < 1 or width < 1:
        raise ShapeError(f"a crop of {crop} pixels per side does not fit objects of shape {objects.shape}")
    _, two_in_row, two_nearest = _compiled()
    first, second = two_nearest(*two_in_row(_rows_around(objects, reach - crop)), reach, crop)
    total = np.sqrt(first) + np.sqrt(second, dtype=np.float64)
    weights = w0 * np.exp(total**2 / (-2 * sigma_px**2))
    weights[(total > reach) | (first == 0)] = 0
    return np.asarray(weights, np.float32)


def class_balance(class_counts: Array, *, power: float = 1.0) -> Array:
    """Weights w_c that balance the frequencies of the classes.

    Parameters
    ----------
    class_counts : ndarray of int, shape (K,)
        Pixels of each class in the training set, ignored ones left out.
    power : float
        1: all classes weigh the same in sum; 0: all pixels weigh the same; between: a compromise.

    Returns
    -------
    ndarray of float32, shape (K,)
        Proportional to frequency ** -power; the mean over all pixels is 1. A class that never occurs has 1.

    Raises
    ------
    ConfigError
        If nothing was counted.

    Notes
    -----
    Ronneberger 2015 names w_c without a formula: this one is our choice.

    Examples
    --------
    >>> class_balance(np.array([750, 250]))
    array([0.6666667, 2.       ], dtype=float32)
    """
    counts = np.asarray(class_counts, np.float64)
    if counts.sum() <= 0:
        raise ConfigError("no pixel has a class: the class balance cannot be computed")
    frequency = counts / counts.sum()
    present = frequency > 0
    balance = np.ones(len(counts))
    balance[present] = frequency[present] ** -power
    balance[present] /= (frequency * balance)[present].sum()
    return balance.astype(np.float32)


def targets(
    objects: Array,
    object_class: Array,
    balance: Array,
    *,
    separate: bool = True,
    w0: float = 10.0,
    sigma_px: float = 5.0,
    crop: int = 0,
) -> tuple[Array, Array]:
    """Classes and weights of a tile, from the object ids of the tile and a margin around it.

    Parameters
    ----------
    objects : ndarray of int, shape (H, W)
        Object ids, 0 = background. Not modified.
    object_class : ndarray of uint8, shape (number of ids,)
        Class of each id; `config.IGNORE` for ids that do not count. An id is an object, which gets a gap
        and border weights, if its class is neither 0 nor `IGNORE`.
    balance : ndarray of float, shape (K,)
        w_c of each class, see `class_balance`.
    separate : bool
        Whether ids are objects at all. False where an id stands for a whole class (streets have no borders
        in the paper's sense): no gap, no border term.
    w0, sigma_px : float
        Of the border term, see `border_weights`.
    crop : int
        Width of the margin in pixels; `tail_px(sigma_px, w0)` makes it wide enough.

    Returns
    -------
    classes : ndarray of uint8, shape (H - 2 * crop, W - 2 * crop)
        Class of each pixel; pixels of the gap are background, class 0.
    weights : ndarray of float32, same shape
        w_c + border term; 0 where the class is `IGNORE`.

    Raises
    ------
    ShapeError, ConfigError
        As `border_weights`.
    """
    weight_of_class = np.zeros(256, np.float32)
    weight_of_class[: len(balance)] = balance
    objects = _as_plane(objects)
    classes = np.asarray(object_class, np.uint8).take(objects)
    if not separate:
        classes = _cropped(classes, crop)
        return classes, weight_of_class.take(classes)
    cells = objects * ((classes != 0) & (classes != IGNORE))
    separated = cut_gap(cells)
    classes[separated != cells] = 0
    classes = _cropped(classes, crop)
    weights = weight_of_class.take(classes)
    weights += border_weights(separated, w0=w0, sigma_px=sigma_px, crop=crop) * (classes != IGNORE)
    return classes, weights


def _as_plane(objects: Array) -> Array:
    if objects.ndim != 2:
        raise ShapeError(f"expected a plane of object ids (H, W), got an array of shape {objects.shape}")
    return np.ascontiguousarray(objects, np.int32)


def _rows_around(objects: Array, count: int) -> Array:
    """Rows of background added on both sides, or rows left away where `count` is negative."""
    if count < 0:
        return objects[-count:count]
    return np.pad(objects, ((count, count), (0, 0)))


def _cropped(plane: Array, crop: int) -> Array:
    height, width = plane.shape
    return np.ascontiguousarray(plane[crop : height - crop, crop : width - crop])


@cache
def _compiled() -> tuple[Any, Any, Any]:
    """Compile the loops below, once per machine: numba costs half a second to import, so not before use."""
    import numba

    compiled = numba.njit(cache=True, nogil=True)
    return compiled(_cut), compiled(_two_in_row), compiled(_two_nearest)


def _cut(objects: Array) -> Array:
    height, width = objects.shape
    separated = objects.copy()
    for y, x in np.ndindex(height, width):
        here = objects[y, x]
        if here == 0:
            continue
        for near_y in range(max(y - 1, 0), min(y + 2, height)):
            for near_x in range(max(x - 1, 0), min(x + 2, width)):
                other = objects[near_y, near_x]
                if other != 0 and other != here:
                    separated[y, x] = 0
    return separated


def _two_in_row(objects: Array) -> tuple[Array, Array]:
    """Ids and distances, (2, H, W), of the nearest and second-nearest object in the same row."""
    height, width = objects.shape
    ids = np.zeros((2, height, width), np.int32)
    distances = np.full((2, height, width), np.inf, np.float32)
    for y in range(height):
        first_id, second_id = ids[:, y]
        first, second = distances[:, y]
        for way in range(2):
            # The last two different objects passed on the way from the left, then from the right.
            last, last_x, before, before_x = 0, np.inf, 0, np.inf
            for step in range(width):
                x = step if way == 0 else width - 1 - step
                here = objects[y, x]
                if here != 0:
                    if here != last:
                        before, before_x = last, last_x
                    last, last_x = here, x
                for other, other_x in ((last, last_x), (before, before_x)):
                    distance = abs(x - other_x)
                    if other == first_id[x]:
                        first[x] = min(first[x], distance)
                    elif distance < first[x]:
                        second_id[x], second[x] = first_id[x], first[x]
                        first_id[x], first[x] = other, distance
                    elif distance < second[x]:
                        second_id[x], second[x] = other, distance
    return ids, distances


def _two_nearest(ids: Array, distances: Array, reach: int, crop: int) -> tuple[Array, Array]:
    """Squared distances to the two nearest objects, over the rows up to `reach` above and below.

    Leaves away `reach` rows and `crop` columns on each side. An object that is one of the two nearest of
    all is one of the two nearest in its row.
    """
    height, width = ids.shape[1] - 2 * reach, ids.shape[2] - 2 * crop
    first = np.full((height, width), np.inf, np.float32)
    second = np.full((height, width), np.inf, np.float32)
    nearest = np.zeros(width, np.int32)
    for y in range(height):
        nearest[:] = 0
        row_first, row_second = first[y], second[y]
        for step in range(2 * reach + 1):
            down = np.float32((step - reach) ** 2)
            for k in range(2):
                new_ids = ids[k, y + step, crop : crop + width]
                across = distances[k, y + step, crop : crop + width]
                # Selections in place of branches: the compiler turns them into vector instructions.
                for x in range(width):
                    new, old_first, old_second = across[x] * across[x] + down, row_first[x], row_second[x]
                    further = old_first if old_first > new else new
                    new_second = further if further < old_second else old_second
                    row_second[x] = old_second if new_ids[x] == nearest[x] else new_second
                    nearest[x] = new_ids[x] if new < old_first else nearest[x]
                    row_first[x] = new if new < old_first else old_first
    return first, second
