"""From the description of a network in a model file to the network."""

import copy
from typing import TypeAlias

from torch import nn

from ushape.config import Architecture, EncoderUNetConfig
from ushape.models.encoder_unet import EncoderUNet
from ushape.models.encoders import Weights
from ushape.models.unet import UNet

Member: TypeAlias = UNet | EncoderUNet
"""A single network, as it is trained; also what an ensemble is made of."""


def build(config: Architecture, *, pretrained: Weights = False, encoder: nn.Module | None = None) -> Member:
    """Build the network a configuration describes, with freshly drawn weights.

    Parameters
    ----------
    config : UNetConfig or EncoderUNetConfig
    pretrained : bool or path
        Of an encoder: see `EncoderUNet`.
    encoder : nn.Module, optional
        Of one's own, in place of timm's of the name in `config`; it is copied, with its weights.
    """
    if not isinstance(config, EncoderUNetConfig):
        return UNet.from_config(config)
    if encoder is None:
        return EncoderUNet.from_config(config, pretrained)
    options = config.model_dump(exclude={"kind", "encoder"})
    return EncoderUNet(copy.deepcopy(encoder), **options, pretrained=pretrained)
