"""What the values of masks mean: told from the masks, or refused with the values and the option."""

import io

import numpy as np
import pytest
from PIL import Image

from ushape.config import IGNORE
from ushape.data import infer_coding
from ushape.data.coding import not_counted
from ushape.data.evidence import examine, label_plane, packed, ranked, unpacked
from ushape.errors import ConfigError, DataError
from ushape.io import LabelImage, read_labels
from ushape.weight_map import cut_gap


def label(array: np.ndarray, palette: np.ndarray | None = None) -> LabelImage:
    axes = "YXC" if array.ndim == 3 else "YX"
    return LabelImage(array, axes, palette)


def blobs(values, *, pieces: int = 1, dtype=np.uint8, shift: int = 0) -> np.ndarray:
    """Squares of 3 x 3 pixels, `pieces` for each value, on 0."""
    plane = np.zeros((40, 120), dtype)
    for i, value in enumerate(np.repeat(list(values), pieces)):
        y, x = divmod(i + shift, 28)
        plane[4 * y + 1 : 4 * y + 4, 4 * x + 1 : 4 * x + 4] = value
    return plane


def coding_of(*planes: np.ndarray, **options):
    return infer_coding([label(plane) for plane in planes], **options)


def values_of(coding) -> list:
    return [info.value for info in coding.classes]


def disc(size: int = 96, high: int = 255) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.where(np.hypot(y - size / 2, x - size / 2) < size / 3, high, 0).astype(np.uint8)


def as_jpeg(plane: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resized(plane: np.ndarray, factor: float) -> np.ndarray:
    size = [round(factor * side) for side in plane.shape]
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR))


# Evidence


def test_codes_of_colours_and_numbers():
    assert unpacked(int(packed(np.array([[[1, 2, 3]]], np.uint8))[0, 0])) == (1, 2, 3)
    deep = np.array([[[1, 65535, 3]]], np.uint16)
    assert unpacked(int(packed(deep)[0, 0]), 16) == (1, 65535, 3)


@pytest.mark.parametrize("offset", [0, -5, 1 << 20])
def test_ranks_by_counting_equal_ranks_by_sorting(offset):
    codes = np.random.default_rng(0).integers(0, 9, (20, 30)) * 3 + offset
    values, ranks = ranked(codes)
    assert values.tolist() == sorted(set(codes.ravel().tolist()))
    assert np.array_equal(values[ranks], codes)


def test_evidence_counts_pixels_and_connected_pieces():
    plane = np.array([[0, 7, 0, 0], [7, 0, 0, 7], [0, 0, 9, 9]], np.uint8)
    evidence = examine(label(plane))
    assert evidence.values.tolist() == [0, 7, 9]
    assert evidence.pixels.tolist() == [7, 3, 2]
    assert evidence.pieces.tolist() == [1, 2, 1]  # diagonal neighbours touch


def test_pixels_outside_the_region_are_not_counted():
    plane = np.array([[0, 7, 7]], np.uint8)
    evidence = examine(label(plane), region=np.array([[True, True, False]]))
    assert (evidence.pixels.tolist(), evidence.outside) == ([1, 1], 1)


@pytest.mark.parametrize("quality", [30, 75, 92, 98])
def test_jpeg_smears_are_seen_in_whatever_file(quality):
    evidence = examine(label(as_jpeg(disc(), quality)))
    assert evidence.smeared == "JPEG-smeared"
    assert (evidence.levels[0], evidence.levels[-1]) == (0, 255)


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.5, 2, 3])
def test_interpolated_edges_are_seen(factor):
    evidence = examine(label(resized(disc(), factor)))
    assert evidence.smeared == "anti-aliased"
    assert evidence.levels == (0, 255)


def test_smears_of_colours_and_of_grey_rgb_are_seen():
    grey = np.repeat(resized(disc(), 2)[..., np.newaxis], 3, axis=2)
    red = grey * np.array([1, 0, 0], np.uint8)
    assert examine(label(grey)).smeared == examine(label(red)).smeared == "anti-aliased"
    assert examine(label(grey)).levels == (0, 255)


def test_a_photograph_is_no_mask():
    noise = np.random.default_rng(0).normal(100, 20, (64, 64)).astype(np.uint8)
    assert examine(label(noise)).smeared == "an image"


@pytest.mark.parametrize(
    "plane",
    [
        disc(),
        blobs(range(1, 60)),
        np.repeat(np.repeat(np.random.default_rng(0).integers(0, 9, (12, 12)), 5, 0), 5, 1).astype(np.uint8),
    ],
    ids=["disc", "objects", "patchwork"],
)
def test_sharp_masks_are_sound(plane):
    assert examine(label(plane)).smeared == ""


# Two values


@pytest.mark.parametrize("high", [1, 255, 7])
def test_two_values_are_background_and_foreground(high):
    coding = coding_of(disc(high=high))
    assert coding.kind == "classes"
    assert values_of(coding) == [0, high]
    assert coding.words == f"classes: 0 -> 0 (background), {high} -> 1 (foreground)"
    assert np.array_equal(coding.class_plane(disc(high=high)), disc(high=1))


def test_one_value_is_refused():
    with pytest.raises(DataError, match="every mask holds only the value 0"):
        coding_of(np.zeros((9, 9), np.uint8))


def test_masks_of_0_1_and_of_0_255_mixed_are_refused():
    with pytest.raises(
        DataError, match=r"drawn with 0 and 1, but .* with 0 and 255; save all masks with the same"
    ):
        coding_of(disc(high=1), disc(high=255))


@pytest.mark.parametrize("classes", [None, 2])
@pytest.mark.parametrize(("high", "dtype"), [(255, np.uint8), (1, np.uint8), (255, np.uint16)])
def test_masks_of_two_values_that_differ_are_refused(high, dtype, classes):
    """Whatever the number of bits, and also where the user said that there are two classes."""
    other = 65535 if high == 255 else 255
    many = np.where(disc(high=1) > 0, other, 0).astype(np.uint16)
    words = rf"drawn with 0 and {high}, but .* with 0 and {other}; save all masks with the same"
    with pytest.raises(DataError, match=words):
        coding_of(disc(high=high).astype(dtype), many, classes=classes)


@pytest.mark.parametrize("classes", [None, 2, "objects"])
def test_where_nothing_is_drawn_nothing_is_learned(classes):
    with pytest.raises(DataError, match="every mask holds only the value 0: nothing to tell apart"):
        coding_of(np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8), classes=classes)


# Objects or classes


@pytest.mark.parametrize(
    "planes",
    [
        pytest.param([blobs(range(1, 41))], id="more than 32"),
        pytest.param([blobs([1, 2, 3]), blobs([4, 5])], id="none shared"),
        pytest.param([blobs(range(1, 4)), blobs(range(1, 8))], id="1 to n, n varies"),
        pytest.param([blobs([3, 8, 9, 11, 20, 40], dtype=np.uint16)], id="16 bits"),
        pytest.param(
            [blobs([3, 8, 9, 11, 20, 40], dtype=np.uint16), blobs([3, 8, 9], dtype=np.uint16)],
            id="16 bits, varying",
        ),
        pytest.param([blobs(range(1, 101)), blobs(range(1, 20), pieces=2)], id="many, some in pieces"),
    ],
)
def test_objects_are_told_by_evidence(planes):
    coding = coding_of(*planes)
    assert coding.kind == "instances"
    assert [info.name for info in coding.classes] == ["background", "object"]


@pytest.mark.parametrize("values", [[1, 2], [3, 7, 200], list(range(1, 12))])
def test_values_in_several_pieces_are_classes(values):
    coding = coding_of(blobs(values, pieces=4), blobs(values[:2], pieces=3))
    assert coding.kind == "classes"
    assert values_of(coding) == [0, *values]


@pytest.mark.parametrize(
    "planes",
    [
        pytest.param([blobs([1, 2, 3])], id="one image, three blobs"),
        pytest.param([blobs([1, 2, 3]), blobs([1, 2, 3], shift=4)], id="the same three"),
        pytest.param([blobs([1, 2, 3], dtype=np.uint16), blobs([1, 2], dtype=np.uint16)], id="16 bits, few"),
        pytest.param([blobs(range(1, 9), dtype=np.uint16)] * 2, id="16 bits, always the same"),
    ],
)
def test_ambiguity_shows_the_values_and_the_options(planes):
    count = len(np.unique(planes[0]))
    with pytest.raises(DataError, match=rf"0 1 2 3.*--classes {count} .*--classes objects"):
        coding_of(*planes)
    assert coding_of(*planes, classes=count).kind == "classes"
    assert coding_of(*planes, classes="objects").kind == "instances"


def test_many_values_of_which_some_are_in_pieces_are_ambiguous():
    plane = blobs(range(1, 41)) + blobs(range(1, 9), shift=84)
    with pytest.raises(DataError, match=r"\(41 values\): classes or objects\?"):
        coding_of(plane)


def test_many_values_in_pieces_are_refused_with_a_short_list():
    with pytest.raises(DataError, match=r"0 1 2 3 4 5 6 7 8 9 10 \.\.\. 70 \(71 values\)"):
        coding_of(blobs(range(1, 71), pieces=3))


def test_a_value_of_few_pixels_is_a_slip_of_the_pen():
    plane = blobs([1, 2], pieces=5)
    plane[30, :4] = 9
    with pytest.raises(DataError, match=r"value 9 has 4 pixels .*0 1 2 9; repaint them, or give --classes 4"):
        coding_of(plane)
    assert values_of(coding_of(plane, classes=4)) == [0, 1, 2, 9]
    assert values_of(coding_of(plane, ignore=9)) == [0, 1, 2]


def test_255_beside_0_1_2_needs_a_word():
    plane = blobs([1, 2, 255], pieces=4)
    with pytest.raises(DataError, match=r"0 1 2 255: is 255 a class\?; give --ignore 255 .*--classes 4"):
        coding_of(plane)
    assert values_of(coding_of(plane, ignore=255)) == [0, 1, 2]
    assert values_of(coding_of(plane, classes=4)) == [0, 1, 2, 255]


@pytest.mark.parametrize("values", [[1, 2, 4, 255], [0, 2, 255], [1, 3, 255]])
def test_255_beside_other_small_numbers_needs_a_word_too(values):
    """Of classes 0 to 4 one may be nowhere, and some programs count from 1."""
    plane = blobs([value for value in values if value], pieces=4)
    with pytest.raises(DataError, match=r"is 255 a class\?; give --ignore 255 .*--classes objects if each"):
        coding_of(plane)
    assert 255 not in values_of(coding_of(plane, ignore=255))


def test_three_grey_levels_are_classes():
    assert values_of(coding_of(blobs([128, 255], pieces=4))) == [0, 128, 255]


def test_negative_values_need_a_word():
    plane = blobs([1, 2, -1], pieces=4, dtype=np.int16)
    with pytest.raises(DataError, match=r"negative value -1.*--ignore=-1"):
        coding_of(plane)
    coding = coding_of(plane, ignore=-1)
    assert np.array_equal(coding.class_plane(plane) == IGNORE, plane == -1)


# --classes and --ignore


def test_classes_that_do_not_occur_still_count():
    assert values_of(coding_of(blobs([2], pieces=3), classes=5)) == [0, 1, 2, 3, 4]


def test_forced_classes_that_do_not_fit_show_the_values():
    with pytest.raises(
        DataError, match="--classes 3 given, but the masks hold 2 values: 0 255; give --classes 2"
    ):
        coding_of(disc(), classes=3)
    with pytest.raises(DataError, match="--classes 3 given, but the masks hold 4 values: 0 1 2 3"):
        coding_of(blobs([1, 2, 3]), classes=3)


@pytest.mark.parametrize("classes", [0, 1, 255, "two", "-3", ""])
def test_numbers_of_classes_that_cannot_be(classes):
    with pytest.raises(ConfigError, match=r"--classes .* is not valid"):
        coding_of(disc(), classes=classes)


@pytest.mark.parametrize("ignore", ["x", "1,2", "1,2,3,4", ""])
def test_labels_that_cannot_be(ignore):
    with pytest.raises(ConfigError, match=r"--ignore .* is no label; give a number"):
        coding_of(disc(), ignore=ignore)


def test_options_come_as_text_from_the_command_line():
    plane = blobs([1, 2, 11], pieces=4)
    assert coding_of(plane, classes="3", ignore="11") == coding_of(plane, classes=3, ignore=11)


# Colours


RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def painted(plane: np.ndarray, *colors) -> np.ndarray:
    return np.array([(0, 0, 0), *colors], np.uint8)[plane]


def test_colours_are_classes_in_ascending_order():
    plane = blobs([1, 2], pieces=4)
    coding = coding_of(painted(plane, RED, GREEN))
    assert coding.kind == "rgb"
    assert values_of(coding) == [(0, 0, 0), GREEN, RED]
    assert [info.color for info in coding.classes] == values_of(coding)
    assert np.array_equal(coding.class_plane(painted(plane, RED, GREEN)), np.array([0, 2, 1])[plane])
    assert "(255,0,0) -> 2" in coding.words


def test_a_colour_may_be_ignored():
    plane = blobs([1, 2], pieces=4)
    coding = coding_of(painted(plane, RED, WHITE), ignore="255,255,255")
    assert values_of(coding) == [(0, 0, 0), RED]
    assert np.array_equal(coding.class_plane(painted(plane, RED, WHITE)) == IGNORE, plane == 2)
    assert coding.words.endswith("(255,255,255) does not count")
    assert coding_of(painted(plane, RED, WHITE), ignore=255) == coding


def test_rgb_files_that_hold_greys_are_numbers():
    plane = disc()
    coding = coding_of(np.repeat(plane[..., np.newaxis], 3, axis=2), plane)
    assert (coding.kind, values_of(coding)) == ("classes", [0, 255])
    assert np.array_equal(coding.class_plane(np.repeat(plane[..., np.newaxis], 3, axis=2)), plane // 255)


def test_a_grey_file_among_colours_is_read_as_colours():
    grey = blobs([255], pieces=3)
    coding = coding_of(painted(blobs([1], pieces=3), RED), grey)
    assert values_of(coding) == [(0, 0, 0), RED, WHITE]
    assert np.array_equal(coding.class_plane(grey), np.where(grey, 2, 0))


def test_one_colour_per_object():
    colors = np.random.default_rng(0).integers(1, 256, (90, 3))
    plane = blobs(range(1, 91))
    coding = coding_of(painted(plane, *colors))
    assert coding.kind == "instances"
    objects, _ = coding.objects(painted(plane, *colors))
    assert objects.max() == 90
    assert np.array_equal(objects > 0, plane > 0)


def test_a_palette_gives_classes_their_colours():
    palette = np.array([[10, 10, 10], [1, 2, 3], [4, 5, 6]], np.uint8)
    coding = infer_coding([label(blobs([1, 2], pieces=4), palette)])
    assert [info.color for info in coding.classes] == [(10, 10, 10), (1, 2, 3), (4, 5, 6)]


def test_colours_of_many_classes_differ():
    coding = coding_of(blobs([1], pieces=2), classes=20)
    assert len({info.color for info in coding.classes}) == 20


# Objects of one plane


def test_objects_of_two_classes_are_8_connected_components():
    plane = np.array([[255, 0, 0, 0, 255], [0, 255, 255, 0, 0], [0, 0, 255, 0, 0]], np.uint8)
    objects, object_class = coding_of(plane).objects(plane)
    assert objects.tolist() == [[1, 0, 0, 0, 2], [0, 1, 1, 0, 0], [0, 0, 1, 0, 0]]
    assert objects.dtype == np.int32
    assert object_class.tolist() == [0, 1, 1]
    assert object_class.dtype == np.uint8


def test_a_thin_diagonal_is_one_object_and_loses_nothing_to_the_gap():
    plane = np.eye(12, dtype=np.uint8) * 255
    objects, object_class = coding_of(plane).objects(plane)
    assert object_class.tolist() == [0, 1]
    assert np.array_equal(cut_gap(objects), plane // 255)


def test_cells_that_fill_the_image_are_parted_by_lines_one_pixel_wide():
    """Where such a line runs diagonally, the cells on its two sides touch by corners."""
    plane = np.full((40, 60), 255, np.uint8)
    rows = np.arange(40)
    plane[rows, rows] = plane[rows, rows + 20] = 0
    objects, object_class = coding_of(plane).objects(plane)
    assert len(object_class) - 1 == 3
    assert objects[39, 0] != objects[20, 30] != objects[0, 59]
    thin, _ = coding_of(255 - plane).objects(255 - plane)
    assert thin.max() == 2, "a line that is an object stays one"


@pytest.mark.data
def test_vessels_of_drive_stay_whole(data_dir):
    """4-connected, this image has 438 pieces, and the gap between them takes 3 % of the vessels."""
    label = read_labels(data_dir / "drive" / "training" / "1st_manual" / "21_manual1.gif")
    objects, object_class = infer_coding([label]).objects(label_plane(label))
    assert len(object_class) - 1 < 20
    assert np.array_equal(cut_gap(objects), objects)


def test_ids_are_renumbered_without_gaps():
    plane = np.array([[0, 500, 500, 7], [0, 0, 90, 0]], np.uint16)
    objects, object_class = coding_of(plane, classes="objects").objects(plane)
    assert objects.tolist() == [[0, 3, 3, 1], [0, 0, 2, 0]]
    assert object_class.tolist() == [0, 1, 1, 1]


def test_an_ignored_id_leaves_no_gap():
    plane = np.array([[0, 5, 6, 7]], np.uint16)
    objects, object_class = coding_of(plane, classes="objects", ignore=6).objects(plane)
    assert objects.tolist() == [[0, 1, 3, 2]]
    assert object_class.tolist() == [0, 1, 1, IGNORE]


def test_of_more_classes_each_is_one_object():
    plane = blobs([1, 2], pieces=4)
    objects, object_class = coding_of(plane).objects(plane)
    assert np.array_equal(objects, plane)
    assert object_class.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["classes", "binary", "instances"])
def test_pixels_that_do_not_count_have_the_last_id(kind):
    plane = {"classes": blobs([1, 2, 9], pieces=4), "binary": blobs([1, 9]), "instances": blobs([1, 2, 9])}[
        kind
    ]
    coding = coding_of(plane, ignore=9, classes="objects" if kind == "instances" else None)
    objects, object_class = coding.objects(plane)
    assert object_class[-1] == IGNORE
    assert np.array_equal(objects == len(object_class) - 1, plane == 9)
    assert np.count_nonzero(object_class == IGNORE) == 1
    assert np.array_equal(object_class[objects], coding.class_plane(plane))


def test_region_and_ignored_label_share_one_id():
    objects, object_class = np.array([[0, 1, 2]], np.int32), np.array([0, 1, IGNORE], np.uint8)
    more, same = not_counted(objects, object_class, np.array([[True, False, False]]))
    assert more.tolist() == [[2, 1, 2]]
    assert same is object_class
    kept, also_same = not_counted(objects, object_class, np.zeros((1, 3), bool))
    assert kept is objects
    assert also_same is object_class


def test_a_value_unknown_to_the_coding_is_named():
    with pytest.raises(DataError, match="a mask holds 7, which is none of the classes: 0 -> 0"):
        coding_of(disc()).class_plane(np.array([[0, 7]], np.uint8))


# Palettes

BLACK, GREEN, RED = (0, 0, 0), (0, 255, 0), (255, 0, 0)


def in_palette(values, *colors) -> LabelImage:
    return label(blobs(values, pieces=4), np.array(colors, np.uint8))


def test_numbers_that_stand_for_other_colours_in_other_files_are_refused():
    first, second = in_palette([1, 2], BLACK, GREEN, RED), in_palette([1], BLACK, RED)
    for classes in (None, 3):
        with pytest.raises(DataError, match=r"1 stands for the colour \(255,0,0\) here, for \(0,255,0\) in"):
            infer_coding([first, second], classes=classes)
    coding = infer_coding([first, in_palette([1], BLACK, GREEN)])
    assert values_of(coding) == [0, 1, 2]
    assert infer_coding([first, in_palette([1], BLACK, GREEN, (9, 9, 9))]).classes == coding.classes, "unused"
    assert infer_coding([first, second], classes="objects").kind == "instances", "any colours will do"


@pytest.mark.parametrize("classes", [None, 3, "objects"])
def test_numbers_of_a_palette_are_no_greys_among_colours(classes):
    palette = np.array([BLACK, GREEN, RED], np.uint8)
    colours = label(palette[blobs([1, 2], pieces=4)])
    with pytest.raises(DataError, match="holds numbers of a palette, and other masks hold colours; save"):
        infer_coding([colours, in_palette([1, 2], BLACK, GREEN, RED)], classes=classes)


def test_a_colour_to_ignore_is_looked_up_in_the_palette():
    mask = in_palette([1, 2], BLACK, GREEN, RED)
    assert infer_coding([mask], ignore="255,0,0").ignore == 2
    assert infer_coding([mask], ignore="0,0,0").ignore == 0
    with pytest.raises(ConfigError, match=r"--ignore 1,2,3 is a colour, .* of palettes without it; give"):
        infer_coding([mask], ignore="1,2,3")
    numbers = label(blobs([1, 2], pieces=4))
    with pytest.raises(ConfigError, match="--ignore 255,0,0 is a colour, and the masks hold numbers; give"):
        infer_coding([numbers], ignore="255,0,0")
    assert infer_coding([numbers], ignore="2,2,2").ignore == 2, "a grey is a number"
