import re
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ushape.config import IGNORE
from ushape.errors import ConfigError, ShapeError
from ushape.weight_map import border_weights, class_balance, cut_gap, tail_px, targets

ROUNDING = 1e-6
"""A float32 near 10 is rounded by up to 4.8e-7; border terms below 1e-6 are taken as 0."""


def row(text):
    """One row of objects, a digit each; `.` is background."""
    return np.array([[0 if c == "." else int(c) for c in text]])


def term(total, w0=10.0, sigma_px=5.0):
    return w0 * np.exp(-(np.asarray(total) ** 2) / (2 * sigma_px**2))


class TestCutGap:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("111222", "11..22"),
            ("111.22", "111.22"),
            ("112331", "1....."),
            ("12", ".."),
            ("1111", "1111"),
            ("....", "...."),
        ],
    )
    def test_touching_pixels_of_both_objects_become_background(self, before, after):
        assert_array_equal(cut_gap(row(before)), row(after))
        assert_array_equal(cut_gap(row(before).T), row(after).T)

    def test_corners_touch_too(self):
        objects = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]])
        expected = objects.copy()
        expected[1, 1] = expected[2, 2] = 0
        assert_array_equal(cut_gap(objects), expected)

    def test_the_input_is_left_alone(self):
        objects = row("1122").astype(np.int32)
        cut_gap(objects)
        assert_array_equal(objects, row("1122"))


class TestBorderWeights:
    def test_two_objects_in_a_row(self):
        """Between two objects d1 + d2 is the width of the gap + 1; outside, it grows by 2 per pixel."""
        weights = border_weights(row("..11...22."))
        expected = [term([2 + 7, 1 + 6])[0], term(7), 0, 0, *term([4, 4, 4]), 0, 0, term(1 + 6)]
        assert_allclose(weights[0], expected, rtol=0, atol=ROUNDING)
        assert weights.dtype == np.float32

    def test_the_third_object_does_not_count_and_distances_are_euclidean(self):
        objects = np.zeros((40, 40), int)
        objects[10, 10], objects[14, 13], objects[10, 25] = 1, 2, 3
        weights = border_weights(objects)
        assert weights[10, 13] == pytest.approx(term(3 + 4), abs=ROUNDING)
        assert weights[20, 10] == pytest.approx(term(np.hypot(6, 3) + 10), abs=ROUNDING)

    def test_strengths(self):
        weights = border_weights(row("1..2"), w0=50.0, sigma_px=6.0)
        assert_allclose(weights[0, 1:3], term([3, 3], 50.0, 6.0), rtol=1e-6)
        assert not border_weights(row("1..2"), w0=0.0).any()

    @pytest.mark.parametrize("text", ["......", "..11..", "111111", "1.1..1"])
    def test_fewer_than_two_objects_give_0(self, text):
        assert_array_equal(border_weights(row(text)), np.zeros((1, 6)))

    def test_inside_objects_it_is_0(self):
        objects = row("111222")
        assert_array_equal(border_weights(objects), np.zeros((1, 6)))

    def test_crop_leaves_a_margin_away(self):
        objects = np.zeros((50, 70), int)
        objects[5:12, 3:30], objects[20:44, 35:66] = 1, 2
        whole = border_weights(objects)
        for crop in (1, 12, 24):  # the narrowest, and both sides of the reach of 29 pixels
            part = border_weights(objects, crop=crop)
            assert_array_equal(part, whole[crop : 50 - crop, crop : 70 - crop])
        wide = np.pad(objects, 40)
        assert_array_equal(border_weights(wide, crop=40), whole)

    @pytest.mark.parametrize(
        ("objects", "options", "error", "message"),
        [
            (
                np.zeros(5, int),
                {},
                ShapeError,
                "expected a plane of object ids (H, W), got an array of shape (5,)",
            ),
            (
                row("...."),
                {"crop": 1},
                ShapeError,
                "a crop of 1 pixels per side does not fit objects of shape (1, 4)",
            ),
            (row("...."), {"crop": -1}, ShapeError, "a crop of -1 pixels per side"),
            (
                row("...."),
                {"sigma_px": 0},
                ConfigError,
                "sigma_px must be positive and w0 not negative, got 0 and 10.0",
            ),
            (
                row("...."),
                {"w0": -1},
                ConfigError,
                "sigma_px must be positive and w0 not negative, got 5.0 and -1",
            ),
        ],
    )
    def test_what_cannot_work_is_refused(self, objects, options, error, message):
        with pytest.raises(error, match=re.escape(message)):
            border_weights(objects, **options)


class TestTail:
    @pytest.mark.parametrize(("sigma_px", "w0"), [(5.0, 10.0), (6.0, 50.0), (1.0, 1.0)])
    def test_beyond_the_tail_the_term_is_negligible(self, sigma_px, w0):
        reach = tail_px(sigma_px, w0) - 1
        assert term(reach, w0, sigma_px) <= 1e-6 < term(reach - 1, w0, sigma_px)


class TestClassBalance:
    def test_classes_weigh_the_same_in_sum_and_pixels_1_on_average(self):
        counts = np.array([700, 250, 50])
        balance = class_balance(counts)
        assert_allclose(counts * balance, 1000 / 3, rtol=1e-6)

    def test_power(self):
        counts = np.array([800, 200])
        assert_allclose(class_balance(counts, power=0), [1, 1])
        half = class_balance(counts, power=0.5)
        assert half[1] / half[0] == pytest.approx(2)
        assert (counts * half).sum() == pytest.approx(1000)

    def test_a_class_that_never_occurs_has_1(self):
        assert_allclose(class_balance(np.array([0, 75, 25])), [1, 2 / 3, 2], rtol=1e-6)

    def test_no_pixel_at_all_is_refused(self):
        with pytest.raises(ConfigError, match="no pixel has a class"):
            class_balance(np.zeros(3, int))


class TestTargets:
    balance = np.array([0.5, 2.0, 3.0])

    def test_classes_gap_and_weights(self):
        object_class = np.array([0, 1, 2], np.uint8)
        classes, weights = targets(row("11122..."), object_class, self.balance)
        assert_array_equal(classes, [[1, 1, 0, 0, 2, 0, 0, 0]])
        border = term([3, 3, 1 + 4, 2 + 5, 3 + 6])
        expected = [2, 2, *(0.5 + border[:2]), 3, *(0.5 + border[2:])]
        assert_allclose(weights[0], expected, rtol=0, atol=ROUNDING)
        assert (classes.dtype, weights.dtype) == (np.uint8, np.float32)

    def test_ignored_ids_are_no_objects(self):
        """They get weight 0, no gap is cut towards them, and they cast no border."""
        object_class = np.array([0, 1, IGNORE], np.uint8)
        classes, weights = targets(row("11222.1"), object_class, self.balance)
        assert_array_equal(classes, [[1, 1, IGNORE, IGNORE, IGNORE, 0, 1]])
        assert_allclose(weights, [[2, 2, 0, 0, 0, 0.5, 2]])

    def test_no_border_weight_between_objects_where_pixels_are_ignored(self):
        object_class = np.array([0, 1, 1, IGNORE], np.uint8)
        _, weights = targets(row("1.33.2"), object_class, self.balance)
        assert_array_equal(weights[0, 2:4], [0, 0])
        assert weights[0, 1] == pytest.approx(0.5 + term(1 + 4), abs=ROUNDING)

    def test_whole_classes_have_neither_gap_nor_border(self):
        object_class = np.array([0, 1, 2, IGNORE], np.uint8)
        classes, weights = targets(row("1122.3"), object_class, self.balance, separate=False)
        assert_array_equal(classes, [[1, 1, 2, 2, 0, IGNORE]])
        assert_allclose(weights, [[2, 2, 3, 3, 0.5, 0]])

    @pytest.mark.parametrize("separate", [True, False])
    def test_crop(self, separate):
        objects = np.arange(120).reshape(10, 12) // 40
        object_class = np.array([0, 1, 1], np.uint8)
        whole = targets(objects, object_class, self.balance, separate=separate)
        part = targets(objects, object_class, self.balance, separate=separate, crop=3)
        for a, b in zip(whole, part, strict=True):
            assert_array_equal(b, a[3:7, 3:9])


def test_importing_costs_nothing_heavy():
    """numba, OpenCV and SciPy take seconds together; they are loaded when they are used."""
    code = (
        "import sys, ushape.augment, ushape.weight_map;"
        "sys.exit(', '.join({'numba', 'cv2', 'scipy', 'torch'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
