"""How grey values become network input: what `Normalization` computes, and what it refuses to be."""

import numpy as np
import pytest
from pydantic import ValidationError

from ushape.config import Normalization

PLANES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def test_fixed_numbers_are_those_given() -> None:
    fixed = Normalization(kind="fixed", mean=(2.0, 10.0), std=(4.0, 0.5))
    expected = [(PLANES[0] - 2.0) / 4.0, (PLANES[1] - 10.0) / 0.5]
    assert fixed.apply(PLANES).dtype == np.float32
    np.testing.assert_array_equal(fixed.apply(PLANES), np.float32(expected))  # powers of two: exact


def test_each_image_to_mean_0_and_deviation_1() -> None:
    plane = Normalization().apply(PLANES)
    np.testing.assert_allclose(plane.mean((1, 2)), 0, atol=1e-6)  # float32 sums of 12 numbers near 1
    np.testing.assert_allclose(plane.std((1, 2)), 1, atol=1e-6)
    assert not Normalization().apply(np.full((1, 3, 4), 7, np.uint8)).any()


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (None, None, "kind 'fixed' needs mean and std, one number each per channel"),
        ((1.0,), None, "kind 'fixed' needs mean and std, one number each per channel"),
        ((1.0, 2.0), (1.0,), "mean has 2 numbers, std 1; give one each per channel"),
        ((1.0,), (0.0,), r"std must be above 0, got \(0.0,\)"),
    ],
)
def test_fixed_numbers_that_cannot_be(mean, std, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Normalization(kind="fixed", mean=mean, std=std)


def test_numbers_that_would_be_ignored_are_refused() -> None:
    with pytest.raises(ValidationError, match="kind 'image' takes no mean and std"):
        Normalization(kind="image", mean=(1.0,), std=(1.0,))
