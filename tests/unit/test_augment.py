import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ushape.augment import Deformation, GreyValues, generator, random_tile, vary_grey_values
from ushape.errors import ConfigError, ShapeError


def numbered(height, width):
    """An image and objects in which every pixel is told from every other."""
    ids = np.arange(height * width).reshape(height, width)
    return ids[None].astype(np.float32), ids


def noise_image(channels=1, size=64):
    image = np.random.default_rng(3).normal(size=(channels, size, size)).astype(np.float32)
    return (image - image.mean((1, 2), keepdims=True)) / image.std((1, 2), keepdims=True)


DEFAULT = GreyValues()


def varied(image, rng, strengths=DEFAULT):
    return vary_grey_values(image, strengths.draw(rng, len(image)), rng)


class TestGenerator:
    def test_same_key_same_numbers(self):
        assert_array_equal(generator(7, 123456).random(5), generator(7, 123456).random(5))

    @pytest.mark.parametrize("other", [(8, 3, 0), (7, 4, 0), (7, 3, 1), (3, 7, 0)])
    def test_another_seed_sample_or_stream_gives_other_numbers(self, other):
        assert not np.any(
            np.isin(generator(7, 3).integers(2**63, size=50), generator(*other).integers(2**63, size=50))
        )

    def test_numbers_are_those_of_philox_4x64_10(self):
        """Frozen, so that a run can be repeated with a later version; the largest key must work too."""
        first = [5705853004827290377, 6584680345644299050]
        assert generator(1, 2).bit_generator.random_raw(2).tolist() == first
        first = [17226763693878045595, 8080099658550297572]
        assert generator(2**64 - 1, 0, 5).bit_generator.random_raw(2).tolist() == first

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ((-1, 0), "seed must be at least 0 and below 2**64, got -1"),
            ((0, 2**64), "sample must be at least 0 and below 2**64, got 18446744073709551616"),
            ((0, 0, -2), "stream must be at least 0 and below 2**64, got -2"),
        ],
    )
    def test_a_key_out_of_range_is_refused(self, key, message):
        with pytest.raises(ConfigError, match=re.escape(message)):
            generator(*key)


class TestDraw:
    def test_the_paper_draws_a_3x3_grid_of_standard_deviation_10(self):
        drawn = np.array([Deformation.draw(generator(0, n)).displacements for n in range(500)])
        assert drawn.shape == (500, 2, 3, 3)
        # 9000 numbers: the standard error is 10 / sqrt(18000) = 0.075; four of them.
        assert drawn.std() == pytest.approx(10, abs=0.3)
        assert drawn.mean() == pytest.approx(0, abs=4 * 10 / np.sqrt(9000))

    def test_angles_mirrors_scales_and_shifts_fill_their_ranges(self):
        drawn = [
            Deformation.draw(generator(0, n), scale=(0.5, 2.0), shift_px=(3.0, 40.0)) for n in range(500)
        ]
        angles = np.histogram([d.angle for d in drawn], bins=4, range=(0, 2 * np.pi))[0]
        # 500 draws into quarters: 125 each, standard deviation 9.7; four of them.
        assert np.abs(angles - 125).max() < 39
        assert 205 < sum(d.mirror for d in drawn) < 295
        assert 205 < sum(d.scale > 1 for d in drawn) < 295
        assert all(0.5 <= d.scale <= 2 for d in drawn)
        shifts = np.array([d.shift for d in drawn])
        assert_allclose(shifts.max(0), [3, 40], rtol=0.05)  # largest of 500 uniform numbers
        assert_allclose(shifts.min(0), [-3, -40], rtol=0.05)
        assert np.all(np.abs(shifts) <= [3, 40])

    def test_switching_one_part_off_leaves_the_others_as_they_were(self):
        whole = Deformation.draw(generator(1, 1), shift_px=(5, 5))
        still = Deformation.draw(generator(1, 1), shift_px=(5, 5), rotation=False, mirror=False)
        assert (still.angle, still.mirror) == (0, False)
        assert still.shift == whole.shift
        assert_array_equal(still.displacements, whole.displacements)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"grid": 1}, "grid must be at least 2 for an interpolating spline, got 1"),
            (
                {"grid": 3, "spline": "approximating"},
                "grid must be at least 4 for an approximating spline, got 3",
            ),
            ({"spline": "linear"}, "spline must be 'interpolating' or 'approximating', got 'linear'"),
            ({"elastic_std_px": -1}, "elastic_std_px must be a number, at least 0, got -1"),
            ({"elastic_std_px": float("nan")}, "elastic_std_px must be a number, at least 0, got nan"),
            (
                {"scale": (0.8, float("inf"))},
                "scale must be a range of positive numbers, the smaller first, got (0.8, inf)",
            ),
            ({"scale": (2, 1)}, "scale must be a range of positive numbers, the smaller first, got (2, 1)"),
            ({"scale": (0, 1)}, "scale must be a range of positive numbers, the smaller first, got (0, 1)"),
        ],
    )
    def test_a_setting_that_cannot_work_is_refused(self, options, message):
        with pytest.raises(ConfigError, match=re.escape(message)):
            Deformation.draw(generator(0, 0), **options)


class TestCoordinates:
    def test_the_spline_passes_through_the_control_values(self):
        drawn = Deformation.draw(generator(2, 2), rotation=False, mirror=False)
        map_y, map_x = drawn.coordinates((101, 61))
        nodes = np.ix_([0, 50, 100], [0, 30, 60])
        straight = np.meshgrid([-50, 0, 50], [-30, 0, 30], indexing="ij")
        # float32 offsets of up to 80 pixels
        assert_allclose([map_y[nodes], map_x[nodes]], straight + drawn.displacements, rtol=0, atol=2e-5)

    def test_the_approximating_spline_keeps_four_ninths_of_a_single_displacement(self):
        """2/3 per axis at the control point: about half the amplitude of the interpolating spline."""
        control = np.zeros((2, 5, 5))
        control[0, 2, 2] = 9.0
        map_y, map_x = Deformation(control, spline="approximating").coordinates((41, 41))
        assert map_y[20, 20] == pytest.approx(4.0, abs=1e-5)
        assert_allclose(map_x, np.broadcast_to(np.arange(-20, 21), (41, 41)), rtol=0, atol=1e-5)

    def test_mapping_is_a_fresh_array_each_time(self):
        """random_tile changes its coordinates in place: the cached basis must not be what it changes."""
        still = Deformation.identity()
        still.coordinates((4, 4))[0][:] = 77
        assert_array_equal(still.coordinates((4, 4))[0][:, 0], [-1.5, -0.5, 0.5, 1.5])


class TestRandomTile:
    def test_identity_cuts_the_middle(self):
        image, ids = numbered(20, 30)
        tile, objects = random_tile(
            image, ids, size_in=10, size_objects=4, deformation=Deformation.identity()
        )
        assert_array_equal(tile[0], ids[5:15, 10:20])
        assert_array_equal(objects, ids[8:12, 13:17])
        assert (tile.dtype, objects.dtype) == (np.float32, np.int32)

    def test_center_and_shift_add_up(self):
        image, ids = numbered(20, 30)
        still = Deformation(np.zeros((2, 3, 3)), shift=(2.0, -3.0))
        _, objects = random_tile(image, ids, size_in=7, size_objects=3, deformation=still, center=(8, 20))
        assert_array_equal(objects, ids[9:12, 16:19])

    @pytest.mark.parametrize("quarters", [1, 2, 3])
    def test_a_positive_angle_turns_clockwise(self, quarters):
        image, ids = numbered(9, 9)
        turned = Deformation(np.zeros((2, 3, 3)), angle=quarters * np.pi / 2)
        tile, objects = random_tile(image, ids, size_in=9, size_objects=9, deformation=turned)
        assert_array_equal(tile[0], np.rot90(ids, -quarters))
        assert_array_equal(objects, np.rot90(ids, -quarters))

    def test_a_plain_tile_shows_pixels_as_they_are(self):
        image, ids = noise_image(), numbered(*noise_image().shape[1:])[1]
        seen = set()
        for sample in range(40):
            tile, objects = random_tile(
                image,
                ids,
                size_in=12,
                size_objects=12,
                deformation=Deformation.draw_plain(generator(0, sample)),
                center=(20.5, 24.5),
                interpolation="cubic",
            )
            y, x = np.divmod(objects, ids.shape[1])
            assert_array_equal(tile[0], image[0, y, x])
            seen.add(objects[0, :2].tobytes())
        assert len(seen) == 8

    def test_mirror_swaps_left_and_right_of_the_turned_tile(self):
        image, ids = numbered(9, 9)
        flipped = Deformation(np.zeros((2, 3, 3)), angle=np.pi / 2, mirror=True)
        _, objects = random_tile(image, ids, size_in=9, size_objects=9, deformation=flipped)
        assert_array_equal(objects, np.rot90(ids, -1)[:, ::-1])

    def test_scale_2_shows_everything_at_half_its_size(self):
        image, ids = numbered(21, 21)
        small = Deformation(np.zeros((2, 3, 3)), scale=2.0)
        tile, objects = random_tile(image, ids, size_in=11, size_objects=11, deformation=small)
        assert_array_equal(objects, ids[::2, ::2])
        assert_array_equal(tile[0], ids[::2, ::2])

    def test_cubic_interpolation_keeps_more_of_fine_detail(self):
        image = noise_image()
        half = Deformation(np.zeros((2, 3, 3)), shift=(0.5, 0.5))
        tiles = {
            kind: random_tile(
                image, image[0], size_in=40, size_objects=2, deformation=half, interpolation=kind
            )[0]
            for kind in ("linear", "cubic")
        }
        # Between four pixels, white noise of std 1 keeps std 1/2 (linear).
        assert tiles["linear"].std() == pytest.approx(0.5, abs=0.05)
        assert tiles["cubic"].std() > 0.6

    def test_channels_go_through_the_same_coordinates(self):
        image, ids = numbered(30, 30)
        drawn = Deformation.draw(generator(3, 1))
        both, _ = random_tile(
            np.concatenate([image, -2 * image]), ids, size_in=24, size_objects=8, deformation=drawn
        )
        assert_allclose(both[1], -2 * both[0], rtol=1e-6)

    def test_objects_may_reach_beyond_the_image_tile(self):
        """A shallow network loses less than the border weights' tails need."""
        image, ids = numbered(60, 60)
        drawn = Deformation.draw(generator(3, 2))
        tile, objects = random_tile(image, ids, size_in=21, size_objects=41, deformation=drawn)
        larger, same = random_tile(image, ids, size_in=41, size_objects=41, deformation=drawn)
        assert_array_equal(objects, same)
        assert_array_equal(tile, larger[:, 10:31, 10:31])

    def test_more_than_32767_pixels_along_an_axis(self):
        image, ids = numbered(4, 40000)
        _, objects = random_tile(
            image, ids, size_in=6, size_objects=2, deformation=Deformation.identity(), center=(1.5, 39990.5)
        )
        assert_array_equal(objects, ids[1:3, 39990:39992])

    def test_inputs_are_left_alone(self):
        image, ids = numbered(12, 12)
        before = image.copy(), ids.copy()
        random_tile(image, ids, size_in=30, size_objects=20, deformation=Deformation.draw(generator(0, 0)))
        assert_array_equal(image, before[0])
        assert_array_equal(ids, before[1])

    @pytest.mark.parametrize(
        ("shape", "sizes", "message"),
        [
            ((1, 5, 6), (8, 4), "image (C, H, W) and objects (H, W) do not fit: (1, 5, 6) and (5, 5)"),
            ((5, 5), (8, 4), "image (C, H, W) and objects (H, W) do not fit: (5, 5) and (5, 5)"),
            ((1, 5, 5), (8, 5), "tiles of 8 and 5 pixels have no common centre: even and odd"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, shape, sizes, message):
        with pytest.raises(ShapeError, match=re.escape(message)):
            random_tile(
                np.zeros(shape, np.float32),
                np.zeros((5, 5), int),
                size_in=sizes[0],
                size_objects=sizes[1],
                deformation=Deformation.identity(),
            )


class TestGreyValues:
    def test_no_strength_changes_nothing(self):
        image = noise_image()
        still = varied(image, generator(0, 0), GreyValues(0, 0, 0))
        # The identity as a polynomial in float32, values of up to 4
        assert_allclose(still, image, rtol=0, atol=2e-6)

    @pytest.mark.parametrize("sample", range(20))
    def test_the_strongest_curve_still_rises(self, sample):
        image = np.linspace(-2, 5, 512, dtype=np.float32).reshape(1, 1, 512)
        changed = varied(image, generator(1, sample), GreyValues(2.0, 0.9, 0.125))
        # Where the curve is flat, neighbouring values differ by rounding of values of up to 10.
        assert np.diff(changed).min() > -2e-6
        assert changed.max() - changed.min() == pytest.approx(7, rel=0.9)

    def test_each_strength_reaches_its_limit_and_not_beyond(self):
        image = noise_image()
        tiles = [varied(image, generator(2, n), GreyValues(0.5, 0, 0)) for n in range(100)]
        offsets = np.array([t.mean() for t in tiles])
        assert 0.45 < np.abs(offsets).max() <= 0.5 + 1e-5
        tiles = [varied(image, generator(2, n), GreyValues(0, 0.5, 0)) for n in range(100)]
        contrasts = np.array([t.std() for t in tiles])
        assert 0.5 - 1e-5 <= contrasts.min() < 0.55
        assert 1.45 < contrasts.max() <= 1.5 + 1e-5

    def test_the_curve_keeps_the_ends_of_the_range(self):
        image = noise_image()
        changed = varied(image, generator(0, 1), GreyValues(0, 0, 0.125))
        assert np.abs(changed - image).max() > 0.1
        assert_allclose([changed.min(), changed.max()], [image.min(), image.max()], rtol=1e-5)

    def test_noise(self):
        image = noise_image(channels=2, size=128)
        noisy = varied(image, generator(4, 4), GreyValues(0, 0, 0, noise=1.0)) - image
        assert np.all((noisy.std((1, 2)) > 0.01) & (noisy.std((1, 2)) < 1.05))
        assert abs(np.corrcoef(noisy[0].ravel(), noisy[1].ravel())[0, 1]) < 0.05

    @pytest.mark.parametrize("strengths", [{"blur_px": 3.0}, {"fade": 1.0}])
    def test_patches_lose_contrast_and_the_rest_of_the_tile_stays_as_it_is(self, strengths):
        image = np.repeat(noise_image(size=128), 2, 0)
        kept, lost = [], []
        for sample in range(30):
            changed = varied(image, generator(4, sample), GreyValues(0, 0, 0, **strengths))
            assert_array_equal(changed[0], changed[1])  # channels share patches
            # The identity as a polynomial in float32, values of up to 4
            kept.append(np.mean(np.abs(changed - image) < 4e-6))
            lost.append(1 - changed.std() / image.std())
        assert 0.35 < np.mean(kept) < 0.65
        assert min(kept) > 0.1
        assert min(lost) >= 0
        assert max(lost) > 0.15

    def test_fading_keeps_what_is_smooth(self):
        ramp = np.linspace(-1, 1, 256, dtype=np.float32)
        image = np.tile(ramp[None, :, None], (1, 1, 256))
        changed = varied(image, generator(4, 5), GreyValues(0, 0, 0, fade=1.0))
        # A mean over a symmetric window is the ramp itself; sums of 625 values of float32. Not at the mirror.
        assert_allclose(changed[:, 13:-13], image[:, 13:-13], rtol=0, atol=1e-5)

    def test_only_a_share_of_the_tiles_has_patches(self):
        strengths = GreyValues(blur_px=2.0, fade=0.5, patches=0.25)
        draws = [strengths.draw(generator(6, n), 1) for n in range(400)]
        having = [draw for draw in draws if draw.blur_px or draw.fade]
        assert 70 < len(having) < 130  # 100 with a standard deviation of 9
        assert all(0 < draw.blur_px <= 2.0 and 0 < draw.fade <= 0.5 for draw in having)

    def test_channels_vary_on_their_own_and_the_input_is_left_alone(self):
        image = np.repeat(noise_image(), 2, 0)
        before = image.copy()
        changed = varied(image, generator(0, 2))
        assert np.abs(changed[0] - changed[1]).max() > 0.05
        assert_array_equal(image, before)

    def test_a_constant_channel_stays_finite(self):
        changed = varied(np.zeros((1, 8, 8), np.float32), generator(0, 3))
        assert np.ptp(changed) == 0
        assert abs(changed[0, 0, 0]) <= 0.2

    @pytest.mark.parametrize(
        ("strengths", "message"),
        [
            ({"noise": -0.1}, "noise must be a number, at least 0, got -0.1"),
            ({"noise": float("inf")}, "noise must be a number, at least 0, got inf"),
            ({"blur_px": float("nan")}, "blur_px must be a number, at least 0, got nan"),
            ({"contrast": 1.0}, "contrast must be a number, at least 0 and at most 0.9, got 1.0"),
            ({"curve": 0.2}, "curve must be a number, at least 0 and at most 0.125, got 0.2"),
            ({"fade": 1.1}, "fade must be a number, at least 0 and at most 1.0, got 1.1"),
            ({"patches": -1}, "patches must be a number, at least 0 and at most 1.0, got -1"),
        ],
    )
    def test_strengths_that_cannot_work_are_refused(self, strengths, message):
        with pytest.raises(ConfigError, match=message):
            GreyValues(**strengths)
