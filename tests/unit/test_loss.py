import re

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from ushape.config import IGNORE
from ushape.errors import ShapeError
from ushape.loss import weighted_cross_entropy


def example(classes=3, dtype=torch.float32):
    random = torch.Generator().manual_seed(4)
    logits = torch.randn(2, classes, 5, 6, generator=random, dtype=dtype) * 3
    truth = torch.randint(0, classes, (2, 5, 6), generator=random)
    weights = torch.rand(2, 5, 6, generator=random) * 10
    return logits, truth, weights


def test_four_pixels_by_hand():
    """Probabilities of the true class 1/2, 3/4, 1/4 with weights 1, 2, 5; the fourth pixel is ignored."""
    log3 = torch.log(torch.tensor(3.0))
    logits = torch.stack([torch.zeros(4), torch.stack([torch.tensor(0.0), log3, log3, log3])])
    truth = torch.tensor([1, 1, 0, IGNORE])
    loss = weighted_cross_entropy(
        logits.reshape(1, 2, 1, 4), truth.reshape(1, 1, 4), torch.tensor([[[1.0, 2.0, 5.0, 7.0]]])
    )
    p = torch.tensor([0.5, 0.75, 0.25])
    assert_close(loss, -(torch.tensor([1.0, 2.0, 5.0]) * p.log()).sum() / 8)


def test_equal_weights_give_the_plain_mean():
    logits, truth, weights = example()
    assert_close(
        weighted_cross_entropy(logits, truth, torch.full_like(weights, 0.3)), F.cross_entropy(logits, truth)
    )


def test_the_scale_of_the_weights_does_not_matter():
    logits, truth, weights = example()
    assert_close(
        weighted_cross_entropy(logits, truth, 100 * weights), weighted_cross_entropy(logits, truth, weights)
    )


def test_an_ignored_pixel_has_no_say_and_no_gradient():
    logits, truth, weights = example()
    truth[0, 2, 3] = IGNORE
    logits.requires_grad_()
    loss = weighted_cross_entropy(logits, truth, weights)
    loss.backward()
    assert torch.all(logits.grad[0, :, 2, 3] == 0)
    assert torch.count_nonzero(logits.grad) == logits.numel() - 3
    weights[0, 2, 3] = 1e6
    assert_close(weighted_cross_entropy(logits, truth, weights), loss)


@pytest.mark.parametrize("classes", [1, 2])
def test_nothing_to_learn_from_gives_0_with_gradient_0(classes):
    logits, truth, weights = example(classes)
    logits.requires_grad_()
    loss = weighted_cross_entropy(logits, torch.full_like(truth, IGNORE), weights)
    loss.backward()
    assert loss.item() == 0
    assert torch.all(logits.grad == 0)


def test_one_sigmoid_channel_is_a_softmax_against_0():
    logits, _, weights = example(classes=1)
    truth = (weights > 5).long()
    truth[1, 1] = IGNORE
    pair = torch.cat([torch.zeros_like(logits), logits], 1)
    assert_close(weighted_cross_entropy(logits, truth, weights), weighted_cross_entropy(pair, truth, weights))


def test_two_processes_with_half_the_tiles_each_have_the_loss_of_one_with_all():
    logits, truth, weights = example()
    halves = [(logits[half], truth[half], weights[half]) for half in (slice(1), slice(1, None))]
    sums = [[], []]
    for part, half in zip(sums, halves, strict=True):
        weighted_cross_entropy(*half, total=lambda own, part=part: part.append(own) or own)
    whole = [first + second for first, second in zip(*sums, strict=True)]
    expected = weighted_cross_entropy(logits, truth, weights)
    for half in halves:
        others = iter(whole)
        assert_close(weighted_cross_entropy(*half, total=lambda own: next(others)), expected)  # noqa: B023


def test_classes_may_be_bytes():
    logits, truth, weights = example()
    truth[0, 0, 0] = IGNORE
    assert_close(
        weighted_cross_entropy(logits, truth.to(torch.uint8), weights),
        weighted_cross_entropy(logits, truth, weights),
    )


def test_autocast_does_not_touch_it():
    logits, truth, weights = example()
    logits = logits.to(torch.bfloat16)
    expected = weighted_cross_entropy(logits.float(), truth, weights)
    with torch.autocast("cpu", torch.bfloat16):
        loss = weighted_cross_entropy(logits, truth, weights)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


@pytest.mark.parametrize("classes", [1, 3])
def test_gradient_in_float64(classes):
    logits, truth, weights = example(classes, torch.float64)
    truth[0, 0] = IGNORE
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: weighted_cross_entropy(x, truth, weights), (logits,))


@pytest.mark.parametrize("wrong", ["weights", "classes", "logits"])
def test_shapes_that_would_broadcast_are_refused(wrong):
    arguments = dict(zip(("logits", "classes", "weights"), example(), strict=True))
    arguments[wrong] = arguments[wrong][:, None]
    with pytest.raises(
        ShapeError, match=re.escape("expected logits (N, K, H, W), classes and weights (N, H, W), got")
    ):
        weighted_cross_entropy(**arguments)
