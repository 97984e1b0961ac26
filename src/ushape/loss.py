"""What the network is trained to make small: the paper's cross-entropy, focal loss, Dice loss, sums."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ushape.config import IGNORE
from ushape.errors import ConfigError, ShapeError

LossName = Literal["cross_entropy", "focal", "dice", "cross_entropy+dice", "focal+dice"]

FOCUS = 2.0
"""Exponent of the focal loss, as its authors recommend (Lin et al. 2017)."""

_SMOOTH = 1e-5
"""Added above and below in the Dice loss, against 0 / 0. So little leaves what small objects cost as it is. A
class that an image does not show costs p / (p + 1e-5), p being the sum of its probabilities: nearly one, with
next to no gradient, long before it is found anywhere. MONAI's loss with the same number does so, too."""


class Counted(NamedTuple):
    """What sums over a batch are divided by.

    Attributes
    ----------
    weight : Tensor of float32, shape ()
        Sum of the weights of the pixels that count.
    images : Tensor of float32, shape ()
        Number of images with such pixels.
    """

    weight: Tensor
    images: Tensor


def _own(part: Tensor) -> Tensor:
    return part


def segmentation_loss(
    name: LossName,
    logits: Tensor,
    classes: Tensor,
    weights: Tensor,
    *,
    whole: Counted | None = None,
    total: Callable[[Tensor], Tensor] = _own,
) -> Tensor:
    """Compute the loss of that name, or the sum of the two that it names; see there.

    Parameters
    ----------
    name : {"cross_entropy", "focal", "dice", "cross_entropy+dice", "focal+dice"}
    logits, classes, weights, total
        See `weighted_cross_entropy`.
    whole : Counted, optional
        Where this is a part of a batch: `counted` of that batch.

    Raises
    ------
    ConfigError
        If there is no loss of that name.
    ShapeError
        If the shapes do not belong together.
    """
    if name not in get_args(LossName):
        raise ConfigError(f"no loss {name!r}; there are: {', '.join(get_args(LossName))}")
    whole = counted(classes, weights) if whole is None else whole
    parts = []
    for part in name.split("+"):
        if part == "dice":
            parts.append(soft_dice(logits, classes, whole=whole.images, total=total))
        else:
            focus = FOCUS if part == "focal" else 0.0
            parts.append(
                weighted_cross_entropy(logits, classes, weights, focus=focus, whole=whole.weight, total=total)
            )
    return torch.stack(parts).sum()


def weighted_cross_entropy(
    logits: Tensor,
    classes: Tensor,
    weights: Tensor,
    *,
    focus: float = 0.0,
    whole: Tensor | None = None,
    total: Callable[[Tensor], Tensor] = _own,
) -> Tensor:
    """Weighted mean, over the pixels that count, of minus the log of the true class's probability.

    Parameters
    ----------
    logits : Tensor of float, shape (N, K, H, W)
        Output of the network, before softmax; before sigmoid if K is 1.
    classes : Tensor of uint8 or int64, shape (N, H, W)
        True classes 0 .. K - 1 (0 and 1 if K is 1); `config.IGNORE` where nothing is known.
    weights : Tensor of float, shape (N, H, W)
        Weight of each pixel, >= 0; pixels to ignore get 0 whatever stands here.
    focus : float
        Above 0 for the focal loss (Lin et al. 2017, eq. 4): each pixel is weighted by (1 - p) ** focus, too,
        so that those that are right already hardly count. The sum of the weights stays without it.
    whole : Tensor of float32, shape (), optional
        Where this is a part of a batch: the `counted` weight of that batch. The losses of the parts then add
        up to that of the batch.
    total : callable
        Adds up a sum over the pixels of this batch, a Tensor of shape (), with those of other processes.

    Returns
    -------
    Tensor of float32, shape ()
        sum(w * -log p) / sum(w) over all pixels of the batch (of all batches, by `total`) that are not
        ignored; 0, with gradient 0, where there are none. Computed in float32 under autocast too; float64
        logits stay float64.

    Raises
    ------
    ShapeError
        If the three shapes do not belong together.

    Notes
    -----
    Ronneberger 2015, eq. 1. The paper does not say whether the sum over pixels is divided by anything. Our
    choice is the sum of the weights: the loss, and with it the meaning of the learning rate, then depends
    neither on the size of the tile nor on how much of it is annotated nor on the scale of the weights.
    """
    _require_same_pixels(logits, classes, weights)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weights = torch.where(classes == IGNORE, 0, weights.to(logits.dtype))
    losses = _cross_entropy(logits, classes)
    if focus:
        losses = losses * (1 - torch.exp(-losses)) ** focus
    losses = total((weights * losses).sum())
    whole = weights.sum() if whole is None else whole
    return losses / total(whole).clamp_min(torch.finfo(logits.dtype).tiny)


def soft_dice(
    logits: Tensor,
    classes: Tensor,
    *,
    whole: Tensor | None = None,
    total: Callable[[Tensor], Tensor] = _own,
) -> Tensor:
    """One minus the Dice coefficient of probabilities and true classes: mean over classes, then over images.

    Parameters
    ----------
    logits, classes, total
        See `weighted_cross_entropy`. Weights have no part in it: it is made to count classes alike.
    whole : Tensor of float32, shape (), optional
        Where this is a part of a batch: the number of `counted` images of that batch.

    Returns
    -------
    Tensor of float32, shape ()
        1 - 2 * sum(p * t) / (sum(p) + sum(t)) over the pixels of an image that are not ignored (Milletari et
        al. 2016, without their squares); 0, with gradient 0, where all are. A class that an image does not
        show counts with nearly one, see `_SMOOTH`.

    Raises
    ------
    ShapeError
        If the two shapes do not belong together.
    """
    _require_same_pixels(logits, classes, classes)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    count = (classes != IGNORE)[:, None]
    is_single = logits.shape[1] == 1
    probabilities = (logits.sigmoid() if is_single else logits.softmax(1)) * count
    first, end = (1, 2) if is_single else (0, logits.shape[1])
    kinds = torch.arange(first, end, device=classes.device)  # sent there, it would be waited for
    truth = (classes[:, None] == kinds.reshape(1, -1, 1, 1)) & count
    both = (probabilities * truth).sum((2, 3))
    sizes = probabilities.sum((2, 3)) + truth.sum((2, 3))
    of_image = (1 - (2 * both + _SMOOTH) / (sizes + _SMOOTH)).mean(1)
    is_counted = count.flatten(1).any(1)
    whole = is_counted.sum().to(of_image.dtype) if whole is None else whole
    return total(torch.where(is_counted, of_image, 0).sum()) / total(whole).clamp_min(1)


def counted(classes: Tensor, weights: Tensor) -> Counted:
    """What sums over a batch are divided by, at least float32; shapes: see `weighted_cross_entropy`."""
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    counts = classes != IGNORE
    return Counted(torch.where(counts, weights, 0).sum(), counts.flatten(1).any(1).sum().to(weights.dtype))


def _require_same_pixels(logits: Tensor, classes: Tensor, weights: Tensor) -> None:
    if logits.ndim != 4 or classes.shape != weights.shape or logits[:, 0].shape != classes.shape:
        shapes = f"{tuple(logits.shape)}, {tuple(classes.shape)} and {tuple(weights.shape)}"
        raise ShapeError(f"expected logits (N, K, H, W), classes and weights (N, H, W), got {shapes}")


def _cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        foreground = (classes == 1).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits[:, 0], foreground, reduction="none")
    return F.cross_entropy(logits, classes.long(), ignore_index=IGNORE, reduction="none")
