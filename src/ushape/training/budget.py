"""How long a run lasts, and how far along it is."""

import math
import time
from collections.abc import Callable


class Budget:
    """A number of steps or a span of time, told as progress from 0 to 1.

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
        self.reserve = 0.0  # seconds kept for the last validation and for saving
        self.interrupted = False  # set by Ctrl-C: the step in hand is the last

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.started

    def progress(self, step: int) -> float:
        """Share of the budget that is spent before `step` is taken, from 0 to 1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.seconds is not None
        return min(1.0, self.elapsed() / max(self.seconds - self.reserve, 1e-9))

    def is_spent(self, step: int) -> bool:
        """Whether training ends before `step` is taken."""
        return self.interrupted or self.progress(step) >= 1.0

    def state(self) -> dict[str, float]:
        """What a resumed run has to know."""
        return {"elapsed": self.elapsed(), "reserve": self.reserve}

    def resume(self, state: dict[str, float]) -> None:
        """Count the time that an interrupted run had already used."""
        self.started -= state["elapsed"]
        self.reserve = state["reserve"]


def annealed(progress: float, warmup: float) -> float:
    """Factor on the learning rate: linear warm-up over the share `warmup`, then half a cosine down to 0."""
    if progress < warmup:
        return max(progress, 0.01 * warmup) / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
