"""What a model file says about itself, and how words on the command line become numbers."""

import re
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from ushape.errors import ConfigError

IGNORE = 255
"""Class index of pixels that do not count, in training and in every score."""


class Frozen(BaseModel):
    """Unknown keys are refused: a misspelt setting must not be ignored in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class UNetConfig(Frozen):
    """Constructor arguments of `ushape.UNet`; see there."""

    kind: Literal["unet"] = "unet"
    in_channels: int = Field(default=1, ge=1)
    classes: int = Field(default=2, ge=1, le=254)
    width: int = Field(default=64, ge=1)
    depth: int = Field(default=4, ge=1)
    norm: Literal["batch"] | None = None
    dropout: float = Field(default=0.5, ge=0, lt=1)
    variant: Literal["paper", "released"] = "paper"


class Normalization(Frozen):
    """How grey values become network input; kept in the model file, so that nobody can pair them wrongly.

    Attributes
    ----------
    kind : {"image", "fixed"}
        "image": each channel of each image (each plane of a stack) to mean 0 and standard deviation 1.
        "fixed": subtract `mean`, divide by `std`, one number per channel, in grey values of the file.
    mean, std : tuple of float, or None
        Only of "fixed", and there needed; `std` above 0.

    Raises
    ------
    pydantic.ValidationError
        If `mean` and `std` do not fit `kind`.
    """

    kind: Literal["image", "fixed"] = "image"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _numbers_fit_the_kind(self) -> Self:
        if self.kind == "image":
            if self.mean is not None or self.std is not None:
                raise ValueError("kind 'image' takes no mean and std: they are those of each image")
        elif self.mean is None or self.std is None:
            raise ValueError("kind 'fixed' needs mean and std, one number each per channel")
        elif len(self.mean) != len(self.std):
            counts = f"mean has {len(self.mean)} numbers, std {len(self.std)}"
            raise ValueError(f"{counts}; give one each per channel")
        elif not all(number > 0 for number in self.std):
            raise ValueError(f"std must be above 0, got {self.std}")
        return self

    def apply(self, planes: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """Normalise grey values.

        Parameters
        ----------
        planes : ndarray, shape (..., C, H, W)
            Grey values as they are in the file.

        Returns
        -------
        ndarray of float32, same shape
            A constant channel becomes 0 everywhere.
        """
        if self.kind == "fixed":
            mean = np.asarray(self.mean, np.float64)[:, None, None]
            std = np.asarray(self.std, np.float64)[:, None, None]
        else:
            mean = planes.mean((-2, -1), keepdims=True, dtype=np.float64)
            std = planes.std((-2, -1), keepdims=True, dtype=np.float64)
            std = np.where(std > 0, std, 1.0)
        return ((planes - mean.astype(np.float32)) * (1 / std).astype(np.float32)).astype(np.float32)


class ClassInfo(Frozen):
    """One class: its name, its label value in the user's masks, and the colour it is drawn in."""

    name: str
    value: int | tuple[int, int, int]
    color: tuple[int, int, int]


class Postprocessing(Frozen):
    """From probabilities to objects: threshold, connected components, smallest area in pixels."""

    threshold: float = Field(default=0.5, ge=0, le=1)
    min_area: int = Field(default=0, ge=0)
    connectivity: Literal[4, 8] = 4


class ModelHeader(Frozen):
    """All that is needed beside the weights to use a model: the JSON header of `model.safetensors`."""

    format: Literal["ushape/1"] = "ushape/1"
    name: str
    architecture: UNetConfig
    normalization: Normalization = Normalization()
    classes: tuple[ClassInfo, ...]
    postprocessing: Postprocessing = Postprocessing()
    pixel_size_um: tuple[float, float] | None = None
    provenance: dict[str, Any] = {}

    @field_validator("normalization")
    @classmethod
    def _one_number_per_channel(cls, normalization: Normalization, info: ValidationInfo) -> Normalization:
        architecture = info.data.get("architecture")  # absent if it is wrong itself
        if architecture is not None and normalization.mean is not None:
            numbers, channels = len(normalization.mean), architecture.in_channels
            if numbers != channels:  # NumPy would make three channels of one without a word
                raise ValueError(f"mean and std have {numbers} numbers for {channels} channels")
        return normalization


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `90s`, `10m`, `1.5h` or `1h30m`; a bare number is seconds.

    Raises
    ------
    ConfigError
        If `text` is not a positive duration.

    Examples
    --------
    >>> parse_duration("10m"), parse_duration("1h30m"), parse_duration("45")
    (600.0, 5400.0, 45.0)
    """
    seconds = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip().lower())
    total = sum(float(number) * seconds[unit] for number, unit in parts)
    if "".join(n + u for n, u in parts) != re.sub(r"\s", "", text.lower()) or total <= 0:
        raise ConfigError(f"not a duration: {text!r}; write for example 90s, 10m or 1.5h")
    return total


def parse_bytes(text: str) -> int:
    """Bytes in a size such as `4GB`, `512MB` or `1.5GiB`; a bare number is bytes.

    Raises
    ------
    ConfigError
        If `text` is not a positive size.

    Examples
    --------
    >>> parse_bytes("4GB"), parse_bytes("1GiB")
    (4000000000, 1073741824)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    size = (
        float(match[1]) * (1024 if match[3] else 1000) ** ("kmgt".find(match[2]) + 1 if match[2] else 0)
        if match
        else 0
    )
    if size < 1:
        raise ConfigError(f"not a size in bytes: {text!r}; write for example 4GB or 512MB")
    return int(size)
