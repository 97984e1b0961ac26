"""An encoder of one's own, small enough for tests."""

from torch import nn


class Pyramid(nn.Module):
    """Maps of 1/3 and 1/6 of the size."""

    def __init__(self, in_channels=3):
        super().__init__()
        self.channels, self.strides = (5, 7), (3, 6)
        self.first = nn.Conv2d(in_channels, 5, kernel_size=3, stride=3)
        self.second = nn.Conv2d(5, 7, kernel_size=3, stride=2, padding=1)

    def forward(self, image):
        fine = self.first(image).relu()
        return [fine, self.second(fine).relu()]
