"""Networks: the paper's, the authors' released variant, any encoder as a U, and several used as one."""

from typing import TypeAlias

from ushape.models.architecture import Member, build
from ushape.models.encoder_unet import EncoderUNet
from ushape.models.ensemble import Ensemble
from ushape.models.unet import UNet

Network: TypeAlias = Member | Ensemble
"""What a model file can hold: all of them tell `geometry`, `in_channels`, `classes` and `top_channels`."""

__all__ = ["EncoderUNet", "Ensemble", "Member", "Network", "UNet", "build"]
