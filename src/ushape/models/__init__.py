"""Networks: the paper's U-Net and the authors' released variant."""

from ushape.models.unet import UNet

__all__ = ["UNet"]
