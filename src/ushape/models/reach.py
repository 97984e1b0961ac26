"""How far a network of padded convolutions looks, found by sending NaN through it.

NaN goes through every convolution (a weight of 0 included), pooling, normalisation and activation, so exactly
those outputs become NaN that see a NaN of the input. It is put on one side of a line at a multiple of the
period, where tiles end: the outputs beyond the line that stay numbers are those that a tile has right.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_PERIODS = 24, 48, 128
"""How far is looked, one after the other; what looks further is taken to look at the whole image."""

_SHARE = 1 / 8
"""Of its input that a layer must turn from numbers to NaN: no kernel is that wide."""


def reach(network: nn.Module, in_channels: int, period: int) -> int | str:
    """Find how far, along either axis, an output of a network looks.

    Parameters
    ----------
    network : nn.Module
        Takes (N, in_channels, H, W) and returns maps of the same height and width; looked at in evaluation
        mode, and left in the one it is in.
    in_channels, period : int

    Returns
    -------
    int or str
        Pixels beyond the border of a tile, on the worse of its sides; or the name of the layer by which the
        network looks at the whole image. Windows of attention, which are laid from the corner of what the
        network sees, count as that: tiles would have other ones.
    """
    windows: str | None = next(
        (name for name, m in network.named_modules() if "Attention" in type(m).__name__), None
    )
    if windows is not None:
        return windows
    with torch.no_grad(), evaluated(network):
        for periods in _PERIODS:
            pixels = periods * period
            found = max(_reach(network, in_channels, period, pixels, axis) for axis in (2, 3))
            if found < pixels:
                return found
            layer = _first_that_spreads(network, in_channels, period, pixels)
            if layer is not None:
                return layer
    return "the whole network"


def _strip(network: nn.Module, in_channels: int, period: int, pixels: int, axis: int) -> Tensor:
    """Two images, with NaN on the first and the second half of one axis, 2 x `pixels` long."""
    weight = next(network.parameters())
    size = [2, in_channels, period, period]
    size[axis] = 2 * pixels
    image = weight.new_zeros(size)
    halves = image.movedim(axis, 1)
    halves[0, :pixels] = torch.nan
    halves[1, pixels:] = torch.nan
    return image


def _reach(network: nn.Module, in_channels: int, period: int, pixels: int, axis: int) -> int:
    output = network(_strip(network, in_channels, period, pixels, axis))
    lines = output.isnan().movedim(axis, 1).flatten(2).any(2)  # (2, 2 * pixels)
    beyond = torch.stack([lines[0, pixels:], lines[1, :pixels].flip(0)])
    distances = torch.arange(1, pixels + 1, device=lines.device)
    return int((beyond * distances).max())  # of the furthest: there may be gaps before it


def _first_that_spreads(network: nn.Module, in_channels: int, period: int, pixels: int) -> str | None:
    """Name of the first layer after which all is NaN, if no kernel alone can have made it so."""
    found: list[tuple[str, float]] = []

    def watched(name: str) -> Any:
        def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            given = [t for t in inputs if isinstance(t, Tensor)]
            numbers = max((float(t.isfinite().float().mean()) for t in given), default=0.0)
            if isinstance(output, Tensor) and output.isnan().all() and numbers > 0:
                found.append((name, numbers))

        return note

    hooks = [m.register_forward_hook(watched(name)) for name, m in network.named_modules() if name]
    try:
        network(_strip(network, in_channels, period, pixels, 3))
    finally:
        for hook in hooks:
            hook.remove()
    return found[0][0] if found and found[0][1] > _SHARE else None


@contextmanager
def evaluated(network: nn.Module) -> Iterator[None]:
    """Have a network in evaluation mode for a while; each of its parts is then in the mode it was in."""
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for part, was_training in modes:  # some may be kept in evaluation mode, such as frozen batch norms
            part.training = was_training
