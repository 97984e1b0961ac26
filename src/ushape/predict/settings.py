"""What is the same for all images of one call of `predict_files`, as it is sent to workers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ushape.backends import Precision
from ushape.config import PixelSize


@dataclass(frozen=True)
class Settings:
    """What is asked for.

    Attributes
    ----------
    model, identity : str
        The model file and its hash.
    precision, max_memory, device, layout, scale, pixel_size, average, average_of, overwrite
        See `predict_files`.
    changes : mapping
        Settings of `Postprocessing` that replace those of the model.
    command : str
        What tells this call from others: a task that outlives its command writes into a folder of its own.
    """

    model: str
    identity: str
    precision: Precision
    max_memory: int | None
    device: str
    layout: str
    changes: Mapping[str, Any]
    scale: float | None
    pixel_size: float | str | PixelSize | None
    average: str
    average_of: str
    overwrite: bool
    command: str
