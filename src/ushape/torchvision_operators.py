"""Lets torchvision be imported where its compiled operators cannot be loaded.

A torchvision made for another build of torch (CUDA beside a CPU build, as a plain `pip install` can leave
it) cannot load its compiled library. Its Python part then dies on import with `operator torchvision::nms
does not exist`, and with it all that imports it: lightning (through torchmetrics) and timm. Neither calls
those operators for us, so it is enough that they are defined.
"""

import importlib.util
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")


def define_missing_operators() -> tuple[str, ...]:
    """Define what torchvision's import looks for, if torchvision is installed and its operators are absent.

    Call before lightning or timm is imported. Where torchvision works, nothing is changed.

    Returns
    -------
    tuple of str
        Operators defined by this call. They are names with a signature, and cannot be called.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return ()
    _load_compiled(Path(spec.origin).parent)
    missing = tuple(name for name in _OPERATORS if not _is_defined(name))
    for name in missing:
        torch.library.define(f"torchvision::{name}", _SCHEMA)
    return missing


def _load_compiled(package: Path) -> None:
    """Load the operators as torchvision itself would, so that ours can never stand in their way."""
    for library in (*package.glob("_C*.so"), *package.glob("_C*.pyd")):
        try:
            torch.ops.load_library(library)  # type: ignore[no-untyped-call]
        except OSError:
            continue  # made for another torch: the very case this module is for


def _is_defined(name: str) -> bool:
    return hasattr(torch.ops.torchvision, name)
