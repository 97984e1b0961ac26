"""Whole validation images through the network as it stands: scores, pictures, and the best model kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, Trainer

from ushape import io, metrics, pictures
from ushape.checkpoint import save_model
from ushape.config import IGNORE, ModelHeader, Postprocessing
from ushape.data import Sample
from ushape.instances import instances
from ushape.predict import Segmenter
from ushape.training.budget import Budget
from ushape.training.module import TrainingModule
from ushape.weight_map import cut_gap

Array = np.ndarray[Any, Any]

COLUMNS = ("step", "learning_rate", "loss", "score", "accuracy", "dice", "iou", "ap", "v_rand", "pixel_error")


@dataclass(frozen=True)
class Scores:
    """Scores over the whole validation set; `score` is the one that selects the model.

    It is V_rand where objects fill most of the image, as cells in EM do; AP(0.5) where single objects touch,
    as nuclei do; else the mean Dice over the classes that occur.
    """

    score: float
    accuracy: float
    dice: float
    iou: float
    ap: float | None = None
    v_rand: float | None = None
    pixel_error: float | None = None

    def row(self) -> dict[str, float]:
        """Scores by name, without those that do not apply."""
        return {name: value for name, value in vars(self).items() if value is not None}


def score(samples: list[Sample], probabilities: list[Array], postprocessing: Postprocessing) -> Scores:
    """Score predicted probabilities, (C, H, W) each, against annotated images."""
    pairs = list(zip(probabilities, samples, strict=True))
    classes = probabilities[0].shape[0]
    counts = np.sum(
        [metrics.confusion(p.argmax(0), sample.classes, classes, ignore=IGNORE) for p, sample in pairs],
        axis=0,
    )
    present = counts.sum(0) + counts.sum(1) > 0
    overlap = {
        "accuracy": float(metrics.accuracy(counts)),
        "dice": float(np.mean(metrics.dice(counts)[present])),
        "iou": float(np.mean(metrics.iou(counts)[present])),
    }
    if classes == 2 and is_dense(samples):
        cells, truth = [p[1] for p in probabilities], [sample.objects for sample in samples]
        v_rand = metrics.v_rand(cells, truth).score
        pixel_error = metrics.pixel_error(cells, [ids > 0 for ids in truth]).score
        return Scores(score=v_rand, v_rand=v_rand, pixel_error=pixel_error, **overlap)
    if classes == 2 and any(has_touching_objects(sample) for sample in samples):
        matchings = [
            metrics.match(instances(p[1], postprocessing), _counted_objects(s), 0.5) for p, s in pairs
        ]
        ap = metrics.total(matchings).average_precision
        return Scores(score=ap, ap=ap, **overlap)
    return Scores(score=overlap["dice"], **overlap)


def is_dense(samples: list[Sample]) -> bool:
    """Whether objects fill most of the images and background is what separates them."""
    return float(np.mean([(sample.classes == 1).mean() for sample in samples])) > 0.5


def has_touching_objects(sample: Sample) -> bool:
    """Whether two objects of a sample touch: then its objects matter one by one."""
    return bool((cut_gap(sample.objects) != sample.objects).any())


def _counted_objects(sample: Sample) -> Array:
    return np.where(sample.classes == IGNORE, 0, sample.objects)


@dataclass
class Schedule:
    """When to validate: at fixed steps where the budget is in steps, else by the clock.

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

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Take no further step where a resumed run had used up its budget."""
        trainer.should_stop = module.budget.is_spent(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Validate if it is time to; where the budget ends, validate and end the run."""
        step = trainer.global_step
        # Decided here alone: a clock or a Ctrl-C between two such questions would skip the last validation.
        ends = module.budget.is_spent(step)
        if ends or self.schedule.is_due(step):
            self.validate(trainer, module)
        trainer.should_stop = ends

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
        probabilities = [segmenter(sample.image, axes="CYX").probabilities for sample in self.samples]
        network.train()
        self._draw(probabilities)
        return score(self.samples, probabilities, self.header.postprocessing)

    def _draw(self, probabilities: list[Array]) -> None:
        folder = self.output / "validation"
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
        io.write_csv(
            self.output / "metrics.csv", COLUMNS, [[r.get(c, "") for c in COLUMNS] for r in self.history]
        )
        for logger in trainer.loggers:
            logger.log_metrics(
                {f"validation/{k}": v for k, v in row.items() if k != "step"}, trainer.global_step
            )

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
