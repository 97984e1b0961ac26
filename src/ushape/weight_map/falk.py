"""Weights as the authors of the paper published them four years later, with their Fiji plugin.

Falk, T. et al.: U-Net: deep learning for cell counting, detection, and morphometry. Nature Methods 16 (2019).
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ushape.config import IGNORE
from ushape.weight_map.border import border_weights, extent
from ushape.weight_map.distances import Spacing, spacing_of
from ushape.weight_map.object_ids import object_ids, without_margin

Array = npt.NDArray[Any]

# The defaults of the plugin, in pixels.
_BORDER_HEIGHT, _BORDER_SIGMA = 50.0, 6.0
_BACKGROUND = 0.1
_NEARBY_SIGMA = 10.0


def falk_tail_px() -> int:
    """Width of the margin around a tile that decides its weights, see `tail_px`.

    Examples
    --------
    >>> falk_tail_px()
    54
    """
    return math.ceil(max(extent(_BORDER_SIGMA, _BORDER_HEIGHT), _nearby())) + 1


def falk_weights(
    objects: Array, object_class: Array | None = None, *, spacing: Spacing | None = None, crop: int = 0
) -> Array:
    """Weights that grow towards objects and between them, class by class.

    Parameters
    ----------
    objects : ndarray of int or bool, shape (H, W) or (D, H, W)
        Object ids, 0 = background, or a binary mask; see `object_ids`. Not modified.
    object_class : ndarray of uint8, shape (number of ids,), optional
        Class of each id; `config.IGNORE` for ids that do not count. Without it all objects are of one class.
    spacing : tuple of float, optional
        Size of a pixel on each axis, (y, x) or (z, y, x), in pixels as the formula counts them; without it 1.
    crop : int
        Pixels to leave away on each side of the result: a margin that only lends its objects.

    Returns
    -------
    ndarray of float32, shape of `objects` less 2 * crop on each axis
        1 inside objects; 0 where ids are ignored; on background (class 0)

        0.1 + sum over the classes of 50 exp(-(d1 + d2)**2 / (2 * 6**2)) + 0.9 exp(-d1**2 / (2 * 10**2)),

        d1 and d2 the distances to the nearest and the second-nearest object of the class. Terms below 1e-6
        are taken as 0.

    Raises
    ------
    ShapeError, DataError, ConfigError
        As `border_weights`.

    Notes
    -----
    Of a class with one object only the last term is left. Each class costs a border weight map and a distance
    transform, which is made of the whole image at once.
    """
    objects = object_ids(objects)
    spacing = spacing_of(objects, spacing)
    classes = (objects > 0).astype(np.uint8) if object_class is None else object_class.take(objects)
    weights = np.full_like(without_margin(objects, crop), _BACKGROUND, np.float32)
    for each in np.unique(classes):
        if each not in (0, IGNORE):
            of_class = objects * (classes == each)
            weights += border_weights(
                of_class, w0=_BORDER_HEIGHT, sigma_px=_BORDER_SIGMA, spacing=spacing, crop=crop
            )
            weights += without_margin(_near_objects(of_class, spacing), crop)
    classes = without_margin(classes, crop)
    weights[classes != 0] = 1
    weights[classes == IGNORE] = 0
    return weights


def _near_objects(objects: Array, spacing: Spacing) -> Array:
    """Term of the distance to the nearest object, float32."""
    import edt

    distance = edt.edt(objects == 0, anisotropy=spacing, parallel=1)
    term = (1 - _BACKGROUND) * np.exp(distance**2 / np.float32(-2 * _NEARBY_SIGMA**2))
    term[distance > math.ceil(_nearby())] = 0
    return np.asarray(term, np.float32)


def _nearby() -> float:
    return extent(_NEARBY_SIGMA, 1 - _BACKGROUND)
