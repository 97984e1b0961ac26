"""Calibration error by hand, and every refusal."""

import numpy as np
import pytest

from ushape import metrics
from ushape.errors import DataError, ShapeError
from ushape.metrics import calibration_error, total_calibration


def two(p: list[float]) -> np.ndarray:
    return np.stack([1 - np.array(p), np.array(p)])


def test_a_hand_count() -> None:
    # Confidences 0.9 0.9 0.8 0.6; right, wrong, right, right; the two of 0.9 share a bin.
    found = calibration_error(two([0.9, 0.1, 0.8, 0.4]), np.array([1, 1, 1, 0]))
    assert found.error == pytest.approx((abs(1 - 1.8) + 0.2 + 0.4) / 4)
    assert found.nll == pytest.approx(-np.log([0.9, 0.1, 0.8, 0.6]).mean())
    assert found.brier == pytest.approx(2 * np.mean([0.01, 0.81, 0.04, 0.16]))
    assert sum(found.counts) == found.pixels == 4
    assert found.curve == (pytest.approx((0.6, 0.8, 0.9)), (1, 1, 0.5))


def test_a_bin_holds_its_upper_edge() -> None:
    """As in Guo 2017; certainty lies in the last bin, not in one of its own."""
    found = calibration_error(two([0.5, 0.75, 1.0]), np.array([0, 1, 1]), bins=4)
    assert found.counts == (0, 1, 1, 1)
    assert found.correct == (0, 1, 1, 1), "of equally probable classes the first is predicted"


def test_pixels_that_do_not_count_have_no_say() -> None:
    p, truth = two([0.9, 0.2, 0.7]), np.array([1, 0, 255])
    assert calibration_error(p, truth) == calibration_error(p[:, :2], truth[:2])
    with pytest.raises(DataError, match="value 255"):
        calibration_error(p, truth, ignore=0)


def test_where_nothing_counts_nothing_is_wrong() -> None:
    found = calibration_error(two([0.9]), np.array([255]))
    assert (found.error, found.nll, found.brier, found.curve) == (0, 0, 0, ((), ()))


def test_a_true_class_of_probability_zero_is_no_infinite_loss() -> None:
    assert 87 < calibration_error(two([1.0]), np.array([0])).nll < 88


def test_images_together_are_as_one_image() -> None:
    rng = np.random.default_rng(0)
    p, truth = rng.dirichlet([1, 1, 1], (20, 30)).transpose(2, 0, 1), rng.integers(0, 3, (20, 30))
    whole = calibration_error(p, truth)
    parts = total_calibration(
        [calibration_error(p[:, :7], truth[:7]), calibration_error(p[:, 7:], truth[7:])]
    )
    assert (parts.counts, parts.correct) == (whole.counts, whole.correct)
    assert parts.error == pytest.approx(whole.error, rel=1e-12)
    assert (parts.nll, parts.brier) == pytest.approx((whole.nll, whole.brier), rel=1e-12)


@pytest.mark.parametrize(
    ("p", "truth", "error", "message"),
    [
        (two([0.1]), [[0]], ShapeError, r"shape \(2, 1\) do not fit a truth of shape \(1, 1\)"),
        (two([0.1])[:1], [0], ShapeError, "at least two classes"),
        (two([0.1]), [2], DataError, r"value 2 in the truth is not one of the classes 0\.\.1"),
        (two([0.1]), [-1], DataError, "value -1 in the truth"),
        (two([1.1]), [0], DataError, r"probabilities must lie in 0\.\.1, found -0\.1\.\.1\.1"),
        (two([np.nan]), [0], DataError, r"found nan\.\.nan"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    p: np.ndarray, truth: list[int], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        metrics.calibration_error(p, np.array(truth))
