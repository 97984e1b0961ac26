"""Dropout is PyTorch's for maps that lie channels first, and the same for all others."""

import pytest
import torch
from torch import nn

from ushape.models.dropout import Dropout

MAP = torch.randn(2, 6, 9, 7)


def drawn(layer: nn.Module, x: torch.Tensor, seed: int = 3) -> torch.Tensor:
    torch.manual_seed(seed)
    return layer(x)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5])
def test_the_mask_is_that_of_pytorch_whatever_the_layout(p: float) -> None:
    expected = drawn(nn.Dropout(p), MAP)
    assert p == 0 or (expected == 0).any()
    last = MAP.to(memory_format=torch.channels_last)
    for x in (MAP, last):
        result = drawn(Dropout(p), x)
        torch.testing.assert_close(result, expected, rtol=0, atol=0)
        assert result.stride() == x.stride()
    assert p == 0 or not torch.equal(drawn(nn.Dropout(p), last), expected), (
        "PyTorch draws one mask: not needed"
    )


def test_gradients_pass_where_values_do() -> None:
    x = MAP.clone().requires_grad_()
    result = drawn(Dropout(0.5), x)
    result.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(result == 0, 0.0, 2.0))


def test_nothing_is_drawn_but_in_training() -> None:
    assert Dropout(0.5).eval()(MAP) is MAP
