"""A network small enough for tests, whose probabilities lie on both sides of a half."""

import torch

from ushape.config import ClassInfo, ModelHeader, UNetConfig
from ushape.models import UNet

CLASSES = (
    ClassInfo(name="background", value=0, color=(0, 0, 0)),
    ClassInfo(name="cell", value=255, color=(255, 80, 0)),
    ClassInfo(name="debris", value=7, color=(0, 80, 255)),
)


def make_model(*, in_channels=1, classes=2, **header):
    torch.manual_seed(3)
    network = UNet(in_channels, classes, width=4, depth=2).eval()
    architecture = UNetConfig(in_channels=in_channels, classes=classes, width=4, depth=2)
    names = CLASSES[: max(classes, 2)]
    return network, ModelHeader(name="small", architecture=architecture, classes=names, **header)
