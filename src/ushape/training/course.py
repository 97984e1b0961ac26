"""What happens after each step: pictures, validation, checkpoints, and the end of the run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from ushape.errors import ConfigError
from ushape.training.loop import take_sigterm_for_ctrl_c
from ushape.training.module import TrainingModule
from ushape.training.schedule import CLOSING, Schedule
from ushape.training.validation import Validation


class Course(Callback):
    """Draws, validates, saves and ends when it is time to.

    Writes `checkpoint/`, from which `--resume` goes on: every minute, after validations, at the end, and
    where Ctrl-C comes. What an interrupted run does after that leaves no trace in it, so that a resumed run
    equals one that was not interrupted.

    All is decided from what the first process saw, and so the same in all; only that one draws and writes.

    Parameters
    ----------
    output : Path
        Folder of the run.
    validation : Validation
    schedule : Schedule

    Attributes
    ----------
    interrupted : bool
        Whether Ctrl-C ended the run.
    improved : float
        Progress at which the best model so far was found.
    reason : str
        Why the run ended before its budget, if it did and was not interrupted.
    ended : list
        Budget and goal with which it ended; empty before.
    """

    def __init__(self, output: Path, validation: Validation, schedule: Schedule) -> None:
        self.output, self.validation, self.schedule = output, validation, schedule
        self.budget, self.until, self.interrupted = schedule.budget, validation.until, False
        self.improved, self.reason = 0.0, ""
        self.asked = [self.budget.steps, self.budget.seconds, *vars(self.until).values()]
        self.ended: list[Any] = []

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Take no further step where a resumed run had reached its end; what it had not finished, finish."""
        take_sigterm_for_ctrl_c()
        self.schedule.saved = self.budget.tick()
        step, is_finished = trainer.global_step, bool(self.validation.result)
        self.reason = self.until.reason(self.validation.best, self.budget.progress(step) - self.improved)
        # That the clock ran on since does not matter, nor that it may leave time for a step.
        has_ended = is_finished and self.ended == self.asked
        if step == 0 and self.budget.is_spent(step):
            raise ConfigError(
                f"--time {self.budget.seconds:g}s was over before the first step: to start and to read the "
                f"data took {self.budget.elapsed:.0f} s; give more, or --steps"
            )
        trainer.should_stop = has_ended or bool(self.reason) or self.budget.is_spent(step)
        if trainer.should_stop and not is_finished:
            if not self.validation.history:
                self._validate(trainer, module)
            self._finish(trainer, lambda: False)  # its time was spent on what is not to be had without
            trainer.save_checkpoint(self.output / "checkpoint")

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_index: int) -> None:
        """Note when the step began."""
        self.started = self.budget.elapsed

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Decide, once for all processes, what is to be done; do it."""
        step = trainer.global_step
        self.budget.step_seconds = self.budget.tick() - self.started
        ends = self.budget.is_spent(step)
        is_due = ends or self.schedule.is_due(step)
        if is_due:
            self._validate(trainer, module)
            self.reason = self.until.reason(self.validation.best, self.budget.progress(step) - self.improved)
            ends = ends or bool(self.reason)
        elif self.schedule.is_picture_due():
            self._look(trainer, module)
        if ends:
            self._finish(trainer, self._is_late)
        if is_due or self.budget.interrupted or self.schedule.is_saving_due():
            trainer.save_checkpoint(self.output / "checkpoint")
            self.schedule.saved = self.budget.tick()
        if self.budget.interrupted and not ends:
            self._break_off(trainer, module)
        trainer.should_stop = ends or self.interrupted

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {"improved": self.improved, "ended": self.ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an interrupted run."""
        self.improved, self.ended = state["improved"], state["ended"]

    def _validate(self, trainer: Trainer, module: TrainingModule) -> None:
        started, before = self.budget.tick(), self.validation.best
        module.require_finite()
        self.validation.validate(trainer, module)
        if not before or self.until.merit(self.validation.best) > self.until.merit(before):
            self.improved = self.budget.progress(trainer.global_step)
        self.budget.tick()
        self.schedule.measured(started)

    def _look(self, trainer: Trainer, module: TrainingModule) -> None:
        started = self.budget.tick()
        module.require_finite()
        own = self.validation.look(module.network_to_keep) if trainer.is_global_zero else [0.0, 0.0]
        per_pixel, per_picture = self.budget.share(own)
        if not self.validation.history:  # later scores must be those of the same images
            self.validation.limit(per_pixel, per_picture, self.schedule.affordable())
        self.budget.tick()
        self.schedule.looked(started, self.validation.cost(per_pixel, per_picture))
        self.schedule.require_room()

    def _finish(self, trainer: Trainer, is_late: Callable[[], bool]) -> None:
        if self.validation.tuned_on and trainer.is_global_zero:
            self.validation.finish(is_late)
        self.ended = self.asked
        self.budget.tick()

    def _is_late(self) -> bool:
        # The scores with what was tuned, and the report, come after it.
        return self.budget.is_late((1 + self.schedule.kept) * self.schedule.cost + CLOSING)

    def _break_off(self, trainer: Trainer, module: TrainingModule) -> None:
        self.interrupted = True
        if not self.validation.history:
            self._validate(trainer, module)
        self._finish(trainer, self._is_late)
