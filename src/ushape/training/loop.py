"""Lightning, set up as a run needs it: device, precision, checkpoints, Ctrl-C, and silence."""

import logging
import signal
import threading
import time as clock
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.loggers import TensorBoardLogger

from ushape.backends import PyTorchBackend
from ushape.training.budget import Budget
from ushape.training.checkpoint_io import SafeCheckpointIO
from ushape.training.validation import Validation


def trainer_for(
    output: Path, backend: PyTorchBackend, callbacks: list[lightning.Callback]
) -> lightning.Trainer:
    """Set up Lightning for the device and precision of `backend`; the run ends itself."""
    return lightning.Trainer(
        accelerator={"cpu": "cpu", "cuda": "gpu", "mps": "mps"}[backend.device.type],
        devices=[backend.device.index or 0] if backend.device.type == "cuda" else 1,
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
def without_chatter() -> Iterator[None]:
    """Silence what Lightning tells its own developers and buyers."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
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
        logger.setLevel(level)


@contextmanager
def interruptible(budget: Budget) -> Iterator[None]:
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
