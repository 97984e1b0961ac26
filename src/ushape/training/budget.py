"""How long a run lasts, and how far along it is."""

import math
import time
from collections.abc import Callable


class Budget:
    """A number of steps or a span of time, told as progress from 0 to 1.

    Where several processes train, decisions must be the same in all of them, but clocks differ, and Ctrl-C
    reaches one before the other. So what counts is what the first process saw when all of them last called
    `tick`.

    Parameters
    ----------
    steps : int or None
        Number of optimiser steps.
    seconds : float or None
        Span of time, start-up, validation and saving included. One of the two is given.
    started : float
        `clock()` when the run began, in seconds: the start of the command, not of the first step.
    clock : callable
        Monotonic seconds.

    Attributes
    ----------
    elapsed : float
        Seconds since the run began, at the last tick.
    interrupted : bool
        Whether Ctrl-C had come by the last tick.
    stop_asked : bool
        Whether Ctrl-C has come, by now and in this process.
    reserve : float
        Seconds kept for the last validation, for tuning and for the report.
    step_seconds : float
        What a step takes.
    share : callable
        Returns what the first process gave to it.
    """

    def __init__(
        self,
        steps: int | None,
        seconds: float | None,
        *,
        started: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.steps, self.seconds, self.clock = steps, seconds, clock
        self.started = clock() if started is None else started
        self.share: Callable[[list[float]], list[float]] = list
        self.elapsed = self.reserve = self.step_seconds = 0.0
        self.interrupted = self.stop_asked = False

    def tick(self) -> float:
        """Read the clock, and whether Ctrl-C has come; return the seconds since the run began."""
        self.elapsed, interrupted = self.share([self.clock() - self.started, float(self.stop_asked)])
        self.interrupted = bool(interrupted)
        return self.elapsed

    def ask_to_stop(self) -> None:
        """Let the step in hand be the last: Ctrl-C."""
        self.stop_asked = True

    def progress(self, step: int) -> float:
        """Share of the budget that is spent before `step` is taken, from 0 to 1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.seconds is not None
        return min(1.0, self.elapsed / max(self.seconds - self.reserve, 1e-9))

    def is_spent(self, step: int) -> bool:
        """Whether training ends before `step` is taken: by the clock, if less than half a step is left."""
        if self.steps is not None:
            return step >= self.steps
        return self.left() < self.step_seconds / 2

    def left(self) -> float:
        """Seconds that are left for steps; without end where the budget is in steps."""
        return math.inf if self.seconds is None else self.seconds - self.reserve - self.elapsed

    def is_late(self, needed: float) -> bool:
        """Whether less than `needed` seconds are left for all: by the clock itself, in the first process."""
        return self.seconds is not None and self.clock() - self.started > self.seconds - needed

    def state(self) -> dict[str, float]:
        """What a resumed run has to know."""
        return {"elapsed": self.elapsed, "reserve": self.reserve}

    def resume(self, state: dict[str, float]) -> None:
        """Count the time that an interrupted run had already used."""
        self.started -= state["elapsed"]
        self.reserve = state["reserve"]


def annealed(progress: float, warmup: float) -> float:
    """Factor on the learning rate: linear warm-up over the share `warmup`, then half a cosine down to 0."""
    if progress < warmup:
        return max(progress, 0.01 * warmup) / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
