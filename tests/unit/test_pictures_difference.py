"""Where prediction and truth differ: cases one would draw on paper, and colours that all can tell apart."""

import itertools

import numpy as np
import pytest

from ushape.config import IGNORE
from ushape.errors import DataError, ShapeError
from ushape.pictures import DIFFERENCE_COLORS, Difference, class_differences, differences

NOTHING, FOUND, LACKING, EXCESS, MISSED, ADDED, SPLIT, MERGED, OTHER_CLASS = Difference


def drawn(*rows: str) -> np.ndarray:
    """Label image: a digit or letter is an object, a dot background."""
    return np.array([[0 if mark == "." else int(mark, 36) for mark in row] for row in rows])


def codes(pred: np.ndarray, true: np.ndarray) -> list[str]:
    """Each pixel by the first letter of its code, background by a dot."""
    letters = {kind: kind.name[0] for kind in Difference} | {NOTHING: ".", MERGED: "G"}
    return ["".join(letters[Difference(code)] for code in row) for row in differences(pred, true).codes]


def test_a_border_that_lies_off_makes_two_rims_and_no_mistake() -> None:
    true = drawn("1111222...")
    pred = drawn("11111222..")
    assert codes(pred, true) == ["FFFFLFFE.."]
    assert differences(pred, true).words() == "2 found, 0 missed, 0 split, 0 merged, 0 added"


def test_a_blob_merges_all_that_lies_under_it_whatever_its_size() -> None:
    true = np.zeros((3, 40), int)
    true[1, 1::3] = true[1, 2::3] = np.arange(1, 14)  # thirteen cells: with none of them the IoU is 0.1
    blob = np.ones_like(true)
    found = differences(blob, true)
    assert found.counts == {FOUND: 0, MISSED: 0, SPLIT: 0, MERGED: 13, ADDED: 0}
    assert (found.codes == MERGED).all(), "what lies between them is part of the mistake"


def test_a_blob_of_nearly_everything_finds_nothing() -> None:
    true = np.zeros((30, 30), int)
    true[:3, :3], true[10:13, 10:13] = 1, 2
    found = differences(np.ones_like(true), true)
    assert found.counts == {FOUND: 0, MISSED: 2, SPLIT: 0, MERGED: 0, ADDED: 1}
    assert np.array_equal(found.codes == MISSED, true > 0)
    assert np.array_equal(found.codes == ADDED, true == 0)


def test_a_speck_has_not_found_the_cell_that_it_lies_in() -> None:
    true = np.ones((10, 10), int)
    speck = np.zeros_like(true)
    speck[4, 4:] = 1
    assert differences(speck, true).counts == {FOUND: 0, MISSED: 1, SPLIT: 0, MERGED: 0, ADDED: 1}
    speck[4] = 1
    assert differences(speck, true).counts[FOUND] == 1, "a tenth is enough"


def test_a_marker_is_found_by_what_covers_more_than_half_of_it_whatever_its_size() -> None:
    true = drawn("." * 40, ".1" + "." * 28 + "23" + "." * 8)
    pred = drawn("1" * 20 + "2" * 20, "1" * 20 + "2" * 20)
    assert differences(pred, true).counts == {FOUND: 0, MISSED: 3, SPLIT: 0, MERGED: 0, ADDED: 2}
    found = differences(pred, true, markers=true > 0)
    assert found.counts == {FOUND: 1, MISSED: 0, SPLIT: 0, MERGED: 2, ADDED: 0}
    assert found.matched == 1, "no IoU is asked of a marker"
    assert (found.codes[:, :20] == FOUND).all(), "how large an object should be a marker does not tell"
    half = np.where(np.arange(40) < 30, pred, 0) * drawn("1" * 40, "." * 40)  # beside the marker, not over it
    assert differences(half, true, markers=true > 0).counts[MISSED] == 3


def test_an_object_over_a_cell_and_a_marker_merges_them() -> None:
    true = drawn("111111111111..2")
    found = differences(drawn("111111111111111"), true, markers=true == 2)
    assert found.counts == {FOUND: 0, MISSED: 0, SPLIT: 0, MERGED: 2, ADDED: 0}


def test_what_was_added_need_not_count() -> None:
    found = differences(drawn("11..22"), drawn("11....")).without_added()
    assert found.words() == "1 found, 0 missed, 0 split, 0 merged"
    assert found.codes.tolist() == [[FOUND, FOUND, NOTHING, NOTHING, IGNORE, IGNORE]]
    assert found.agreement == 1


def test_a_speck_beside_what_was_found_is_added() -> None:
    true = drawn("11111111111111")
    assert codes(drawn("111111111111.2"), true) == ["FFFFFFFFFFFFLA"]
    assert codes(drawn("1111111111.222"), true) == ["SSSSSSSSSSSSSS"]


def test_a_cell_may_be_cut_where_two_are_merged() -> None:
    true = drawn("111111..222222")
    pred = drawn("1111.22222222.")
    # The right piece of cell 1 belongs to a blob with most of cell 2: five of its pixels, of cell 1 one.
    assert codes(pred, true) == ["FFFFLLEEFFFFFL"]
    pred = drawn("11...222222222")
    assert codes(pred, true) == ["FFLLLLEEFFFFFF"]
    pred = drawn("112222222222..")
    assert codes(pred, true) == ["SSSSSSGGGGGGGG"]
    assert differences(pred, true).counts == {FOUND: 0, MISSED: 0, SPLIT: 1, MERGED: 1, ADDED: 0}


def test_an_overlap_of_less_than_half_is_no_partnership() -> None:
    assert codes(drawn("..2222"), drawn("1111..")) == ["MMMMAA"]
    assert codes(drawn(".2222."), drawn("1111..")) == ["LFFFE."]


def test_what_is_found_but_covered_badly_is_said() -> None:
    true = drawn("1111111111..2222")
    found = differences(drawn("1111........2222"), true)
    assert found.words() == "2 found (1 at IoU 0.5), 0 missed, 0 split, 0 merged, 0 added"
    assert (found.matched, found.agreement) == (1, 1 / 2)
    half = differences(drawn("11111.......2222"), true)
    assert half.words() == "2 found, 0 missed, 0 split, 0 merged, 0 added"
    assert half.agreement == 1


def test_objects_found_keep_the_number_of_their_partner() -> None:
    true, pred = drawn("55..33..99"), drawn("22..77....")
    found = differences(pred, true)
    assert found.true.tolist() == drawn("22..11..33").tolist()
    assert found.predicted.tolist() == drawn("22..11....").tolist()
    added = differences(drawn("22..77..88"), drawn("55..33...."))
    assert added.predicted.tolist() == drawn("22..11..55").tolist()


def test_lines_show_where_a_cell_was_split_and_which_cells_were_merged() -> None:
    split = differences(drawn("11122", "11122"), drawn("11111", "11111"))
    assert split.lines.tolist() == [[False, False, False, True, False]] * 2
    merged = differences(drawn("11111", "11111"), drawn("11111", "22222"))
    assert merged.lines.tolist() == [[False] * 5, [True] * 5]
    shown = split.picture()
    assert (shown[0, 0] == DIFFERENCE_COLORS[SPLIT]).all()
    assert (shown[0, 3] == np.array(DIFFERENCE_COLORS[SPLIT]) // 3).all()


def test_two_objects_that_are_missed_side_by_side_are_two() -> None:
    found = differences(drawn("...."), drawn("1122"))
    assert found.lines.tolist() == [[False, False, True, False]]


def test_pixels_that_do_not_count_are_grey_and_in_no_object() -> None:
    true, pred = drawn("1111.."), drawn("....22")
    counted = np.array([[False] * 4 + [True] * 2])
    found = differences(pred, true, counted=counted)
    assert found.counts == {FOUND: 0, MISSED: 0, SPLIT: 0, MERGED: 0, ADDED: 1}
    assert found.codes.tolist() == [[IGNORE] * 4 + [ADDED] * 2]
    assert (found.picture()[0, 0] == (128, 128, 128)).all()
    assert not found.wrong[0, :4].any()


def test_class_masks_differ_in_pixels() -> None:
    true = np.array([[0, 0, 1, 1, 2, IGNORE]], np.uint8)
    pred = np.array([[0, 1, 1, 0, 1, 1]], np.uint8)
    found = class_differences(pred, true)
    assert found.codes.tolist() == [[NOTHING, ADDED, FOUND, MISSED, OTHER_CLASS, IGNORE]]
    assert found.words() == "1 px found, 1 px missed, 1 px added, 1 px other class"
    assert found.agreement == 1 / 4
    assert not found.of_objects
    two = class_differences(np.array([[1]], np.uint8), np.array([[IGNORE]], np.uint8))
    assert OTHER_CLASS not in two.counts
    assert two.agreement == 1, "nothing counts, so nothing is wrong"


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"prediction has shape \(1, 2\), truth \(2, 1\)"):
        differences(np.zeros((1, 2), int), np.zeros((2, 1), int))
    with pytest.raises(ShapeError, match=r"prediction has shape \(1, 2\), truth \(2, 1\)"):
        class_differences(np.zeros((1, 2), int), np.zeros((2, 1), int))
    with pytest.raises(DataError, match="whole numbers"):
        differences(np.zeros((1, 2)), np.zeros((1, 2), int))


# Dichromats' view of linear RGB: Machado, Oliveira and Fernandes 2009, table 1, severity 1.0.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def lab(colors: np.ndarray, vision: np.ndarray) -> np.ndarray:
    """CIE Lab of sRGB colours (n, 3) uint8 as someone with this vision sees them."""
    from skimage.color import xyz2lab

    values = colors / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ vision.T, 0, 1)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    return xyz2lab(seen @ to_xyz.T)


@pytest.mark.parametrize("vision", VISIONS)
def test_the_colours_can_be_told_apart_with_any_colour_vision(vision: str) -> None:
    named = dict(zip(Difference, DIFFERENCE_COLORS, strict=True)) | {IGNORE: (128, 128, 128)}
    seen = lab(np.array(list(named.values())), VISIONS[vision])
    places = {kind: place for place, kind in enumerate(named)}
    together = [
        (FOUND, NOTHING, LACKING, EXCESS, MISSED, ADDED, SPLIT, MERGED, IGNORE),
        (FOUND, NOTHING, MISSED, ADDED, OTHER_CLASS, IGNORE),
    ]
    for kinds in together:
        for one, other in itertools.combinations(kinds, 2):
            distance = np.linalg.norm(seen[places[one]] - seen[places[other]])
            # 2.3 is just noticeable between large fields; mistakes must be told at a glance, rims need not.
            assert distance > (30 if {one, other} <= {MISSED, ADDED, SPLIT, MERGED} else 18), (one, other)
