"""What the model file of a run will say about itself, and the network it starts from."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import ushape
from ushape.config import (
    Architecture,
    ClassInfo,
    EncoderUNetConfig,
    ModelHeader,
    Normalization,
    UNetConfig,
)
from ushape.data import Sample
from ushape.errors import ConfigError
from ushape.models import EncoderUNet, Member, build
from ushape.models.encoders import Weights, normalization_of
from ushape.predict.record import grey_value_mismatch
from ushape.training.budget import Budget
from ushape.training.fine_tuning import source_header, start_from
from ushape.training.pixel_sizes import common_pixel_size
from ushape.training.recipe import Recipe, architecture
from ushape.training.resolution import shrink_for
from ushape.training.scores import Kind, kind_of
from ushape.training.tuning import object_diameter, untuned


def describe(
    recipe: Recipe,
    model: str | Architecture,
    width: int | None,
    from_model: str | Path | None,
    samples: list[Sample],
    classes: tuple[ClassInfo, ...],
    pretrained: Weights = False,
    held_out: Sequence[Sample] = (),
    encoder: nn.Module | None = None,
    kind: Kind | None = None,
) -> ModelHeader:
    """Describe the model that a run will make, before it is trained.

    Parameters
    ----------
    recipe, model, width, encoder
        See `recipe.architecture`.
    from_model : path or None
        Model file that decides architecture and normalisation instead.
    samples : list of Sample
        Training images.
    classes : tuple of ClassInfo
        Of the data.
    pretrained : bool or path
        Whether an encoder starts from trained weights, and which. If it is timm's and all images are of 8
        bits, they are then normalised as those were that it was trained on; other ranges say nothing: each
        image is brought to mean 0 and deviation 1.
    held_out : sequence of Sample
        Validation images; they are among "all", so that the folds of a cross-validation decide alike.
    kind : {"cells", "objects", "areas"}, optional
        What is in all images; found out where it is not given.

    Raises
    ------
    ConfigError
        If training cannot start from `from_model`, or the network cannot be.
    """
    channels, kind = samples[0].image.shape[0], kind or kind_of([*samples, *held_out], len(classes))
    if from_model is not None and (width is not None or model != "auto"):
        raise ConfigError(f"--from {from_model} decides the network; drop --model and --width")
    config: Architecture = architecture(recipe, model, width, channels, len(classes), encoder)
    if isinstance(config, UNetConfig) and model == "auto":
        shrink = recipe.shrink or shrink_for(samples, len(classes), kind)
        config = config.model_copy(update={"shrink": shrink})
    normalization = Normalization()
    is_8_bit = all(sample.image.dtype == np.uint8 for sample in (*samples, *held_out))
    if isinstance(config, EncoderUNetConfig) and encoder is None and pretrained is not False and is_8_bit:
        normalization = normalization_of(config.encoder, channels)
    if from_model is not None:
        source = source_header(from_model, channels)
        if encoder is not None and not isinstance(source.architecture, EncoderUNetConfig):
            raise ConfigError(f"encoder={type(encoder).__name__}: --from {from_model} has none; drop one")
        config = source.architecture.model_copy(update={"classes": len(classes)})
        normalization = source.normalization
    return ModelHeader(
        name=_name(config),
        architecture=config,
        normalization=normalization,
        classes=classes,
        postprocessing=untuned(samples, kind),
        pixel_size_um=common_pixel_size(samples),
        object_diameter_px=None if kind == "areas" else object_diameter(samples),
    )


def unfit_grey_values(header: ModelHeader, samples: Sequence[Sample]) -> list[str]:
    """Warn, in one line, of images that a model to start from normalises as if they were of 8 bits."""
    for sample in samples:
        if line := grey_value_mismatch(header, str(sample.image.dtype)):
            return [f"warning: {sample.name}: {line}"]
    return []


def _name(config: Architecture) -> str:
    if isinstance(config, EncoderUNetConfig):
        return f"U-Net with encoder {config.encoder}"
    if config.variant == "released":
        return "U-Net released 2015"
    norm = ", batch norm" if config.norm else ""
    norm += f", at 1/{config.shrink} of the size" if config.shrink > 1 else ""
    width = "" if config.width == 64 and not norm else f", width {config.width}"
    return f"U-Net{width}{norm}" if config.depth == 4 else f"U-Net of depth {config.depth}{width}{norm}"


def provenance(
    recipe: Recipe,
    seed: int,
    budget: Budget,
    precision: str,
    samples: list[Sample],
    held_out: list[Sample],
    tuned_on: list[Sample],
) -> dict[str, Any]:
    """Where a model comes from; no clock readings, so that equal runs give equal files."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "seed": seed,
        "budget": {"steps": budget.steps, "seconds": budget.seconds},
        "precision": precision,
        "training": sample_hashes(samples),
        "held_out": sample_hashes(held_out),
        "tuned_on": [sample.name for sample in tuned_on],
        # The order of sums, and so the last bits, depends on the number of threads.
        "threads": torch.get_num_threads(),
        "versions": {"ushape": ushape.__version__, "torch": torch.__version__, "numpy": np.__version__},
    }


def sample_hashes(samples: list[Sample]) -> dict[str, str]:
    """Tell images and annotations apart, by name."""
    return {sample.name: _hash(sample) for sample in samples}


def _hash(sample: Sample) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(sample.image).tobytes())
    digest.update(np.ascontiguousarray(sample.classes).tobytes())
    return digest.hexdigest()[:16]


def require_same_run(before: dict[str, Any] | None, now: ModelHeader) -> None:
    """Refuse to go on with a run of other data, seed, recipe or network.

    Parameters
    ----------
    before : dict or None
        Header of the interrupted run, as JSON; earlier versions of this package kept none.
    now : ModelHeader
        Of the one that wants to go on with it.

    Raises
    ------
    ConfigError
        If they differ in more than budget, precision, versions and what is fitted at the end, or nothing is
        known.
    """
    if before is None:
        raise ConfigError(
            "--resume: an earlier version of ushape began this run; start anew, with another --output"
        )
    words = {"seed": "--seed", "from": "--from", "frozen_levels": "--freeze-encoder", "recipe": "--recipe"}
    words |= {"encoder_weights": "--encoder-weights", "training": "DATA", "held_out": "--validation"}
    words |= {"architecture": "--model", "normalization": "how grey values are normalised"}
    told, wanted = (one | one["provenance"] for one in (before, now.model_dump(mode="json")))
    for key, word in words.items():
        if told.get(key) != wanted.get(key):
            fix = "give the options of that run, or another --output"
            raise ConfigError(f"--resume: {word} differs from the interrupted run; {fix}")


def initial_network(
    header: ModelHeader,
    from_model: str | Path | None,
    seed: int,
    freeze_encoder: int | None = None,
    pretrained: Weights = False,
    encoder: nn.Module | None = None,
    *,
    is_resumed: bool = False,
) -> Member:
    """Build the network with the weights it starts from: drawn from `seed`, pretrained, of `from_model`.

    Of a run that is resumed all weights are in its checkpoint: those of an encoder are not fetched again.
    """
    torch.manual_seed(seed)
    network = build(header.architecture, pretrained=False if is_resumed else pretrained, encoder=encoder)
    if isinstance(network, EncoderUNet):
        network.is_pretrained = pretrained is not False
    if from_model is not None:
        start_from(network, from_model, freeze_encoder, encoder)
    elif freeze_encoder is not None:
        network.freeze_encoder(freeze_encoder)
    return network
