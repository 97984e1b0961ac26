"""From a folder of annotated images to a model file: the function behind `ushape train`."""

import hashlib
import logging
import signal
import threading
import time as clock
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

import ushape
from ushape.backends import PyTorchBackend
from ushape.checkpoint import build_network, load_model, read_header
from ushape.config import ModelHeader, Normalization, parse_duration
from ushape.data import Sample, open_dataset
from ushape.errors import ConfigError, OutputError
from ushape.models import UNet
from ushape.training.budget import Budget
from ushape.training.checkpoint_io import SafeCheckpointIO, newest_whole
from ushape.training.module import TrainingModule
from ushape.training.page import write_page
from ushape.training.progress import ProgressLines
from ushape.training.recipe import Recipe, architecture
from ushape.training.recipe import recipe as recipe_named
from ushape.training.tiles import TileData, TileDataset
from ushape.training.validation import Schedule, Validation


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
        Validation scores of the best model; empty without validation images.
    interrupted : bool
        Whether Ctrl-C ended the run before its budget.
    """

    model: Path
    last: Path
    steps: int
    scores: dict[str, float]
    interrupted: bool


def train(
    data: str | Path,
    output: str | Path,
    *,
    model: str = "auto",
    width: int | None = None,
    from_model: str | Path | None = None,
    recipe: str = "fast",
    time: str | float | None = None,
    steps: int | None = None,
    validation: str = "0.2",
    classes: int | str | None = None,
    ignore: int | str | None = None,
    images: str | None = None,
    masks: str | None = None,
    seed: int = 0,
    device: str = "auto",
    workers: int = 0,
    resume: bool = False,
    quiet: bool = True,
    started: float | None = None,
) -> TrainResult:
    """Train a network on annotated images.

    Parameters
    ----------
    data : path
        Folder in one of the layouts of `ushape.data.find_pairs`.
    output : path
        Folder of the run: gets `model.safetensors` (best), `last.safetensors`, `metrics.csv`, TensorBoard
        events, `validation/*.png` and `checkpoint/`.
    model : {"auto", "paper", "released"}
        Network; "auto" lets the recipe decide.
    width : int or None
        Channels of the first level, instead of the recipe's.
    from_model : path or None
        Model file whose weights to start from; it also decides the architecture.
    recipe : {"fast", "paper"}
    time : str or float or None
        Span of time for everything, such as "10m", or seconds.
    steps : int or None
        Number of optimiser steps; at most one of `time` and `steps`.
    validation : str
        Share, folder, or comma-separated names (slice numbers) of the images to validate on.
    classes, ignore, images, masks
        How to read the masks; see `ushape.data.open_dataset`.
    seed : int
        Same seed and `steps`: same model file.
    device : str
        "auto", "cpu", "cuda" or "mps".
    workers : int
        Processes that make tiles; the result does not depend on it.
    resume : bool
        Go on from `output/checkpoint`.
    quiet : bool
        Print nothing.
    started : float or None
        `time.monotonic()` when the command began, if the budget shall count from there.

    Returns
    -------
    TrainResult

    Raises
    ------
    DataError
        If training on `data` would be wrong.
    ConfigError
        If options contradict each other.
    OutputError
        If `output` holds a finished run, or cannot be written.
    """
    console = Console(quiet=quiet)
    chosen, output = recipe_named(recipe), Path(output)
    budget = _budget(chosen, time, steps, clock.monotonic() if started is None else started)
    _claim(output, resume)
    samples, held_out, infos, notes = open_dataset(
        Path(data),
        images=images,
        masks=masks,
        classes=classes,
        ignore=ignore,
        validation=validation,
        seed=seed,
    )
    header = _header(chosen, model, width, from_model, samples, infos)
    header = header.model_copy(update={"provenance": _provenance(chosen, seed, budget, samples, held_out)})
    network = _network(header, from_model, seed)
    dataset = TileDataset(samples, chosen, network.geometry, header.normalization, seed=seed)
    for line in [*notes, _plan(header, dataset, samples, held_out)]:
        console.print(line, highlight=False, soft_wrap=True)

    module = TrainingModule(network, chosen, budget, seed=seed)
    watch = Validation(held_out, header, output, Schedule(budget))
    backend = PyTorchBackend(network, device)
    callbacks = [watch, Checkpoints(output, watch), ProgressLines(console, watch)]
    checkpoint = newest_whole(output / "checkpoint") if resume else None
    with _interruptible(budget), _without_chatter():
        trainer = _trainer(output, backend, callbacks)
        network.train()
        trainer.fit(module, TileData(dataset, workers=workers), ckpt_path=checkpoint)
    write_page(output, read_header(output / "model.safetensors"), watch.history, watch.best)
    return TrainResult(
        model=output / "model.safetensors",
        last=output / "last.safetensors",
        steps=trainer.global_step,
        scores=watch.best,
        interrupted=budget.interrupted,
    )


def _budget(recipe: Recipe, time: str | float | None, steps: int | None, started: float) -> Budget:
    if time is not None and steps is not None:
        raise ConfigError(f"give --time or --steps, not both (got --time {time} and --steps {steps})")
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps must be at least 1, got {steps}")
    if time is not None:
        return Budget(None, parse_duration(str(time)), started=started)
    return Budget(steps or recipe.steps, None, started=started)


def _claim(output: Path, resume: bool) -> None:
    checkpoint = newest_whole(output / "checkpoint")
    if resume and not checkpoint.is_dir():
        raise ConfigError(f"{output}: nothing to resume, there is no checkpoint/ in it; drop --resume")
    if not resume and (output / "model.safetensors").exists():
        raise OutputError(
            f"{output}: holds a run already; give another --output, or --resume to go on with it"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output}: cannot make the folder: {error.strerror}") from error


def _header(
    recipe: Recipe,
    model: str,
    width: int | None,
    from_model: str | Path | None,
    samples: list[Sample],
    infos: Any,
) -> ModelHeader:
    channels = samples[0].image.shape[0]
    config = architecture(recipe, model, width, channels, len(infos))
    normalization = Normalization()
    if from_model is not None:
        _, source = load_model(from_model)
        if source.architecture.in_channels != channels:
            raise ConfigError(
                f"{from_model}: takes images of {source.architecture.in_channels} channels; the data have {channels}"
            )
        config = source.architecture.model_copy(update={"classes": len(infos)})
        normalization = source.normalization
    return ModelHeader(
        name=_name(config),
        architecture=config,
        normalization=normalization,
        classes=infos,
        pixel_size_um=samples[0].pixel_size_um,
    )


def _name(config: Any) -> str:
    if config.variant == "released":
        return "U-Net released 2015"
    norm = ", batch norm" if config.norm else ""
    width = "" if config.width == 64 and not norm else f", width {config.width}"
    return f"U-Net{width}{norm}" if config.depth == 4 else f"U-Net of depth {config.depth}{width}{norm}"


def _provenance(
    recipe: Recipe, seed: int, budget: Budget, samples: list[Sample], held_out: list[Sample]
) -> dict[str, Any]:
    return {
        "recipe": recipe.model_dump(mode="json"),
        "seed": seed,
        "budget": {"steps": budget.steps, "seconds": budget.seconds},
        "training": {sample.name: _hash(sample) for sample in samples},
        "held_out": {sample.name: _hash(sample) for sample in held_out},
        "versions": {"ushape": ushape.__version__, "torch": torch.__version__, "numpy": np.__version__},
    }


def _hash(sample: Sample) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(sample.image).tobytes())
    digest.update(np.ascontiguousarray(sample.classes).tobytes())
    return digest.hexdigest()[:16]


def _network(header: ModelHeader, from_model: str | Path | None, seed: int) -> UNet:
    torch.manual_seed(seed)
    network = build_network(header.architecture)
    if from_model is not None:
        _start_from(network, from_model)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _start_from(network: torch.nn.Module, path: str | Path) -> None:
    # The last layer is drawn anew where the number of classes differs.
    source = load_model(path)[0].state_dict()
    own = network.state_dict()
    network.load_state_dict(own | {name: t for name, t in source.items() if t.shape == own[name].shape})


def _plan(header: ModelHeader, dataset: TileDataset, samples: list[Sample], held_out: list[Sample]) -> str:
    tiles = "one tile" if dataset.tiles_per_step == 1 else f"{dataset.tiles_per_step} tiles"
    return (
        f"{header.name}, {len(header.classes)} classes; {len(samples)} training and {len(held_out)} validation images; "
        f"{tiles} of {dataset.size_in} -> {dataset.size_out} px a step"
    )


def _trainer(output: Path, backend: PyTorchBackend, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator={"cpu": "cpu", "cuda": "gpu", "mps": "mps"}[backend.device.type],
        devices=1,
        precision="bf16-mixed" if backend.precision == "bf16" else "32-true",
        max_epochs=-1,
        logger=TensorBoardLogger(str(output), name="", version=""),
        callbacks=callbacks,
        plugins=[SafeCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
    )


class Checkpoints(lightning.Callback):
    """Writes `checkpoint/`, from which `--resume` goes on: every minute, after validations and at the end.

    Parameters
    ----------
    output : Path
        Folder of the run.
    validation : Validation
        Comes before this callback.
    """

    def __init__(self, output: Path, validation: Validation) -> None:
        self.output, self.validation, self.last = output, validation, clock.monotonic()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Write after each validation, if the last one is a minute old, and at the end."""
        validated = self.validation.history and self.validation.history[-1]["step"] == trainer.global_step
        if validated or clock.monotonic() - self.last > 60:
            trainer.save_checkpoint(self.output / "checkpoint")
            self.last = clock.monotonic()


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Silence what Lightning tells its own developers and buyers."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Lightning 2.6 uses a pytree call that torch 2.13 deprecates.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        # Making a tile takes milliseconds, a step most of a second: workers would not help on a CPU.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        yield
    logger.setLevel(level)


@contextmanager
def _interruptible(budget: Budget) -> Iterator[None]:
    """Let Ctrl-C end the run after the step in hand, with everything saved; a second one ends it at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        budget.interrupted = True
        signal.signal(signal.SIGINT, before)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
