"""Networks: the paper's U-Net, the authors' released variant, and several of them used as one."""

from typing import TypeAlias

from ushape.models.ensemble import Ensemble
from ushape.models.unet import UNet

Network: TypeAlias = UNet | Ensemble
"""What a model file can hold: all of them tell `geometry`, `in_channels`, `classes` and `top_channels`."""

__all__ = ["Ensemble", "Network", "UNet"]
