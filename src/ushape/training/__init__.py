"""From annotated images to a model file: recipes, tiles, steps, validation, and the run itself."""

from ushape.torchvision_operators import define_missing_operators

define_missing_operators()  # before anything imports lightning

from ushape.training.folds import train_folds  # noqa: E402
from ushape.training.recipe import FAST, PAPER, Recipe  # noqa: E402
from ushape.training.run import TrainResult, train  # noqa: E402

__all__ = ["FAST", "PAPER", "Recipe", "TrainResult", "train", "train_folds"]
