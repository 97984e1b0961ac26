"""Whole validation images through the network as it stands: scores, pictures, and the best model kept."""

import csv
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, Trainer

from ushape import io, metrics, pictures
from ushape.checkpoint import save_model
from ushape.config import IGNORE, ModelHeader
from ushape.data import Sample
from ushape.predict import Segmenter
from ushape.training.budget import Budget
from ushape.training.module import TrainingModule

COLUMNS = ("step", "learning_rate", "loss", "score", "accuracy", "dice", "iou", "pixel_error", "v_rand")


@dataclass(frozen=True)
class Scores:
    """Validation scores over the whole validation set; `score` is the one that selects the model.

    It is V_rand where single objects count (instance masks, or objects that fill most of the image as cells
    in EM do), else the mean Dice over the classes that occur.
    """

    score: float
    accuracy: float
    dice: float
    iou: float
    pixel_error: float | None = None
    v_rand: float | None = None

    def row(self) -> dict[str, float]:
        """Scores by name, without those that do not apply."""
        return {name: value for name, value in vars(self).items() if value is not None}


def score(samples: list[Sample], probabilities: list[np.ndarray[Any, Any]]) -> Scores:
    """Score predicted probabilities (C, H, W) against annotated images."""
    classes = probabilities[0].shape[0]
    predictions = [p.argmax(0) for p in probabilities]
    counts = sum(
        metrics.confusion(predicted, sample.classes, classes, ignore=IGNORE)
        for predicted, sample in zip(predictions, samples, strict=True)
    )
    overlap = {
        "accuracy": metrics.accuracy(counts),
        "dice": float(np.mean(metrics.dice(counts)[_present(counts)])),
        "iou": float(np.mean(metrics.iou(counts)[_present(counts)])),
    }
    if classes != 2 or not all(objects_count(sample) for sample in samples):
        return Scores(score=overlap["dice"], **overlap)
    cells = [p[1] for p in probabilities]
    v_rand = float(np.mean([metrics.v_rand(c[None], s.objects[None]).score for c, s in zip(cells, samples, strict=True)]))
    pixel = metrics.pixel_error(cells, [s.objects > 0 for s in samples]).score
    return Scores(score=v_rand, v_rand=v_rand, pixel_error=pixel, **overlap)


def objects_count(sample: Sample) -> bool:
    """Whether a sample is about single objects rather than about areas."""
    return sample.is_instances or (sample.has_objects and float((sample.classes == 1).mean()) > 0.5)


def _present(counts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return counts.sum(0) + counts.sum(1) > 0


@dataclass
class Schedule:
    """When to validate: at fixed steps in a run of a number of steps, by the clock in a run of a span of time.

    Parameters
    ----------
    budget : Budget
    evaluations : int
        Number of validations in a run of a number of steps.
    """

    budget: Budget
    evaluations: int = 10
    last: float = 0.0
    cost: float = 0.0

    def is_due(self, step: int) -> bool:
        """Whether to validate after `step` steps."""
        if self.budget.steps is not None:
            return step % max(1, self.budget.steps // self.evaluations) == 0
        # The first picture within a minute, then at most a tenth of the time for validation.
        pause = 20.0 if not self.cost else max(60.0 - self.cost, 9 * self.cost)
        return self.budget.elapsed() - self.last > pause

    def measured(self, started: float) -> None:
        """Note how long a validation took; the last one must fit in the budget."""
        self.last, self.cost = self.budget.elapsed(), self.budget.elapsed() - started
        self.budget.reserve = 1.5 * self.cost + 2.0


class Validation(Callback):
    """Validates when due and at the end; keeps `model.safetensors` (best), `last.safetensors` and pictures.

    Parameters
    ----------
    samples : list of Sample
        Validation images; may be empty, then the last model is the best.
    header : ModelHeader
        Of the model files.
    output : Path
        Folder of the run.
    """

    def __init__(self, samples: list[Sample], header: ModelHeader, output: Path, schedule: Schedule) -> None:
        self.samples, self.header, self.output, self.schedule = samples, header, output, schedule
        self.best: dict[str, float] = {}
        self.history: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_index: int) -> None:
        """Validate if it is time to, or the budget ends here."""
        step = trainer.global_step
        if module.budget.is_spent(step) or trainer.should_stop or self.schedule.is_due(step):
            self.validate(trainer, module)

    def validate(self, trainer: Trainer, module: TrainingModule) -> None:
        """Score the network as it stands, write pictures, keep it if it is the best so far."""
        started = self.schedule.budget.elapsed()
        row: dict[str, float] = {
            "step": trainer.global_step,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "loss": module.last_loss,
        }
        if self.samples:
            row |= self._scores(module).row()
        self._log(trainer, row)
        self._keep(module, row)
        self.schedule.measured(started)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"best": self.best, "history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an interrupted run."""
        self.best, self.history = state["best"], state["history"]

    def _scores(self, module: TrainingModule) -> Scores:
        network = module.best_weights.eval()
        segmenter = Segmenter(network, self.header)
        probabilities = [segmenter(sample.image).probabilities for sample in self.samples]
        network.train()
        self._draw(probabilities)
        return score(self.samples, probabilities)

    def _draw(self, probabilities: list[np.ndarray[Any, Any]]) -> None:
        folder = self.output / "validation"
        folder.mkdir(exist_ok=True)
        colors = [info.color for info in self.header.classes]
        for sample, probability in list(zip(self.samples, probabilities, strict=True))[:8]:
            image = pictures.display(sample.image)
            panels = [
                image,
                pictures.colorize(sample.classes, colors),
                pictures.heat(probability[1]) if len(probability) == 2 else image,
                pictures.colorize(probability.argmax(0).astype(np.uint8), colors),
            ]
            titles = ["image", "truth", "probability", "prediction"]
            io.write_overlay(folder / f"{_file_name(sample.name)}.png", pictures.side_by_side(panels, titles))

    def _log(self, trainer: Trainer, row: dict[str, float]) -> None:
        self.history.append(row)
        io.write_csv(self.output / "metrics.csv", COLUMNS, [[r.get(c, "") for c in COLUMNS] for r in self.history])
        for logger in trainer.loggers:
            logger.log_metrics({f"validation/{k}": v for k, v in row.items() if k != "step"}, trainer.global_step)

    def _keep(self, module: TrainingModule, row: dict[str, float]) -> None:
        header = self._with_result(row)
        save_model(self.output / "last.safetensors", module.best_weights, header)
        if "score" not in row or row["score"] >= self.best.get("score", -1.0):
            self.best = row
            save_model(self.output / "model.safetensors", module.best_weights, header)

    def _with_result(self, row: dict[str, float]) -> ModelHeader:
        provenance = self.header.provenance | {"validation": row}
        return self.header.model_copy(update={"provenance": provenance})


def _file_name(name: str) -> str:
    return name.replace("[", "-").replace("]", "").replace("/", "-")
