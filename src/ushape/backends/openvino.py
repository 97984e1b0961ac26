"""The network in OpenVINO, on a CPU, in float32, bfloat16 or int8.

OpenVINO lays weights and maps out for the instruction set and joins what follows a convolution to it. It
needs half the memory of PyTorch for the same tile, and is nowhere slower.
"""

import hashlib
import importlib.util
import platform
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ushape.backends.cache import cached, key_of
from ushape.backends.interface import Array, Precision
from ushape.backends.memory import available_memory
from ushape.backends.pytorch import find_precision, refuse_statistics_per_tile
from ushape.backends.runtime import core, import_openvino
from ushape.errors import ConfigError
from ushape.geometry import Geometry, PaddedGeometry
from ushape.models import Network

if TYPE_CHECKING:
    import openvino

_SAME = 1e-3
"""Of the largest logit, by which engines may differ; deep encoders differ by less than 1e-4."""
_NOT_THE_SAME = "OpenVINO does not compute this network as PyTorch does: {}; use engine pytorch"

SHAPES = 2
"""Of tiles, for which the network is kept ready."""

_TOLD = ("timm.", "torch.nn.", "ushape.")
"""Where modules come from of which weights, description and version tell all; others may run any code."""

# Bytes of one number in the feature maps.
_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}


def openvino_pays() -> bool:
    """Whether OpenVINO is here, and on a processor for which it was measured to be the faster engine.

    Paper's network, a tile of 1084 x 1084 px, one busy core of an AMD EPYC of 2021 with AVX2, in one process:
    18.3 to 19.0 s, against 21.0 s in PyTorch, and half the memory. Not measured on ARM.
    """
    return importlib.util.find_spec("openvino") is not None and platform.machine() in ("x86_64", "AMD64")


class ConversionError(ConfigError):
    """A network is not the same in OpenVINO."""


class OpenVINOBackend:
    """Compute a network with OpenVINO on the CPU, one tile at a time.

    Parameters
    ----------
    network : Network
        Its weights as they are now: changes made to them later are not seen.
    precision : {"auto", "fp32", "bf16", "int8"}
        "auto": bf16 where the processor has instructions for it, else fp32. "int8" needs `tiles`.
    tiles : sequence of ndarray, shape (C, h, w)
        For "int8": normalised grey values, all of one valid size, that show what will be segmented.
    threads : int, optional
        As many as PyTorch uses if not given: all cores, or what OMP_NUM_THREADS says.

    Attributes
    ----------
    engine, device, precision, geometry, largest_tile, fixed_bytes, bytes_per_input_pixel
        See `Backend`.

    Raises
    ------
    ConfigError
        If the processor cannot do the precision, or labels in int8 differ too often from those in fp32.
    ConversionError
        If OpenVINO does not compute what PyTorch does: an encoder may do with the size of a tile what it
        cannot follow.
    TilingError
        If the network computes statistics per tile, so that tiles cannot equal a pass over the whole image.

    Notes
    -----
    The network is compiled for the shape of a tile, which takes 0.3 s of processor time for the paper's
    network, and kept for the last two shapes: tiles at the border of an image have another one, and so have
    transposed ones. Compiled once for all sizes it takes 1.4 times the memory (1254 bytes per pixel against
    866 at 1084 x 1084 px) and is no faster.
    """

    device = torch.device("cpu")
    largest_tile = 2236

    def __init__(
        self,
        network: Network,
        precision: Precision = "auto",
        *,
        tiles: Sequence[Array] = (),
        threads: int | None = None,
    ) -> None:
        refuse_statistics_per_tile(network)
        self.precision = find_precision(precision, self.device)
        self.engine = f"openvino {import_openvino().__version__.partition('-')[0]}"
        self.geometry: Geometry = network.geometry
        self._top_channels, self._classes = network.top_channels, network.classes
        self._weight_bytes = sum(4 * weight.numel() for weight in network.parameters())
        self._threads = threads or torch.get_num_threads()
        self._model = converted(network)
        if self.precision == "int8":
            from ushape.backends.quantization import quantized

            self._model = quantized(network, self._model, tiles, self._threads)
        self._requests: dict[tuple[int, ...], Any] = {}  # by shape of the tile, the one used last at the end
        self._is_used = threading.Lock()

    def __call__(self, tile: Array) -> Array:
        """Compute the logits of one tile; see `Backend`."""
        batch = np.ascontiguousarray(tile[None], np.float32)
        with self._is_used:
            request = self._request_for(tile.shape)
            logits = request.infer({0: batch}, share_inputs=True, share_outputs=True)[0]
            return logits[0].copy()  # type: ignore[no-any-return]  # the next tile is computed in the same place

    def logits(self, tile: Tensor) -> Tensor:
        """Compute the logits of one tile; see `Backend`."""
        return torch.from_numpy(self(tile.numpy()))

    def release_memory(self) -> None:
        """Give back the feature maps that are kept for the next tile, unless another thread uses them."""
        if self._is_used.acquire(blocking=False):
            try:
                self._release_maps()
            finally:
                self._is_used.release()

    @property
    def fixed_bytes(self) -> int:
        """Memory that forward passes will take whatever the size of the tile.

        For each shape kept the weights once more, as the processor wants them, and 50 MB for kernels
        (measured: 43 and 45). What the passes up to now took of it, they hold.
        """
        to_come = SHAPES - len(self._requests)
        return to_come * self._weight_bytes + (0 if self._requests else 50_000_000)

    @property
    def bytes_per_input_pixel(self) -> float:
        """Memory that one forward pass takes per pixel of its input, beside the weights.

        The peak lies at the top of the expanding path, where the skip, the up-sampled map and both of them
        concatenated live together (of an `EncoderUNet` where it estimates it to lie); the margin makes it
        less in small tiles. OpenVINO 2026.4, fp32, bytes
        (this estimate): paper's network 629 at 572 x 572 px, 877 at 1084 x 1084, 926 at 1596 x 1596 (1088);
        width 32 444 (576) and width 16 190 (320) at 1084 x 1084. In bf16 and int8 from the size of numbers.
        """
        image_and_logits = max(64, 12 * self._classes)  # and probabilities
        maps = _BYTES[self.precision] * 2 * self._top_channels[0]
        return maps / self.geometry.shrink**2 + image_and_logits

    def available_memory(self) -> int:
        """Bytes of memory that are free."""
        return available_memory()

    def _request_for(self, shape: tuple[int, ...]) -> Any:
        if shape in self._requests and shape == next(reversed(self._requests)):
            return self._requests[shape]
        for size, what in zip(shape[1:], ("tile height", "tile width"), strict=True):
            self.geometry.require_valid(size, what)
        self._release_maps()
        kept = self._requests.pop(shape, None)
        if kept is None and len(self._requests) == SHAPES:
            del self._requests[next(iter(self._requests))]
        self._requests[shape] = kept or compiled(self._model, shape, self.precision, self._threads)
        return self._requests[shape]

    def _release_maps(self) -> None:
        for request in self._requests.values():  # weights stay
            request.get_compiled_model().release_memory()


def compiled(model: "openvino.Model", shape: tuple[int, ...], precision: str, threads: int) -> Any:
    """Prepare a converted network to compute tiles of one shape (C, h, w); returns its infer request."""
    model = model.clone()
    model.reshape([1, *shape])
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        # Said for fp32, too: the default is bfloat16 where the processor has it.
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
        # Pinned, the workers of two processes would all sit on the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    return core().compile_model(model, "CPU", settings).create_infer_request()


def converted(network: Network) -> "openvino.Model":
    """Convert a network for OpenVINO, for any valid size of one tile, or read it from the cache.

    Raises
    ------
    ConversionError
        If it is not the same network then.
    """
    return from_cache("converted", network, lambda: _convert(network))


def from_cache(
    what: str, network: Network, make: "Callable[[], openvino.Model]", parts: Iterable[str | bytes] = ()
) -> "openvino.Model":
    """Read what is made of a network from the cache, or make it.

    Nothing is kept of a network that holds a module of somebody else, such as an encoder of one's own: its
    code decides, too, and nobody can tell whether that is still the same.

    Parameters
    ----------
    what : str
        Is made.
    network : Network
    make : callable
        Makes it.
    parts : iterable of str or bytes
        What it depends on beside the network.
    """
    if not all(type(module).__module__.startswith(_TOLD) for module in network.modules()):
        return make()
    return cached(key_of([what, *identity(network), *parts]), make)


def identity(network: Network) -> list[str]:
    """Everything that a converted network depends on: weights, layers, and versions of what they are of."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    packages = {type(module).__module__.partition(".")[0] for module in network.modules()}
    versions = [f"{name} {sys.modules[name].__version__}" for name in sorted(packages)]
    told = digest.hexdigest(), repr(network), repr(network.geometry)
    return [*told, *versions, import_openvino().__version__]


def _convert(network: Network) -> "openvino.Model":
    openvino = import_openvino()
    network = network.cpu().float().eval()
    size = network.geometry.input_size(1)
    example = torch.zeros(1, network.in_channels, size, size)
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        # Size arithmetic is followed with the example's numbers, but only to check them. OpenVINO traces
        # with what PyTorch would rather see replaced.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.simplefilter("ignore", DeprecationWarning)
        shape = openvino.PartialShape([1, network.in_channels, -1, -1])
        is_of_others = isinstance(network.geometry, PaddedGeometry)  # its encoder
        try:
            model = openvino.convert_model(network, example_input=example, input=shape)
        except Exception as error:
            if is_of_others:
                raise _not_the_same(error) from error
            raise
    if is_of_others:
        _require_same(model, network)
    return model


def _not_the_same(error: Exception) -> ConversionError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return ConversionError(_NOT_THE_SAME.format(lines[-1]))


def _require_same(model: "openvino.Model", network: Network) -> None:
    """Compare on a tile of another size than the one that was traced."""
    period = network.geometry.period
    tile = torch.rand(network.in_channels, 2 * period, 3 * period, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(tile[None])[0].numpy()
    try:
        request = compiled(model, tuple(tile.shape), "fp32", torch.get_num_threads())
        found = request.infer({0: tile[None].numpy()})[0][0]
    except RuntimeError as error:
        raise _not_the_same(error) from error
    off = float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))
    if not off <= _SAME:
        raise ConversionError(_NOT_THE_SAME.format(f"logits differ by {off:.1%} of the largest"))
