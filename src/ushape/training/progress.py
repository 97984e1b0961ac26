"""What a person is told of a run: what is trained, how it goes, and what came of it."""

from collections.abc import Iterator
from typing import Any

from lightning import Callback, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ushape.config import ModelHeader
from ushape.training import calibration
from ushape.training.feed import share_of_step
from ushape.training.scores import NAMES
from ushape.training.tiles import TileDataset
from ushape.training.tuning import objects_in_words
from ushape.training.validation import Validation

UPRIGHT = (
    "images have a top: tiles are turned by 10 degrees at most, and mirrored left to right (a recipe with "
    "upright=False turns them freely)"
)
KEEPS_PIECES = "the model file keeps 8 pieces of training images, for int8 (--no-int8-tiles: none)"


class ProgressLines(Callback):
    """A live bar on a terminal, one plain line per validation everywhere.

    Parameters
    ----------
    console : Console
        Where to; `quiet` ones print nothing.
    validation : Validation
        Source of the scores.
    """

    def __init__(self, console: Console, validation: Validation) -> None:
        self.console, self.validation, self.shown = console, validation, 0
        self.bar: Progress | None = None

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Open the bar."""
        if self.console.is_terminal and not self.console.quiet:
            columns = (
                TextColumn("training"),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
            )
            self.bar = Progress(*columns, console=self.console, transient=True)
            self.bar.add_task("", total=1.0, text="")
            self.bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Move the bar; print what the last validation found."""
        step = trainer.global_step
        if self.bar is not None:
            task, share = self.bar.task_ids[0], module.budget.progress(step)
            self.bar.update(task, completed=share, text=f"step {step}  loss {module.last_loss:.4f}")
        if self.validation.limited:
            self.console.print(self.validation.limited, highlight=False, soft_wrap=True)
            self.validation.limited = ""
        for row in self.validation.history[self.shown :]:
            self.console.print(_line(row, module.budget.elapsed), highlight=False, soft_wrap=True)
        self.shown = len(self.validation.history)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"shown": self.shown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an interrupted run: what it showed is not shown again."""
        self.shown = state["shown"]

    def on_exception(self, trainer: Trainer, module: Any, exception: BaseException) -> None:
        """Close the bar: alive, it would draw over the error, and hide the cursor for good."""
        self.on_train_end(trainer, module)

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.stop()


def plan_in_words(
    header: ModelHeader, dataset: TileDataset, trained_on: int, held_out: int, processes: int
) -> str:
    """What is trained on what, in one line: network, numbers of images, tiles of a step."""
    share = share_of_step(dataset.tiles_per_step, processes)
    tiles = "one tile" if share * processes == 1 else f"{share * processes} tiles"
    where = f", {share} on each of {processes} devices" if processes > 1 else ""
    return (
        f"{header.name}, {len(header.classes)} classes; {trained_on} training images, {held_out} held out; "
        f"{tiles} of {dataset.size_in} -> {dataset.size_out} px a step{where}"
    )


def ending(validation: Validation, reason: str) -> Iterator[str]:
    """Why the run ended early, if it did, and what was fitted on training images then."""
    if reason:
        yield reason
    images = len(validation.header.provenance["tuned_on"])
    fitted = "1 training image" if images == 1 else f"{images} training images"
    before, after = validation.result["ece_at_temperature_1"], validation.result["ece"]
    yield (
        f"probabilities, calibrated on {fitted}: {calibration.in_words(validation.header.calibration)}; "
        f"calibration error of the validation images {before:.4f} before, {after:.4f} with it"
    )
    yield objects_in_words(validation.header, fitted)


def _line(row: dict[str, float], seconds: float) -> str:
    parts = [f"{seconds:6.0f} s", f"step {row['step']:6.0f}", f"loss {row['loss']:.4f}"]
    shown = (name for name in NAMES if name in row and name != "accuracy")
    parts += [f"{NAMES[name]} {row[name]:.4f}" for name in shown]
    return "  ".join(parts)
