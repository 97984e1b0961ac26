"""Lightning, set up as a run needs it: device, precision, checkpoints, Ctrl-C, and silence."""

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import LayerSync
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from ushape.backends import PyTorchBackend
from ushape.errors import ConfigError, TilingError
from ushape.training.budget import Budget
from ushape.training.checkpoint_io import SafeCheckpointIO
from ushape.training.processes import environment, is_first
from ushape.training.recipe import Recipe

_PATIENCE = timedelta(days=1)
"""For which processes wait for the one that validates."""


def trainer_for(
    output: Path, backend: PyTorchBackend, callbacks: list[lightning.Callback], devices: int, nodes: int
) -> lightning.Trainer:
    """Set up Lightning for the device and precision of `backend`; the run ends itself."""
    is_cuda, are_several = backend.device.type == "cuda", devices * nodes > 1
    plugins: list[Any] = [SafeCheckpointIO(), environment(devices)]
    if is_cuda and are_several:  # PyTorch has none for the CPU
        plugins.append(CommonBatchNorms())
    return lightning.Trainer(
        accelerator={"cpu": "cpu", "cuda": "gpu", "mps": "mps"}[backend.device.type],
        devices=[backend.device.index or 0] if is_cuda and not are_several else devices,
        num_nodes=nodes,
        strategy=DDPStrategy(timeout=_PATIENCE) if are_several else "auto",
        use_distributed_sampler=False,  # tiles are shared out by their numbers
        precision="bf16-mixed" if backend.precision == "bf16" else "32-true",
        max_epochs=-1,
        logger=TensorBoardLogger(str(output), name="", version=""),
        callbacks=callbacks,
        plugins=plugins,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,  # nothing goes that way, but Lightning warns of runs shorter than that
        num_sanity_val_steps=0,
    )


class CommonBatchNorms(LayerSync):
    """Has batch norms take their statistics over the tiles of all processes.

    Not left to Lightning, whose conversion loses the activations that timm's batch norms hold.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert all batch norms below `model`, in place; in evaluation mode they give what they gave."""
        timm: Any = sys.modules.get("timm")  # where it is not imported, no layer is of it
        convert: Any = timm.layers if timm else nn.SyncBatchNorm
        converted: nn.Module = convert.convert_sync_batchnorm(model)
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave them: after a run nothing is computed with them."""
        return model


def take_sigterm_for_ctrl_c() -> None:
    """Let what ends jobs on a cluster save the run, too; to be called once the loop has begun.

    Lightning answers it by a message between processes that are in the midst of others: they would die of it.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))


@contextmanager
def without_chatter() -> Iterator[None]:
    """Silence what Lightning tells its own developers and buyers."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Lightning 2.6 uses a pytree call that torch 2.13 deprecates.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            # Making a tile takes milliseconds, a step most of a second: workers would not help on a CPU.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            # Frozen levels are meant to be, and what is not is put into training mode just before.
            warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def within_memory(recipe: Recipe, tiles: int, size: int) -> Iterator[None]:
    """Say what takes less memory, if there is too little for a step of so many tiles, or for a validation.

    Parameters
    ----------
    recipe : Recipe
    tiles, size : int
        Of a step: their number, and height and width in pixels.

    Raises
    ------
    ConfigError
        In place of PyTorch's error, and of one that advises options of `predict`.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        what = "a tile" if tiles == 1 else f"{tiles} tiles"
        # A step is computed in parts of whole tiles.
        less = "with `accumulate`" if tiles > recipe.accumulate else "with a smaller `tile`"
        raise ConfigError(
            f"the GPU has not enough memory for {what} of {size} x {size} px a step; use a narrower "
            f"network (--width, --model), a recipe {less} (docs/recipes.md), or --device cpu"
        ) from error
    except TilingError as error:
        what = str(error).partition("; ")[0]  # the advice behind it is for `predict`
        raise ConfigError(
            f"a validation cannot be computed: {what}; give smaller images, or use another network (--width, "
            "--model resnet34)"
        ) from error


@contextmanager
def interruptible(budget: Budget) -> Iterator[None]:
    """Let Ctrl-C end the run after the step in hand, with everything saved; a second one ends it at once.

    Of several processes the first decides for all.

    Raises
    ------
    KeyboardInterrupt
        At the second Ctrl-C.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        budget.ask_to_stop()
        signal.signal(signal.SIGINT, before)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before = signal.signal(signal.SIGINT, stop if is_first() else signal.SIG_IGN)
    try:
        yield
    except SystemExit as end:  # what Lightning makes of it
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from end
        raise
    finally:
        signal.signal(signal.SIGINT, before)
