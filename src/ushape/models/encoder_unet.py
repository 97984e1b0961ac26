"""A U-Net whose contracting path is any encoder, pretrained or not: nothing is lost, any size goes through.

image ----------- stem: full resolution ------------------------------> concat -> score
  |                                                                    ^
  encoder: 1/2 -------------------------------------------> concat ---/
           1/4 -----------------------------------> concat ---/
            ...                                      ---/
           1/32 ----------------------------------/
"""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from ushape.config import EncoderUNetConfig
from ushape.errors import ConfigError, ShapeError
from ushape.geometry import PaddedGeometry
from ushape.models.decoder import Decoder, Up
from ushape.models.encoders import TimmEncoder, Weights, require_maps
from ushape.models.reach import evaluated, reach
from ushape.models.unet import DoubleConv, Norm

_IN_HAND = 3
"""Maps of a level that an encoder has at once: before a convolution, behind it, and normalised."""


class Stem(nn.Module):
    """Maps of the image at the resolutions that an encoder leaves out: full, and half where it starts at 1/4.

    Without it, an encoder that starts at half the resolution never shows the decoder a single pixel, and thin
    structures blur.
    """

    def __init__(self, in_channels: int, width: int, strides: Sequence[int], norm: Norm) -> None:
        super().__init__()
        self.strides = tuple(strides)
        before = [in_channels, *(width * stride for stride in strides)]
        self.blocks = nn.ModuleList(
            DoubleConv(i, width * stride, norm, padding=1) for i, stride in zip(before, strides, strict=False)
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) to (N, width * stride, H / stride, W / stride), for each stride."""
        maps: list[Tensor] = []
        for block in self.blocks:
            maps.append(block(self.pool(maps[-1]) if maps else image))
        return maps


class EncoderUNet(nn.Module):
    """A U-Net with any encoder: output of exactly the height and width of the input, from 1 pixel up.

    Parameters
    ----------
    encoder : str or nn.Module
        Name of a network of timm, such as "resnet34"; or a module of one's own with the attributes `channels`
        and `strides`, which returns its feature maps from fine to coarse (see `models.encoders`).
    in_channels : int
        Channels of the image, >= 1.
    classes : int
        Channels of the output, >= 1; 1 for a single sigmoid channel.
    pretrained : bool or path
        Of a network of timm: True for its weights from timm's hub, a path for a file with them
        (`.safetensors`, `.pth`), False for random ones. Of one's own, True says that its weights are trained:
        a recipe changes them less.
    width : int
        Channels of the expanding path at full resolution; at 1/s of it s times as many, at most `16 * width`.
    up : {"conv", "resize"}
        How maps are enlarged: by the paper's up-convolution, or repeated and convolved.
    norm : None or "batch"
        Of the expanding path.
    dropout : float
        Of the two coarsest maps, 0 <= p < 1.
    full_resolution : bool
        Whether a stem gives the decoder skips at the resolutions that the encoder leaves out.
    deep_supervision : bool
        Whether `supervise` also scores coarser levels, for training.

    Raises
    ------
    ConfigError
        If a parameter is out of its range, timm is missing or has no such network, weights cannot be had, or
        the encoder does not make the maps that it declares.
    CheckpointError
        If the file holds the weights of another network.

    Notes
    -----
    Convolutions are padded by zeros, unlike the paper's. An image is first continued by zeros, at the bottom
    and to the right, to a multiple of the period, and the output is cut back. So no layer ever rounds a size,
    and the network gives the same numbers wherever a tile starts at a multiple of the period.

    Examples
    --------
    >>> network = EncoderUNet("resnet18", in_channels=3, classes=2)
    >>> network(torch.zeros(1, 3, 37, 101)).shape
    torch.Size([1, 2, 37, 101])
    """

    def __init__(
        self,
        encoder: str | nn.Module,
        in_channels: int = 1,
        classes: int = 2,
        *,
        pretrained: Weights = False,
        width: int = 16,
        up: Up = "conv",
        norm: Norm = "batch",
        dropout: float = 0.0,
        full_resolution: bool = True,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        for name, value in {"in_channels": in_channels, "classes": classes, "width": width}.items():
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        self.in_channels, self.classes = in_channels, classes
        self.is_pretrained = pretrained is not False
        self.encoder = _encoder(encoder, in_channels, pretrained)
        strides, channels = list(self.encoder.strides), list(self.encoder.channels)
        self.period = strides[-1]
        finer = [stride for stride in (1, 2) if stride < strides[0] and strides[0] % stride == 0]
        above = finer if full_resolution else finer[:1]  # without skips, too, the size of the image comes out
        self.stem = Stem(in_channels, width, above, norm) if full_resolution and above else None
        self._levels_above = len(above)
        channels = [width * stride if full_resolution else 0 for stride in above] + channels
        strides = above + strides
        widths = [width * min(s, 16) for s in strides[:-1]]
        self.decoder = Decoder(channels, strides, widths, up=up, norm=norm, dropout=dropout)
        self.score = nn.Conv2d(widths[0], classes, kernel_size=1)
        coarser = widths[1:] if deep_supervision else []
        self.coarse_scores = nn.ModuleList(nn.Conv2d(w, classes, kernel_size=1) for w in coarser)
        # Where memory peaks: channels of a concatenation at full resolution, and after its convolutions.
        self.top_channels: tuple[int, int] = (_peak(channels, strides, widths), widths[0])
        for part in (self.stem, self.decoder, self.score, self.coarse_scores):
            if part is not None:
                _draw_weights(part)

    @classmethod
    def from_config(cls, config: EncoderUNetConfig, pretrained: Weights = False) -> "EncoderUNet":
        """Build the network a configuration describes; nothing is fetched unless `pretrained` says so."""
        return cls(**config.model_dump(exclude={"kind"}), pretrained=pretrained)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits of each pixel.

        Parameters
        ----------
        image : Tensor of float, shape (N, in_channels, H, W)
            Of any height and width.

        Returns
        -------
        Tensor of float, shape (N, classes, H, W)

        Raises
        ------
        ShapeError
            If the number of axes or channels is wrong.
        """
        height, width = image.shape[-2:]
        logits: Tensor = self.score(self._maps(image)[0])
        return logits[..., :height, :width]

    def supervise(self, image: Tensor) -> list[Tensor]:
        """Logits (N, classes, H, W) of each level, from fine to coarse, the coarse ones enlarged bilinearly.

        The first are those of `forward`; without `deep_supervision` there are no others.
        """
        height, width = image.shape[-2:]
        finest, *coarser = self._maps(image, all_levels=True)
        logits = [self.score(finest)]
        for score, features in zip(self.coarse_scores, coarser, strict=False):
            logits.append(
                functional.interpolate(
                    score(features), logits[0].shape[-2:], mode="bilinear", align_corners=False
                )
            )
        return [one[..., :height, :width] for one in logits]

    def freeze_encoder(self, levels: int) -> None:
        """Keep what makes the first feature maps of the encoder as it is, whatever is trained.

        Weights on the way to the first `levels` maps get no gradient, and their batch norms stay in
        evaluation mode.

        Raises
        ------
        ConfigError
            If the encoder has not so many maps.
        """
        most = len(self.encoder.channels)
        if not 1 <= levels <= most:
            raise ConfigError(
                f"cannot freeze {levels} levels of the encoder, it has {most}; give --freeze-encoder 1 to "
                f"{most}"
            )
        for weight in self._before(levels):
            weight.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "EncoderUNet":
        """Put the network into training or evaluation mode; what is frozen is always in the latter."""
        super().train(mode)
        for module in self.encoder.modules():  # as they are now: batch norms may have been converted
            if _is_frozen(module):
                module.eval()
        return self

    @property
    def geometry(self) -> PaddedGeometry:
        """Sizes of this network: any, and how it can be cut into tiles."""
        return PaddedGeometry(self.period, lambda: self._reach)

    @cached_property
    def _reach(self) -> int | str:
        return reach(self, self.in_channels, self.period)

    def require_valid(self, image: Tensor) -> None:
        """Raise ShapeError unless `image` is a batch of images this network can take."""
        if image.ndim != 4 or image.shape[1] != self.in_channels or 0 in image.shape:
            expected = f"(N, {self.in_channels}, height, width)"
            raise ShapeError(f"input shape {tuple(image.shape)} is not valid; expected {expected}")

    def _maps(self, image: Tensor, *, all_levels: bool = False) -> list[Tensor]:
        """Result of the finest level of the expanding path, or of all, from fine to coarse."""
        self.require_valid(image)
        height, width = image.shape[-2:]
        image = functional.pad(image, (0, -width % self.period, 0, -height % self.period))
        features: list[Tensor | None] = [None] * self._levels_above if self.stem is None else self.stem(image)
        features += self.encoder(image)
        maps: list[Tensor] = self.decoder(features, all_levels=all_levels)
        return maps

    def _before(self, levels: int) -> list[nn.Parameter]:
        """Weights that the first feature maps of the encoder depend on, whether they are trained or not."""
        weights = list(self.encoder.parameters())
        if not weights:
            return []
        are_trained = [weight.requires_grad for weight in weights]
        self.encoder.requires_grad_(True)
        image = weights[0].new_zeros(1, self.in_channels, 2 * self.period, 2 * self.period)
        with evaluated(self.encoder):
            total = torch.stack([one.sum() for one in list(self.encoder(image))[:levels]]).sum()
        # Maps that are made by fixed filters alone depend on no weight.
        gradients: Sequence[Tensor | None] = [None] * len(weights)
        if total.requires_grad:
            gradients = torch.autograd.grad(total, weights, allow_unused=True)
        for weight, is_trained in zip(weights, are_trained, strict=True):
            weight.requires_grad_(is_trained)
        return [weight for weight, gradient in zip(weights, gradients, strict=True) if gradient is not None]


def _encoder(encoder: str | nn.Module, in_channels: int, pretrained: Weights) -> TimmEncoder:
    if isinstance(encoder, str):
        return TimmEncoder(encoder, in_channels, pretrained)
    name = type(encoder).__name__
    if not isinstance(pretrained, bool):
        raise ConfigError(
            f"pretrained={str(pretrained)!r}: files are for networks of timm; load the weights of {name} "
            "yourself, and say pretrained=True"
        )
    if not (hasattr(encoder, "channels") and hasattr(encoder, "strides")):
        raise ConfigError(
            f"encoder {name} does not say its `channels` and `strides`; set both, tuples of one number per "
            "feature map"
        )
    require_maps(encoder, name, in_channels)
    return encoder  # type: ignore[return-value]  # any that has channels and strides is used as one of timm's


def _is_frozen(module: nn.Module) -> bool:
    """Whether a module has weights, its own or further down, of which none is trained."""
    weights = list(module.parameters())
    return bool(weights) and not any(weight.requires_grad for weight in weights)


def _peak(channels: Sequence[int], strides: Sequence[int], widths: Sequence[int]) -> int:
    """Estimate what lives at once where memory peaks, as channels of a concatenation at full resolution.

    While a level is computed, the maps of finer ones wait for the expanding path. They, and what an encoder
    has in hand at a level, count half: backends take a concatenation to be there twice or more.
    """
    peak = waiting = 0.0
    for skip, stride, width in zip(channels, strides, [*widths, 0], strict=True):
        own, above = skip / stride**2, width / stride**2
        peak = max(peak, own + above + waiting / 2, (_IN_HAND * own + waiting) / 2)
        waiting += own
    return math.ceil(peak)


def _draw_weights(part: nn.Module) -> None:
    """Draw convolutions as `UNet` does, from N(0, sqrt(2 / incoming nodes)), with biases of 0."""
    for module in part.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # An enlargement of kernel and stride alike sums over its input channels only.
            area = module.kernel_size[0] * module.kernel_size[1] if isinstance(module, nn.Conv2d) else 1
            nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_channels * area)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
