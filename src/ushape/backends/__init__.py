"""What computes the network for one tile: takes a tile, returns its logits, NumPy in, NumPy out."""

from ushape.backends.engine import start
from ushape.backends.interface import Backend, Engine, Precision
from ushape.backends.memory import available_memory, peak_memory, resident_memory
from ushape.backends.openvino import OpenVINOBackend
from ushape.backends.pytorch import PyTorchBackend, find_device, find_precision, training_format

__all__ = [
    "Backend",
    "Engine",
    "OpenVINOBackend",
    "Precision",
    "PyTorchBackend",
    "available_memory",
    "find_device",
    "find_precision",
    "peak_memory",
    "resident_memory",
    "start",
    "training_format",
]
