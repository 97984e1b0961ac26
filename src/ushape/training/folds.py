"""Cross-validation: a run per fold, each image scored by the run that did not see it, all models joined."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import nn

from ushape.backends import Precision
from ushape.checkpoint import join_models, load_model, read_header
from ushape.config import UNCALIBRATED, ModelHeader, parse_duration
from ushape.data import Sample, open_folds
from ushape.errors import ConfigError, OutputError
from ushape.predict import Segmenter
from ushape.training import calibration
from ushape.training.checkpoint_io import newest_whole
from ushape.training.fitting import fitted
from ushape.training.fold_table import Row, on_screen, write_page, write_table
from ushape.training.pixel_sizes import common_pixel_size, with_pixel_size
from ushape.training.recipe import Recipe
from ushape.training.recipe import recipe as recipe_named
from ushape.training.resolution import shrink_for
from ushape.training.run import TrainResult, train
from ushape.training.scores import Kind, Part, kind_of, part_of, total
from ushape.training.tiles import class_weights
from ushape.training.tuning import object_diameter, objects_in_words, tuning_set, untuned

Array = np.ndarray[Any, Any]

KEPT: dict[Kind, float] = {"areas": 4.0, "objects": 5.5, "cells": 5.5}
"""What a fold's images take at the end, in validations: to be predicted and scored; to be fitted to."""

TABLE = "out-of-fold.csv"
"""In the folder of a fold: the scores of its held-out images. A fold that has it is done."""


@dataclass(frozen=True)
class Fold:
    """Held-out images of one fold, as the last model of its run sees them.

    Attributes
    ----------
    name : str
    model : Path
    header : ModelHeader
        Of that model.
    samples : list of Sample
    parts : list of Part
        What each of them adds to the scores, with what the model's own training images were fitted to.
    uncalibrated : dict of ndarray of float32, shape (C, H, W)
        Probabilities, uncalibrated, of those that the ensemble is fitted to, by name.
    """

    name: str
    model: Path
    header: ModelHeader
    samples: list[Sample]
    parts: list[Part]
    uncalibrated: dict[str, Array]


def train_folds(
    data: str | Path,
    output: str | Path,
    folds: int,
    *,
    time: str | float | None = None,
    steps: int | None = None,
    validation: str | None = None,
    classes: int | str | None = None,
    ignore: int | str | None = None,
    images: str | None = None,
    masks: str | None = None,
    seed: int = 0,
    resume: bool = False,
    quiet: bool = True,
    started: float | None = None,
    **options: Any,
) -> TrainResult:
    """Train a network per fold, and join them.

    Every image is held out once. `fold-1`, `fold-2` and so on in `output` are runs as of `train`. `folds.csv`
    scores each image by the last model of the run that held it out; not by the best, which was chosen by its
    scores on these very images: to the last model, too, calibration and post-processing of a fold are fitted.
    `model.safetensors` is the ensemble of the last models, its calibration and post-processing fitted on all
    images as predicted out of fold.

    Parameters
    ----------
    data, output, classes, ignore, images, masks, quiet, started, options
        See `train`.
    folds : int
        2 to the number of images.
    time : str or float or None
        Span of time for everything, scores and ensemble included.
    steps : int or None
        Number of optimiser steps of each fold.
    validation : None
        Each fold has its own.
    seed : int
        Decides the folds; fold k is trained with seed + k - 1.
    resume : bool
        Go on with the fold that was interrupted.

    Returns
    -------
    TrainResult
        `model` and `last` are the ensemble, `steps` those of all folds, `scores` those out of fold. If Ctrl-C
        ended it, those of the run that was interrupted.

    Raises
    ------
    DataError, OutputError
        See `train`.
    ConfigError
        If options contradict each other, or there are fewer images than folds.
    """
    console, output = Console(markup=False, emoji=False, quiet=quiet), Path(output)
    _require_sense(folds, validation, output, resume)
    _require_one_device(options.get("devices", 1) * options.get("nodes", 1))
    reading: dict[str, Any] = {"classes": classes, "ignore": ignore, "images": images, "masks": masks}
    groups, infos = open_folds(data, folds, seed=seed, **reading)
    stated = options.get("pixel_size"), options.get("from_model")
    groups = [with_pixel_size(group, *stated) for group in groups]
    samples = [sample for group in groups for sample in group]
    kind = kind_of(samples, len(infos))
    encoder: nn.Module | None = options.get("encoder")
    # How far images are shrunk is decided once, or folds might not be joined.
    recipe = recipe_named(options.get("recipe", "fast"))
    shrink = recipe.shrink or shrink_for(samples, len(infos), kind)
    options["recipe"] = recipe.model_copy(update={"shrink": shrink})
    share = None if time is None else parse_duration(str(time)) / folds
    chosen = tuning_set(samples, samples)
    done: list[Fold] = []
    rows: list[Row] = []
    for number, group in enumerate(groups, start=1):
        folder, own_seed = output / f"fold-{number}", (seed + number - 1) % 2**64
        console.print(f"fold {number} of {folds}", highlight=False)
        is_done = resume and (folder / TABLE).is_file()
        if is_done:
            _require_same_images(folder, group)
        result = train(  # one that is done is compared with what is asked for; it goes on if that is more
            data,
            folder,
            time=share,
            steps=steps,
            validation=[sample.name for sample in group],
            seed=own_seed,
            resume=is_done or (resume and _was_begun(folder)),
            kept=KEPT[kind],
            quiet=quiet,
            started=started if number == 1 else None,
            **reading,
            **options,
        )
        # During the last validation, too: this fold is whole then, but the others are not.
        if result.stop_asked:
            return replace(result, interrupted=True)
        where = {name: options.get(name, "auto") for name in ("device", "precision")}
        model = folder / "last.safetensors"
        done.append(_predicted(str(number), model, group, chosen, kind, encoder, **where))
        of_fold = _rows(done[-1], kind)
        write_table(folder / TABLE, of_fold)
        rows += of_fold
        write_table(output / "folds.csv", rows)
    return _joined(output, done, rows, chosen, kind, recipe, encoder, console)


def _joined(
    output: Path,
    done: Sequence[Fold],
    rows: list[Row],
    chosen: Sequence[Sample],
    kind: Kind,
    recipe: Recipe,
    encoder: nn.Module | None,
    console: Console,
) -> TrainResult:
    """Score all images, tune on some of them, write the ensemble, the table and the page."""
    samples = [sample for fold in done for sample in fold.samples]
    everything = total([part for fold in done for part in fold.parts], kind)
    rows.append(Row("all", "all", everything))
    model = output / "model.safetensors"
    classes = len(done[0].header.classes)
    weights = class_weights(samples, classes, recipe.class_power)
    taken_back = calibration.to_take_back(weights, classes, kind, recipe)
    by_name = {name: likely for fold in done for name, likely in fold.uncalibrated.items()}
    predicted = [by_name[sample.name] for sample in chosen]
    changes = fitted(chosen, predicted, kind, untuned(samples, kind), taken_back) | {
        "pixel_size_um": common_pixel_size(samples),
        "object_diameter_px": None if kind == "areas" else object_diameter(samples),
    }
    out_of_fold = {"folds": len(done), "out_of_fold": everything.row()}
    header = join_models(
        [fold.model for fold in done], model, changes=changes, provenance=out_of_fold, encoder=encoder
    )
    write_table(output / "folds.csv", rows)
    write_page(output, header, rows, kind)
    console.print(on_screen(rows))
    console.print(objects_in_words(header, "images out of fold"), highlight=False, soft_wrap=True)
    steps = sum(int(fold.header.provenance["validation"]["step"]) for fold in done)
    return TrainResult(model=model, last=model, steps=steps, scores=everything.row(), interrupted=False)


def _predicted(
    name: str,
    model: Path,
    samples: list[Sample],
    chosen: Sequence[Sample],
    kind: Kind,
    encoder: nn.Module | None,
    *,
    device: str,
    precision: Precision,
) -> Fold:
    """Predict and score the images of a fold, one after the other: all at once could be too much."""
    network, header = load_model(model, encoder=encoder)
    segmenter = Segmenter(
        network, header.model_copy(update=UNCALIBRATED._asdict()), device=device, engine="pytorch"
    )
    parts, kept, names = [], {}, {sample.name for sample in chosen}
    for sample in samples:
        uncalibrated = segmenter(sample.image, precision, axes="CYX").probabilities
        likely = calibration.calibrated(uncalibrated, header.calibration)
        parts.append(part_of(sample, likely, header.postprocessing, kind))
        if sample.name in names:
            kept[sample.name] = uncalibrated
    return Fold(name, model, header, samples, parts, kept)


def _rows(fold: Fold, kind: Kind) -> list[Row]:
    """Scores of each image of a fold, and of all of them together."""
    each = [
        Row(fold.name, sample.name, total([part], kind))
        for sample, part in zip(fold.samples, fold.parts, strict=True)
    ]
    return [*each, Row(fold.name, "all", total(fold.parts, kind))]


def _require_sense(folds: int, validation: str | None, output: Path, resume: bool) -> None:
    if folds < 2:
        raise ConfigError(
            f"--folds {folds}: nothing would be held out, or nothing trained on; give 2 or more"
        )
    if validation is not None:
        raise ConfigError(f"--folds holds every image out once; drop --validation {validation}, or --folds")
    if resume and not (output / "fold-1").is_dir():
        raise ConfigError(f"{output}: nothing to resume, there is no fold-1/ in it; drop --resume")
    if not resume and (output / "model.safetensors").exists():
        raise OutputError(f"{output}: holds a run already; give another --output")


def _require_one_device(processes: int) -> None:
    if processes > 1:  # each process would begin the folds for itself
        raise ConfigError(f"--folds trains on one device, not on {processes}; drop --devices and --nodes")


def _was_begun(folder: Path) -> bool:
    """Whether a run can be gone on with; what one left that was killed before its first checkpoint goes."""
    if newest_whole(folder / "checkpoint").is_dir():
        return True
    for name in ("model", "last"):
        (folder / f"{name}.safetensors").unlink(missing_ok=True)
    return False


def _require_same_images(folder: Path, held_out: Sequence[Sample]) -> None:
    """Refuse to go on where a finished fold held out other images."""
    before = read_header(folder / "last.safetensors").provenance["held_out"]
    if before.keys() != {sample.name for sample in held_out}:
        raise ConfigError(
            f"--resume: {folder} held out other images; give the --folds and --seed of that run, or another "
            "--output"
        )
