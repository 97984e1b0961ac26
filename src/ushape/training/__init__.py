"""From annotated images to a model file: recipes, tiles, steps, validation, and the run itself."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ushape.torchvision_operators import define_missing_operators

define_missing_operators()  # before anything imports lightning

if TYPE_CHECKING:
    from ushape.training.folds import train_folds as train_folds
    from ushape.training.recipe import FAST as FAST
    from ushape.training.recipe import PAPER as PAPER
    from ushape.training.recipe import Recipe as Recipe
    from ushape.training.run import TrainResult as TrainResult
    from ushape.training.run import train as train

__all__ = ["FAST", "PAPER", "Recipe", "TrainResult", "train", "train_folds"]

# Public name -> where it lives. Imported on first use: who asks for a recipe does not wait for lightning.
_HOMES = {
    "FAST": "recipe",
    "PAPER": "recipe",
    "Recipe": "recipe",
    "TrainResult": "run",
    "train": "run",
    "train_folds": "folds",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ushape.training' has no attribute {name!r}")
    value = getattr(import_module(f"ushape.training.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
