"""Objects from hand-drawn planes: what each setting of the post-processing does."""

import numpy as np
import pytest

from ushape.config import Postprocessing
from ushape.errors import ConfigError, ShapeError
from ushape.instances import instances

DRAWN = np.array(
    [
        [1, 1, 0, 0, 1],
        [0, 0, 1, 0, 1],
        [0, 0, 1, 0, 0],
    ]
)


def found(drawing: list[str], **settings: object) -> list[str]:
    """Objects of a drawing, in which ' ' is background and a digit tenths of probability; '#' is 1."""
    tenths = {" ": 0.0, "#": 1.0} | {str(n): n / 10 + 0.05 for n in range(10)}
    foreground = np.array([[tenths[mark] for mark in line] for line in drawing])
    ids = instances(foreground, Postprocessing(**settings))
    return ["".join(" " if number == 0 else str(number) for number in line) for line in ids.tolist()]


def test_components_touch_by_edges_only():
    expected = [[1, 1, 0, 0, 2], [0, 0, 3, 0, 2], [0, 0, 3, 0, 0]]
    assert instances(DRAWN * 0.9).tolist() == expected


def test_components_touch_by_corners_if_asked():
    expected = [[1, 1, 0, 0, 2], [0, 0, 1, 0, 2], [0, 0, 1, 0, 0]]
    assert instances(DRAWN * 0.9, Postprocessing(connectivity=8)).tolist() == expected


def test_a_pixel_at_the_threshold_is_background():
    foreground = np.array([[0.5, 0.51, 0.3]])
    assert instances(foreground).tolist() == [[0, 1, 0]]
    assert instances(foreground, Postprocessing(threshold=0.25)).tolist() == [[1, 1, 1]]


def test_classes_part_objects_that_touch():
    classes = np.array([[1, 1, 2, 2, 1]])
    assert instances(np.ones((1, 5)), classes=classes).tolist() == [[1, 1, 2, 2, 3]]


def test_type_grows_with_the_number_of_objects():
    foreground = np.zeros((512, 514))
    foreground[::2, ::2] = 1  # 65,792 single pixels
    assert instances(foreground).dtype == np.uint32
    foreground[-2:] = 0  # 65,535
    ids = instances(foreground)
    assert (ids.dtype, ids.max()) == (np.uint16, 65535)


@pytest.mark.parametrize("split", ["none", "probability", "distance"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_planes_without_background_and_without_objects(split, value):
    settings = Postprocessing(split=split, fill_holes=True)
    ids = instances(np.full((3, 4), value), settings)
    assert (ids.dtype, ids.tolist()) == (np.uint16, np.full((3, 4), int(value)).tolist())


def test_a_stack_is_refused():
    with pytest.raises(ShapeError, match=r"\(2, 3, 4\) is not one plane"):
        instances(np.zeros((2, 3, 4)))


# Which objects are kept


def test_small_objects_are_dropped_and_leave_no_gap():
    assert found(["# ## # ###"], min_area=2) == ["  11   222"]


@pytest.mark.parametrize(
    ("smallest_um2", "pixel_size_um", "smallest_px"),
    [
        (3, (0.1, 0.1), 300),  # 3 / (0.1 * 0.1) is a hair below 300
        (0.07, (0.7, 0.1), 1),  # and this a hair above 1
        (1, (0.5, 0.25), 8),
        (1.01, (0.5, 0.25), 9),
    ],
)
def test_the_smallest_area_in_micrometres(smallest_um2, pixel_size_um, smallest_px):
    foreground = np.zeros((4, 400))
    foreground[0, :smallest_px] = 1
    foreground[2, : smallest_px - 1] = 1
    ids = instances(foreground, Postprocessing(min_area_um2=smallest_um2), pixel_size_um=pixel_size_um)
    assert (ids.max(), np.count_nonzero(ids)) == (1, smallest_px)


def test_an_object_must_reach_both_smallest_areas():
    foreground = np.array([[1.0, 1, 1, 0, 1, 1]])
    for pixels, um2, expected in ((3, 2, 1), (2, 3, 1), (2, 2, 2), (0, 4, 0)):
        ids = instances(foreground, Postprocessing(min_area=pixels, min_area_um2=um2), pixel_size_um=(1, 1))
        assert ids.max() == expected


def test_micrometres_need_a_pixel_size():
    with pytest.raises(ConfigError, match=r"smallest area is 7.5 um2, but the image does not tell the size"):
        instances(np.ones((3, 3)), Postprocessing(min_area_um2=7.5))


FRAMED = [
    "## # #  ",
    "   #  # ",
    " ##     ",
    " #  ##  ",
    "    #  #",
    "  #    #",
]


def test_objects_at_the_border_are_kept_or_removed():
    assert found(FRAMED, border="keep") == [
        "11 2 3  ",
        "   2  4 ",
        " 55     ",
        " 5  66  ",
        "    6  7",
        "  8    7",
    ]
    assert found(FRAMED, border="remove") == [
        "        ",
        "      1 ",
        " 22     ",
        " 2  33  ",
        "    3   ",
        "        ",
    ]


def test_objects_entirely_in_the_frame_are_dropped():
    drawing = [
        "##      ",
        "## #    ",
        "   #  ##",
        "#  #    ",
        "    #   ",
        "  #     ",
        "        ",
    ]
    # Inside a frame of 2 px are rows 2 to 4 and columns 2 to 5: one pixel there is enough.
    assert found(drawing, foi_px=2) == [
        "        ",
        "   1    ",
        "   1    ",
        "   1    ",
        "    2   ",
        "        ",
        "        ",
    ]


def test_the_rule_of_the_release():
    rng = np.random.default_rng(0)
    foreground = np.zeros((300, 400))
    for _ in range(40):
        y, x = rng.integers(0, (290, 390))
        foreground[y : y + rng.integers(5, 40), x : x + rng.integers(5, 40)] = 1
    ids = instances(foreground, Postprocessing(connectivity=8, min_area=501, foi_px=50))
    from scipy import ndimage

    components, count = ndimage.label(foreground, np.ones((3, 3)))
    kept = np.zeros(foreground.shape, bool)
    for number in range(1, count + 1):
        rows, columns = np.nonzero(components == number)
        is_inside = ((rows >= 50) & (rows < 250) & (columns >= 50) & (columns < 350)).any()
        kept |= (components == number) & bool(len(rows) > 500 and is_inside)
    assert 0 < kept.sum() < foreground.sum()
    np.testing.assert_array_equal(ids > 0, kept)


@pytest.mark.parametrize(("size", "most"), [((100, 200), 49), ((200, 101), 50)])
def test_a_frame_that_covers_everything_is_refused(size, most):
    with pytest.raises(
        ConfigError, match=rf"frame of 51 px .* covers all of the image, .*; give at most {most}$"
    ):
        instances(np.ones(size), Postprocessing(foi_px=51))
    assert instances(np.ones(size), Postprocessing(foi_px=most)).max() == 1


# Holes


RING = [
    "      ",
    " #### ",
    " #  # ",
    " # ## ",
    " #### ",
    "      ",
]


def test_a_hole_is_filled_if_asked():
    assert found(RING) == [line.replace("#", "1") for line in RING]
    assert found(RING, fill_holes=True) == [
        "      ",
        " 1111 ",
        " 1111 ",
        " 1111 ",
        " 1111 ",
        "      ",
    ]


def test_a_hole_that_opens_by_a_corner_is_none_for_objects_that_touch_by_edges():
    drawing = ["####", "#  #", "# # ", "####"]
    assert found(drawing, fill_holes=True) == [line.replace("#", "1") for line in drawing]
    assert found(drawing, fill_holes=True, connectivity=8) == ["1111", "1111", "111 ", "1111"]


def test_what_is_open_at_the_border_of_the_image_is_no_hole():
    drawing = ["## ##", "#   #", "#####"]
    assert found(drawing, fill_holes=True) == [line.replace("#", "1") for line in drawing]


def test_other_objects_in_a_hole_are_never_swallowed():
    drawing = [
        "#########",
        "#       #",
        "# ##### #",
        "# #   # #",
        "# # # # #",
        "# #   # #",
        "# ##### #",
        "#       #",
        "#########",
    ]
    assert found(drawing, fill_holes=True) == [
        "111111111",
        "111111111",
        "112222211",
        "112222211",
        "112232211",
        "112222211",
        "112222211",
        "111111111",
        "111111111",
    ]


def test_another_object_that_fills_a_hole_stays_where_the_rest_is_filled():
    classes = np.array([[1] * 7, [1, 1, 1, 1, 2, 2, 1], [1, 1, 1, 1, 2, 2, 1], [1] * 7])
    foreground = np.ones((4, 7))
    foreground[1:3, 1:3] = 0
    ids = instances(foreground, Postprocessing(fill_holes=True), classes=classes)
    np.testing.assert_array_equal(ids, classes)


def test_a_speck_in_a_hole_that_is_dropped_leaves_no_hole():
    drawing = ["#####", "#   #", "# # #", "#   #", "#####"]
    assert found(drawing, fill_holes=True, min_area=2) == ["11111"] * 5


def test_what_two_objects_enclose_together_stays_open():
    foreground = np.array([[1.0, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]])
    classes = np.array([[1, 1, 2, 2]] * 3)
    ids = instances(foreground, Postprocessing(fill_holes=True), classes=classes)
    assert ids.tolist() == [[1, 1, 2, 2], [1, 0, 0, 2], [1, 1, 2, 2]]


def test_the_smallest_area_counts_filled_holes():
    assert found(RING, fill_holes=True, min_area=16)[1] == " 1111 "
    assert found(RING, fill_holes=True, min_area=17)[1] == "      "


# The watershed


def test_peaks_of_the_probability_part_an_object():
    drawing = ["9985799", " 85 78 "]
    assert found(drawing) == ["1111111", " 11 11 "]
    assert found(drawing, split="probability") == ["1111222", " 11 22 "]
    assert found(drawing, split="probability", seed_threshold=0.7, threshold=0.6) == ["111 222", " 1  22 "]


def test_what_has_no_peak_is_no_object():
    assert found(["77 99 67"], split="probability") == ["   11   "]


def test_seeds_that_touch_by_a_corner_are_one_seed_if_objects_do():
    drawing = ["96", "69"]
    assert found(drawing, split="probability") in (["11", "22"], ["12", "12"], ["11", "12"], ["12", "22"])
    assert found(drawing, split="probability", connectivity=8) == ["11", "11"]


def discs(*centers: tuple[int, int], radius: float = 9.5) -> np.ndarray:
    y, x = np.indices((40, 60))
    return np.any([(y - cy) ** 2 + (x - cx) ** 2 < radius**2 for cy, cx in centers], axis=0).astype(float)


def test_peaks_of_the_distance_part_discs_that_overlap():
    foreground = discs((20, 20), (20, 36))
    assert instances(foreground).max() == 1
    ids = instances(foreground, Postprocessing(split="distance"))
    assert ids.max() == 2
    np.testing.assert_array_equal(ids > 0, foreground > 0)
    # Where they meet, at column 28, in the middle between the centres.
    assert set(ids[:, :28][ids[:, :28] > 0]) == {1}
    assert set(ids[:, 29:][ids[:, 29:] > 0]) == {2}
    # The pass is some 6 px high, the peaks almost 10.
    assert instances(foreground, Postprocessing(split="distance", seed_depth_px=5)).max() == 1


@pytest.mark.parametrize("depth", [0, 1])
def test_a_plateau_is_one_peak(depth):
    foreground = np.zeros((12, 40))
    foreground[2:8, 3:37] = 1
    assert instances(foreground, Postprocessing(split="distance", seed_depth_px=depth)).max() == 1


def test_an_object_goes_on_beyond_the_border_of_the_image():
    """Two overlapping discs cut in half have the peaks of whole ones: the border is no background."""
    halves = discs((0, 20), (0, 36))
    assert instances(halves, Postprocessing(split="distance", seed_depth_px=3)).max() == 2


def test_holes_are_filled_before_distances_are_taken():
    foreground = discs((20, 20))
    foreground[17:24, 20] = 0
    assert instances(foreground, Postprocessing(split="distance")).max() > 1
    assert instances(foreground, Postprocessing(split="distance", fill_holes=True)).max() == 1


@pytest.mark.parametrize("split", ["probability", "distance"])
def test_the_watershed_does_not_cross_from_class_to_class(split):
    """Both classes have two peaks each, and touch along a line."""
    shape = np.maximum(discs((12, 20), (12, 36)), discs((27, 20), (27, 36)))
    assert instances(shape).max() == 1
    classes = np.where(np.indices(shape.shape)[0] < 20, 1, 2)
    peaks = np.maximum(discs((12, 20), (12, 36), radius=3), discs((27, 20), (27, 36), radius=3))
    ids = instances(0.6 * shape + 0.3 * peaks, Postprocessing(split=split), classes=classes)
    assert ids.max() == 4
    for number in range(1, 5):
        assert len(set(classes[ids == number])) == 1


def test_objects_of_a_watershed_are_numbered_line_by_line():
    foreground = np.maximum(discs((24, 20), radius=14), discs((18, 38), radius=7))
    ids = instances(foreground, Postprocessing(split="distance"))
    # The large disc begins higher up, though its peak lies lower down.
    assert (ids.max(), ids[24, 20], ids[18, 38]) == (2, 1, 2)
