"""What ends a run before its budget: a score that is reached, or scores that no longer improve."""

from dataclasses import dataclass

from ushape.config import parse_until
from ushape.errors import ConfigError
from ushape.evaluate.names import ERROR_METRICS
from ushape.training.scores import Kind

PATIENCE = 0.25
"""Share of the budget without a better score after which a run has stalled."""

_NAMES: dict[Kind, tuple[str, ...]] = {
    "cells": ("v_rand", "pixel_error", "dice", "iou", "accuracy"),
    "objects": ("ap_0.50", "dice", "iou", "accuracy"),
    "areas": ("dice", "iou", "accuracy"),
}
"""Scores that are taken while training, as `ushape evaluate` names them."""


@dataclass(frozen=True)
class Until:
    """A score to reach; then it is also the one by which the best model is chosen.

    Attributes
    ----------
    metric : str
        "score": the one by which models are chosen anyway.
    value : float
        Above 1 there is nothing to reach.
    has_patience : bool
        Whether the run ends when it has stalled.
    """

    metric: str = "score"
    value: float = float("inf")
    has_patience: bool = False

    def merit(self, row: dict[str, float]) -> float:
        """How good a validation is: the more the better."""
        value = row["ap" if self.metric == "ap_0.50" else self.metric]
        return -value if self.metric in ERROR_METRICS else value

    def reason(self, best: dict[str, float], since: float) -> str:
        """Why to end the run, in words; none: go on.

        Parameters
        ----------
        best : dict
            The best validation so far; empty before the first.
        since : float
            Share of the budget since then.
        """
        if not best:
            return ""
        if self.merit(best) >= (-self.value if self.metric in ERROR_METRICS else self.value):
            return f"--until {self.metric}={self.value:g}: reached at step {best['step']:.0f}"
        if self.has_patience and since > PATIENCE:
            return f"--until stalled: no better score since step {best['step']:.0f}"
        return ""


def until(text: str | None, kind: Kind) -> Until:
    """Understand `--until`: `METRIC=VALUE`, `stalled`, or nothing.

    Parameters
    ----------
    text : str or None
    kind : {"cells", "objects", "areas"}
        What is in the images: it decides which scores are taken of them.

    Raises
    ------
    ConfigError
        If it is neither, or the score is not taken of such images.
    """
    if text is None:
        return Until()
    metric, value = parse_until(text)
    if value is None:
        return Until(has_patience=True)
    names = _NAMES[kind]
    if metric not in names:
        raise ConfigError(
            f"--until {text}: no score {metric!r} is taken of these images while training; there are: "
            f"{', '.join(names)}"
        )
    return Until(metric, value)
