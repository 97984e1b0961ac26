"""Whole validation images through the network as it stands: scores, pictures, and the best model kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, Trainer

from ushape import io, pictures
from ushape.checkpoint import load_model, save_model
from ushape.config import IGNORE, ModelHeader
from ushape.data import Sample
from ushape.instances import instances
from ushape.models import Network
from ushape.predict import Segmenter
from ushape.training.budget import Budget
from ushape.training.calibration import fit_temperature, tempered
from ushape.training.module import TrainingModule
from ushape.training.scores import Curve, Scores, counted_objects, score
from ushape.training.tuning import has_objects, tune

Array = np.ndarray[Any, Any]

SHOWN = 8
"""Validation images that are drawn."""

EARLY_STEPS = (16, 64, 256, 1024)
"""A run of many steps is looked at early, too."""

COLUMNS = (
    *("step", "learning_rate", "loss", "score", "accuracy", "dice", "iou"),
    *("ap", "v_rand", "pixel_error", "ece"),
)


@dataclass
class Schedule:
    """When to validate: at fixed steps where the budget is in steps, else by the clock.

    Parameters
    ----------
    budget : Budget
    evaluations : int
        Number of validations in a run of a number of steps.
    tuning : float
        What tuning at the end takes, as a multiple of a validation.
    """

    budget: Budget
    evaluations: int = 10
    tuning: float = 0.0
    last: float = 0.0
    cost: float = 0.0

    def is_due(self, step: int) -> bool:
        """Whether to validate after `step` steps."""
        if self.budget.steps is not None:
            return step in EARLY_STEPS or step % max(1, self.budget.steps // self.evaluations) == 0
        assert self.budget.seconds is not None
        # The first picture within a minute, and early in a short run: only then is the cost of the last one
        # known. Later at most a tenth of the time for validation.
        first = min(20.0, self.budget.seconds / 4)
        pause = first if not self.cost else max(60.0 - self.cost, 9 * self.cost)
        # One that would be over just before the last one tells nothing.
        left = self.budget.seconds - self.budget.reserve - self.budget.elapsed()
        return self.budget.elapsed() - self.last > pause and left > pause / 2

    def measured(self, started: float) -> None:
        """Note how long a validation took; the last one must fit in the budget."""
        self.last, self.cost = self.budget.elapsed(), self.budget.elapsed() - started
        self.budget.reserve = (1.5 + self.tuning) * self.cost + 2.0


class Validation(Callback):
    """Validates when due and at the end; keeps `model.safetensors` (best), `last.safetensors` and pictures.

    Parameters
    ----------
    samples : list of Sample
        Validation images.
    tuned_on : list of Sample
        Training images on which the temperature is fitted at the end, and the post-processing where single
        objects matter; none: they are not.
    header : ModelHeader
        Of the model files.
    output : Path
        Folder of the run.
    schedule : Schedule
        When to validate.
    device : str
        Where the network is.
    """

    def __init__(
        self,
        samples: list[Sample],
        tuned_on: list[Sample],
        header: ModelHeader,
        output: Path,
        schedule: Schedule,
        *,
        device: str,
    ) -> None:
        self.samples, self.tuned_on, self.header, self.output = samples, tuned_on, header, output
        self.schedule, self.device = schedule, device
        self.best: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.comparisons: dict[str, pictures.Comparison] = {}
        self.curve: Curve | None = None
        self.reliability: dict[str, Curve] = {}

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
        if ends and self.tuned_on:
            self.finish()
        trainer.should_stop = ends

    def validate(self, trainer: Trainer, module: TrainingModule) -> None:
        """Score the network as it stands, write pictures, keep it if it is the best so far."""
        started = self.schedule.budget.elapsed()
        scores = self._scores(module.best_weights)
        row: dict[str, float] = {
            "step": trainer.global_step,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "loss": module.mean_loss(),
            **scores.row(),
        }
        self._log(trainer, row)
        if self._keep(module, row):
            self.reliability = {"temperature 1": scores.reliability}
        self.schedule.measured(started)

    def finish(self) -> None:
        """Fit temperature and post-processing of the best model; take its scores and pictures once more.

        Not before: models are chosen among by one and the same processing.
        """
        best, last = (self.output / f"{name}.safetensors" for name in ("model", "last"))
        network, _ = load_model(best)
        before = {"ece_at_temperature_1": self.best["ece"]}
        fitted = self._fitted(network)
        self.header = self.header.model_copy(update=fitted)
        after = self._scores(network)
        self.best = self.best | after.row() | before
        self.reliability[f"temperature {self.header.temperature:g}"] = after.reliability
        save_model(best, network, self._with_result(self.best))
        network, header = load_model(last)
        save_model(last, network, header.model_copy(update=fitted))

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"best": self.best, "history": self.history, "provenance": self.header.provenance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an interrupted run."""
        self.best, self.history = state["best"], state["history"]

    def _fitted(self, network: Network) -> dict[str, Any]:
        """Temperature and, at that temperature, post-processing that suit the training images."""
        predicted = self._predict(network, self.tuned_on)
        if self.header.object_diameter_px is None:  # of many classes, all images at once would be too much
            return {"temperature": fit_temperature(self.tuned_on, predicted)}
        probabilities = list(predicted)
        temperature = fit_temperature(self.tuned_on, probabilities)
        foregrounds = [tempered(one, temperature)[1] for one in probabilities]
        tuned = tune(self.tuned_on, foregrounds, self.header.postprocessing)
        return {"temperature": temperature, "postprocessing": tuned}

    def _scores(self, network: Network) -> Scores:
        probabilities = []
        for sample, probability in zip(self.samples, self._predict(network, self.samples), strict=True):
            probabilities.append(probability)
            if len(probabilities) <= SHOWN:
                self._draw(sample, probability)
        scores = score(self.samples, probabilities, self.header.postprocessing)
        self.curve = scores.curve
        return scores

    def _predict(self, network: Network, samples: list[Sample]) -> Iterator[Array]:
        """Probabilities (C, H, W) of whole images, one after the other."""
        segmenter = Segmenter(network.eval(), self.header, device=self.device)
        for sample in samples:
            yield segmenter(sample.image, axes="CYX").probabilities
        network.train()

    def _draw(self, sample: Sample, probability: Array) -> None:
        if has_objects(self.samples, len(probability)):
            ids = instances(probability[1], self.header.postprocessing)
            truth = counted_objects(sample)
            found = pictures.differences(ids, truth, counted=sample.classes != IGNORE)
        else:
            found = pictures.class_differences(probability.argmax(0).astype(np.uint8), sample.classes)
        colors = [info.color for info in self.header.classes]
        drawn = pictures.compare(
            sample.name, found, image=sample.image, probabilities=probability, colors=colors
        )
        self.comparisons[sample.name] = drawn
        path = self.output / "validation" / f"{_file_name(sample.name)}.png"
        io.write_overlay(path, pictures.side_by_side(list(drawn.panels.values()), list(drawn.panels)))

    def _log(self, trainer: Trainer, row: dict[str, float]) -> None:
        self.history.append(row)
        io.write_csv(
            self.output / "metrics.csv", COLUMNS, [[r.get(c, "") for c in COLUMNS] for r in self.history]
        )
        for logger in trainer.loggers:
            logger.log_metrics(
                {f"validation/{name}": row[name] for name in COLUMNS[3:] if name in row}, trainer.global_step
            )

    def _keep(self, module: TrainingModule, row: dict[str, float]) -> bool:
        """Write the model, and tell whether it is the best so far."""
        header = self._with_result(row)
        save_model(self.output / "last.safetensors", module.best_weights, header)
        is_best = row["score"] >= self.best.get("score", -1.0)
        if is_best:
            self.best = row
            save_model(self.output / "model.safetensors", module.best_weights, header)
        return is_best

    def _with_result(self, row: dict[str, float]) -> ModelHeader:
        provenance = self.header.provenance | {"validation": row}
        return self.header.model_copy(update={"provenance": provenance})


def _file_name(name: str) -> str:
    return name.replace("[", "-").replace("]", "").replace("/", "-")
