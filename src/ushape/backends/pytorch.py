"""The network in PyTorch, on the CPU or on a GPU, in float32, bfloat16 or float64."""

import copy
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ushape.backends.interface import PRECISIONS, Array, Precision
from ushape.backends.memory import available_memory
from ushape.errors import ConfigError, TilingError
from ushape.geometry import Geometry
from ushape.models import Network

# Bytes of one number, and how often the concatenation of the first level counts at the peak of a forward
# pass: its parts, itself, and what the convolution lays out anew. See `bytes_per_input_pixel`.
_FOOTPRINT = {"fp32": (4, 2.5), "bf16": (2, 3), "fp64": (8, 2.5)}


LARGEST_TILE_OF_GPU = {"bf16": 2236, "fp32": 572, "fp64": 572}
"""Side beyond which a tile is not worth its memory on a GPU; see the notes of `PyTorchBackend`."""
_FLOAT32 = threading.Lock()


class PyTorchBackend:
    """Compute a network with PyTorch, one tile at a time.

    Parameters
    ----------
    network : Network
        Moved to `device` and put into evaluation mode; for "fp64" a copy is taken.
    device : str
        "auto": the first GPU if there is one, else the CPU; or a PyTorch device such as "cuda:1".
    precision : {"auto", "fp32", "bf16", "fp64"}
        "bf16" multiplies in bfloat16 and adds in float32: about twice as fast, logits within 2 % of the
        largest. "auto": bf16 where the device has instructions for it, else fp32.

    Attributes
    ----------
    engine, device, precision, geometry, largest_tile, fixed_bytes, bytes_per_input_pixel, has_own_memory
        See `Backend`.

    Raises
    ------
    ConfigError
        If the device does not exist or cannot do the precision.
    TilingError
        If the network computes statistics per tile, so that tiles cannot equal a pass over the whole image.

    Notes
    -----
    `largest_tile`: the margin costs less the larger the tile: the paper's network multiplies 0.999 million
    times per output pixel at 572, 0.839 at 1084, 0.78 at 2108. But larger maps leave the caches: measured in
    processor seconds a megapixel (2 cores, bf16) 15.8 at 572, 16.5 at 860, 19.1 at 1084; per second 0.14 Mpx
    at 572, 0.15 at 1084 and 0.12 at 2108, which takes four times the memory, 4 to 7 GB.

    On an NVIDIA H200, megapixels kept a second, in bf16 58 at 572, 120 at 1084, 158 at 2108 and 172 at 4156.
    In fp32 11.7 at 572, with 1.2 KB of memory a pixel, but 10.3 and 9.5 at 1084 and 2108, where cuDNN takes
    31 KB, and 17.7 at 4156 with 2 KB; looking for a faster algorithm (`cudnn.benchmark`) takes 10 s and 119
    KB a pixel for each size. fp64 was not measured.
    """

    engine = f"pytorch {torch.__version__}"
    largest_tile = 1084

    def __init__(self, network: Network, device: str = "auto", precision: Precision = "auto") -> None:
        refuse_statistics_per_tile(network)
        self.device = find_device(device)
        self.precision = find_precision(precision, self.device)
        if self.precision == "int8":
            raise ConfigError(
                f"precision int8 is computed by OpenVINO on a CPU, not by PyTorch on {self.device.type}; "
                "use bf16 or fp32, or --device cpu"
            )
        if self.precision == "fp64":
            network = copy.deepcopy(network).double()
        layout = torch.preserve_format
        if self.device.type == "cuda":
            layout, self.largest_tile = torch.channels_last, LARGEST_TILE_OF_GPU[self.precision]
        network.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self.network = network.eval()

    def __call__(self, tile: Array) -> Array:
        """Compute the logits of one tile; see `Backend`."""
        array: Array = self.logits(torch.from_numpy(np.ascontiguousarray(tile)).to(self.device)).cpu().numpy()
        return array

    def logits(self, tile: Tensor) -> Tensor:
        """Compute the logits of one tile that is on the device, and leave them there; see `Backend`."""
        dtype = torch.float64 if self.precision == "fp64" else torch.float32
        batch = tile.to(dtype)[None].to(memory_format=torch.channels_last)
        with torch.inference_mode(), self._arithmetic():
            logits: Tensor = self.network(batch)[0]
        return logits if self.precision == "fp64" else logits.float()

    def release_memory(self) -> None:
        """Nothing is kept; see `Backend`."""

    @property
    def geometry(self) -> Geometry:
        """Size arithmetic of the network."""
        return self.network.geometry

    @property
    def fixed_bytes(self) -> int:
        """Memory that forward passes take whatever the size of the tile.

        The weights (of all members) once more, in the layout or precision that the processor wants, and about
        30 MB (measured 25) for threads and for kernels compiled on first use.
        """
        return 30_000_000 + sum(
            weight.numel() * weight.element_size() for weight in self.network.parameters()
        )

    @property
    def bytes_per_input_pixel(self) -> float:
        """Memory that one forward pass takes per pixel of its input, beside the weights.

        The peak lies at the top of the expanding path, where the skip, the up-sampled map, both of them
        concatenated and the results of two convolutions live together. Measured on a CPU as peak resident
        memory, bytes (this estimate): paper's network 1653 (1856) at 2108 x 2108 px, in bf16 990 (1088);
        released variant 1982 (2496) at 1084 x 1084 px, bf16 1154 (1472); width 16 423 (512), bf16 303 (320).
        """
        size, copies = _FOOTPRINT[self.precision]
        concatenated, result = self.network.top_channels
        image_and_logits = max(64, 12 * self.network.classes)  # and probabilities
        return size * (copies * concatenated + 2 * result) / self.geometry.shrink**2 + image_and_logits

    @property
    def has_own_memory(self) -> bool:
        """Whether forward passes take memory of the device, not of this machine."""
        return self.device.type == "cuda"

    def available_memory(self) -> int:
        """Bytes that are free where the network is computed."""
        if not self.has_own_memory:
            return available_memory()
        # What PyTorch keeps for its next tensors counts as free.
        kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return torch.cuda.mem_get_info(self.device)[0] + kept

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return _all_bits_of_float32() if self.device.type == "cuda" else nullcontext()


@contextmanager
def _all_bits_of_float32() -> Iterator[None]:
    """Let a GPU convolve float32 as such.

    By default it multiplies with the ten bits of TF32, and logits differ by more than 1e-4 of the largest.
    The setting is one for all threads: they take turns.
    """
    convolution = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    with _FLOAT32:
        before, convolution.fp32_precision = convolution.fp32_precision, "ieee"
        try:
            yield
        finally:
            convolution.fp32_precision = before


def find_device(name: str) -> torch.device:
    """Find the device of this name; ConfigError if there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # a PyTorch without CUDA raises AssertionError
        raise ConfigError(f"device {name!r} cannot be used here; use auto or cpu") from error
    return device


def find_precision(precision: str, device: torch.device) -> str:
    """Decide what "auto" is on this device; ConfigError if it cannot do the precision."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r} is not known; use auto, fp32, bf16 or int8")
    has_bf16 = (
        torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else cpu_has_bf16()
    )
    if precision == "auto":
        return "bf16" if has_bf16 else "fp32"
    if precision == "bf16" and not has_bf16:
        raise ConfigError(f"precision bf16: {device.type} has no instructions for bfloat16 here; use fp32")
    return precision


def training_format(backend: PyTorchBackend) -> torch.memory_format:
    """Layout of the weights, which all maps follow, in which a training step is fastest.

    Channels last on a GPU and in bfloat16. On a CPU in float32 channels first, because the backward pass of
    channels-last convolutions takes longer in AVX2 code: a step of width 32 with batch norm on a tile of
    572 x 572 px, on one core of an AMD EPYC of 2021, 8.3 s against 5.2 s. In AVX-512 code what one process
    adds and what two do differ by 4e-5 after five steps channels last, by less than 1e-5 channels first.
    Forward passes alone are a quarter faster channels last, so predictions keep it.
    """
    is_first = backend.device.type == "cpu" and backend.precision != "bf16"
    return torch.contiguous_format if is_first else torch.channels_last


@cache
def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; emulated it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def refuse_statistics_per_tile(network: nn.Module) -> None:
    """Raise TilingError, naming the layer, if a layer of the network looks at a tile as a whole."""
    for name, module in network.named_modules():
        batch_norm = isinstance(module, _BatchNorm | _InstanceNorm)
        if (batch_norm and not module.track_running_stats) or isinstance(module, nn.GroupNorm):
            raise TilingError(
                f"{type(module).__name__} `{name}` computes its statistics per tile, so tiles cannot equal "
                "the whole image; use a network with batch norm or none"
            )
