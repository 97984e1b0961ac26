"""Calibration error of held-out images: as trained, with a temperature, and with two kinds of bias beside it.

    python benchmarks/calibration.py DATA RUN/model.safetensors [MODEL ...]

All is fitted on the training images that the run itself fitted on; scores are those of its validation images.
A bias is a share of the loss's class weights taken back, or a number of its own for each class. A row per
model and way to calibrate; those of a model share one prediction.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from machine import circumstances
from ushape import Segmenter
from ushape.config import UNCALIBRATED, Calibration, Postprocessing
from ushape.data import Sample, open_dataset
from ushape.training.calibration import MOST_PIXELS, calibrated, fit, sampled
from ushape.training.scores import score
from ushape.training.tiles import class_weights

Array = np.ndarray[Any, Any]


def fit_each(samples: list[Sample], probabilities: list[Array]) -> Calibration:
    """The most likely temperature and a bias for each class; that of class 0 is 0."""
    most = MOST_PIXELS // len(samples)
    parts = [sampled(*pair, most) for pair in zip(samples, probabilities, strict=True)]
    values = np.concatenate([part for part, _ in parts], axis=1).astype(np.float64)
    classes = np.concatenate([part for _, part in parts]).astype(np.int64)[np.newaxis]

    def of(x: Array) -> Calibration:
        return Calibration(float(np.exp(x[0])), (0.0, *map(float, x[1:])))

    def loss(x: Array) -> float:
        likely = calibrated(values, of(x))
        return float(-np.log(np.maximum(np.take_along_axis(likely, classes, 0), 1e-38)).mean())

    found = minimize(
        loss, np.zeros(len(values)), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-7}
    )
    return of(found.x)


def rows(data: Path, model: Path, validation: str) -> Iterator[tuple[object, ...]]:
    """Scores of one model, calibrated in four ways."""
    segmenter = Segmenter.load(model)
    segmenter.header = segmenter.header.model_copy(update=UNCALIBRATED._asdict())
    run = segmenter.header.provenance
    training, validating, _, _ = open_dataset(data, validation=validation, seed=run["seed"])
    samples = {sample.name: sample for sample in [*training, *validating]}
    fitted, held_out = (
        [samples[name] for name in run["tuned_on"]],
        [samples[name] for name in run["held_out"]],
    )
    predicted, likely = (
        [segmenter(sample.image, axes="CYX").probabilities for sample in part] for part in (fitted, held_out)
    )
    weights = class_weights(training, len(segmenter.header.classes), run["recipe"]["class_power"])
    ways = {
        "as trained": UNCALIBRATED,
        "temperature": fit(fitted, predicted),
        "class weights taken back": fit(fitted, predicted, weights),
        "bias for each class": fit_each(fitted, predicted),
    }
    processing = Postprocessing(min_area=segmenter.header.postprocessing.min_area)
    for way, calibration in ways.items():
        numbers = [f"{calibration.temperature:.3f}", *(f"{bias:+.3f}" for bias in calibration.class_bias)]
        name = way if calibration is UNCALIBRATED else f"{way}: {', '.join(numbers)}"
        found = score(held_out, [calibrated(p, calibration) for p in likely], processing)
        special = found.v_rand if found.v_rand is not None else found.ap
        yield model.parent.name, name, found.ece, found.dice, special, found.pixel_error


def main() -> None:
    """Print the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    words.add_argument("models", type=Path, nargs="+")
    words.add_argument("--validation", default="0.2", help="as it was trained with")
    chosen = words.parse_args()
    print(circumstances(("ushape", "torch", "scipy"), "all cores"), "", sep="\n", flush=True)
    print(
        "| model | calibrated by | ECE | Dice | V_rand or AP(0.5) | pixel error |\n|---|---|---|---|---|---|"
    )
    for model in chosen.models:
        for row in rows(chosen.data, model, chosen.validation):
            cells = (f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row)
            print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
