"""From a folder of annotated images to a model file: the function behind `ushape train`."""

import time as clock
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rich.console import Console
from torch import nn

from ushape.backends import (
    Precision,
    PyTorchBackend,
    find_device,
    find_precision,
    training_format,
)
from ushape.checkpoint import read_header
from ushape.config import Architecture, ModelHeader, PixelSize, parse_duration
from ushape.data import Sample, open_dataset
from ushape.errors import ConfigError, OutputError
from ushape.io import output_folder
from ushape.models.encoders import Weights
from ushape.predict.typical_tiles import tiles_to_keep
from ushape.training import calibration
from ushape.training.budget import Budget
from ushape.training.checkpoint_io import SafeCheckpointIO, newest_whole
from ushape.training.compiling import compiles
from ushape.training.course import Course
from ushape.training.feed import AugmentOn, TileData, share_of_step
from ushape.training.fine_tuning import encoder_weights, in_words, origin, slower
from ushape.training.header import (
    describe,
    initial_network,
    provenance,
    require_same_run,
    unfit_grey_values,
)
from ushape.training.loop import interruptible, trainer_for, within_memory, without_chatter
from ushape.training.module import TrainingModule
from ushape.training.orientation import has_top
from ushape.training.page import write_page
from ushape.training.pixel_sizes import differing_pixel_sizes, unfit_pixel_size, with_pixel_size
from ushape.training.processes import from_first, is_first, own_device
from ushape.training.progress import KEEPS_PIECES, UPRIGHT, ProgressLines, ending, plan_in_words
from ushape.training.recipe import Recipe
from ushape.training.recipe import recipe as recipe_named
from ushape.training.schedule import Schedule
from ushape.training.scores import Scores, kind_of
from ushape.training.tiles import TileDataset
from ushape.training.tuning import tuning_set
from ushape.training.until import until as until_of
from ushape.training.validation import Validation


@dataclass(frozen=True)
class TrainResult:
    """What a training run left behind.

    Attributes
    ----------
    model, last : Path
        Best and last model file.
    steps : int
        Optimiser steps taken, those before a resume included.
    scores : dict
        Validation scores of the best model, by name.
    interrupted : bool
        Whether Ctrl-C ended the run before its budget.
    stop_asked : bool
        Whether Ctrl-C came at all: after the last step the run ends as it would have.
    rank : int
        Number of this process among those that trained together; the first, 0, writes and prints.
    """

    model: Path
    last: Path
    steps: int
    scores: dict[str, float]
    interrupted: bool
    stop_asked: bool = False
    rank: int = 0


def train(
    data: str | Path,
    output: str | Path,
    *,
    model: str | Architecture = "auto",
    encoder: nn.Module | None = None,
    width: int | None = None,
    from_model: str | Path | None = None,
    pretrained: Weights | None = None,
    freeze_encoder: int | None = None,
    recipe: str | Recipe = "fast",
    time: str | float | None = None,
    steps: int | None = None,
    until: str | None = None,
    validation: str | Path | Sequence[str] | None = None,
    classes: int | str | None = None,
    ignore: int | str | None = None,
    images: str | None = None,
    masks: str | None = None,
    pixel_size: float | str | PixelSize | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    workers: int | None = None,
    augment_on: AugmentOn = "auto",
    compiled: bool | None = None,
    int8_tiles: bool = True,
    resume: bool = False,
    quiet: bool = True,
    started: float | None = None,
    kept: float = 0.0,
) -> TrainResult:
    """Train a network on annotated images.

    Parameters
    ----------
    data : path
        Folder in one of the layouts of `ushape.data.find_pairs`.
    output : path
        Folder of the run: gets `model.safetensors` (best), `last.safetensors`, `metrics.csv`, TensorBoard
        events, `validation/*.png`, `report.html` and `checkpoint/`.
    model : str, UNetConfig or EncoderUNetConfig
        Network: "auto" lets the recipe decide, "paper", "released"; or the name of an encoder of timm, such
        as "resnet34" (see `ushape.EncoderUNet`). Or its description, of which the numbers of channels and
        classes are those of the data, whatever it says.
    encoder : nn.Module, optional
        Of one's own (see `ushape.EncoderUNet`), as it is; it is copied. `model` may describe what is built on
        it. Whatever reads the model file afterwards is to be given it again.
    width : int or None
        Channels at full resolution, instead of the recipe's or of the model's own.
    from_model : path or None
        Model file whose weights to start from; it also decides architecture and normalisation.
    pretrained : bool, path or None
        Weights that an encoder of timm starts from: True (and None) for those of timm's hub, a path for a
        file with them, False for random ones. True with `encoder`: its weights are trained ones.
    freeze_encoder : int or None
        So many levels of the contracting path of `from_model` or of the pretrained encoder, from the first,
        stay as they are.
    recipe : {"fast", "paper"} or Recipe
        A recipe of one's own is made from one of these: `FAST.model_copy(update={"border_w0": 0.0})`; see
        docs/recipes.md.
    time : str or float or None
        Span of time for everything, such as "10m", or seconds.
    steps : int or None
        Number of optimiser steps; at most one of `time` and `steps`.
    until : str or None
        What ends the run before `time` or `steps` do: a score to reach, such as "v_rand=0.96", "ap_0.50=0.8",
        "dice=0.9" or "pixel_error=0.06", by which the best model is then chosen, too; or "stalled": no better
        score in a quarter of the budget.
    validation : str, path or sequence of str, optional
        Share (by default 0.2), folder, or comma-separated names (slice numbers) of the images to validate on;
        or a sequence of their whole names.
    classes, ignore, images, masks
        How to read the masks; see `ushape.data.open_dataset`.
    pixel_size : float, str or (float, float), optional
        Size of a pixel (or height and width) of all training images in micrometres, for the model file,
        whatever the files of the images say; no image is resampled. A model that `from_model` gives must
        know the same, or none.
    seed : int
        Same seed and `steps`: same model file.
    device : str
        "auto", "cpu", "cuda" or "mps".
    precision : {"auto", "fp32", "bf16"}
        In which steps and validations are computed; "bf16" is mixed precision, with weights in float32.
        "auto": bf16 where the processor or GPU multiplies bfloat16 itself, else fp32. On a GPU steps in
        "fp32" multiply in TensorFloat-32 as PyTorch does by default, validations in float32.
    devices, nodes : int
        Processes that train together on each machine, one per GPU, and machines. The program is started once
        more for each (see docs/cluster.md), so in a script this call stands below `__name__ == "__main__"`.
    workers : int or None
        Processes that make tiles; the result does not depend on it. None: none on a CPU, some for a GPU.
    augment_on : {"auto", "cpu", "device"}
        Where tiles are made; "auto": on the device if that is a GPU that can keep all images. The same
        draws give the same tiles, apart from rounding and noise.
    compiled : bool or None
        Whether `torch.compile` compiles the network, in the first step and within the budget. None: on a
        GPU, with at least 8 tiles a step, in a run of at least 150 s or 3,000 steps. Results differ from
        PyTorch's by rounding.
    int8_tiles : bool
        Whether the model file keeps eight pieces of the training images, so that `precision="int8"` quantises
        the network once, and not for each image.
    resume : bool
        Go on from `output/checkpoint`.
    quiet : bool
        Print nothing.
    started : float or None
        `time.monotonic()` when the command began, if the budget shall count from there.
    kept : float
        Time of the budget to leave for what comes after the run, in validations. That is for the last model
        then, to which calibration and post-processing are fitted in place of the best.

    Returns
    -------
    TrainResult

    Raises
    ------
    DataError
        If training on `data` would be wrong.
    ConfigError
        If options contradict each other, or a GPU has not enough memory.
    OutputError
        If `output` holds a finished run, or cannot be written.
    """
    console = Console(markup=False, emoji=False, quiet=quiet or not is_first())
    weights = encoder_weights(model, pretrained, from_model, encoder)
    chosen, output = _recipe(recipe, from_model, freeze_encoder, weights), Path(output)
    budget = _budget(chosen, time, steps, clock.monotonic() if started is None else started)
    _require_free(output, resume)
    device = own_device(device, devices, nodes)
    precision = _precision(precision, device)
    samples, held_out, infos, notes = open_dataset(
        Path(data),
        images=images,
        masks=masks,
        classes=classes,
        ignore=ignore,
        validation=validation,
        seed=seed,
    )
    samples = with_pixel_size(samples, pixel_size, from_model)
    notes += differing_pixel_sizes(samples)
    kind = kind_of([*samples, *held_out], len(infos))
    goal = until_of(until, kind)
    header = describe(chosen, model, width, from_model, samples, infos, weights, held_out, encoder, kind)
    is_upright = chosen.upright is None and has_top(samples)
    chosen = chosen.decided(has_top=is_upright, areas=kind == "areas")
    tuned_on = tuning_set(samples, held_out)
    origins = provenance(chosen, seed, budget, precision, samples, held_out, tuned_on)
    origins |= origin(from_model, freeze_encoder, weights, encoder)
    header = header.model_copy(update={"provenance": origins})
    network = initial_network(header, from_model, seed, freeze_encoder, weights, encoder, is_resumed=resume)
    dataset = TileDataset(samples, chosen, network.geometry, header.normalization, seed=seed)
    if from_model is not None:
        notes += _starting_from(from_model, header, samples, freeze_encoder)
    if chosen.upright:
        notes.append(UPRIGHT)
    if int8_tiles:
        notes.append(KEEPS_PIECES)
    for line in [*notes, plan_in_words(header, dataset, len(samples), len(held_out), devices * nodes)]:
        console.print(line, highlight=False, soft_wrap=True)

    backend = PyTorchBackend(network, device, precision)
    tiles = share_of_step(dataset.tiles_per_step, devices * nodes)
    is_compiled = compiles(compiled, backend.device, tiles=tiles, steps=budget.steps, seconds=budget.seconds)
    module = TrainingModule(network, chosen, budget, seed=seed, compiled=is_compiled)
    feed = TileData(dataset, workers=workers, device=backend.device, augment_on=augment_on)
    network.to(memory_format=training_format(backend))  # type: ignore[call-overload]
    tuning = 2.0 if kind == "areas" else 3.5
    schedule = Schedule(budget, tuning=tuning, kept=kept)
    watch = Validation(
        held_out,
        tuned_on,
        header,
        output,
        device=str(backend.device),
        precision=precision,
        until=goal,
        encoder=encoder,
        kind=kind,
        balance=calibration.to_take_back(dataset.balance, len(infos), kind, chosen),
        fits_last=kept > 0,
        tiles=tiles_to_keep(samples, header.normalization, network.geometry) if int8_tiles else None,
    )
    course = Course(output, watch, schedule)
    callbacks = [watch, course, ProgressLines(console, watch)]
    checkpoint = newest_whole(output / "checkpoint") if resume else None
    if checkpoint is not None:  # refused before the run's folder is touched
        for line in _going_on(checkpoint, module, watch, precision):
            console.print(line, highlight=False)
    memory = within_memory(chosen, tiles, dataset.size_in)
    with output_folder(output), interruptible(budget), without_chatter(), memory, closing(feed):
        trainer = trainer_for(output, backend, callbacks, devices, nodes)
        budget.share = from_first
        network.train()
        trainer.fit(module, feed, ckpt_path=checkpoint)
    if is_first():
        watch.header = read_header(output / "model.safetensors")  # what was fitted, in this run or before it
        for line in ending(watch, course.reason):
            console.print(line, highlight=False, soft_wrap=True)
        _write_page(output, watch)
    told = watch.result or watch.best  # the first process alone has the result
    return TrainResult(
        model=output / "model.safetensors",
        last=output / "last.safetensors",
        steps=trainer.global_step,
        scores={name: value for name, value in told.items() if name in Scores.__annotations__},
        interrupted=course.interrupted,
        stop_asked=budget.stop_asked,
        rank=trainer.global_rank,
    )


def _recipe(
    name: str | Recipe, from_model: str | Path | None, freeze_encoder: int | None, weights: Weights
) -> Recipe:
    if from_model is not None:
        return slower(recipe_named(name))
    if freeze_encoder is not None and weights is False:
        raise ConfigError(
            f"--freeze-encoder {freeze_encoder} keeps weights of a trained model; give one with --from, or "
            "an encoder that is pretrained with --model"
        )
    return recipe_named(name)


def _starting_from(
    from_model: str | Path, header: ModelHeader, samples: list[Sample], freeze_encoder: int | None
) -> list[str]:
    """What is taken from a model, and what of the images does not fit it."""
    unfit = *unfit_grey_values(header, samples), *unfit_pixel_size(from_model, samples)
    return [in_words(header, from_model, freeze_encoder), *unfit]


def _precision(asked: str, device: str) -> Precision:
    if asked not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"--precision {asked}: a network is trained in auto, fp32 or bf16")
    return cast(Precision, find_precision(asked, find_device(device)))


def _budget(recipe: Recipe, time: str | float | None, steps: int | None, started: float) -> Budget:
    if time is not None and steps is not None:
        raise ConfigError(f"give --time or --steps, not both (got --time {time} and --steps {steps})")
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps must be at least 1, got {steps}")
    if time is not None:
        return Budget(None, parse_duration(str(time)), started=started)
    return Budget(steps or recipe.steps, None, started=started)


def _require_free(output: Path, resume: bool) -> None:
    checkpoint = newest_whole(output / "checkpoint")
    if resume and not checkpoint.is_dir():
        raise ConfigError(f"{output}: nothing to resume, there is no checkpoint/ in it; drop --resume")
    if not resume and (output / "model.safetensors").exists():
        fix = (
            ", or --resume to go on with it"
            if checkpoint.is_dir()
            else " (it has no checkpoint/ to go on from)"
        )
        raise OutputError(f"{output}: holds a run already; give another --output{fix}")


def _going_on(checkpoint: Path, module: TrainingModule, watch: Validation, precision: str) -> Iterator[str]:
    """Refuse a checkpoint of another run; say what is otherwise than it was."""
    state = SafeCheckpointIO().load_checkpoint(checkpoint)
    module.require_same_network(state)
    before = state["callbacks"][watch.state_key].get("header")
    require_same_run(before, watch.header)
    if (told := before["provenance"].get("precision", precision)) != precision:
        yield f"trained in {told} until now, goes on in {precision}"


def _write_page(output: Path, watch: Validation) -> None:
    """Write the report; a run that was finished before has its own, with all that was drawn then."""
    comparisons = list(watch.comparisons.values())
    if comparisons or not (output / "report.html").exists():
        write_page(
            output,
            watch.header,
            watch.history,
            watch.result,
            comparisons,
            watch.curve,
            watch.reliability,
            chosen_by=watch.until.metric,
        )
