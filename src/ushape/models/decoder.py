"""The expanding path for any encoder; over the paper's contracting path, with its weights, that of `UNet`.

From the coarsest map up: enlarge, concatenate behind the map of the encoder at that size, convolve twice.
With unpadded convolutions skips are cropped to their centre, as in the paper; padded ones lose nothing.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ushape.errors import ConfigError
from ushape.models.dropout import Dropout
from ushape.models.unet import DoubleConv, Norm, crop

Up = Literal["conv", "resize"]


class Enlargement(nn.Sequential):
    """Enlarges a map by a whole factor, and gives it the channels of the level above.

    "conv": an up-convolution of kernel and stride `factor`, as in the paper. "resize": each pixel repeated,
    then a padded 3x3 convolution (Odena et al. 2016: no checkerboard).
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int, kind: Up) -> None:
        if kind == "conv":
            super().__init__(nn.ConvTranspose2d(in_channels, out_channels, kernel_size=factor, stride=factor))
        else:
            conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
            super().__init__(nn.Upsample(scale_factor=factor, mode="nearest"), conv)


class Decoder(nn.Module):
    """The expanding path over feature maps of any encoder.

    Parameters
    ----------
    channels : sequence of int
        Channels of the encoder's maps, from fine to coarse; 0 where a level has no skip.
    strides : sequence of int
        By what each map is smaller than the image; each a multiple of the one before.
    widths : sequence of int
        Channels of the result of each level but the coarsest, from fine to coarse.
    up : {"conv", "resize"}
        See `Enlargement`.
    norm : None or "batch"
        Batch normalisation before each ReLU of the 3x3 convolutions.
    dropout : float
        Probability of dropping a unit of the two coarsest maps, 0 <= p < 1.
    is_padded : bool
        Whether 3x3 convolutions are padded. If not, skips are cropped, as in the paper.

    Raises
    ------
    ConfigError
        If a parameter is out of its range.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        widths: Sequence[int],
        *,
        up: Up = "conv",
        norm: Norm = "batch",
        dropout: float = 0.0,
        is_padded: bool = True,
    ) -> None:
        super().__init__()
        if up not in ("conv", "resize"):
            raise ConfigError(f"up must be 'conv' or 'resize', got {up!r}")
        if norm not in (None, "batch"):
            raise ConfigError(f"norm must be None or 'batch', got {norm!r}")
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, got {dropout}")
        below = [*widths[1:], channels[-1]]
        factors = [coarse // fine for fine, coarse in pairwise(strides)]
        self.dropout = Dropout(dropout)
        self.up = nn.ModuleList(
            Enlargement(i, o, factor, up) for i, o, factor in zip(below, widths, factors, strict=True)
        )
        self.expanding = nn.ModuleList(
            DoubleConv(skip + width, width, norm, padding=int(is_padded))
            for skip, width in zip(channels, widths, strict=False)
        )

    def forward(self, features: list[Tensor | None], *, all_levels: bool = False) -> list[Tensor]:
        """Go up the U.

        Parameters
        ----------
        features : list of Tensor, shapes (N, channels[i], H / strides[i], W / strides[i])
            Maps of the encoder, from fine to coarse; None where a level has no skip. It is emptied, so that
            a map lives no longer than it is needed.
        all_levels : bool
            Whether to keep the results of coarser levels, too.

        Returns
        -------
        list of Tensor, shapes (N, widths[i], ...)
            The result of the finest level; with `all_levels` of each but the coarsest, from fine to coarse.
        """
        x: Tensor = self.dropout(features.pop())
        results: list[Tensor] = []
        for level in reversed(range(len(self.up))):
            x, skip = self.up[level](x), features.pop()
            if skip is not None:
                if level == len(self.up) - 1:
                    skip = self.dropout(skip)
                x = torch.cat([crop(skip, like=x), x], dim=1)
            del skip  # or it would live on while the level is computed
            x = self.expanding[level](x)
            if all_levels or level == 0:
                results.insert(0, x)
        return results
