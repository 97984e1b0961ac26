"""The pictures of one comparison: which there are, their size, and which part of a large image they show."""

import re

import numpy as np
import pytest

from ushape.config import IGNORE
from ushape.pictures import DIFFERENCE_COLORS, Difference, class_differences, compare, differences
from ushape.pictures.drawing import color_objects, heat
from ushape.pictures.panels import LONGEST_PX

RED, GREEN = (255, 0, 0), (0, 255, 0)


def squares(size: tuple[int, int], *corners: tuple[int, int], side: int = 6) -> np.ndarray:
    ids = np.zeros(size, np.int32)
    for number, (y, x) in enumerate(corners, start=1):
        ids[y : y + side, x : x + side] = number
    return ids


def test_objects_found_have_one_colour_in_truth_and_prediction() -> None:
    true = squares((40, 50), (2, 2), (20, 30))
    pred = np.where(true == 1, 9, 0)
    one = compare("a", differences(pred, true), image=np.ones((1, 40, 50)))
    assert list(one.panels) == ["image", "truth", "prediction", "where they differ"]
    assert {panel.shape for panel in one.panels.values()} == {(40, 50, 3)}
    assert (one.panels["truth"] == color_objects(true)).all()
    assert (one.panels["prediction"][3, 3] == one.panels["truth"][3, 3]).all()
    assert (one.panels["prediction"][22, 32] == one.panels["truth"][0, 0]).all()
    assert (one.panels["where they differ"][22, 32] == DIFFERENCE_COLORS[Difference.MISSED]).all()
    assert one.words == "1 found, 1 missed, 0 split, 0 merged, 0 added"
    assert one.agreement == 1 / 2
    assert one.of_objects
    assert one.codes == {Difference.NOTHING, Difference.FOUND, Difference.MISSED}


def test_without_an_image_there_are_three_pictures() -> None:
    true = squares((10, 10), (2, 2))
    assert list(compare("a", differences(true, true)).panels) == ["truth", "prediction", "where they differ"]


def test_probabilities_are_shown_as_they_are() -> None:
    true = squares((10, 10), (2, 2))
    cells = np.random.default_rng(0).random((10, 10), np.float32)
    for probabilities in (np.stack([1 - cells, cells]), cells[np.newaxis]):
        one = compare("a", differences(true, true), probabilities=probabilities)
        assert list(one.panels) == ["truth", "probability", "where they differ"]
        assert (one.panels["probability"] == heat(cells)).all()


def test_of_more_classes_the_predicted_ones_are_shown() -> None:
    three = np.eye(3, dtype=np.float32)[:, np.newaxis]
    found = class_differences(three.argmax(0), three.argmax(0))
    one = compare("a", found, probabilities=three, colors=[RED, GREEN, RED])
    assert list(one.panels) == ["truth", "prediction", "where they differ"]
    assert one.panels["prediction"].tolist() == [[list(RED), list(GREEN), list(RED)]]


def test_classes_have_colours_of_their_own_if_none_are_given() -> None:
    classes = np.array([[0, 1, 1, IGNORE]], np.uint8)
    two = compare("a", class_differences(classes, classes))
    assert two.panels["truth"][0, 0].max() < 30
    assert two.panels["truth"][0, 1].min() > 200
    assert two.panels["truth"][0, 3].tolist() == [128] * 3
    assert two.codes == {Difference.NOTHING, Difference.FOUND, IGNORE}
    assert not two.of_objects
    classes = np.arange(4, dtype=np.uint8)[np.newaxis]
    four = compare("a", class_differences(classes, classes))
    assert len(np.unique(four.panels["truth"].reshape(-1, 3), axis=0)) == 4
    assert (four.panels["truth"] == four.panels["prediction"]).all()
    named = compare("a", class_differences(classes, classes), colors=[RED, GREEN])
    assert named.panels["truth"][0].tolist() == [list(RED), list(GREEN), [128] * 3, [128] * 3]


def test_an_image_of_up_to_twice_the_size_is_made_smaller() -> None:
    true = squares((LONGEST_PX, 2 * LONGEST_PX), (100, 1200), side=60)
    one = compare("a", differences(true, true), image=true[np.newaxis])
    assert {panel.shape for panel in one.panels.values()} == {(LONGEST_PX // 2, LONGEST_PX, 3)}
    assert (one.panels["where they differ"][60, 610] == DIFFERENCE_COLORS[Difference.FOUND]).all()
    assert "shown" not in one.words


@pytest.mark.parametrize("corner", [(0, 0), (1493, 30), (700, 1094), (1493, 1094)])
def test_of_a_larger_image_the_part_where_most_is_wrong_is_shown(corner: tuple[int, int]) -> None:
    missed = squares((1500, 1100), corner)
    right = squares((1500, 1100), (750, 500), side=40)
    true = np.where(missed > 0, 2, right)
    one = compare("a", differences(right, true), image=true[np.newaxis])
    assert {panel.shape for panel in one.panels.values()} == {(LONGEST_PX, LONGEST_PX, 3)}
    shown = (one.panels["where they differ"] == DIFFERENCE_COLORS[Difference.MISSED]).all(-1)
    assert shown.sum() == 36, "the whole of the mistake, pixel for pixel"
    rows, columns = np.nonzero(shown)
    top, left = map(int, re.search(r"rows (\d+) to \d+ and columns (\d+) to", one.words).groups())
    assert (rows[0] + top, columns[0] + left) == corner
    assert one.words.endswith("of 1500 x 1100, where most is wrong")


@pytest.mark.parametrize("sides", [(20, 6), (20, 24)])
@pytest.mark.parametrize("other", [(1400, 10), (10, 1000), (1400, 1000)])
def test_the_larger_of_two_mistakes_is_shown(sides: tuple[int, int], other: tuple[int, int]) -> None:
    first, second = sides
    true = squares((1500, 1100), (10, 10), side=first) + 2 * squares((1500, 1100), other, side=second)
    shown = compare("a", differences(0 * true, true)).panels["where they differ"]
    assert (shown == DIFFERENCE_COLORS[Difference.MISSED]).all(-1).sum() == max(sides) ** 2


def test_a_large_image_without_a_mistake_is_shown_in_part_too() -> None:
    true = squares((1500, 300), (5, 5))
    one = compare("a", differences(true, true))
    assert one.panels["truth"].shape == (LONGEST_PX, 300, 3)
    assert one.words.endswith("shown: rows 0 to 639 and columns 0 to 299 of 1500 x 300")
