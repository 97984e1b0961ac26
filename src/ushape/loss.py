"""Pixel-wise softmax, weighted cross-entropy: what the network is trained to make small."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ushape.config import IGNORE
from ushape.errors import ShapeError


def _own(part: Tensor) -> Tensor:
    return part


def weighted_cross_entropy(
    logits: Tensor,
    classes: Tensor,
    weights: Tensor,
    *,
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
    whole : Tensor of float32, shape (), optional
        Where this is a part of a batch: `counted_weight` of that batch. The losses of the parts then add up
        to that of the batch.
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
    if logits.ndim != 4 or classes.shape != weights.shape or logits[:, 0].shape != classes.shape:
        shapes = f"{tuple(logits.shape)}, {tuple(classes.shape)} and {tuple(weights.shape)}"
        raise ShapeError(f"expected logits (N, K, H, W), classes and weights (N, H, W), got {shapes}")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weights = torch.where(classes == IGNORE, 0, weights.to(logits.dtype))
    losses = total((weights * _cross_entropy(logits, classes)).sum())
    whole = weights.sum() if whole is None else whole
    return losses / total(whole).clamp_min(torch.finfo(logits.dtype).tiny)


def counted_weight(classes: Tensor, weights: Tensor) -> Tensor:
    """Sum of the weights of the pixels that count, at least float32; shapes: see `weighted_cross_entropy`."""
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    return torch.where(classes == IGNORE, 0, weights).sum()


def _cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        foreground = (classes == 1).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits[:, 0], foreground, reduction="none")
    return F.cross_entropy(logits, classes.long(), ignore_index=IGNORE, reduction="none")
