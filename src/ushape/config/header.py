"""What a model file says about itself."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ushape.errors import ConfigError

PixelSize = tuple[float, float]
"""Height and width of a pixel in micrometres."""

Connectivity = Literal[4, 8]
"""Pixels of one object touch by edges, or by corners, too."""

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
    shrink: Literal[1, 2, 4] = 1


class EncoderUNetConfig(Frozen):
    """Constructor arguments of `ushape.EncoderUNet`; see there. `encoder` is a name of timm."""

    kind: Literal["encoder-unet"] = "encoder-unet"
    encoder: str
    in_channels: int = Field(default=1, ge=1)
    classes: int = Field(default=2, ge=1, le=254)
    width: int = Field(default=16, ge=1)
    up: Literal["conv", "resize"] = "conv"
    norm: Literal["batch"] | None = "batch"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    full_resolution: bool = True
    deep_supervision: bool = False


Architecture = UNetConfig | EncoderUNetConfig


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
    """How the probabilities of a plane become objects; `ushape.instances.instances` does it.

    Attributes
    ----------
    threshold : float
        Pixels whose probability of not being background is above it, 0 to 1, belong to objects.
    min_area : int
        Smaller objects, in pixels, are dropped.
    connectivity : {4, 8}
        Whether pixels that touch by a corner alone are of one object (8) or not (4).
    min_area_um2 : float, optional
        Smaller objects, in square micrometres, are dropped too; for images that tell their pixel size.
    split : {"none", "probability", "distance"}
        Whether a watershed parts what touches: between peaks of the probability, or between peaks of the
        distance to the border of the object. What has no peak of the probability is dropped.
    seed_threshold : float
        For "probability": pixels above it, 0 to 1, that touch make one peak; at least `threshold`.
    seed_depth_px : float
        For "distance": a peak rises by more than this, in pixels, over the pass to a higher one.
    fill_holes : bool
        Whether background that one object encloses becomes part of it. Other objects in there stay.
    border : {"keep", "remove"}
        What becomes of objects that touch the border of the image.
    foi_px : int
        Objects entirely within a frame of this width, in pixels, along the border of the image are dropped
        (the field of interest of the Cell Tracking Challenge); 0: none are.

    Raises
    ------
    pydantic.ValidationError
        If a value is out of its range.

    Examples
    --------
    What the scripts of the network released in 2015 do (area above 500 px, bwconncomp, FOI_E = 50):

    >>> Postprocessing(connectivity=8, min_area=501, foi_px=50).in_words()
    'above 0.5, 8-connected, at least 501 px, not entirely within 50 px of the border'
    """

    threshold: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    min_area: int = Field(default=0, ge=0)
    connectivity: Connectivity = 4
    min_area_um2: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    split: Literal["none", "probability", "distance"] = "none"
    seed_threshold: float = Field(default=0.8, ge=0, le=1, allow_inf_nan=False)
    seed_depth_px: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    fill_holes: bool = False
    border: Literal["keep", "remove"] = "keep"
    foi_px: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _peaks_are_in_objects(self) -> Self:
        if self.split == "probability" and self.seed_threshold < self.threshold:
            seed, threshold = f"{self.seed_threshold:g}", f"{self.threshold:g}"
            raise ValueError(
                f"peaks above {seed} cannot part objects above {threshold}; give a threshold of at most "
                f"{seed}, or peaks above {threshold} or more (--split probability:{threshold})"
            )
        return self

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """Give a checked copy with some settings changed.

        Raises
        ------
        ConfigError
            If a setting does not exist, or its value is not possible.
        """
        try:
            return type(self).model_validate(self.model_dump() | dict(changes))
        except ValidationError as error:
            raise ConfigError(f"objects cannot be found so: {fault_of(error)}") from error

    def at_scale(self, scale: float) -> Self:
        """Settings that do to an image what these do to the same image magnified by `scale`.

        Lengths in pixels are divided by it, areas by its square.
        """
        if scale == 1:
            return self
        lengths = {"seed_depth_px": self.seed_depth_px / scale, "foi_px": round(self.foi_px / scale)}
        return self.model_copy(update={"min_area": round(self.min_area / scale**2), **lengths})

    def in_words(self) -> str:
        """Every setting that has an effect, in one line."""
        words = [f"above {self.threshold:g}", f"{self.connectivity}-connected"]
        if self.split == "probability":
            words.append(f"split between peaks above {self.seed_threshold:g}")
        if self.split == "distance":
            words.append(f"split between peaks of the distance {self.seed_depth_px:.4g} px deep")
        if self.fill_holes:
            words.append("holes filled")
        if self.min_area:
            words.append(f"at least {self.min_area} px")
        if self.min_area_um2:
            words.append(f"at least {self.min_area_um2:g} um2")
        if self.border == "remove":
            words.append("none at the border")
        if self.foi_px:
            words.append(f"not entirely within {self.foi_px} px of the border")
        return ", ".join(words)


def fault_of(error: ValidationError) -> str:
    """Say the first thing that is wrong with settings: which one, its value, and why."""
    first = error.errors()[0]
    what = first["msg"].removeprefix("Value error, ")  # what pydantic puts before words of ours
    if first["type"] == "extra_forbidden":
        what = "no such setting"
    place = f"{first['loc'][0]} {first['input']!r}: " if first["loc"] else ""
    return f"{place}{what[:1].lower()}{what[1:]}"


class Calibration(NamedTuple):
    """What makes probabilities of logits: the softmax of logits / `temperature` + `class_bias`.

    Attributes
    ----------
    temperature : float
        Above 0; the higher, the less sure (Guo et al. 2017). 1 for a network that was not calibrated.
    class_bias : tuple of float
        One number per class, which takes back how the loss weighted the classes; empty for none.
    """

    temperature: float = 1.0
    class_bias: tuple[float, ...] = ()


UNCALIBRATED = Calibration()


class ModelHeader(Frozen):
    """All that is needed beside the weights to use a model: the JSON header of `model.safetensors`.

    With more than one of `members`, the file holds that many networks of one architecture, an `Ensemble`.

    `temperature` and `class_bias` are those of `Calibration`. `object_diameter_px` is that of the circle of
    an object's area, the median over the objects of the training images in their pixels; None where single
    objects do not matter.
    """

    format: Literal["ushape/1"] = "ushape/1"
    name: str
    architecture: Architecture = Field(discriminator="kind")
    members: int = Field(default=1, ge=1, le=100)
    normalization: Normalization = Normalization()
    classes: tuple[ClassInfo, ...]
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    class_bias: tuple[FiniteFloat, ...] = ()
    postprocessing: Postprocessing = Postprocessing()
    pixel_size_um: PixelSize | None = None
    object_diameter_px: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    provenance: dict[str, Any] = {}

    @property
    def calibration(self) -> Calibration:
        """What makes probabilities of the network's logits."""
        return Calibration(self.temperature, self.class_bias)

    @field_validator("class_bias")
    @classmethod
    def _one_number_per_class(cls, bias: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        architecture = info.data.get("architecture")
        if architecture is not None and bias and len(bias) != max(architecture.classes, 2):
            raise ValueError(f"{len(bias)} numbers for {max(architecture.classes, 2)} classes")
        return bias

    @field_validator("normalization")
    @classmethod
    def _one_number_per_channel(cls, normalization: Normalization, info: ValidationInfo) -> Normalization:
        architecture = info.data.get("architecture")  # absent if it is wrong itself
        if architecture is not None and normalization.mean is not None:
            numbers, channels = len(normalization.mean), architecture.in_channels
            if numbers != channels:  # NumPy would make three channels of one without a word
                raise ValueError(f"mean and std have {numbers} numbers for {channels} channels")
        return normalization
