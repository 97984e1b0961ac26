"""Dice and focal loss against MONAI's: several classes, one sigmoid channel, pixels that do not count."""

import pytest
import torch
from monai.losses import DiceLoss, FocalLoss

from ushape.config import IGNORE
from ushape.loss import soft_dice, weighted_cross_entropy


def example(classes, *, size=(3, 9, 7), ignored=0):
    random = torch.Generator().manual_seed(classes)
    logits = torch.randn(size[0], classes, *size[1:], generator=random, dtype=torch.float64) * 3
    truth = torch.randint(0, max(classes, 2), size, generator=random)
    truth[:, :ignored] = IGNORE
    return logits.requires_grad_(), truth


def gradient_of(loss, logits):
    (gradient,) = torch.autograd.grad(loss, logits)
    return gradient


def require_same(ours, theirs, logits, rtol=1e-9, atol=1e-12):
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)
    torch.testing.assert_close(gradient_of(ours, logits), gradient_of(theirs, logits), rtol=rtol, atol=atol)


def dice_of_monai(classes):
    kinds = {"sigmoid": True} if classes == 1 else {"softmax": True, "to_onehot_y": True}
    return DiceLoss(**kinds, smooth_nr=1e-5, smooth_dr=1e-5)


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("ignored", [0, 4])
def test_dice_is_that_of_monai(classes, ignored):
    logits, truth = example(classes, ignored=ignored)
    # The lines that are ignored are cut away: to MONAI they do not exist.
    theirs = dice_of_monai(classes)(logits[:, :, ignored:], truth[:, None, ignored:].double())
    require_same(soft_dice(logits, truth), theirs, logits)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_a_class_that_is_nowhere_costs_what_it_does_in_monai(classes):
    """Nearly one: it is kept so, for the two to be comparable."""
    logits, truth = example(classes)
    truth[truth == max(classes - 1, 1)] = 0
    require_same(soft_dice(logits, truth), dice_of_monai(classes)(logits, truth[:, None].double()), logits)


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("ignored", [0, 4])
def test_focal_is_that_of_monai(classes, ignored):
    logits, truth = example(classes, ignored=ignored)
    monai = FocalLoss(gamma=2.0, use_softmax=classes > 1, to_onehot_y=classes > 1, reduction="none")
    per_pixel = monai(logits[:, :, ignored:], truth[:, None, ignored:].double()).sum(1)
    weights = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counted = weights[:, ignored:]
    ours = weighted_cross_entropy(logits, truth, weights, focus=2.0)
    # MONAI computes its focal loss in float32.
    require_same(ours, (per_pixel * counted).sum() / counted.sum(), logits, rtol=1e-5, atol=1e-7)
