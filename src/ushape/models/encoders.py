"""Encoders: classification networks without their classifier, as the contracting path of a U.

An encoder is any module that has `channels` and `strides`, one number each per feature map, and returns the
maps from fine to coarse. timm supplies hundreds; one of one's own needs nothing but these two attributes.
"""

import difflib
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import torch
from torch import Tensor, nn

from ushape.config import Normalization
from ushape.errors import CheckpointError, ConfigError, to_install
from ushape.io import read_tensors
from ushape.models import efficientnet_names
from ushape.models.reach import evaluated
from ushape.torchvision_operators import define_missing_operators

Weights = bool | str | os.PathLike[str]
"""True: timm's pretrained ones, from its hub; False: random ones; or a file."""

SUGGESTED = (
    "resnet18",
    "resnet34",
    "resnet50",
    "tf_efficientnet_lite0",
    "mobilenetv3_small_100",
    "efficientnet_b0",
    "convnext_tiny",
    "convnextv2_atto",
    "densenet121",
    "vgg11_bn",
)
"""What `ushape models` lists: small to middling, in common use, of each family one. Most others work, too."""

_HUB = "https://huggingface.co"
_SECONDS_TO_HUB = 5.0


class Encoder(Protocol):
    """What the decoder needs to know of an encoder."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self, image: Tensor) -> Sequence[Tensor]:
        """Compute feature maps, (N, channels[i], H / strides[i], W / strides[i])."""


class TimmEncoder(nn.Module):
    """A network of timm's, as the feature maps at the end of each of its stages.

    Parameters
    ----------
    name : str
        Its name in timm, such as "resnet34", or with the tag of its weights "resnet34.a1_in1k".
    in_channels : int
        Channels of the image. Pretrained weights of the first convolution are kept for any number, by timm's
        rule: with one channel its filters are summed over the three colours, so that it gives what three
        channels of the same normalised values gave; with others they are repeated, channel by channel,
        and scaled by 3 / channels, so that what comes out stays as large.
    weights : bool or path
        True: timm's pretrained weights of that name, from its hub; a path: a `.safetensors`, `.pth` or `.bin`
        with the weights of the whole classification network; False: random ones.

    Attributes
    ----------
    channels, strides : tuple of int
        Of the feature maps, from fine to coarse.

    Raises
    ------
    ConfigError
        If timm is missing, has no such network or weights, the network has no feature maps of falling size or
        does not take images of any, or the hub is out of reach.
    CheckpointError
        If the file does not hold the weights of this network.
    """

    def __init__(self, name: str, in_channels: int = 3, weights: Weights = False) -> None:
        super().__init__()
        self.model = _create(name, in_channels, weights)
        self.channels = tuple(self.model.feature_info.channels())
        self.strides = tuple(self.model.feature_info.reduction())
        self._is_channels_last = "NHWC" in str(getattr(self.model, "output_fmt", ""))
        require_maps(self, name, in_channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps of images (N, in_channels, H, W), H and W multiples of the last stride."""
        maps = self.model(image)
        return [m.permute(0, 3, 1, 2) for m in maps] if self._is_channels_last else list(maps)


def normalization_of(name: str, in_channels: int) -> Normalization:
    """Tell how the 8-bit images are normalised that an encoder of timm was pretrained on.

    Its mean and standard deviation of grey values 0 to 1, times 255. One channel has the mean of the three
    colours' numbers; the channels of others take those of red, green and blue in turn, as its filters do.
    """
    require_known(name)
    timm = _timm()
    # A network without weights in timm has the numbers of most others.
    config = timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    mean, std = _grey_values(config.to_dict(), in_channels)
    return Normalization(kind="fixed", mean=tuple(255 * m for m in mean), std=tuple(255 * s for s in std))


def _grey_values(config: Mapping[str, Any], in_channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if in_channels == 1:
        return (sum(config["mean"]) / 3,), (sum(config["std"]) / 3,)
    mean, std = ([config[key][i % 3] for i in range(in_channels)] for key in ("mean", "std"))
    return tuple(mean), tuple(std)


def require_pyramid(encoder: Encoder, name: str) -> None:
    """Raise ConfigError unless the maps of an encoder become smaller by whole factors."""
    strides = encoder.strides
    if len(encoder.channels) != len(strides) or not strides or strides[0] < 1:
        raise ConfigError(
            f"encoder {name} declares channels {encoder.channels} and strides {strides}; give one number "
            "each per feature map, from fine to coarse"
        )
    if any(coarse <= fine or coarse % fine for fine, coarse in pairwise(strides)):
        sizes = ", ".join(f"1/{stride}" for stride in strides)
        raise ConfigError(
            f"encoder {name} gives maps of {sizes} of the size, and not each smaller than the one before by "
            "a whole factor; take another, such as resnet34"
        )
    if strides[-1] == 1:
        raise ConfigError(
            f"encoder {name} gives one map, as large as the image; it must give smaller ones, too, as "
            "resnet34 does"
        )


def require_maps(encoder: Any, name: str, in_channels: int) -> None:
    """Raise ConfigError unless an encoder, a module, makes the maps it declares, tried on a small image.

    The image is one period high and two wide: no network passes whose windows fit some sizes only. Random
    state, modes and statistics stay as they are.
    """
    require_pyramid(encoder, name)
    weight = next(encoder.parameters(), torch.zeros(()))
    height, width = encoder.strides[-1], 2 * encoder.strides[-1]
    image = weight.new_zeros(1, in_channels, height, width)
    try:
        with torch.no_grad(), evaluated(encoder), torch.random.fork_rng(devices=[]):
            found = [tuple(one.shape[1:]) for one in encoder(image)]
    except Exception as error:  # of somebody else, who may raise whatever they like
        raise ConfigError(
            f"encoder {name} does not take an image of shape {tuple(image.shape[1:])} ({_reason(error)}); it "
            f"must take any multiples of {height} px, as resnet34 does"
        ) from error
    declared = zip(encoder.channels, encoder.strides, strict=True)
    if found != [(channels, height // stride, width // stride) for channels, stride in declared]:
        maps = ", ".join(" x ".join(map(str, shape)) for shape in found)
        raise ConfigError(
            f"encoder {name} declares channels {encoder.channels} and strides {encoder.strides}, but an "
            f"image of {height} x {width} px becomes maps of {maps}; declare what it makes, or take another"
        )


def timm_names(pattern: str) -> list[str]:
    """List the names of timm that contain `pattern`, in capitals or not.

    Raises
    ------
    ConfigError
        If there are none, with the nearest ones, or timm is missing.
    """
    names = _timm().list_models()
    found = [name for name in names if pattern.lower() in name]
    if not found:
        raise ConfigError(f"no network of timm has {pattern!r} in its name; {_nearest(pattern, names)}")
    return found


def require_known(name: str, others: Sequence[str] = ()) -> None:
    """Raise ConfigError, with the nearest names, unless timm or `others` know a network of that name."""
    if name in others:
        return
    timm = _timm()
    if timm.is_model(name):
        _require_tag(name)
        return
    nearest = _nearest(name, [*others, *timm.list_models()])
    raise ConfigError(f"no model {name!r}; {nearest} (see `ushape models`)")


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    return f"the nearest names are {', '.join(near)}" if near else f"there are {', '.join(SUGGESTED)}, ..."


def _require_tag(name: str) -> None:
    """Raise ConfigError, with those there are, if a name has a tag of weights that timm does not know."""
    architecture, dot, tag = name.partition(".")
    known = _timm().list_models(architecture, include_tags=True)
    if dot and name not in known:
        tags = [one.partition(".")[2] for one in known if "." in one]
        raise ConfigError(
            f"{architecture} of timm has no weights {tag!r}; there are: {', '.join(tags) or 'none'}"
        )


def _timm() -> Any:
    define_missing_operators()
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f"encoders need timm ({error}); install it with: {to_install('encoders')}"
        ) from error
    return timm


def _create(name: str, in_channels: int, weights: Weights) -> Any:
    require_known(name)
    timm = _timm()
    options: dict[str, Any] = {"features_only": True, "in_chans": in_channels}
    options["pretrained"] = weights is not False
    if name.startswith("swin"):
        options["strict_img_size"] = False  # attention in windows, which fit images of any size
    if not isinstance(weights, bool):
        options["pretrained_cfg_overlay"] = {"state_dict": _weights_of(name, weights)}
    elif weights:
        _require_hub(name)
    try:
        model = timm.create_model(name, **options)
        for module in model.modules():  # else the weights would be kept, and copied with the network
            getattr(module, "pretrained_cfg", {}).pop("state_dict", None)
        return model
    except Exception as error:  # timm, its hub and what lies between them raise whatever they like
        if weights is True:
            _create(name, in_channels, False)  # raises, if it is the network that cannot be used
            raise _not_fetched(name, _reason(error)) from error
        what = f"{name} of timm" if weights is False else f"the pretrained weights of {name}"
        raise ConfigError(
            f"{what} cannot be used as an encoder: {_reason(error)}; take another, such as resnet34"
        ) from error


def _require_hub(name: str) -> None:
    """Refuse at once what timm would only give up after a minute: weights that cannot be fetched."""
    config = _timm().get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise ConfigError(f"timm has no pretrained weights of {name}; give a file with them, or none")
    if config.hf_hub_id:
        from huggingface_hub import constants, try_to_load_from_cache

        files = (_file(config), "pytorch_model.bin")
        if any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in files):
            return
        if constants.HF_HUB_OFFLINE:
            raise _not_fetched(name, "HF_HUB_OFFLINE is set")
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every try
    # Behind a proxy names may be unknown here, and known there.
    place, proxies = urlsplit(_address(config)), getproxies()
    proxy = proxies.get(place.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(place.hostname or ""):
        place = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        port = place.port or (443 if place.scheme == "https" else 80)
        socket.create_connection((place.hostname or "", port), timeout=_SECONDS_TO_HUB).close()
    except (OSError, ValueError) as error:
        raise _not_fetched(name, f"{place.hostname} is out of reach ({error})") from error


def _not_fetched(name: str, reason: str) -> ConfigError:
    """What to do without the hub; names the file."""
    address = _address(_timm().get_pretrained_cfg(name))
    return ConfigError(
        f"the weights of {name} cannot be fetched: {reason}; download {address} where it can be, and give "
        "--encoder-weights FILE (pretrained=FILE), or go without them: --encoder-weights none"
    )


def _address(config: Any) -> str:
    """Where the weights of a network of timm lie."""
    if not config.hf_hub_id:
        return str(config.url)
    endpoint = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
    return f"{endpoint}/{config.hf_hub_id}/resolve/main/{_file(config)}"


def _file(config: Any) -> str:
    return str(config.hf_hub_filename or "model.safetensors")


def _reason(error: Exception) -> str:
    """First line of what an error says, or else its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _weights_of(name: str, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Weights of the classification network `name` in a file."""
    tensors = read_weights(path)
    with torch.device("meta"):
        expected = _timm().create_model(name)
    if efficientnet_names.is_so_named(tensors):
        tensors = efficientnet_names.as_in_timm(tensors, expected.state_dict())
    heads = expected.pretrained_cfg.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    of_head = tuple(f"{head}." for head in heads)
    known = expected.state_dict()
    for key in tensors:  # buffers differ between versions of timm, weights do not
        if key not in known and key.endswith((".weight", ".bias")) and not key.startswith(of_head):
            raise CheckpointError(f"{path}: not the weights of {name}: it has no `{key}`")
    for key, tensor in known.items():
        if key.startswith(of_head) or key.endswith("num_batches_tracked"):
            continue
        if key not in tensors:
            raise CheckpointError(f"{path}: not the weights of {name}: `{key}` is missing")
        if tensors[key].shape != tensor.shape:
            got, want = tuple(tensors[key].shape), tuple(tensor.shape)
            raise CheckpointError(f"{path}: not the weights of {name}: `{key}` has shape {got}, not {want}")
    return tensors


def require_file(path: str | os.PathLike[str]) -> Path:
    """Raise CheckpointError unless there is such a file of weights."""
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file of encoder weights; give a .safetensors or a .pth")
    return file


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read tensors by name from a `.safetensors`, or a `.pth`, `.pt` or `.bin` of PyTorch without unpickling.

    Raises
    ------
    CheckpointError
        If there is no such file, or it holds anything but tensors by name.
    """
    file = require_file(path)
    try:
        if file.suffix == ".safetensors":
            return read_tensors(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of bytes that are anything, PyTorch's reader makes errors of any kind
        raise CheckpointError(
            f"{file}: not a file of weights alone ({_reason(error)}); give a .safetensors, or a .pth that "
            "holds a state_dict"
        ) from error
    for key in ("state_dict", "model"):  # what training scripts put around it
        content = content.get(key, content) if isinstance(content, Mapping) else content
    is_named = isinstance(content, Mapping) and all(isinstance(name, str) for name in content)
    if not is_named or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise CheckpointError(f"{file}: holds no tensors by name; give a .pth that holds a state_dict")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}
