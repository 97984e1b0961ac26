"""What computes the network for one tile: takes a tile, returns its logits, NumPy in, NumPy out."""

from ushape.backends.compiling import compiles
from ushape.backends.memory import available_memory, peak_memory, resident_memory
from ushape.backends.pytorch import Precision, PyTorchBackend, training_format

__all__ = [
    "Precision",
    "PyTorchBackend",
    "available_memory",
    "compiles",
    "peak_memory",
    "resident_memory",
    "training_format",
]
