"""A budget tells progress from 0 to 1, by steps or by the clock, over interruptions."""

import pytest

from ushape.training.budget import Budget, annealed


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_steps_are_spent_when_all_are_taken() -> None:
    budget = Budget(10, None)
    assert [budget.progress(step) for step in (0, 5, 10, 12)] == [0.0, 0.5, 1.0, 1.0]
    assert not budget.is_spent(9)
    assert budget.is_spent(10)


def test_time_counts_from_the_start_of_the_command() -> None:
    budget = Budget(None, 60.0, started=90.0, clock=Clock())
    assert budget.tick() == 10.0
    assert budget.progress(123) == pytest.approx(1 / 6)


def test_what_is_reserved_for_the_last_validation_is_not_trained_away() -> None:
    clock = Clock()
    budget = Budget(None, 60.0, clock=clock)
    budget.reserve = 15.0
    clock.now += 44.0
    budget.tick()
    assert not budget.is_spent(0)
    clock.now += 1.0
    budget.tick()
    clock.now += 0.1
    budget.tick()
    assert budget.is_spent(0)


def test_a_step_that_would_end_nearer_after_the_deadline_than_now_is_before_it_is_not_taken() -> None:
    clock = Clock()
    budget = Budget(None, 60.0, clock=clock)
    budget.step_seconds = 4.0
    clock.now += 57.9
    budget.tick()
    assert not budget.is_spent(0)
    clock.now += 0.2
    budget.tick()
    assert budget.is_spent(0)


def test_between_two_ticks_time_stands_still() -> None:
    clock = Clock()
    budget = Budget(None, 60.0, clock=clock)
    clock.now += 30.0
    budget.ask_to_stop()
    assert (budget.progress(0), budget.interrupted) == (0.0, False)
    budget.tick()
    assert (budget.progress(0), budget.interrupted) == (0.5, True)


def test_what_the_first_process_saw_counts_in_all() -> None:
    budget = Budget(None, 60.0, clock=Clock())
    budget.ask_to_stop()
    budget.share = lambda mine: [30.0, 0.0]
    assert budget.tick() == budget.elapsed == 30.0
    assert not budget.interrupted


def test_time_for_what_comes_at_the_end_is_told_by_the_clock_itself() -> None:
    clock = Clock()
    budget = Budget(None, 60.0, clock=clock)
    clock.now += 51.0
    assert budget.is_late(10.0)
    assert not budget.is_late(8.0)
    assert not Budget(5, None, clock=clock).is_late(1000.0)


def test_a_resumed_run_counts_the_time_before_the_interruption() -> None:
    clock = Clock()
    budget = Budget(None, 60.0, clock=clock)
    clock.now += 20.0
    budget.tick()
    state = budget.state()
    clock.now += 1000.0
    resumed = Budget(None, 60.0, clock=clock)
    resumed.resume(state)
    assert resumed.tick() == 20.0


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    factors = [annealed(progress / 100, 0.1) for progress in range(101)]
    assert max(factors) == factors[10] == 1.0
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[0] > 0
    assert factors[100] == pytest.approx(0.0, abs=1e-12)
