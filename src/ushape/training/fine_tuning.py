"""Training that starts from a model: what is taken over, what is drawn anew, and what stays as it is."""

from pathlib import Path
from typing import Any

from ushape.checkpoint import load_model, model_hash, read_header
from ushape.config import ModelHeader
from ushape.errors import ConfigError
from ushape.models import UNet
from ushape.training.recipe import Recipe

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


def start_from(network: UNet, path: str | Path, freeze_encoder: int | None) -> None:
    """Take the weights of a model over, as far as they fit, and freeze levels of the contracting path.

    Raises
    ------
    ConfigError
        If the network has not so many levels.
    """
    source, own = load_model(path)[0].state_dict(), network.state_dict()
    # The last layer stays as it was drawn where the number of classes differs.
    network.load_state_dict(own | {name: t for name, t in source.items() if t.shape == own[name].shape})
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


def origin(path: str | Path | None, freeze_encoder: int | None) -> dict[str, Any]:
    """Tell, for the provenance of a model, from which other one it was trained on; nothing for none."""
    if path is None:
        return {}
    source = {"name": read_header(path).name, "sha256": model_hash(path)}
    return {"from": source, "frozen_levels": freeze_encoder or 0}
