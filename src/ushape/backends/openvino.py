"""The network in OpenVINO, on a CPU, in float32, bfloat16 or int8.

OpenVINO lays weights and maps out for the instruction set and joins what follows a convolution to it. It
needs half the memory of PyTorch for the same tile, and is nowhere slower.
"""

import importlib.util
import platform
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ushape.backends.conversion import compiled, converted
from ushape.backends.interface import Array, Precision
from ushape.backends.memory import available_memory
from ushape.backends.pytorch import find_precision, refuse_statistics_per_tile
from ushape.backends.quantization import quantized
from ushape.backends.runtime import import_openvino
from ushape.geometry import Geometry
from ushape.models import Network

SHAPES = 2
"""Of tiles, for which the network is kept ready."""

# Bytes of one number in the feature maps; in int8 many of them stay float32.
_BYTES = {"fp32": 4, "bf16": 2, "int8": 3}


def openvino_pays() -> bool:
    """Whether OpenVINO is here, and on a processor for which it was measured to be the faster engine.

    Paper's network, a tile of 1084 x 1084 px, one busy core of an AMD EPYC of 2021 with AVX2, in one process:
    18.3 to 19.0 s, against 21.0 s in PyTorch, and half the memory. Not measured on ARM.
    """
    return importlib.util.find_spec("openvino") is not None and platform.machine() in ("x86_64", "AMD64")


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
    engine, device, precision, geometry, largest_tile, fixed_bytes, bytes_per_input_pixel, has_own_memory
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
    has_own_memory = False
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
        less in small tiles. OpenVINO 2026.4, bytes
        (this estimate): paper's network in fp32 629 at 572 x 572 px, 877 at 1084 x 1084, 926 at 1596 x 1596
        (1088); width 32 444 (576) and width 16 190 (320) at 1084 x 1084. With AMX 987, in bf16 534 (576), in
        int8 788 (832) at 2236 x 2236 (`benchmarks/memory.py`).
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
