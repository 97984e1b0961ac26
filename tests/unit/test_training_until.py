"""What ends a run early: understood, refused, reached, and stalled."""

import pytest

from ushape.config import parse_until
from ushape.errors import ConfigError
from ushape.training.scores import Kind
from ushape.training.until import Until, until


@pytest.mark.parametrize(
    ("kind", "name"),
    [("cells", "v_rand"), ("cells", "pixel_error"), ("objects", "ap_0.50"), ("areas", "dice")],
)
def test_a_score_that_is_taken_can_be_asked_for(kind: Kind, name: str) -> None:
    assert until(f"{name}=0.9", kind) == Until(name, 0.9)


@pytest.mark.parametrize(
    ("kind", "name", "there_are"),
    [
        ("cells", "ap_0.50", "v_rand, pixel_error, dice, iou, accuracy"),
        ("objects", "v_rand", "ap_0.50, dice, iou, accuracy"),
        ("areas", "v_rand", "dice, iou, accuracy"),
    ],
)
def test_one_that_is_not_taken_is_refused(kind: Kind, name: str, there_are: str) -> None:
    with pytest.raises(ConfigError, match=f"no score '{name}' is taken .* there are: {there_are}$"):
        until(f"{name}=0.9", kind)


@pytest.mark.parametrize("text", ["dice", "=0.5", "dice=", "dice=soon", "dice=-0.1", "dice=1e9", "dice==0.5"])
def test_what_is_no_goal_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"not a goal: .* write for example v_rand=0\.96"):
        parse_until(text)


def test_percent_are_no_score() -> None:
    with pytest.raises(ConfigError, match=r"no score reaches 96, .* write for example v_rand=0\.9"):
        parse_until("v_rand=96")


def test_a_score_counts_upwards_and_an_error_downwards() -> None:
    assert Until("dice", 0.9).reason({"step": 3, "dice": 0.9}, 0.0) == "--until dice=0.9: reached at step 3"
    assert not Until("dice", 0.9).reason({"step": 3, "dice": 0.89}, 0.0)
    error = Until("pixel_error", 0.06)
    assert error.reason({"step": 3, "pixel_error": 0.05}, 0.0)
    assert not error.reason({"step": 3, "pixel_error": 0.07}, 0.0)
    assert error.merit({"pixel_error": 0.05}) > error.merit({"pixel_error": 0.07})
    assert Until("ap_0.50", 0.5).reason({"step": 3, "ap": 0.6}, 0.0)


def test_before_the_first_validation_nothing_is_reached() -> None:
    assert not Until("pixel_error", 0.06).reason({}, 0.0)
    assert not Until(has_patience=True).reason({}, 1.0), "nor has anything stalled"


def test_a_run_stalls_only_where_that_was_asked_for() -> None:
    best = {"step": 3, "score": 0.9}
    patient = until("stalled", "areas")
    assert patient.reason(best, 0.26) == "--until stalled: no better score since step 3"
    assert not patient.reason(best, 0.25)
    assert not until(None, "areas").reason(best, 1.0)
