"""What a backend is: a network on one device in one precision, as a function of tiles."""

from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from ushape.geometry import Geometry

Precision = Literal["auto", "fp32", "bf16", "int8", "fp64"]
PRECISIONS = ("auto", "fp32", "bf16", "int8", "fp64")
Engine = Literal["auto", "pytorch", "openvino"]

Array = np.ndarray[Any, Any]


class Backend(Protocol):
    """Compute the logits of a tile: NumPy in and out, or tensors that stay on the device.

    Attributes
    ----------
    engine : str
        What computes, and its version, such as "openvino 2026.4.1".
    device : torch.device
        Where.
    precision : {"fp32", "bf16", "int8", "fp64"}
        In what.
    geometry : Geometry
        Size arithmetic of the network.
    largest_tile : int
        Side, in input pixels, of the square beyond which a tile gives no more pixels per second.
    fixed_bytes : int
        Memory that forward passes will take, beside what they hold by now, whatever the size of the tile.
    bytes_per_input_pixel : float
        Memory that one forward pass takes per pixel of its input, beside that.
    has_own_memory : bool
        Whether forward passes take memory of the device, not of this machine.
    """

    engine: str
    device: torch.device
    precision: str
    largest_tile: int

    def __call__(self, tile: Array) -> Array:
        """Compute the logits of one tile.

        Parameters
        ----------
        tile : ndarray, shape (C, h, w)
            Normalised grey values; `h` and `w` are valid sizes of the network.

        Returns
        -------
        ndarray of float32 (float64 in "fp64"), shape (K, h - 2 * margin, w - 2 * margin)
        """
        ...

    def logits(self, tile: Tensor) -> Tensor:
        """Compute the logits of one tile that is on `device`, and leave them there; shapes as above."""
        ...

    def release_memory(self) -> None:
        """Give back what is kept of this machine's memory for the next tile; that takes it anew."""
        ...

    @property
    def geometry(self) -> Geometry: ...  # noqa: D102

    @property
    def fixed_bytes(self) -> int: ...  # noqa: D102

    @property
    def bytes_per_input_pixel(self) -> float: ...  # noqa: D102

    @property
    def has_own_memory(self) -> bool: ...  # noqa: D102

    def available_memory(self) -> int:
        """Bytes that are free where the network is computed."""
        ...
