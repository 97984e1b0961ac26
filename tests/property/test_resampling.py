"""Planes of another size: what OpenCV makes of them, and the same numbers out of any window."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ushape.predict.resampling import Resampling, resampled, weights

SIDES = st.integers(1, 60)
OPENCV = {False: cv2.INTER_LINEAR, True: cv2.INTER_CUBIC}


def by_opencv(plane: np.ndarray, size: tuple[int, int], *, cubic: bool) -> np.ndarray:
    """Height first, then width: area where an axis shrinks."""
    for axis in (0, 1):
        after = (size[0], plane.shape[1]) if axis == 0 else size
        if after != plane.shape:
            how = cv2.INTER_AREA if after[axis] < plane.shape[axis] else OPENCV[cubic]
            plane = cv2.resize(plane, after[::-1], interpolation=how)
    return plane


@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.booleans(), st.integers(0, 9))
def test_planes_are_those_of_opencv(before, after, cubic, seed):
    planes = np.random.default_rng(seed).random((2, *before)).astype(np.float32)
    expected = np.stack([by_opencv(plane, after, cubic=cubic) for plane in planes])
    # OpenCV finds places in float32: off by some 1e-7 of a side of 60, times the slope; measured: 1.3e-5.
    np.testing.assert_allclose(resampled(planes, after, cubic=cubic), expected, atol=5e-5)


@settings(max_examples=200)
@given(st.data(), st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.booleans())
def test_a_window_holds_the_bits_of_the_whole(data, before, after, cubic):
    planes = np.random.default_rng(before).integers(0, 65536, (2, *before), dtype=np.uint16)
    how = Resampling(before, after, cubic)
    starts = [data.draw(st.integers(0, length - 1)) for length in after]
    window = tuple(
        slice(start, data.draw(st.integers(start + 1, length)))
        for start, length in zip(starts, after, strict=True)
    )
    needed = planes[:, *how.source(window)]
    np.testing.assert_array_equal(how(needed, window), how(planes)[:, *window])


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 7), (7, 1), (100_000, 99_999), (99_999, 100_000)])
def test_each_pixel_is_a_mean(before, after, cubic):
    matrix = weights(before, after, cubic=cubic)
    assert matrix.shape == (after, before)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)  # four numbers of float32
    if not cubic:
        assert matrix.min() >= 0
