"""The page: nothing from outside, nothing unescaped, something for every reader."""

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ushape import report
from ushape.errors import OutputError, ShapeError

VOID = {"meta", "link", "img", "br", "input"}
PICTURE = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)


class Outline(HTMLParser):
    """Checks that tags close in order; keeps attributes and the text of each tag."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def outline(html: str) -> Outline:
    parsed = Outline()
    parsed.feed(html)
    parsed.close()
    assert parsed.open == []
    return parsed


@pytest.fixture
def page(tmp_path: Path) -> str:
    path = tmp_path / "report.html"
    everything = [
        report.section("Numbers", report.key_numbers({"Dice": 0.91234, "cells": 1234})),
        report.section(
            "Scores", "Plain <text> & more.", report.table(["image", "Dice"], [["a", 0.5]], caption="C")
        ),
        report.section(
            "Pictures", report.picture_row({"image": PICTURE, "truth": PICTURE[..., 0]}, caption="one")
        ),
        report.section(
            "Loss", report.curves({"a": ([1, 2, 3], [3, 2, 1]), "b": ([1, 3], [2, 2])}, x="step", y="loss")
        ),
        report.section(
            "Loss, log", report.curves({"a": ([1, 2, 3], [3.0, 0.2, 0.01])}, x="step", y="loss", log=True)
        ),
        report.section("Next", report.commands("ushape train a && b", "second")),
    ]
    report.write_report(path, "A <title>", everything, lead="What & why.")
    return path.read_text(encoding="utf-8")


def test_nothing_is_fetched_from_anywhere(page: str) -> None:
    parsed = outline(page)
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            target = attributes.get(name) or "#"
            assert target.startswith(("data:", "#")), (tag, target)
    styles = re.findall(r"url\(([^)]*)\)", page)
    assert all(target.startswith("#") for target in styles)
    assert "@import" not in page
    assert not parsed.named("script")
    policy = next(
        m["content"] for m in parsed.named("meta") if m.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_every_reader_is_served(page: str) -> None:
    parsed = outline(page)
    assert parsed.named("html")[0]["lang"] == "en"
    assert re.search("<title>A &lt;title&gt;</title>", page)
    assert [a["alt"] for a in parsed.named("img")] == ["image: one", "truth: one"]
    assert [a["aria-label"] for a in parsed.named("svg")] == ["loss over step: a, b", "loss over step: a"]
    assert {a["scope"] for a in parsed.named("th")} == {"col", "row"}
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_text_is_escaped_everywhere() -> None:
    evil = "<script>alert('&')</script>"
    pieces = [
        report.text(evil),
        report.commands(evil),
        report.key_numbers({evil: evil}),
        report.table([evil], [[evil]], caption=evil),
        report.picture_row({evil: PICTURE}, caption=evil),
        report.legend({evil: (1, 2, 3)}),
        report.curves({evil: ([1, 2], [1, 2])}, x=evil, y=evil, caption=evil),
        report.section(evil, evil),
    ]
    for piece in pieces:
        parsed = outline(piece)
        assert not parsed.named("script")
        assert evil in "".join(parsed.text)


def test_a_plain_string_is_text_and_a_piece_is_not_escaped_twice() -> None:
    made = report.section("T", "a < b", report.text("c < d"))
    assert made == "<section><h2>T</h2>\n<p>a &lt; b</p>\n<p>c &lt; d</p>\n</section>"


def decoded(html: str) -> Image.Image:
    encoded = str(outline(html).named("img")[0]["src"]).removeprefix("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def test_pictures_are_kept_pixel_for_pixel() -> None:
    wide = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)  # more than 256 colours
    few = wide[:1, :40][np.zeros((30, 1), int), np.arange(40)]
    for picture in (PICTURE, wide, few, np.repeat(wide[..., :1], 3, axis=2)):
        assert np.array_equal(np.asarray(decoded(report.picture_row({"p": picture})).convert("RGB")), picture)
    source = outline(report.picture_row({"p": PICTURE})).named("img")[0]
    assert (source["width"], source["height"], source["alt"]) == ("17", "12", "p")


def test_a_picture_of_few_colours_takes_a_byte_a_pixel() -> None:
    grey = np.repeat(np.arange(200, dtype=np.uint8).reshape(10, 20, 1), 3, axis=2)
    assert decoded(report.picture_row({"p": grey})).mode == "P"


def test_a_picture_without_a_title_is_described_by_the_caption() -> None:
    parsed = outline(report.picture_row({"": PICTURE}, caption="slice 3"))
    assert parsed.named("img")[0]["alt"] == "slice 3"
    assert not parsed.named("span")


def test_a_click_enlarges_a_picture_without_a_script(page: str) -> None:
    parsed = outline(page)
    switches = parsed.named("input")
    assert [switch["aria-label"] for switch in switches] == ["enlarge image: one", "enlarge truth: one"]
    assert all(switch["type"] == "checkbox" for switch in switches)
    assert re.search(r"<label><input [^>]*><img [^>]*></label>", page), "a click on the picture ticks its box"
    assert re.search(r"input:checked \+ img \{ position: fixed;[^}]*100vw", page)


def test_a_legend_shows_each_colour_beside_its_words() -> None:
    made = report.legend({"missed": (230, 159, 0), "added": (86, 180, 233)})
    parsed = outline(made)
    assert [a["style"] for a in parsed.named("i")] == [
        "background:rgb(230,159,0)",
        "background:rgb(86,180,233)",
    ]
    assert parsed.text == ["missed", "added"]


def test_a_table_aligns_numbers_and_rounds_floats() -> None:
    made = report.table(["name", "count", "score"], [["a", 12345, np.float32(0.5)], ["b", np.int64(3), None]])
    assert '<th scope="col">name</th><th scope="col" class="number">count</th>' in made
    assert '<th scope="row">a</th><td class="number">12,345</td><td class="number">0.500</td>' in made
    assert '<td class="number">\N{EN DASH}</td>' in made
    assert "<caption>" not in made


def test_a_column_with_a_word_in_it_is_not_set_as_numbers() -> None:
    assert "number" not in report.table(["a"], [[1], ["x"], [True]])


def test_a_ragged_table_is_refused() -> None:
    with pytest.raises(ShapeError, match="a row of 1 cells under a header of 2"):
        report.table(["a", "b"], [["x"]])


def test_drawings_take_the_colour_of_the_page_and_do_not_share_names(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 2
    for drawing in drawings:
        assert "#000000" not in drawing
        assert "currentColor" in drawing
        assert ">step<" in drawing  # text stays text
    names = [set(re.findall(r'\bid="([^"]+)"', drawing)) for drawing in drawings]
    assert names[0]
    assert not names[0] & names[1]


def test_equal_content_gives_equal_pages() -> None:
    def draw() -> str:
        return report.curves({"a": ([1, 2, 3], [3, 2, 1])}, x="step", y="loss")

    assert draw() == draw()


def test_a_curve_of_one_point_is_seen() -> None:
    assert report.curves({"a": ([5], [1.0])}, x="step", y="loss").count("<use") > report.curves(
        {"a": ([], [])}, x="step", y="loss"
    ).count("<use")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file.report\.html"):
        report.write_report(tmp_path / "file" / "report.html", "T", [])


def test_matplotlib_waits_for_the_first_drawing() -> None:
    code = "import sys, ushape.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
