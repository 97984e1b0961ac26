"""The U-Net of Ronneberger, Fischer and Brox (MICCAI 2015), from leaf to whole.

Shapes in the comments are those of the paper's figure 1: width 64, depth 4, a tile of 572 x 572 pixels.
The authors' released network `phseg_v5` differs in three places, marked "released".
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ushape.config import UNetConfig
from ushape.errors import ConfigError, ShapeError
from ushape.geometry import Layer, UnpaddedGeometry
from ushape.models.dropout import Dropout

Norm = Literal["batch"] | None
Variant = Literal["paper", "released"]


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each followed by a ReLU (and by batch norm before it, if asked for).

    Unpadded, as in the paper, unless another decoder asks for a padding of 1.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Norm, padding: int = 0) -> None:
        steps: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            # Batch norm subtracts the mean, so a bias before it would be without effect.
            steps.append(nn.Conv2d(channels, out_channels, kernel_size=3, padding=padding, bias=norm is None))
            if norm == "batch":
                steps.append(nn.BatchNorm2d(out_channels))
            steps.append(nn.ReLU(inplace=True))
        super().__init__(*steps)


class UpConv(nn.Sequential):
    """2x2 up-convolution: doubles height and width. The release has a ReLU after it; the paper none."""

    def __init__(self, in_channels: int, out_channels: int, variant: Variant) -> None:
        super().__init__(nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2))
        if variant == "released":
            self.append(nn.ReLU(inplace=True))


class Enlarge(nn.Module):
    """Bilinear enlargement by an even factor, cut to the pixels that lie between pixels of the input.

    N pixels become factor * (N - 1): what would need a pixel beyond the edge is left away, as in an
    unpadded convolution of kernel factor + 1.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) of float to (N, C, factor * (H - 1), factor * (W - 1)), float32 under autocast."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        large = functional.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False)
        edge = self.factor // 2
        return large[..., edge:-edge, edge:-edge]


def crop(skip: Tensor, like: Tensor) -> Tensor:
    """Cut the centre of `skip` to the height and width of `like`."""
    top = (skip.shape[-2] - like.shape[-2]) // 2
    left = (skip.shape[-1] - like.shape[-1]) // 2
    return skip[..., top : top + like.shape[-2], left : left + like.shape[-1]]


class UNet(nn.Module):
    """The U-Net: with no argument exactly the paper's network of 31,030,658 parameters.

    Parameters
    ----------
    in_channels : int
        Channels of the input image, >= 1.
    classes : int
        Channels of the output: 2 and more for a softmax over classes (the paper), 1 for a single sigmoid
        channel.
    width : int
        Channels of the first level; each level below has twice as many. Paper: 64.
    depth : int
        Number of poolings. Paper: 4.
    norm : None or "batch"
        Batch normalisation before each ReLU of the 3x3 convolutions. Paper: None.
    dropout : float
        Probability, 0 <= p < 1, of dropping a unit at the end of the contracting path: after the last two
        of its levels, as in the released network. The paper states neither rate nor exact place.
    variant : {"paper", "released"}
        See `UNet.released`.
    shrink : {1, 2, 4}
        The image is shrunk by this factor (mean of shrink x shrink pixels) before the first level, and the
        logits are enlarged by it after the last one: a quarter (a sixteenth) of the work per pixel, and twice
        (four times) as much context, for structures that are many pixels wide. Paper: 1.

    Raises
    ------
    ConfigError
        If a parameter is out of its range.

    Notes
    -----
    Ronneberger 2015, section 2 and figure 1: 3x3 convolutions unpadded, each with a ReLU; 2x2 max-pooling;
    2x2 up-convolutions that halve the channels; skips cropped centrally and concatenated in front;
    a 1x1 convolution at the end: 23 convolutional layers in all. Weights are drawn from a Gaussian of
    standard deviation sqrt(2 / N), N the number of incoming nodes (section 3); biases start at 0, which
    the paper does not state. A 2x2 up-convolution of stride 2 sums over its input channels only, so there
    N = in_channels (the release counts 4 * out_channels).

    Examples
    --------
    >>> import torch
    >>> network = UNet()
    >>> sum(p.numel() for p in network.parameters())
    31030658
    >>> network(torch.zeros(1, 1, 188, 204)).shape
    torch.Size([1, 2, 4, 20])
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 2,
        *,
        width: int = 64,
        depth: int = 4,
        norm: Norm = None,
        dropout: float = 0.5,
        variant: Variant = "paper",
        shrink: int = 1,
    ) -> None:
        super().__init__()
        for name, value in {
            "in_channels": in_channels,
            "classes": classes,
            "width": width,
            "depth": depth,
        }.items():
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, got {dropout}")
        if norm not in (None, "batch"):
            raise ConfigError(f"norm must be None or 'batch', got {norm!r}")
        if variant not in ("paper", "released"):
            raise ConfigError(f"variant must be 'paper' or 'released', got {variant!r}")
        if shrink not in (1, 2, 4):
            raise ConfigError(f"shrink must be 1, 2 or 4, got {shrink}")
        self.in_channels, self.classes, self.width, self.depth = in_channels, classes, width, depth
        self.norm, self.dropout_rate, self.variant = norm, dropout, variant

        channels = [width * 2**level for level in range(depth + 1)]  # 64, 128, 256, 512, 1024
        up_channels = channels[:-1]  # 64, 128, 256, 512
        if variant == "released":
            up_channels = [2 * width, *channels[1:-1]]  # released: the last up-convolution keeps its 128
        self.shrink = nn.AvgPool2d(shrink) if shrink > 1 else nn.Identity()
        self.contracting = nn.ModuleList(
            DoubleConv(i, o, norm) for i, o in zip([in_channels, *channels], channels, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.dropout = Dropout(dropout)
        self.up = nn.ModuleList(
            UpConv(below, up, variant) for below, up in zip(channels[1:], up_channels, strict=True)
        )
        self.expanding = nn.ModuleList(
            DoubleConv(up + skip, skip, norm) for up, skip in zip(up_channels, channels, strict=False)
        )
        self.score = nn.Conv2d(width, classes, kernel_size=1)
        self.enlarge = Enlarge(shrink) if shrink > 1 else nn.Identity()
        # Where memory peaks, at the top of the expanding path: concatenated, and after its convolutions.
        self.top_channels: tuple[int, int] = (up_channels[0] + channels[0], channels[0])
        self.frozen_levels = 0
        self.reset_parameters()

    @classmethod
    def from_config(cls, config: UNetConfig) -> "UNet":
        """Build the network a configuration describes, with freshly drawn weights."""
        return cls(**config.model_dump(exclude={"kind"}))

    @classmethod
    def released(cls, in_channels: int = 1, classes: int = 2) -> "UNet":
        """Build the network the authors released as `phseg_v5`: 31,100,354 parameters.

        Against the paper: a ReLU follows every up-convolution, the last up-convolution keeps 128 channels,
        and the up-sampled map comes before the cropped skip in the concatenation. Weights start from a
        Gaussian of std sqrt(2 / fan_in), where the release counts fan_in = 4 * out_channels in an
        up-convolution.
        """
        return cls(in_channels, classes, variant="released")

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits of the centre of each tile.

        Parameters
        ----------
        image : Tensor of float, shape (N, in_channels, H, W)
            Tiles of valid height and width (`geometry.valid_sizes()`).

        Returns
        -------
        Tensor of float, shape (N, classes, H - 2 * margin, W - 2 * margin)
            Logits, before softmax (sigmoid if `classes` is 1).

        Raises
        ------
        ShapeError
            If the number of axes or channels is wrong or a size is not valid; names the nearest valid sizes.
        """
        if not torch.compiler.is_compiling():  # size arithmetic would cut the graph in two
            self.require_valid(image)
        skips = []
        x = self.shrink(image)  # (N, 1, 572, 572)
        for level, block in enumerate(self.contracting):
            x = block(x if level == 0 else self.pool(x))  # (N, 64, 568, 568) ... (N, 1024, 28, 28)
            if level >= self.depth - 1:
                x = self.dropout(x)
            skips.append(x)
        x = skips.pop()  # (N, 1024, 28, 28)
        for level in reversed(range(self.depth)):
            up = self.up[level](x)  # (N, 512, 56, 56) ... (N, 64, 392, 392)
            skip = crop(skips.pop(), like=up)
            pair = [skip, up] if self.variant == "paper" else [up, skip]
            x = self.expanding[level](torch.cat(pair, dim=1))  # (N, 512, 52, 52) ... (N, 64, 388, 388)
        logits: Tensor = self.enlarge(self.score(x))  # (N, 2, 388, 388)
        return logits

    def freeze_encoder(self, levels: int) -> None:
        """Keep the first levels of the contracting path as they are, whatever is trained.

        Their weights get no gradient, and their batch norms stay in evaluation mode: they neither use nor
        follow the statistics of a batch, so that these levels compute what they computed before.

        Raises
        ------
        ConfigError
            If `levels` is not 1 to depth + 1.
        """
        if not 1 <= levels <= self.depth + 1:
            raise ConfigError(
                f"cannot freeze {levels} levels of the contracting path, it has {self.depth + 1}; give "
                f"--freeze-encoder 1 to {self.depth + 1}"
            )
        self.frozen_levels = levels
        self.contracting[:levels].requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "UNet":
        """Put the network into training or evaluation mode; frozen levels are always in the latter."""
        super().train(mode)
        self.contracting[: self.frozen_levels].eval()
        return self

    @property
    def geometry(self) -> UnpaddedGeometry:
        """Size arithmetic of this network, read off its layers."""
        return _geometry_of(tuple(self._layers()))

    def require_valid(self, image: Tensor) -> None:
        """Raise ShapeError unless `image` is a batch of tiles this network can take."""
        if image.ndim != 4 or image.shape[1] != self.in_channels:
            expected = f"(N, {self.in_channels}, height, width)"
            raise ShapeError(f"input shape {tuple(image.shape)} is not valid; expected {expected}")
        geometry = self.geometry
        geometry.require_valid(image.shape[2], "input height")
        geometry.require_valid(image.shape[3], "input width")

    def reset_parameters(self) -> None:
        """Draw all weights anew from N(0, sqrt(2 / N)) and set biases to 0 (batch norm: scale 1, shift 0)."""
        if self.score.weight.is_meta:
            return  # "drawing" what has no values would load torch's compiler, for a second
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=math.sqrt(2 / self._incoming_nodes(module)))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

    def _incoming_nodes(self, conv: nn.Conv2d | nn.ConvTranspose2d) -> int:
        if isinstance(conv, nn.ConvTranspose2d):
            return conv.in_channels if self.variant == "paper" else 4 * conv.out_channels
        return conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]

    def _layers(self) -> Iterator[Layer]:
        yield from _steps(self.shrink)
        for level, block in enumerate(self.contracting):
            if level:
                yield from _steps(self.pool)
            yield from _steps(block)
        for up, block in zip(reversed(self.up), reversed(self.expanding), strict=True):
            yield from _steps(up)
            yield from _steps(block)
        yield from _steps(self.score)
        yield from _steps(self.enlarge)


def _steps(block: nn.Module) -> Iterator[Layer]:
    for module in block.modules():
        match module:
            case nn.Conv2d(kernel_size=(kernel, _)):
                yield Layer("conv", kernel)
            case nn.MaxPool2d(kernel_size=int(factor)) | nn.AvgPool2d(kernel_size=int(factor)):
                yield Layer("pool", factor)
            case nn.ConvTranspose2d(stride=(factor, _)):
                yield Layer("up", factor)
            case Enlarge(factor=factor):
                yield Layer("up", factor)
                yield Layer("conv", factor + 1)


@lru_cache(maxsize=16)
def _geometry_of(layers: tuple[Layer, ...]) -> UnpaddedGeometry:
    """Make what these layers mean for sizes once: every forward pass asks for it."""
    return UnpaddedGeometry(layers)
