"""The original U-Net, exact, from a few annotated images to a segmentation you can trust."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ushape import metrics as metrics
    from ushape.models import EncoderUNet as EncoderUNet
    from ushape.models import UNet as UNet
    from ushape.predict import Segmentation as Segmentation
    from ushape.predict import Segmenter as Segmenter
    from ushape.predict import certify as certify
    from ushape.training import train as train

__version__ = "0.1.0"
__all__ = ["EncoderUNet", "Segmentation", "Segmenter", "UNet", "__version__", "certify", "metrics", "train"]

# Public name -> where it lives. Imported on first use, so that `import ushape` does not wait for torch.
_HOMES = {
    "EncoderUNet": "ushape.models",
    "Segmentation": "ushape.predict",
    "Segmenter": "ushape.predict",
    "UNet": "ushape.models",
    "certify": "ushape.predict",
    "train": "ushape.training",
}


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("ushape.metrics")
    if name not in _HOMES:
        raise AttributeError(f"module 'ushape' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
