"""Which engine computes a network: decided by rule, never by a clock or by what happened before."""

from collections.abc import Sequence

from ushape.backends.conversion import ConversionError
from ushape.backends.interface import Array, Backend, Engine, Precision
from ushape.backends.openvino import OpenVINOBackend, openvino_pays
from ushape.backends.pytorch import PyTorchBackend, find_device
from ushape.errors import ConfigError
from ushape.models import Network


def start(
    network: Network,
    device: str = "auto",
    precision: Precision = "auto",
    *,
    engine: Engine = "auto",
    tiles: Sequence[Array] = (),
) -> Backend:
    """Make the backend that computes a network.

    Parameters
    ----------
    network : Network
        Put into evaluation mode and moved to the device.
    device, precision
        See `PyTorchBackend` and `OpenVINOBackend`.
    engine : {"auto", "pytorch", "openvino"}
        "auto": OpenVINO on a CPU, where it pays and gives the same; PyTorch on GPUs, in "fp64", and
        everywhere else.
    tiles : sequence of ndarray, shape (C, h, w)
        For "int8"; see `OpenVINOBackend`.

    Raises
    ------
    ConfigError
        If the engine is not known, or cannot do the precision on the device.
    TilingError
        If the network computes statistics per tile, so that tiles cannot equal a pass over the whole image.
    """
    if engine not in ("auto", "pytorch", "openvino"):
        raise ConfigError(f"engine {engine!r} is not known; use auto, pytorch or openvino")
    is_possible = find_device(device).type == "cpu" and precision != "fp64"
    if engine == "openvino" and not is_possible:
        raise ConfigError(
            f"engine openvino computes on a CPU in fp32, bf16 or int8, not in {precision} on {device}; "
            "use engine pytorch"
        )
    if engine == "openvino" or (
        engine == "auto" and is_possible and (openvino_pays() or precision == "int8")
    ):
        try:
            return OpenVINOBackend(network.cpu().eval(), precision, tiles=tiles)
        except ConversionError:
            if engine == "openvino" or precision == "int8":
                raise
    return PyTorchBackend(network, device, precision)
