"""Pictures for people: what is black, what is white, what keeps its colour, and where lines are drawn."""

import numpy as np
import pytest

from ushape import pictures
from ushape.config import IGNORE
from ushape.errors import ShapeError

RED, GREEN = (255, 0, 0), (0, 255, 0)


def ramp(low: float, high: float, dtype: type) -> np.ndarray:
    return np.linspace(low, high, 10_000).astype(dtype).reshape(1, 100, 100)


@pytest.mark.parametrize(
    ("low", "high", "dtype"), [(0, 60_000, np.uint16), (-500, 30, np.int16), (0.1, 0.2, np.float32)]
)
def test_any_type_and_exposure_is_stretched_from_black_to_white(low: float, high: float, dtype: type) -> None:
    shown = pictures.display(ramp(low, high, dtype))
    assert shown.shape == (100, 100, 3)
    assert shown.dtype == np.uint8
    # The 1st and the 99.8th percentile of a ramp of 10,000 values.
    assert (shown.reshape(-1, 3)[:100] == 0).all()
    assert (shown.reshape(-1, 3)[-20:] == 255).all()
    assert (
        125 <= shown[50, 40, 0] <= 130
    )  # the middle of the ramp lies a little above the middle of the stretch
    assert (np.diff(shown[..., 0].ravel().astype(int)) >= 0).all()


def test_one_hot_pixel_does_not_darken_the_rest() -> None:
    planes = ramp(0, 100, np.float32)
    planes[0, 0, 0] = 1e6
    assert pictures.display(planes)[99, 99, 0] == 255


def test_a_constant_image_is_black_and_a_single_spot_is_seen() -> None:
    flat = np.full((1, 50, 50), 7, np.uint8)
    assert not pictures.display(flat).any()
    flat[0, 3, 4] = 9
    shown = pictures.display(flat)
    assert (shown[3, 4] == 255).all()
    assert np.count_nonzero(shown[..., 0]) == 1


def test_colour_images_keep_their_hue() -> None:
    planes = np.concatenate(
        [ramp(0, 200, np.uint8), ramp(0, 100, np.uint8), np.zeros((1, 100, 100), np.uint8)]
    )
    red, green, blue = pictures.display(planes)[60, 0].astype(float)
    assert blue == 0
    assert red / green == pytest.approx(2, abs=0.05)  # 8-bit rounding of both


def test_other_numbers_of_channels_are_averaged_after_their_own_stretch() -> None:
    dim_rising, bright_falling = ramp(0, 10, np.float32), ramp(5000, 0, np.float32)
    shown = pictures.display(np.concatenate([dim_rising, bright_falling]))
    assert np.ptp(shown[20:80].astype(int)) <= 4  # rising and falling cancel but for the two percentiles
    assert (shown[..., 0] == shown[..., 2]).all()


def test_a_large_image_is_stretched_like_its_thinned_self() -> None:
    values = np.random.default_rng(0).gamma(2, 50, (1, 2500, 2500)).astype(np.float32)
    whole = pictures.display(values)[..., 0]
    low, high = np.percentile(values, (1, 99.8))
    expected = np.rint(np.clip((values[0] - low) / (high - low), 0, 1) * 255)
    # 1.6 million of 6.2 million values: the percentiles differ by less than one per cent of the range.
    assert np.abs(whole - expected).max() <= 4


def test_display_refuses_what_has_no_channel_axis() -> None:
    with pytest.raises(ShapeError, match=r"axes \(channel, height, width\), got shape \(4, 5\)"):
        pictures.display(np.zeros((4, 5)))


def test_classes_get_their_colours_and_the_rest_is_grey() -> None:
    shown = pictures.colorize(np.array([[0, 1], [2, IGNORE]], np.uint8), [RED, GREEN])
    assert shown.tolist() == [[list(RED), list(GREEN)], [[128] * 3, [128] * 3]]


def test_heat_rises_in_lightness_from_0_to_1() -> None:
    shown = pictures.heat(np.linspace(0, 1, 256)[None])
    lightness = shown[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > -0.5).all()  # rounding to 8 bit
    assert lightness[-1] - lightness[0] > 200
    assert (pictures.heat(np.array([[-3.0, 7.0]])) == shown[:, [0, -1]]).all()


def test_blend_touches_classes_only() -> None:
    rgb = np.full((1, 3, 3), 100, np.uint8)
    blended = pictures.blend(rgb, np.array([[0, 1, IGNORE]], np.uint8), [(9, 9, 9), RED], opacity=0.5)
    assert blended.tolist() == [[[100, 100, 100], [178, 50, 50], [100, 100, 100]]]
    assert (rgb == 100).all()


def test_touching_objects_are_told_apart_by_two_lines() -> None:
    ids = np.zeros((5, 8), np.int32)
    ids[:, 1:4], ids[:, 4:7] = 1, 2
    drawn = pictures.draw_outlines(np.zeros((5, 8, 3), np.uint8), ids, GREEN)
    on = (drawn == GREEN).all(-1)
    assert on[2].tolist() == [False, True, False, True, True, False, True, False]
    assert not on[0, 2]  # the border of the image is no border of an object


@pytest.mark.parametrize(
    "draw",
    [lambda rgb, ids: pictures.draw_outlines(rgb, ids), lambda rgb, ids: pictures.blend(rgb, ids, [RED])],
)
def test_sizes_must_agree(draw) -> None:
    with pytest.raises(ShapeError, match=r"the picture has \(4, 5\) pixels, what is drawn on it \(5, 4\)"):
        draw(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8))


def test_pictures_stand_side_by_side_untouched() -> None:
    first, second = np.full((20, 30, 3), 10, np.uint8), np.full((40, 25, 3), 20, np.uint8)
    row = pictures.side_by_side([first, second], gap=5)
    assert row.shape == (50, 70, 3)
    assert (row[5:25, 5:35] == 10).all()
    assert (row[5:45, 40:65] == 20).all()
    assert np.count_nonzero((row != 255).all(-1)) == 20 * 30 + 40 * 25


def test_titles_stand_above_their_pictures_and_are_never_cut() -> None:
    tiny = np.zeros((10, 10, 3), np.uint8)
    row = pictures.side_by_side([tiny, tiny], ["a title much wider than this", "b"], gap=5)
    lettering = (row < 128).all(-1)[:-15]
    columns = np.flatnonzero(lettering.any(0))
    assert lettering.any()
    assert columns[-1] - columns[0] > 150
    assert row.shape[1] > columns[-1]


def test_a_title_too_many_is_refused() -> None:
    with pytest.raises(ShapeError, match="got 1 and 2"):
        pictures.side_by_side([np.zeros((4, 4, 3), np.uint8)], ["a", "b"])


def test_every_object_has_its_colour_and_neighbours_in_number_differ() -> None:
    ids = np.arange(40).reshape(4, 10)
    shown = pictures.color_objects(ids)
    assert shown.dtype == np.uint8
    colors = shown.reshape(-1, 3).astype(int)
    assert colors[0].max() < 30, "the background is nearly black"
    assert colors[1:].max(1).min() > 140, "objects are bright"
    assert min(np.abs(colors[i] - colors[i + 1]).max() for i in range(1, 39)) > 40
    assert len(np.unique(colors, axis=0)) == 40
    assert (pictures.color_objects(ids[::2, 1::3]) == shown[::2, 1::3]).all(), (
        "the number decides, not the rest"
    )


def test_a_smaller_picture_shows_means_and_a_small_one_stays() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[::2] = 200
    smaller = pictures.reduced(picture, 30)
    assert smaller.shape == (20, 30, 3)
    assert (smaller == 100).all()
    assert pictures.reduced(picture, 60) is picture
    assert pictures.reduced(picture[:1], 6).shape == (1, 6, 3)
