"""When a run is looked at: pictures every minute, scores for at most a tenth of the time."""

import math
from dataclasses import dataclass

from ushape.errors import ConfigError
from ushape.training.budget import Budget

MINUTE = 60.0

FIRST_LOOK = 20.0
"""Seconds until the first picture; only then is known what a validation costs."""

SHARE = 0.1
"""Of the time of a run, for validation."""

END = 0.25
"""Of the time of a run, for the last validation and for tuning: at most."""

MOST_FOR_THE_END = 0.8
"""Of the time of a fold, all of whose images are predicted, tuned on and scored."""

VALIDATIONS = 10
"""In a run of a number of steps."""

EARLY_STEPS = (16, 64, 256, 1024)
"""A run of many steps is validated early, too."""

CLOSING = 3.5
"""Seconds for the report and for leaving."""


@dataclass
class Schedule:
    """When to draw, to validate and to save: validation at fixed steps where the budget is in steps.

    Parameters
    ----------
    budget : Budget
    tuning : float
        What tuning at the end takes, as a multiple of a validation.
    kept : float
        What comes after the run, likewise; it needs all images, so their number is not limited then.

    Attributes
    ----------
    drawn, validated, saved : float
        When pictures were drawn last, and so on, in seconds since the run began.
    look, cost : float
        Seconds that drawing and a validation take; 0 until that is known.
    """

    budget: Budget
    tuning: float = 0.0
    kept: float = 0.0
    drawn: float = 0.0
    validated: float = 0.0
    saved: float = 0.0
    look: float = 0.0
    cost: float = 0.0

    def is_due(self, step: int) -> bool:
        """Whether to validate after `step` steps."""
        budget = self.budget
        if budget.steps is not None:
            return step in EARLY_STEPS or step % max(1, budget.steps // VALIDATIONS) == 0
        pause = self.cost * (1 - SHARE) / SHARE
        if self.validated:
            pause = max(MINUTE - self.cost, pause)
        # One that would be over just before the last one tells nothing.
        return self.cost > 0 and pause < budget.elapsed - self.validated and pause / 2 < budget.left()

    def is_picture_due(self) -> bool:
        """Whether to draw, validation or not."""
        if not self.drawn:
            seconds = self.budget.seconds
            return self.budget.elapsed > (FIRST_LOOK if seconds is None else min(FIRST_LOOK, seconds / 4))
        return self.budget.elapsed - self.drawn > MINUTE - self.look and self.look < self.budget.left()

    def is_saving_due(self) -> bool:
        """Whether to write a checkpoint, validation or not."""
        return self.budget.elapsed - self.saved > MINUTE

    def looked(self, started: float, cost: float) -> None:
        """Note that pictures were drawn from `started` on, and what a validation will cost by that."""
        self.drawn, self.look = self.budget.elapsed, self.budget.elapsed - started
        if not self.validated:
            self._expect(cost)

    def measured(self, started: float) -> None:
        """Note how long a validation took; the last one must fit in the budget."""
        self.drawn = self.validated = self.budget.elapsed
        self._expect(self.budget.elapsed - started)

    def affordable(self) -> float:
        """Seconds that a validation may take; without end where the budget is in steps."""
        if self.budget.seconds is None or self.kept:
            return float("inf")
        return min(SHARE, END / (1 + self.tuning)) * self.budget.seconds

    def require_room(self) -> None:
        """Refuse a run that would hardly train, where what comes at its end cannot be shortened.

        Raises
        ------
        ConfigError
        """
        seconds, reserve = self.budget.seconds, self.budget.reserve
        if self.kept and seconds is not None and reserve > MOST_FOR_THE_END * seconds:
            times = math.ceil(2 * reserve / seconds)
            raise ConfigError(
                f"--time leaves {seconds:.0f} s for a fold, and predicting, tuning on and scoring its images "
                f"takes {reserve:.0f} s of it; give {times} times as much, or --steps"
            )

    def _expect(self, cost: float) -> None:
        self.cost = cost
        self.budget.reserve = (1 + self.tuning + self.kept) * self.cost + CLOSING
