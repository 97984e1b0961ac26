"""Gap, classes and border weights made by PyTorch, for tiles on a GPU: what `tile_targets` makes.

The two nearest objects of a pixel lie within the reach of the border term, some 29 pixels, or do not matter.
A GPU has the breadth to look at all that does. One operation does so along the rows, then along the columns::

    keys     of each pixel: squared distance, and below it the id        (0, 3)  far    far    (0, 5)
    along x  smallest key of the window; smallest key of another id      (0, 3)  (1, 3) (1, 5) (0, 5)
                                                                         (9, 5)  (4, 5) (4, 3) (9, 3)
    along y  the same, from both keys of each row

That is a dozen kernels over a window of numbers per pixel. The sweeps of `loops` would be thousands of
small ones, each waiting for the one before.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ushape.config import IGNORE
from ushape.weight_map.border import tail_px

_ID_BITS = 32
_ID = 2**_ID_BITS - 1
_FAR = 2**62
"""Key of no object: further than any, and so even twice with a square of the reach added to it."""


def cut_gap(objects: Tensor) -> Tensor:
    """Separate touching objects by a gap of background, see `weight_map.cut_gap`.

    Parameters
    ----------
    objects : Tensor of int, shape (N, H, W)
        Object ids, 0 = background. Not modified.

    Returns
    -------
    Tensor of the type of `objects`, shape (N, H, W)
    """
    padded = F.pad(objects, (1, 1, 1, 1))
    largest = padded.unfold(1, 3, 1).unfold(2, 3, 1).amax((-1, -2))
    nothing = torch.iinfo(objects.dtype).max
    padded = padded.masked_fill(padded == 0, nothing)
    smallest = padded.unfold(1, 3, 1).unfold(2, 3, 1).amin((-1, -2))
    return objects * ((largest == objects) & (smallest == objects))


def border_weights(objects: Tensor, *, w0: float = 10.0, sigma_px: float = 5.0, crop: int = 0) -> Tensor:
    """Per-pixel loss weights that force thin borders, see `weight_map.border_weights`.

    Parameters
    ----------
    objects : Tensor of int, shape (N, H, W)
        Object ids, 0 = background. Not modified.
    w0, sigma_px, crop
        As there.

    Returns
    -------
    Tensor of float32, shape (N, H - 2 * crop, W - 2 * crop)

    Notes
    -----
    Memory: 2 * (2 * reach + 1) * 16 bytes per pixel of one tile, 0.3 GB at 388 x 388 and sigma_px = 5.
    """
    reach = tail_px(sigma_px, w0) - 1
    weights = []
    for plane in objects.long():
        keys = F.pad(plane.masked_fill(plane == 0, _FAR), [reach - crop] * 4, value=_FAR)[None]
        for axis in (2, 1):
            keys = _two_nearest(keys, axis, reach)
        first, second = (keys >> _ID_BITS).double().sqrt()
        total = first + second
        term = w0 * torch.exp(total**2 / (-2 * sigma_px**2))
        weights.append(term.masked_fill((total > reach) | (first == 0), 0).float())
    return torch.stack(weights)


def _two_nearest(keys: Tensor, axis: int, reach: int) -> Tensor:
    """Keys (2, H, W) of the two nearest objects, from candidates (K, H, W), `reach` pixels either way.

    Leaves away `reach` pixels at both ends of the axis. An object that is one of the two nearest of all is
    one of the two nearest in its row.
    """
    offset = torch.arange(-reach, reach + 1, device=keys.device)
    candidates = keys.unfold(axis, 2 * reach + 1, 1) + (offset**2 << _ID_BITS)
    nearest = candidates.amin((0, -1))
    is_same = (candidates & _ID) == (nearest & _ID)[..., None]
    return torch.stack([nearest, candidates.masked_fill_(is_same, _FAR).amin((0, -1))])


def targets(
    objects: Tensor,
    classes: Tensor,
    weight_of_class: Tensor,
    *,
    separate: bool = True,
    w0: float = 10.0,
    sigma_px: float = 5.0,
    crop: int = 0,
) -> tuple[Tensor, Tensor]:
    """Classes and weights of tiles, see `weight_map.targets`.

    Parameters
    ----------
    objects : Tensor of int, shape (N, H, W)
        Object ids, 0 = background. Not modified.
    classes : Tensor of uint8, shape (N, H, W)
        Class of the id of each pixel. Not modified.
    weight_of_class : Tensor of float32, shape (256,)
        w_c of each class, 0 of `config.IGNORE`.
    separate, w0, sigma_px, crop
        As there.

    Returns
    -------
    classes : Tensor of uint8, shape (N, H - 2 * crop, W - 2 * crop)
    weights : Tensor of float32, same shape
    """
    middle = (..., slice(crop, objects.shape[1] - crop), slice(crop, objects.shape[2] - crop))
    if not separate:
        return classes[middle], weight_of_class[classes[middle].long()]
    cells = objects * ((classes != 0) & (classes != IGNORE))
    separated = cut_gap(cells)
    classes = classes.masked_fill(separated != cells, 0)[middle]
    border = border_weights(separated, w0=w0, sigma_px=sigma_px, crop=crop)
    return classes, weight_of_class[classes.long()] + border * (classes != IGNORE)
