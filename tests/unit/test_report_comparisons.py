"""Rows of pictures: their legend, their captions, and how many bytes they may take."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from ushape import report
from ushape.config import IGNORE
from ushape.pictures import (
    DIFFERENCE_COLORS,
    Difference,
    class_colors,
    class_differences,
    compare,
    differences,
)
from ushape.report import comparisons


def noise(name: str, channels: int = 3, size: int = 640) -> object:
    rng = np.random.default_rng(0)
    ids = np.zeros((size, size), int)
    return compare(name, differences(ids, ids), image=rng.integers(0, 256, (channels, size, size)))


def pictures_in(html: str) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r"data:image/png;base64,([^\"]+)", html)
    ]


def swatch(kind: Difference) -> str:
    return "rgb({},{},{})".format(*DIFFERENCE_COLORS[kind])


def test_objects_have_a_legend_a_rule_and_a_row_each() -> None:
    true = np.array([[1, 1, 0, 2, 2]])
    legend, rule, *rows = report.comparison_rows(
        [compare("first", differences(true * 0, true)), compare("second", differences(true, true))]
    )
    assert swatch(Difference.NOTHING) not in legend
    assert all(swatch(kind) in legend for kind in Difference if kind != Difference.NOTHING)
    for word in ("missed", "added", "split", "merged"):
        assert f"</i>{word}</li>" in legend
    assert "does not count" not in legend
    assert "more than half of the smaller one" in rule
    assert [re.search("<figcaption>(.*?)</figcaption>", row)[1] for row in rows] == [
        "first: 0 found, 2 missed, 0 split, 0 merged, 0 added",
        "second: 2 found, 0 missed, 0 split, 0 merged, 0 added",
    ]


def test_the_legend_of_classes_names_what_occurs() -> None:
    two, ignored = np.array([[0, 1]], np.uint8), np.array([[0, IGNORE]], np.uint8)
    legend, _ = report.comparison_rows([compare("a", class_differences(two, two))])
    assert "missed: background is predicted" in legend
    assert "another class" not in legend
    assert "does not count" not in legend
    legend, _, classes, *rows = report.comparison_rows(
        [compare("a", class_differences(two, ignored)), compare("b", class_differences(2 * two, two))]
    )
    assert "another class" in legend
    assert "does not count" in legend
    assert "class 2" in classes
    assert len(rows) == 2


def test_of_many_classes_the_legend_tells_their_colours() -> None:
    true, pred = np.array([[0, 1, 3, IGNORE]], np.uint8), np.array([[0, 3, 3, 4]], np.uint8)
    colors = class_colors(6)
    one = compare("a", class_differences(pred, true), colors=colors)
    _, words, legend, _ = report.comparison_rows([one], ["sky", "road", "car", "tree"])
    assert "Truth and prediction" in words
    for index, name in ((0, "sky"), (1, "road"), (3, "tree"), (4, "class 4")):
        assert 'background:rgb({},{},{})"></i>{}</li>'.format(*colors[index], name) in legend
    assert "car" not in legend, "it is nowhere"
    assert one.panels["truth"][0, 1].tolist() == list(colors[1])
    assert one.panels["prediction"][0, 3].tolist() == list(colors[4])


def test_an_image_of_two_of_many_classes_has_the_colours_of_the_others() -> None:
    two = np.array([[0, 1]], np.uint8)
    one = compare("a", class_differences(two, two), colors=class_colors(5))
    assert one.classes == {0: class_colors(5)[0], 1: class_colors(5)[1]}
    assert compare("a", class_differences(two, two)).classes == {}, "black and white need no words"


def test_no_comparison_is_no_row() -> None:
    assert report.comparison_rows([]) == []


def test_few_pictures_are_shown_pixel_for_pixel() -> None:
    _, _, row = report.comparison_rows([noise("a")])
    assert {picture.size for picture in pictures_in(row)} == {(640, 640)}


def test_many_pictures_are_made_smaller_until_they_can_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    one = noise("a")
    _, _, row = report.comparison_rows([one])
    monkeypatch.setattr(comparisons, "MOST_BYTES", len(row) - 1)
    _, _, row = report.comparison_rows([one])
    assert {picture.size for picture in pictures_in(row)} == {(512, 512)}
    monkeypatch.setattr(comparisons, "MOST_BYTES", 1)
    _, _, row = report.comparison_rows([one])
    assert {picture.size for picture in pictures_in(row)} == {(192, 192)}, "then they may be as they are"
