"""The border weight map, Ronneberger 2015, eq. 2."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ushape.errors import ConfigError
from ushape.weight_map.distances import Reach, Spacing, slabs, spacing_of, two_nearest
from ushape.weight_map.object_ids import object_ids, without_margin

Array = npt.NDArray[Any]

_NEGLIGIBLE = 1e-6
"""Terms of a weight below this are taken as 0."""


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
    return math.ceil(extent(sigma_px, w0)) + 1


def extent(sigma: float, height: float) -> float:
    """Distance from which on height * exp(-distance**2 / (2 * sigma**2)) is negligible, below 1e-6."""
    if not (sigma > 0 and height >= 0):
        raise ConfigError(f"sigma_px must be positive and w0 not negative, got {sigma} and {height}")
    return sigma * math.sqrt(2 * math.log(max(height / _NEGLIGIBLE, 1.0)))


def border_weights(
    objects: Array,
    *,
    w0: float = 10.0,
    sigma_px: float = 5.0,
    spacing: Spacing | None = None,
    crop: int = 0,
) -> Array:
    """Per-pixel loss weights that force thin borders between neighbouring objects.

    Parameters
    ----------
    objects : ndarray of int or bool, shape (H, W) or (D, H, W)
        Object ids, 0 = background; or a binary mask, whose connected components (8 neighbours in a plane, 26
        in a volume) are its objects. Not modified.
    w0 : float
        Height of the border term, >= 0.
    sigma_px : float
        Decay of the border term, > 0, in pixels, or else in the unit of `spacing`.
    spacing : tuple of float, optional
        Size of a pixel on each axis, (y, x) or (z, y, x), in the unit of `sigma_px`: (3, 1, 1) for slices
        three times as thick as a pixel is wide; without it 1 on each axis.
    crop : int
        Pixels to leave away on each side of the result: a margin that only lends its objects.

    Returns
    -------
    ndarray of float32, shape of `objects` less 2 * crop on each axis
        w0 * exp(-(d1 + d2)**2 / (2 * sigma_px**2)) on background, d1 and d2 the distances to the nearest
        pixel of the nearest and of the second-nearest object, from centre to centre. 0 where that is below
        1e-6, where there are fewer than two objects, and inside objects.

    Raises
    ------
    ShapeError
        If `objects` is neither a plane nor a volume, or `crop` leaves nothing.
    DataError
        If `objects` holds something else than ids from 0 to 2**31 - 1.
    ConfigError
        If `sigma_px` is not positive, `w0` is negative, or `spacing` does not fit.

    Notes
    -----
    Ronneberger 2015, eq. 2. The equation does not say what d1 is inside an object; our choice is that the
    border term is one of the background only, as in the authors' later code. Time grows with the number of
    pixels, at worst times `sigma_px`, not with the number of objects. Beside ids and result it needs the
    memory of some
    4 million pixels (50 to 100 MB), or of 4 reaches of rows or slices (116 by default) if that is more.
    """
    objects = object_ids(objects)
    spacing = spacing_of(objects, spacing)
    # In whole pixels, like `tail_px`.
    reach = Reach(math.ceil(extent(sigma_px, w0) / min(spacing)) * min(spacing), spacing)
    weights = np.zeros_like(without_margin(objects, crop), np.float32)
    for slab, part in slabs(objects, reach, crop):
        _fill(weights[slab], part, reach, w0, sigma_px)
    return weights


def _fill(weights: Array, objects: Array, reach: Reach, w0: float, sigma_px: float) -> None:
    from ushape.weight_map.loops import border_term

    near = two_nearest(objects, reach)
    dtype = near.first.dtype.type
    border_term(
        near.first.reshape(-1, near.first.shape[-1]),
        near.second.reshape(-1, near.first.shape[-1]),
        weights.reshape(-1, weights.shape[-1]),
        dtype(near.bits),
        dtype(near.square),
        near.limits,
        float(w0),
        -2.0 * sigma_px**2 * near.scale,
        float(reach.distance * math.sqrt(near.scale)),
    )
