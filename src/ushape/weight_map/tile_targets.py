"""Gap, classes and weights of a tile in one go, as training needs them."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ushape.config import IGNORE
from ushape.weight_map.border import border_weights
from ushape.weight_map.falk import falk_weights
from ushape.weight_map.gaps import cut_gap
from ushape.weight_map.object_ids import object_ids, without_margin

Array = npt.NDArray[Any]
Border = Literal["ronneberger", "falk"]


def targets(
    objects: Array,
    object_class: Array,
    balance: Array,
    *,
    separate: bool = True,
    border: Border = "ronneberger",
    w0: float = 10.0,
    sigma_px: float = 5.0,
    crop: int = 0,
) -> tuple[Array, Array]:
    """Classes and weights of a tile, from the object ids of the tile and a margin around it.

    Parameters
    ----------
    objects : ndarray of int, shape (H, W) or (D, H, W)
        Object ids, 0 = background. Not modified.
    object_class : ndarray of uint8, shape (number of ids,)
        Class of each id; `config.IGNORE` for ids that do not count. An id is an object, which gets a gap
        and border weights, if its class is neither 0 nor `IGNORE`.
    balance : ndarray of float, shape (K,)
        w_c of each class, see `class_balance`.
    separate : bool
        Whether ids are objects at all. False where an id stands for a whole class (streets have no borders
        in the paper's sense): no gap, no border term.
    border : {"ronneberger", "falk"}
        "ronneberger": gap on both sides of touching objects, weights w_c + border term (eq. 2). "falk", the
        authors' later form: gap on one side, between objects of one class, and the weights of
        `falk_weights`; `balance`, `w0` and `sigma_px` have no say in it.
    w0, sigma_px : float
        Of the border term, see `border_weights`.
    crop : int
        Width of the margin in pixels; `tail_px(sigma_px, w0)` or `falk_tail_px()` makes it wide enough.

    Returns
    -------
    classes : ndarray of uint8, shape of `objects` less 2 * crop on each axis
        Class of each pixel; pixels of the gap are background, class 0.
    weights : ndarray of float32, same shape
        0 where the class is `IGNORE`.

    Raises
    ------
    ShapeError, DataError, ConfigError
        As `border_weights`.
    """
    objects = object_ids(objects)
    object_class = np.asarray(object_class, np.uint8)
    if border == "falk":
        return _falk(objects, object_class, separate, crop)
    weight_of_class = np.zeros(256, np.float32)
    weight_of_class[: len(balance)] = balance
    classes = object_class.take(objects)
    if not separate:
        classes = without_margin(classes, crop)
        return classes, weight_of_class.take(classes)
    cells = objects * ((classes != 0) & (classes != IGNORE))
    separated = cut_gap(cells)
    classes[separated != cells] = 0
    classes = without_margin(classes, crop)
    weights = weight_of_class.take(classes)
    weights += border_weights(separated, w0=w0, sigma_px=sigma_px, crop=crop) * (classes != IGNORE)
    return classes, weights


def _falk(objects: Array, object_class: Array, separate: bool, crop: int) -> tuple[Array, Array]:
    classes = object_class.take(objects)
    if not separate:
        # Each class is one object.
        objects, object_class = classes.astype(np.int32), np.arange(256, dtype=np.uint8)
    else:
        objects = _cut_gaps_within_classes(objects, classes)
    weights = falk_weights(objects, object_class, crop=crop)
    return without_margin(object_class.take(objects), crop), weights


def _cut_gaps_within_classes(objects: Array, classes: Array) -> Array:
    separated = objects.copy()
    for each in np.unique(classes):
        if each not in (0, IGNORE):
            of_class = objects * (classes == each)
            separated[cut_gap(of_class, one_sided=True) != of_class] = 0
    return separated
