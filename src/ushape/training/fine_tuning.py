"""Training that starts from trained weights: what is taken over, drawn anew, and what stays as it is."""

import os
from pathlib import Path
from typing import Any

from torch import nn

from ushape.checkpoint import load_model, model_hash, read_header
from ushape.config import Architecture, ModelHeader, UNetConfig
from ushape.errors import ConfigError
from ushape.models import EncoderUNet, Member
from ushape.models.encoders import Weights, require_file
from ushape.training.recipe import OWN_MODELS, Recipe

SHARE = 0.5
"""Of the recipe's learning rate, at its peak: our choice; `benchmarks/fine_tuning.py` compares others."""


def slower(recipe: Recipe) -> Recipe:
    """Give the recipe for a network that is trained already: large first steps would undo what it learned."""
    return recipe.model_copy(update={"learning_rate": recipe.learning_rate * SHARE})


def source_header(path: str | Path, channels: int) -> ModelHeader:
    """Read what a model says of itself, if training on images of so many channels can start from it.

    Raises
    ------
    ConfigError
        If it takes images of other channels, or holds several networks.
    CheckpointError
        If the file is not a model.
    """
    header = read_header(path)
    if header.members > 1:
        raise ConfigError(
            f"--from {path}: holds {header.members} networks, but training starts from one; give the model "
            "of one fold"
        )
    takes = header.architecture.in_channels
    if takes != channels:
        raise ConfigError(
            f"{path} takes images of {takes} channels, the data have {channels}; give a model of {channels}, "
            "or drop --from"
        )
    return header


def start_from(
    network: Member, path: str | Path, freeze_encoder: int | None, encoder: nn.Module | None = None
) -> None:
    """Take the weights of a model over, as far as they fit, and freeze levels of the contracting path.

    An encoder is then one with trained weights, wherever they come from: a recipe changes them less.

    Raises
    ------
    ConfigError
        If the network has not so many levels.
    """
    source, own = load_model(path, encoder=encoder)[0].state_dict(), network.state_dict()
    # The last layer stays as it was drawn where the number of classes differs.
    network.load_state_dict(own | {name: t for name, t in source.items() if t.shape == own[name].shape})
    if isinstance(network, EncoderUNet):
        network.is_pretrained = True
    if freeze_encoder is not None:
        network.freeze_encoder(freeze_encoder)


def in_words(header: ModelHeader, path: str | Path, freeze_encoder: int | None) -> str:
    """What becomes of the weights of a model, in one line."""
    source = read_header(path)
    before, now = ([info.name for info in one.classes] for one in (source, header))
    parts = [f"from {path} ({source.name}): all weights taken over"]
    if source.architecture.classes != header.architecture.classes:
        parts[0] += f" but the last layer, drawn anew for {len(now)} classes (the model has {len(before)})"
    elif before != now:
        parts.append(f"its last layer, of {', '.join(before)}, now stands for {', '.join(now)}")
    if freeze_encoder is not None:
        parts.append(f"level 1 to {freeze_encoder} of the contracting path frozen")
    return "; ".join(parts)


def encoder_weights(
    model: str | Architecture,
    asked: Weights | None,
    from_model: str | Path | None,
    encoder: nn.Module | None = None,
) -> Weights:
    """Which weights the encoder of a run starts from: timm's, unless another choice is asked for.

    One's own has those that it has; True says that they are trained.

    Raises
    ------
    ConfigError
        If there is no encoder that could start from those asked for.
    CheckpointError
        If there is no such file.
    """
    is_unet = isinstance(model, UNetConfig) or model in OWN_MODELS
    has_encoder = from_model is None and (encoder is not None or not is_unet)
    if asked is not None and not has_encoder:
        what = f"--from {from_model}" if from_model is not None else f"--model {model}"
        word = {True: "imagenet", False: "none"}[asked] if isinstance(asked, bool) else asked
        raise ConfigError(
            f"--encoder-weights {word} is for encoders such as --model resnet34; drop it, or {what}"
        )
    if asked is not None and not isinstance(asked, bool):
        require_file(asked)
    return (has_encoder and encoder is None) if asked is None else asked


def origin(
    path: str | Path | None,
    freeze_encoder: int | None,
    weights: Weights = False,
    encoder: nn.Module | None = None,
) -> dict[str, Any]:
    """Tell, for the provenance of a model, which weights it was trained on from; nothing for random ones."""
    if path is not None:
        source = {"name": read_header(path).name, "sha256": model_hash(path)}
        return {"from": source, "frozen_levels": freeze_encoder or 0}
    if weights is False:
        return {}
    whose = "timm" if encoder is None else "own"
    of_encoder = whose if isinstance(weights, bool) else {"sha256": model_hash(os.fspath(weights))}
    return {"encoder_weights": of_encoder, "frozen_levels": freeze_encoder or 0}
