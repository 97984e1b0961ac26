"""A network with an encoder in numbers: its levels, parameters, and work per pixel."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ushape.config import EncoderUNetConfig
from ushape.models.encoder_unet import EncoderUNet


@dataclass(frozen=True)
class Cost:
    """What a network has and does.

    Attributes
    ----------
    parameters, encoder_parameters : int
        Trained numbers of the whole, and of its encoder.
    gflop_per_megapixel : float
        Two operations per multiplication in convolutions and linear layers; all else is not counted.
    """

    parameters: int
    encoder_parameters: int
    gflop_per_megapixel: float


def without_numbers(config: EncoderUNetConfig) -> EncoderUNet:
    """Build the network a configuration describes, with sizes alone: it takes no memory, and no time."""
    with torch.device("meta"):
        return EncoderUNet.from_config(config).eval()


def cost(network: EncoderUNet) -> Cost:
    """Count parameters and operations of a network."""
    side, device = 8 * network.period, next(network.parameters()).device
    work = 0

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal work
        weight = module.weight
        assert isinstance(weight, Tensor)
        if isinstance(module, nn.Conv2d):
            work += weight.numel() * output.shape[-2:].numel()
        elif isinstance(module, nn.ConvTranspose2d):
            work += weight.numel() * inputs[0].shape[-2:].numel()
        else:
            work += weight.numel() * (inputs[0].numel() // inputs[0].shape[-1])

    kinds = nn.Conv2d | nn.ConvTranspose2d | nn.Linear
    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, kinds)]
    try:
        with torch.no_grad():
            network(torch.zeros(1, network.in_channels, side, side, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    total, own = (sum(p.numel() for p in part.parameters()) for part in (network, network.encoder))
    return Cost(total, own, 2 * work / side**2 / 1e3)


def draw_encoder(config: EncoderUNetConfig) -> str:
    """Write, as lines of text, the levels of a network with an encoder, what it costs and what it needs."""
    network = without_numbers(config)
    stem = [] if network.stem is None else list(network.stem.strides)
    of_encoder = dict(zip(network.encoder.strides, network.encoder.channels, strict=True))
    lines = [f"{'level':<10}{'contracting path':<42}expanding path"]
    blocks = list(network.decoder.expanding)
    strides = sorted({1, *stem, *of_encoder})
    for place, stride in enumerate(strides):
        if stride in of_encoder:
            left = f"{config.encoder}: {of_encoder[stride]} channels"
        else:
            left = f"stem: {config.width * stride} channels" if stride in stem else "no skip"
        right = "" if place == len(blocks) else f"{_channels(blocks[place])} channels"
        lines.append(f"{f'1/{stride}':<10}{left:<42}{right}".rstrip())
    numbers = cost(network)
    facts = {
        "parameters": f"{numbers.parameters:,}, {numbers.encoder_parameters:,} of them in the encoder",
        "work": f"{numbers.gflop_per_megapixel:.0f} GFLOP per megapixel",
        "valid sizes": "any; the output has the size of the input",
        "period": f"{network.period} px: an image is continued by zeros to a multiple of it",
        "halo": _halo(config),
    }
    table = "\n".join(f"{name:<22}{value}" for name, value in facts.items())
    return "\n".join(lines) + f"\n\n{table}"


def _halo(config: EncoderUNetConfig) -> str:
    """How far the network looks; NaN, which finds it, goes through any weights, but must be computed."""
    geometry = EncoderUNet.from_config(config).geometry
    if geometry.halo is None:
        return f"none: layer `{geometry.looks_at_all}` looks at the whole image, so tiles cannot equal it"
    return f"{geometry.halo} px: what a tile reads beyond each side of its output"


def _channels(block: nn.Module) -> int:
    convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
    return convolutions[-1].out_channels
