"""The two recipes, as numbers: `paper`, as published, and `fast`, the best score soonest."""

from typing import Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator
from torch import nn

from ushape.augment import Deformation, GreyValues, generator
from ushape.augment.deformation import Spline
from ushape.config import Architecture, EncoderUNetConfig, Frozen, UNetConfig, fault_of
from ushape.errors import ConfigError
from ushape.loss import LossName
from ushape.models.encoders import require_known

DEGRADED = GreyValues(noise=0.4, blur_px=3.0, fade=1.0, patches=0.75)
"""A few images rarely show every quality of a microscope: clean ones are made noisy, and somewhere something
is out of focus, or cut at a slant. Areas are learned sooner without (docs/log/2026-11-27-streets.md)."""


class Recipe(Frozen):
    """Every choice a training run makes, apart from the data.

    Attributes
    ----------
    width, norm, dropout
        Of the network; see `ushape.UNet`.
    shrink : {1, 2, 4} or None
        Of the network, too; None: as far as the annotations allow, see `resolution.shrink_for`.
    optimizer : {"sgd", "adamw"}
    learning_rate : float
        The largest; warmed up linearly over the share `warmup` of the budget, then annealed to 0 by a cosine.
    momentum : float
        Momentum of SGD, first beta of AdamW.
    weight_decay : float
    ema : float
        Decay per step of the running average of the weights that is validated and saved; 0 for none.
    tile : int
        Height and width of the largest tile, in pixels of the network's first level.
    tiles : int or None
        Tiles per step; None: one of the largest, or as many smaller ones as cost no more.
    accumulate : int
        Parts that a step's tiles are computed in, one after the other, where they do not fit the memory of
        the device together. The loss is that of the whole step, so the result is the same to rounding; only
        batch norm takes its statistics of each part, and dropout draws other masks.
    border : {"ronneberger", "falk"}
        Form of gap and weights: the paper's, or the one its authors published later; see
        `ushape.weight_map.targets`.
    border_w0, border_sigma_px : float
        Border weight map, Ronneberger 2015, eq. 2; the later form has numbers of its own.
    separate : bool or None
        Whether touching objects are kept apart, by gap and border weights; None: where there is one class of
        them. True with more classes: the first is the background, and each connected part of another class
        is an object. That suits cells of several kinds, not streets.
    class_power : float
        How far w_c balances the classes: 1 wholly, 0 not at all; see `weight_map.class_balance`. The later
        form has no w_c.
    elastic_std_px : float
        Standard deviation of the displacements on the grid, in pixels.
    grid : int
        Control points of the displacements along each axis of a tile; the paper has 3.
    spline : {"interpolating", "approximating"}
        What lies between them: the paper's "bicubic interpolation", or the B-spline of its authors' later
        code, which needs a `grid` of 4 or more; see `augment.Deformation.draw`.
    scale : tuple of float
        Range of the random magnification; (1, 1) for none.
    upright : bool or None
        Whether tiles are turned by 10 degrees at most, and mirrored left to right only; None: where the
        annotations have a top and a bottom, see `orientation.has_top`.
    plain : float
        Share of the tiles that are only turned by quarters and mirrored, not deformed: nothing in them is
        interpolated, so noise and sharpness are those of the images, but for what `grey` does to them.
    loss : str
        See `ushape.loss.segmentation_loss`. Border and class weights count in cross-entropy and focal loss.
    encoder_share : float
        Share of the learning rate that a pretrained encoder is trained with: it has little to learn, and
        large steps would undo what it knows. Our choice, not measured yet.
    deep_supervision : bool
        Whether coarser levels of a network with an encoder are scored, too, while it is trained.
    interpolation : {"linear", "cubic"}
        Of grey values under deformation. Linear smooths noise away, which then surprises the network in
        images that are noisy (docs/log/2026-11-22-fast-recipe.md).
    grey : GreyValues or None
        Strengths of the grey-value variation; None: `DEGRADED`, but the paper's kinds alone where areas are
        what matters, see `scores.kind_of`.
    steps : int
        Length of a run without `--time` and `--steps`.
    """

    name: Literal["paper", "fast"]
    width: int = Field(ge=1)
    shrink: Literal[1, 2, 4] | None
    norm: Literal["batch"] | None
    dropout: float = Field(ge=0, lt=1)
    optimizer: Literal["sgd", "adamw"]
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0, allow_inf_nan=False)
    warmup: float = Field(ge=0, lt=1)
    ema: float = Field(ge=0, lt=1)
    tile: int = Field(ge=1)
    tiles: int | None = Field(default=None, ge=1)
    accumulate: int = Field(default=1, ge=1)
    border: Literal["ronneberger", "falk"] = "ronneberger"
    border_w0: float = Field(default=10.0, ge=0, allow_inf_nan=False)
    border_sigma_px: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    separate: bool | None = None
    class_power: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    elastic_std_px: float = 10.0
    grid: int = 3
    spline: Spline = "interpolating"
    scale: tuple[float, float] = (1.0, 1.0)
    upright: bool | None = False
    plain: float = Field(default=0.0, ge=0, le=1)
    interpolation: Literal["linear", "cubic"] = "linear"
    grey: GreyValues | None = GreyValues()
    loss: LossName = "cross_entropy"
    encoder_share: float = Field(default=0.3, ge=0, allow_inf_nan=False)
    deep_supervision: bool = False
    steps: int = Field(ge=1)

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        self.deformation(generator(0, 0))
        return self

    @property
    def weighs_classes(self) -> bool:
        """Whether the loss weights classes by w_c: the later form of the weights and Dice do not."""
        return self.border == "ronneberger" and self.loss != "dice"

    def decided(self, *, has_top: bool, areas: bool) -> Self:
        """Fill in what the recipe leaves to the images: whether they have a top, whether areas matter."""
        found = {"upright": has_top, "grey": GreyValues() if areas else DEGRADED}
        return self.model_copy(update={key: value for key, value in found.items() if vars(self)[key] is None})

    def deformation(self, rng: np.random.Generator) -> Deformation:
        """Draw how a tile is deformed; where `upright` is not decided, as if there was no top."""
        return Deformation.draw(
            rng,
            upright=bool(self.upright),
            elastic_std_px=self.elastic_std_px,
            grid=self.grid,
            scale=self.scale,
            spline=self.spline,
        )


PAPER = Recipe(
    name="paper",
    width=64,
    shrink=1,
    norm=None,
    dropout=0.5,
    optimizer="sgd",
    learning_rate=1e-3,
    momentum=0.99,
    weight_decay=0.0,
    warmup=0.05,
    ema=0.0,
    tile=572,
    tiles=1,
    steps=40_000,
)

FAST = Recipe(
    name="fast",
    width=24,
    shrink=None,
    norm="batch",
    dropout=0.0,
    optimizer="adamw",
    learning_rate=5e-3,
    momentum=0.9,
    weight_decay=1e-2,
    warmup=0.1,
    ema=0.98,
    tile=572,
    scale=(0.8, 1.25),
    upright=None,
    plain=0.5,
    interpolation="cubic",
    grey=None,
    steps=2_000,
)

OWN_MODELS = "auto", "paper", "released"
"""What `--model` knows beside the names of encoders."""

RECIPES = {recipe.name: recipe for recipe in (PAPER, FAST)}


def recipe(name: str | Recipe) -> Recipe:
    """Look a recipe up by name; a recipe of one's own is taken as it is, once it is checked.

    Raises
    ------
    ConfigError
        If there is none of that name, or a setting of one's own does not exist or has no possible value.
    """
    if isinstance(name, Recipe):
        return _checked(name)
    if name not in RECIPES:
        raise ConfigError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}")
    return RECIPES[name]


def _checked(recipe: Recipe) -> Recipe:
    """Give a checked copy: `model_copy` takes any value, and names that are no settings."""
    try:
        return Recipe.model_validate(vars(recipe))
    except ValidationError as error:
        raise ConfigError(
            f"recipe: {fault_of(error)}; help(ushape.training.Recipe) lists all settings"
        ) from error


def architecture(
    recipe: Recipe,
    model: str | Architecture,
    width: int | None,
    in_channels: int,
    classes: int,
    encoder: nn.Module | None = None,
) -> Architecture:
    """Describe the network of a run.

    Parameters
    ----------
    recipe : Recipe
        Decides where `model` is "auto".
    model : str, UNetConfig or EncoderUNetConfig
        "auto", "paper", always the published network, whatever the recipe, "released"; or an encoder of timm;
        or all but the channels and classes of a network. Dropout and deep supervision of one with an encoder
        are the recipe's where it does not say them.
    width : int or None
        Narrower (or wider) than the recipe or the model says.
    in_channels, classes : int
        Of the data.
    encoder : nn.Module, optional
        Of one's own; `model` is then "auto" or an EncoderUNetConfig.

    Raises
    ------
    ConfigError
        If there is no such model, it cannot have that width, or timm is missing.
    """
    _require_one_network(model, width, encoder)
    if not isinstance(model, str):
        data = {"in_channels": in_channels, "classes": classes}
        return model.model_copy(update=_left_to_the_recipe(recipe, model) | data)
    if encoder is not None:
        return _with_encoder(type(encoder).__name__, recipe, width, in_channels, classes)
    if model == "released":
        if width is not None:
            raise ConfigError(
                f"the released network has one width, 64; drop --width {width} or --model released"
            )
        return UNetConfig(in_channels=in_channels, classes=classes, variant="released")
    if model == "paper":
        return UNetConfig(in_channels=in_channels, classes=classes, width=width or 64)
    if model != "auto":
        require_known(model, OWN_MODELS)
        return _with_encoder(model, recipe, width, in_channels, classes)
    return UNetConfig(
        in_channels=in_channels,
        classes=classes,
        width=width or recipe.width,
        norm=recipe.norm,
        dropout=recipe.dropout,
    )


def _require_one_network(model: str | Architecture, width: int | None, encoder: nn.Module | None) -> None:
    """Refuse what no network can be made of, and what says the same thing twice."""
    if not isinstance(model, str | UNetConfig | EncoderUNetConfig):
        raise ConfigError(
            f"model={type(model).__name__}: give a name, a UNetConfig or an EncoderUNetConfig; a module of "
            "one's own is the encoder: encoder=module"
        )
    if width is not None and not isinstance(model, str):
        raise ConfigError(f"width={width}: the description of the network has a width; say it there")
    if encoder is None:
        return
    if not isinstance(encoder, nn.Module):
        raise ConfigError(
            f"encoder={encoder!r} is no module; give an nn.Module, or model=NAME for one of timm"
        )
    if isinstance(model, UNetConfig):
        raise ConfigError(f"encoder={type(encoder).__name__}: model=UNetConfig(...) has none; drop one")
    if isinstance(model, str) and model != "auto":
        raise ConfigError(f"encoder={type(encoder).__name__}: model={model!r} has its own; drop one")


def _left_to_the_recipe(recipe: Recipe, model: Architecture) -> dict[str, object]:
    """What the description of a network with an encoder leaves out, and a recipe decides."""
    names = () if isinstance(model, UNetConfig) else ("dropout", "deep_supervision")
    return {name: vars(recipe)[name] for name in names if name not in model.model_fields_set}


def _with_encoder(
    encoder: str, recipe: Recipe, width: int | None, in_channels: int, classes: int
) -> EncoderUNetConfig:
    config = EncoderUNetConfig(
        encoder=encoder,
        in_channels=in_channels,
        classes=classes,
        dropout=recipe.dropout,
        deep_supervision=recipe.deep_supervision,
    )
    return config if width is None else config.model_copy(update={"width": width})
