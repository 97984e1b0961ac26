import re
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ushape.config import IGNORE
from ushape.errors import ConfigError, DataError, ShapeError
from ushape.weight_map import (
    border_weights,
    class_balance,
    cut_gap,
    distances,
    falk_tail_px,
    falk_weights,
    tail_px,
    targets,
)

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

    def test_one_sided_the_later_object_gives_up_its_pixel(self):
        assert_array_equal(cut_gap(row("112.33"), one_sided=True), row("11..33"))
        assert_array_equal(cut_gap(row("1122").T, one_sided=True), row("11.2").T)

    def test_slices_of_a_volume_touch_too(self):
        volume = np.stack([row("11...."), row("..2222"), row("333333")])
        expected = np.stack([row("1....."), row("......"), row("3.....")])
        assert_array_equal(cut_gap(volume), expected)


class TestMasks:
    """A binary mask stands for its connected components."""

    def test_components_are_the_objects(self):
        objects = row("..11...22.")
        for what in (border_weights, cut_gap, falk_weights):
            assert_array_equal(what(objects > 0), what(objects))

    @pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4)])
    def test_what_touches_by_a_corner_is_one_object(self, shape):
        mask = np.zeros(shape, bool)
        mask[(slice(0, 2),) * len(shape)] = mask[(slice(2, 4),) * len(shape)] = True
        assert_array_equal(cut_gap(mask), mask)
        assert not border_weights(mask).any()


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

    def test_thick_slices_are_further_apart(self):
        column = row("1..2")[:, :, None].transpose(1, 0, 2)  # (4, 1, 1)
        for thickness in (1, 2, 2.5):
            weights = border_weights(column, spacing=(thickness, 1, 1))
            assert_allclose(weights[1:3].ravel(), term([3 * thickness] * 2), rtol=1e-6)

    def test_sigma_is_in_the_unit_of_the_spacing(self):
        weights = border_weights(row("1..2.."), sigma_px=5.0)
        for unit in (0.25, 1e-9, 1e9):
            scaled = border_weights(row("1..2.."), sigma_px=5 * unit, spacing=(unit, unit))
            # Squares of distances are rounded differently, by less than a float32 can tell from 10.
            assert_allclose(scaled, weights, rtol=0, atol=ROUNDING)

    @pytest.mark.parametrize("background", [0, 0.2])
    def test_large_ids_are_as_good_as_small_ones(self, background):
        rng = np.random.default_rng(0)
        ids = np.r_[0, rng.choice(2**31 - 1, 30, replace=False)]
        objects = np.kron(rng.integers(1, 31, (6, 6)), np.ones((8, 8), int))
        objects[rng.random(objects.shape) < background] = 0
        for options in ({}, {"sigma_px": 1.0, "crop": 8}):  # the second reads nothing beyond the array
            assert_array_equal(border_weights(ids[objects], **options), border_weights(objects, **options))

    @pytest.mark.parametrize("shape", [(150, 40), (70, 12, 10)])
    @pytest.mark.parametrize("crop", [0, 3])
    def test_slabs_change_nothing(self, shape, crop, monkeypatch):
        rng = np.random.default_rng(1)
        objects = (rng.random(shape) < 0.01) * rng.integers(1, 90, shape)
        objects[60:65] = 0
        whole = border_weights(objects, sigma_px=1.0, crop=crop)
        parts = []
        monkeypatch.setattr(distances, "_SLAB_PIXELS", 1)
        monkeypatch.setattr(distances, "window", lambda *a, w=distances.window: parts.append(a) or w(*a))
        assert_array_equal(border_weights(objects, sigma_px=1.0, crop=crop), whole)
        assert len(parts) > 3

    @pytest.mark.parametrize(
        ("objects", "options", "error", "message"),
        [
            (
                np.zeros(5, int),
                {},
                ShapeError,
                "expected object ids of shape (H, W) or (D, H, W), got an array of shape (5,)",
            ),
            (
                row("1..2") / 2,
                {},
                DataError,
                "object ids must be whole numbers, got float64; give ids or a bool mask",
            ),
            (
                row("1..2") - 1,
                {},
                DataError,
                "object id -1 is not between 0 and 2147483647; number the objects anew",
            ),
            (np.array([[1, 2**31]]), {}, DataError, "object id 2147483648 is not between 0 and 2147483647"),
            (
                row("1..2"),
                {"spacing": (1, 1, 1)},
                ConfigError,
                "spacing must be 2 positive numbers, one for each axis, got (1, 1, 1)",
            ),
            (row("1..2"), {"spacing": (1, 0)}, ConfigError, "spacing must be 2 positive numbers"),
            (row("1..2"), {"spacing": (1, np.nan)}, ConfigError, "spacing must be 2 positive numbers"),
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


class TestFalk:
    def test_weights_by_hand(self):
        """Between two objects, beside one, and beside the only one of another class."""
        objects = np.zeros((1, 300), int)
        objects[0, [100, 104, 220]] = 1, 2, 3
        weights = falk_weights(objects, np.array([0, 1, 1, 2], np.uint8))
        assert_allclose(weights[0, [100, 104, 220]], 1)
        assert weights[0, 101] == pytest.approx(0.1 + term(4, 50, 6) + term(1, 0.9, 10), abs=5e-6)
        assert weights[0, 90] == pytest.approx(0.1 + term(24, 50, 6) + term(10, 0.9, 10), abs=5e-6)
        assert weights[0, 230] == pytest.approx(0.1 + term(10, 0.9, 10), abs=5e-6)
        assert weights[0, 0] == np.float32(0.1)
        assert weights.dtype == np.float32

    def test_nothing_but_background(self):
        assert_array_equal(falk_weights(row("....")), np.full((1, 4), np.float32(0.1)))

    def test_classes_sum_up_and_ignored_ids_are_no_objects(self):
        object_class = np.array([0, 1, 2, IGNORE], np.uint8)
        weights = falk_weights(row("1.2.3"), object_class)
        once, further = term(1, 0.9, 10), term(3, 0.9, 10)
        assert_allclose(weights, [[1, 0.1 + 2 * once, 1, 0.1 + once + further, 0]], rtol=0, atol=5e-6)

    def test_the_tail_is_that_of_the_slowest_term(self):
        reach = falk_tail_px() - 1
        assert term(reach, 0.9, 10) <= 1e-6 < term(reach - 1, 0.9, 10)
        assert term(reach, 50, 6) <= 1e-6

    def test_targets_have_a_gap_on_one_side_within_a_class(self):
        object_class = np.array([0, 1, 1, 2, IGNORE], np.uint8)
        classes, weights = targets(row("112233.4"), object_class, np.array([9, 9, 9]), border="falk")
        assert_array_equal(classes, [[1, 1, 0, 1, 2, 2, 0, IGNORE]])
        assert_array_equal(weights, falk_weights(row("11.233.4"), object_class))
        assert_array_equal(weights[0, [0, 1, 3, 4, 5, 7]], [1, 1, 1, 1, 1, 0])

    def test_whole_classes_have_neither_gap_nor_border(self):
        object_class = np.array([0, 1, 1], np.uint8)
        classes, weights = targets(row("1.22.."), object_class, np.ones(2), border="falk", separate=False)
        assert_array_equal(classes, [[1, 0, 1, 1, 0, 0]])
        expected = [1, 0.1 + term(1, 0.9, 10), 1, 1, *(0.1 + term([1, 2], 0.9, 10))]
        assert_allclose(weights[0], expected, rtol=1e-6)

    def test_crop(self):
        objects = np.arange(120).reshape(10, 12) // 40
        object_class = np.array([0, 1, 1], np.uint8)
        whole = targets(objects, object_class, np.ones(2), border="falk")
        part = targets(objects, object_class, np.ones(2), border="falk", crop=3)
        for a, b in zip(whole, part, strict=True):
            assert_array_equal(b, a[3:7, 3:9])


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
        "sys.exit(', '.join({'numba', 'cv2', 'scipy', 'torch', 'edt', 'cc3d'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
