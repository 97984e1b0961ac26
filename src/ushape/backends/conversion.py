"""A network as OpenVINO takes it: converted, compared with PyTorch, cached, compiled for a shape of tile."""

import hashlib
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ushape.backends.cache import cached, key_of
from ushape.backends.runtime import core, import_openvino
from ushape.errors import ConfigError
from ushape.geometry import PaddedGeometry
from ushape.models import Network

if TYPE_CHECKING:
    import openvino

_SAME = 1e-3
"""Of the largest logit, by which engines may differ; deep encoders differ by less than 1e-4."""
_NOT_THE_SAME = "OpenVINO does not compute this network as PyTorch does: {}; use engine pytorch"

_TOLD = ("timm.", "torch.nn.", "ushape.")
"""Where modules come from of which weights, description and version tell all; others may run any code."""


class ConversionError(ConfigError):
    """A network is not the same in OpenVINO."""


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
