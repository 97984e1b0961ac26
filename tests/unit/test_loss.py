import re

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from ushape.config import IGNORE
from ushape.errors import ConfigError, ShapeError
from ushape.loss import counted, segmentation_loss, soft_dice, weighted_cross_entropy


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


NAMES = ("cross_entropy", "focal", "dice", "cross_entropy+dice", "focal+dice")


def test_dice_of_four_pixels_by_hand():
    """Probabilities of class 1: 1/2, 3/4, 3/4; it is true at the first two; the fourth pixel is ignored."""
    log3 = torch.log(torch.tensor(3.0))
    logits = torch.stack([torch.zeros(4), torch.stack([torch.tensor(0.0), log3, log3, log3])])
    loss = soft_dice(logits.reshape(1, 2, 1, 4), torch.tensor([[[1, 1, 0, IGNORE]]]))
    first, second = 2 * 0.25 / (1.0 + 1), 2 * 1.25 / (2.0 + 2)
    assert_close(loss, torch.tensor(1 - (first + second) / 2), rtol=1e-5, atol=1e-6)  # smoothed by 1e-5


def test_a_class_that_an_image_does_not_show_costs_nearly_one():
    """Of 30 pixels each is right with 0.98; the third class has 0.01 everywhere: 0.3 pixels in all."""
    truth = torch.arange(30).reshape(1, 5, 6) % 2
    probabilities = torch.full((1, 3, 5, 6), 0.01, dtype=torch.float64).scatter(1, truth[:, None], 0.98)
    shown = 1 - (2 * 15 * 0.98 + 1e-5) / (15 * 0.98 + 15 * 0.01 + 15 + 1e-5)
    absent = 0.3 / (0.3 + 1e-5)
    expected = torch.tensor((2 * shown + absent) / 3, dtype=torch.float64)
    assert_close(soft_dice(probabilities.log(), truth), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [1, 4])
def test_losses_of_parts_add_up_to_that_of_the_batch(name, classes):
    logits, truth, weights = example(max(classes, 2))
    logits = logits[:, :classes]
    truth[1, 1:] = IGNORE
    whole = counted(truth, weights)
    parts = [
        segmentation_loss(name, logits[i : i + 1], truth[i : i + 1], weights[i : i + 1], whole=whole)
        for i in range(2)
    ]
    assert_close(sum(parts), segmentation_loss(name, logits, truth, weights))


@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_count_in_no_loss(name):
    logits, truth, weights = example()
    truth[:, 2:4] = IGNORE
    logits.requires_grad_()
    loss = segmentation_loss(name, logits, truth, weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[:, :, 2:4].any()
    assert gradient[:, :, :2].any()
    disturbed = logits.detach().clone()
    disturbed[:, :, 2:4] = 77.0
    assert_close(segmentation_loss(name, disturbed, truth, weights), loss)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_that_is_ignored_altogether_costs_nothing(name):
    logits, truth, weights = example()
    loss = segmentation_loss(name, logits.requires_grad_(), torch.full_like(truth, IGNORE), weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert not gradient.any()


def test_a_sum_is_the_sum_of_its_parts():
    logits, truth, weights = example()
    one, other, both = (
        segmentation_loss(name, logits, truth, weights) for name in ("focal", "dice", "focal+dice")
    )
    assert_close(one + other, both)


def test_unknown_losses_and_other_shapes_are_refused():
    logits, truth, weights = example()
    with pytest.raises(ConfigError, match=r"no loss 'jaccard'; there are: cross_entropy, focal, dice"):
        segmentation_loss("jaccard", logits, truth, weights)
    with pytest.raises(ShapeError, match="expected logits"):
        soft_dice(logits, truth[:, 1:])
