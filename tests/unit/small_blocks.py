"""Large images cut so small that a test sees many blocks."""

from ushape.backends.openvino import OpenVINOBackend
from ushape.backends.pytorch import PyTorchBackend
from ushape.predict import block_planning, scaled_image


def cut_small(monkeypatch, block):
    """Tiles that keep 64 px, in blocks of at most `block`; workers are told so by the plan."""
    for backend in (PyTorchBackend, OpenVINOBackend):
        monkeypatch.setattr(backend, "largest_tile", 104)
    monkeypatch.setattr(block_planning, "LARGEST_BLOCK", block)
    monkeypatch.setattr(block_planning, "_LEAST_CHUNK", 20)
    monkeypatch.setattr(scaled_image, "READ_AT_ONCE", 50)
