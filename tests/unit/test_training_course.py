"""Where a resumed run stands: it goes on, is finished, or had ended."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ushape.errors import ConfigError
from ushape.training import course
from ushape.training.budget import Budget
from ushape.training.course import Course
from ushape.training.schedule import Schedule
from ushape.training.until import Until


class Run:
    """A run about to be gone on with after `step` steps; notes what is done."""

    def __init__(
        self, budget: Budget, until: Until, *, step: int, best: dict[str, float], result: bool
    ) -> None:
        self.done: list[Any] = []
        self.trainer = SimpleNamespace(
            global_step=step, is_global_zero=True, save_checkpoint=lambda path: self.done.append("saved")
        )
        self.validation = SimpleNamespace(
            best=best,
            result=best if result else {},
            history=[best] if best else [],
            until=until,
            tuned_on=["an image"],
            finish=lambda is_late: self.done.append(("finished", is_late())),
            validate=self._validate,
        )
        self.course = Course(Path("run"), self.validation, Schedule(budget))  # type: ignore[arg-type]

    def _validate(self, trainer: Any, module: Any) -> None:
        self.done.append("validated")
        self.validation.best = {"step": 1, "score": 0.5}

    def begin(self) -> bool:
        """Whether no step is to be taken."""
        module: Any = SimpleNamespace(require_finite=lambda: None)
        self.course.on_train_start(self.trainer, module)
        return bool(self.trainer.should_stop)


@pytest.fixture(autouse=True)
def _signals_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "take_sigterm_for_ctrl_c", lambda: None)


BEST = {"step": 4.0, "score": 0.9}


def test_a_run_with_steps_left_goes_on() -> None:
    run = Run(Budget(9, None), Until(), step=5, best=BEST, result=False)
    assert not run.begin()
    assert not run.done


@pytest.mark.parametrize(("best", "first"), [(BEST, []), ({}, ["validated"])])
def test_a_stopped_run_with_none_left_is_finished_however_late_it_is(
    best: dict[str, float], first: list[str]
) -> None:
    spent = Budget(None, 10.0, started=0.0, clock=lambda: 1000.0)
    run = Run(spent, Until(), step=5, best=best, result=False)
    assert run.begin()
    assert run.done == [*first, ("finished", False), "saved"]
    assert run.course.state_dict()["ended"] == [None, 10.0, "score", float("inf"), False]


def test_time_that_is_over_before_the_first_step_is_refused() -> None:
    spent = Budget(None, 3.0, started=0.0, clock=lambda: 7.2)
    run = Run(spent, Until(), step=0, best={}, result=False)
    with pytest.raises(
        ConfigError, match=r"^--time 3s was over before the first step: .* took 7 s; give more"
    ):
        run.begin()
    assert not run.done, "nothing is kept of a network that has learned nothing"


def test_what_had_ended_takes_no_step_unless_more_is_asked_for() -> None:
    stalled = Until(has_patience=True)
    before = Run(Budget(5, None), stalled, step=5, best=BEST, result=False)
    before.begin()
    state = before.course.state_dict()
    for steps, until, stops in (
        (5, stalled, True),
        (100, stalled, False),
        (100, Until("score", 0.8), True),
        (100, Until("score", 0.95), False),
    ):
        run = Run(Budget(steps, None), until, step=5, best=BEST, result=True)
        run.course.load_state_dict(state)
        assert run.begin() == stops
        assert not run.done, "nothing is fitted or written again"


def test_time_that_is_left_over_is_not_used_up_by_asking_again() -> None:
    budget = Budget(None, 100.0, started=0.0, clock=lambda: 90.0)
    state = {"improved": 0.5, "ended": [None, 100.0, *vars(Until()).values()]}
    run = Run(budget, Until(), step=5, best=BEST, result=True)
    run.course.load_state_dict(state)
    assert run.begin()
    longer = Run(
        Budget(None, 200.0, started=0.0, clock=lambda: 90.0), Until(), step=5, best=BEST, result=True
    )
    longer.course.load_state_dict(state)
    assert not longer.begin()


def test_a_run_that_has_stalled_already_says_so() -> None:
    run = Run(Budget(100, None), Until(has_patience=True), step=60, best=BEST, result=False)
    run.course.load_state_dict({"improved": 0.04, "ended": []})
    assert run.begin()
    assert run.course.reason == "--until stalled: no better score since step 4"
