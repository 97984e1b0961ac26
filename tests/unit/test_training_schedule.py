"""When a run draws, validates and saves."""

from itertools import pairwise

import pytest

from ushape.errors import ConfigError
from ushape.training.budget import Budget
from ushape.training.schedule import Schedule


class Course:
    """A schedule whose clock is turned by hand."""

    def __init__(self, steps: int | None, seconds: float | None, **known: float) -> None:
        self.now = 0.0
        self.schedule = Schedule(Budget(steps, seconds, started=0.0, clock=lambda: self.now), **known)

    def at(self, now: float) -> Schedule:
        self.now = now
        self.schedule.budget.tick()
        return self.schedule

    def first(self, ask: str, start: float, *words: int) -> float | None:
        """The first second from `start` on at which the answer is yes."""
        seconds = (start + tenth / 10 for tenth in range(10_000))
        return next((now for now in seconds if getattr(self.at(now), ask)(*words)), None)


def test_a_budget_of_steps_is_validated_at_fixed_steps() -> None:
    schedule = Schedule(Budget(40, None))
    assert [step for step in range(1, 41) if schedule.is_due(step)] == list(range(4, 41, 4))
    long = Schedule(Budget(40_000, None))
    assert [step for step in range(1, 5000) if long.is_due(step)] == [16, 64, 256, 1024, 4000]


@pytest.mark.parametrize(("seconds", "latest"), [(600.0, 20.1), (24.0, 6.1), (None, 20.1)])
def test_the_first_picture_is_drawn_early(seconds: float | None, latest: float) -> None:
    course = Course(None if seconds else 5, seconds)
    first = course.first("is_picture_due", 0.0)
    assert first is not None
    assert 5 < first <= latest


@pytest.mark.parametrize("steps", [None, 10_000])
def test_every_minute_has_a_picture_though_validation_is_dear(steps: int | None) -> None:
    course = Course(steps, None if steps else 3600.0)
    drawn, validations = [0.0], 0
    while drawn[-1] < 3000:  # a step takes a tenth of a second
        now = course.first("is_picture_due", drawn[-1])
        if course.at(now).is_due(1):
            course.at(now + 100.0).measured(now)
            validations += 1
        else:
            course.at(now + 3.0).looked(now, 100.0)
        drawn.append(course.now)
    pauses = [after - before for before, after in pairwise(drawn)]
    assert sum(pause > 60.2 for pause in pauses) == validations <= 3, "the pictures come at its end"
    assert max(pauses) <= 160.2


def test_validation_takes_a_tenth_of_the_time() -> None:
    course, spent, now = Course(None, 3600.0, drawn=1.0), 0.0, 0.0
    course.at(1.0).looked(0.0, 30.0)
    while (now := course.first("is_due", now, 1) or 4000.0) < 3600:
        course.at(now + 30.0).measured(now)
        spent, now = spent + 30.0, now + 30.0
    assert 250 < spent <= 360


def test_before_its_cost_is_known_there_is_no_validation_and_then_a_cheap_one_soon() -> None:
    course = Course(None, 600.0)
    assert course.first("is_due", 0.0, 1) is None
    course.at(21.0).looked(20.0, 2.0)
    assert course.first("is_due", 21.0, 1) == pytest.approx(21.0)
    course.at(23.0).measured(21.0)
    assert course.first("is_due", 23.0, 1) == pytest.approx(81.1)


def test_a_validation_that_would_be_over_just_before_the_last_one_is_left_out() -> None:
    course = Course(None, 100.0, drawn=20.0, validated=20.0, cost=4.0)
    assert not course.at(85.0).is_due(1)
    assert Course(None, 200.0, drawn=20.0, validated=20.0, cost=4.0).at(85.0).is_due(1)


def test_the_last_validation_the_tuning_and_the_report_have_their_time() -> None:
    course = Course(None, 100.0, tuning=3.0)
    course.at(11.0).looked(10.0, 4.0)
    assert 16 < course.schedule.budget.reserve < 20
    course.at(31.0).measured(25.0)
    assert 24 < course.schedule.budget.reserve < 28, "what was measured is better than what was expected"
    course.at(41.0).looked(40.0, 1.0)
    assert 24 < course.schedule.budget.reserve < 28


def test_folds_that_would_have_no_time_to_train_are_refused() -> None:
    course = Course(None, 100.0, tuning=3.5, kept=5.5)
    course.at(10.5).looked(10.0, 4.0)
    course.schedule.require_room()  # 43.5 s for the end
    course.at(11.0).looked(10.5, 8.0)
    with pytest.raises(ConfigError, match=r"100 s for a fold, .* takes 84 s of it; give 2 times as much"):
        course.schedule.require_room()
    for free in (Course(None, 100.0, tuning=3.5), Course(500, None, tuning=3.5, kept=5.5)):
        free.at(10.5).looked(10.0, 8.0)
        free.schedule.require_room()


def test_a_checkpoint_is_a_minute_old_at_most() -> None:
    course = Course(5, None, saved=30.0)
    assert not course.at(89.0).is_saving_due()
    assert course.at(90.5).is_saving_due()


def test_a_run_of_steps_can_afford_any_validation() -> None:
    assert Schedule(Budget(10, None)).affordable() == float("inf")
    assert Schedule(Budget(None, 60.0)).affordable() == 6.0
    assert Schedule(Budget(None, 60.0), tuning=4.0).affordable() == 3.0
    assert Schedule(Budget(None, 60.0), kept=4.0).affordable() == float("inf"), "all are needed later on"
