"""Whole validation images through the network as it stands: scores, pictures, and the best model kept."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, Trainer
from torch import nn

from ushape import io, pictures
from ushape.backends import Precision
from ushape.checkpoint import load_model, save_model
from ushape.config import IGNORE, UNCALIBRATED, ModelHeader
from ushape.data import Sample
from ushape.instances import instances
from ushape.models import Network
from ushape.predict import Segmenter
from ushape.predict.probabilities import most_probable
from ushape.training import calibration
from ushape.training.fitting import fitted
from ushape.training.module import TrainingModule
from ushape.training.scores import Curve, Kind, Scores, counted_objects, kind_of, score
from ushape.training.tuning import tuning_set
from ushape.training.until import Until

Array = np.ndarray[Any, Any]

SHOWN = 8
"""Validation images that are drawn: always the same ones, but at the end those that are worst."""

WINDOW = 1024
"""Height and width in pixels of what is drawn of larger images between validations."""

LOOK = 3.0
"""Seconds in which pictures are drawn between validations; one at least is."""

COLUMNS = (
    *("step", "learning_rate", "loss", "score", "accuracy", "dice", "iou"),
    *("ap", "v_rand", "pixel_error", "ece"),
)


class Validation(Callback):
    """Scores and draws validation images; keeps `model.safetensors` (best) and `last.safetensors`.

    Parameters
    ----------
    samples : list of Sample
        Validation images.
    tuned_on : list of Sample
        Training images on which the calibration is fitted at the end, and the post-processing where single
        objects matter; none: they are not.
    header : ModelHeader
        Of the model files.
    output : Path
        Folder of the run.
    device : str
        Where the network is.
    precision : {"auto", "fp32", "bf16"}
        In which it predicts.
    until : Until, optional
        The score by which the best model is chosen.
    encoder : nn.Module, optional
        Of one's own; model files are read with it.
    kind : {"cells", "objects", "areas"}, optional
        What is in the images of the data set; by default what is in `samples`.
    balance : ndarray of float, shape (C,), optional
        Class weights of the loss that are taken back, wholly, and at the end by a fitted share; see
        `calibration.to_take_back`.
    fits_last : bool
        Whether all is fitted to the last network, and not to the best, whose choice the validation images
        had a say in. Either way both files get it.
    tiles : ndarray, optional
        That the model files keep; see `predict.typical_tiles.tiles_to_keep`.

    Attributes
    ----------
    best : dict
        Scores of the best model when it was chosen: of all models by one and the same processing.
    result : dict
        Its scores with what was fitted; empty until that is done.
    scored : list of Sample
        Those that are scored: all of them, unless a short run can afford only some.
    limited : str
        What a person should know about that, until it is told.
    """

    def __init__(
        self,
        samples: list[Sample],
        tuned_on: list[Sample],
        header: ModelHeader,
        output: Path,
        *,
        device: str,
        precision: Precision = "auto",
        until: Until | None = None,
        encoder: nn.Module | None = None,
        kind: Kind | None = None,
        balance: Array | None = None,
        fits_last: bool = False,
        tiles: Array | None = None,
    ) -> None:
        self.samples, self.tuned_on, self.output = samples, tuned_on, output
        self.header = header.model_copy(update=calibration.expected(balance)._asdict())
        self.device, self.precision, self.encoder, self.scored = device, precision, encoder, samples
        self.kind: Kind = kind or kind_of(samples, len(header.classes))
        self.balance, self.fits_last, self.tiles = balance, fits_last, tiles
        self.until = until or Until()
        self.best: dict[str, float] = {}
        self.result: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.comparisons: dict[str, pictures.Comparison] = {}
        self.curve: Curve | None = None
        self.reliability: dict[str, Curve] = {}
        self.limited = ""

    def validate(self, trainer: Trainer, module: TrainingModule) -> None:
        """Score the network as it stands, write pictures, keep it if it is the best so far.

        The first of several processes does; the others wait, and are told.
        """
        row: dict[str, float] = {
            "step": trainer.global_step,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "loss": module.mean_loss(),
        }
        scores = self._scores(module.network_to_keep) if trainer.is_global_zero else None
        row = trainer.strategy.broadcast(row | scores.row() if scores else row)
        self.history.append(row)
        is_best = not self.best or self.until.merit(row) >= self.until.merit(self.best)
        self.best, self.result = row if is_best else self.best, {}
        if scores:
            self._log(trainer, row)
            self._keep(module.network_to_keep, row, is_best=is_best)
            if is_best:
                self.reliability = {calibration.in_words(self.header.calibration): scores.reliability}

    def look(self, network: Network) -> list[float]:
        """Draw some images, of large ones the middle; for a picture between two validations.

        Returns
        -------
        list of float
            Seconds in which a pixel is predicted and scored, and seconds in which a picture is drawn.
        """
        rates, drawn, views = [], 0.0, [_middle(sample) for sample in self.shown]
        begun = started = time.monotonic()
        predictions = self._predict(network, views)
        for view, probability in zip(views, predictions, strict=True):
            score([view], [probability], self.header.postprocessing, self.kind)
            predicted = time.monotonic()
            rates.append((predicted - begun) / view.objects.size)
            self._draw(view, probability)
            begun = time.monotonic()
            drawn += begun - predicted
            if begun - started > LOOK:
                break
        predictions.close()  # puts the network back into training mode
        return [min(rates), drawn / len(rates)]  # the first waits for what is compiled on first use

    def cost(self, per_pixel: float, per_picture: float) -> float:
        """Seconds that a validation takes, from what `look` returned."""
        pixels = sum(sample.objects.size for sample in self.scored)
        return per_pixel * pixels + per_picture * len(self.shown)

    def limit(self, per_pixel: float, per_picture: float, affordable: float) -> None:
        """Score only as many images as can be afforded, evenly spread, and at least one.

        Parameters
        ----------
        per_pixel, per_picture : float
            Seconds; see `look`.
        affordable : float
            Seconds that a validation may take.
        """
        order = _spread(len(self.samples))
        pixels = np.cumsum([self.samples[place].objects.size for place in order])
        costs = per_pixel * pixels + per_picture * np.arange(1, len(order) + 1).clip(max=SHOWN)
        self._score_only(max(1, int(np.searchsorted(costs, affordable, side="right"))))
        if len(self.scored) < len(self.samples):
            self.limited = (
                f"scores are those of {len(self.scored)} of {len(self.samples)} validation images, evenly "
                f"spread: more than {affordable:.0f} s of this run are not spent on a validation"
            )

    @property
    def shown(self) -> list[Sample]:
        """Images that are drawn."""
        return [self.samples[place] for place in _spread(len(self.samples))[: min(SHOWN, len(self.scored))]]

    def finish(self, is_late: Callable[[], bool] = lambda: False) -> None:
        """Fit calibration and post-processing; take scores and pictures of the best model once more.

        Not before: models are chosen among by one and the same processing. On no more pixels than are
        scored, and only until `is_late`.
        """
        self.tuned_on = tuning_set(self.tuned_on, self.scored)
        names = {"tuned_on": [sample.name for sample in self.tuned_on]}
        paths = [self.output / f"{name}.safetensors" for name in ("model", "last")]
        (best, _), (last, of_last) = (load_model(path, encoder=self.encoder) for path in paths)
        changes = self._fitted(last if self.fits_last else best, is_late)
        self.header = self.header.model_copy(update=changes | {"provenance": self.header.provenance | names})
        after = self._scores(best, is_last=True)
        self.result = self.best | after.row() | {"ece_at_temperature_1": self.best["ece"]}
        self.reliability[calibration.in_words(self.header.calibration)] = after.reliability
        save_model(paths[0], best, self._with_result(self.result), self.tiles)
        save_model(
            paths[1],
            last,
            of_last.model_copy(update=changes | {"provenance": of_last.provenance | names}),
            self.tiles,
        )

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {
            "best": self.best,
            "result": self.result,
            "history": self.history,
            "header": self.header.model_dump(mode="json"),
            "scored": len(self.scored),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an interrupted run."""
        self.best, self.result, self.history = state["best"], state["result"], state["history"]
        self._score_only(state["scored"])

    def _score_only(self, count: int) -> None:
        places = sorted(_spread(len(self.samples))[:count])
        self.scored = [self.samples[place] for place in places]

    def _fitted(self, network: Network, is_late: Callable[[], bool]) -> dict[str, Any]:
        """Calibration and, so calibrated, post-processing that suit the training images."""
        uncalibrated = self.header.model_copy(update=UNCALIBRATED._asdict())
        predicted = self._predict(network, self.tuned_on, uncalibrated)
        start = self.header.postprocessing
        return fitted(self.tuned_on, predicted, self.kind, start, self.balance, is_late)

    def _scores(self, network: Network, *, is_last: bool = False) -> Scores:
        self.comparisons = {}
        worst: list[tuple[float, int, Array]] = []
        predicted = self._predict(network, self.scored)
        watched = self._noting_worst(predicted, worst) if is_last else self._drawing(predicted)
        scores = score(self.scored, watched, self.header.postprocessing, self.kind)
        if is_last:
            self._draw_worst(worst)
        self.curve = scores.curve
        return scores

    def _drawing(self, predicted: Iterable[Array]) -> Iterator[Array]:
        """Draw those of the scored images that are shown, on the way."""
        shown = [sample.name for sample in self.shown]
        for sample, probability in zip(self.scored, predicted, strict=True):
            if sample.name in shown:
                self._draw(sample, probability)
            yield probability

    def _noting_worst(
        self, predicted: Iterable[Array], worst: list[tuple[float, int, Array]]
    ) -> Iterator[Array]:
        """Keep those of the scored images in which prediction and truth agree least, and their places."""
        for place, probability in enumerate(predicted):
            is_chosen = len(self.scored) > SHOWN
            agreement = self._differences(self.scored[place], probability).agreement if is_chosen else 0.0
            worst.append((agreement, place, probability))
            worst.sort(key=itemgetter(0, 1))
            del worst[SHOWN:]
            yield probability

    def _draw_worst(self, worst: Sequence[tuple[float, int, Array]]) -> None:
        for path in (self.output / "validation").glob("*.png"):
            path.unlink()  # of earlier models, and perhaps of other images
        for _, place, probability in worst:
            self._draw(self.scored[place], probability)

    def _predict(
        self, network: Network, samples: list[Sample], header: ModelHeader | None = None
    ) -> Generator[Array]:
        """Probabilities (C, H, W) of whole images, one after the other."""
        # The weights change all the time: to convert them each time would take longer than to use them.
        segmenter = Segmenter(network.eval(), header or self.header, device=self.device, engine="pytorch")
        try:
            for sample in samples:
                yield segmenter(sample.image, self.precision, axes="CYX").probabilities
        finally:
            network.train()

    def _differences(self, sample: Sample, probability: Array) -> pictures.Differences:
        if self.kind == "areas":
            return pictures.class_differences(most_probable(probability), sample.classes)
        ids, truth = instances(probability[1], self.header.postprocessing), counted_objects(sample)
        return pictures.differences(ids, truth, counted=sample.classes != IGNORE)

    def _draw(self, sample: Sample, probability: Array) -> None:
        found = self._differences(sample, probability)
        colors = [info.color for info in self.header.classes]
        drawn = pictures.compare(
            sample.name, found, image=sample.image, probabilities=probability, colors=colors
        )
        self.comparisons[sample.name] = drawn
        path = self.output / "validation" / f"{_file_name(sample.name)}.png"
        io.write_overlay(path, pictures.side_by_side(list(drawn.panels.values()), list(drawn.panels)))

    def _log(self, trainer: Trainer, row: dict[str, float]) -> None:
        io.write_csv(
            self.output / "metrics.csv", COLUMNS, [[r.get(c, "") for c in COLUMNS] for r in self.history]
        )
        for logger in trainer.loggers:
            logger.log_metrics(
                {f"validation/{name}": row[name] for name in COLUMNS[3:] if name in row}, trainer.global_step
            )

    def _keep(self, network: Network, row: dict[str, float], *, is_best: bool) -> None:
        header = self._with_result(row)
        save_model(self.output / "last.safetensors", network, header, self.tiles)
        if is_best:
            save_model(self.output / "model.safetensors", network, header, self.tiles)

    def _with_result(self, row: dict[str, float]) -> ModelHeader:
        provenance = self.header.provenance | {"validation": row}
        return self.header.model_copy(update={"provenance": provenance})


def _file_name(name: str) -> str:
    return name.replace("[", "-").replace("]", "").replace("/", "-")


def _spread(count: int) -> list[int]:
    """The numbers below `count` in an order every beginning of which is spread evenly: bits reversed."""
    return sorted(range(count), key=lambda number: f"{number:b}"[::-1].ljust(64, "0"))


def _middle(sample: Sample) -> Sample:
    """What lies within a square of `WINDOW` pixels in the middle of an image."""
    starts = [max(0, (side - WINDOW) // 2) for side in sample.objects.shape]
    y, x = (slice(start, start + WINDOW) for start in starts)
    return replace(sample, image=sample.image[:, y, x], objects=sample.objects[y, x])
