"""The page of a training run: validation images beside their truth, worst first."""

import re
from pathlib import Path

import numpy as np
import pytest

from ushape import io
from ushape.config import ClassInfo, ModelHeader, UNetConfig
from ushape.pictures import class_differences, compare, differences
from ushape.training.page import write_page
from ushape.training.scores import Curve

HISTORY = [{"step": 10.0, "loss": 0.5, "score": 0.6, "accuracy": 0.8, "dice": 0.6, "iou": 0.5}]


@pytest.fixture
def header() -> ModelHeader:
    return ModelHeader(
        name="test",
        architecture=UNetConfig(width=1, depth=1),
        classes=tuple(ClassInfo(name=n, value=i, color=(i, i, i)) for i, n in enumerate("ab")),
        object_diameter_px=9.0,
        provenance={
            "recipe": {"name": "fast"},
            "training": ["a"],
            "held_out": ["right", "wrong", "half"],
            "tuned_on": ["a"],
            "seed": 0,
            "versions": {"ushape": "0"},
        },
    )


def page(output: Path, header: ModelHeader, **options: object) -> str:
    write_page(output, header, HISTORY, HISTORY[0], **options)
    return (output / "report.html").read_text(encoding="utf-8")


def captions(html: str) -> list[str]:
    return re.findall("<figcaption>(.*?)</figcaption>", html)


def test_validation_images_are_compared_worst_first(tmp_path: Path, header: ModelHeader) -> None:
    true = np.array([[1, 1, 0, 2, 2]])
    rows = [
        compare("right", differences(true, true)),
        compare("wrong", differences(true * 0, true)),
        compare("half", differences(true * (true > 1), true)),
    ]
    html = page(tmp_path, header, comparisons=rows)
    assert "Validation images, worst first" in html
    assert "The 2 worst of the validation images that were scored, worst first" in page(
        tmp_path, header, comparisons=rows[:2]
    )
    assert [caption.split(":")[0] for caption in captions(html)] == ["wrong", "half", "right"]
    assert "</i>missed</li>" in html


def test_classes_have_their_names_beside_the_pictures(tmp_path: Path, header: ModelHeader) -> None:
    names = ("sky", "road", "tree")
    classes = tuple(ClassInfo(name=name, value=i, color=(i, 9, 9)) for i, name in enumerate(names))
    mask = np.array([[0, 1, 2]], np.uint8)
    row = compare("right", class_differences(mask, mask), colors=[info.color for info in classes])
    html = page(tmp_path, header.model_copy(update={"classes": classes}), comparisons=[row])
    for number, name in enumerate(names):
        assert f'background:rgb({number},9,9)"></i>{name}</li>' in html


def test_the_score_over_its_threshold_and_the_tuned_processing_are_shown(
    tmp_path: Path, header: ModelHeader
) -> None:
    html = page(tmp_path, header, curve=Curve("AP", "IoU threshold", (0.5, 0.7), (0.8, 0.6)))
    assert 'aria-label="AP over IoU threshold: AP"' in html
    assert "above 0.5, 4-connected" in html


def test_what_probabilities_are_worth_is_shown_before_and_after_calibration(
    tmp_path: Path, header: ModelHeader
) -> None:
    lines = {
        name: Curve("accuracy", "confidence", (0.6, 0.9), (0.7, 0.9))
        for name in ("temperature 1", "temperature 0.8")
    }
    calibrated = header.model_copy(update={"temperature": 0.8})
    best = HISTORY[0] | {"ece": 0.012, "ece_at_temperature_1": 0.051}
    write_page(tmp_path, calibrated, HISTORY, best, reliability=lines)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "temperature 0.8, fitted on training images" in html
    assert "0.0510 before the fit, 0.0120 after it" in html
    assert "taken back" not in html
    write_page(
        tmp_path, calibrated.model_copy(update={"class_bias": (1.0, -1.0)}), HISTORY, best, reliability=lines
    )
    again = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (
        "temperature 0.8, and the class weights of the loss are taken back, fitted on training images"
        in again
    )
    assert "temperature 1, temperature 0.8, perfectly calibrated" in html
    assert "What probabilities are worth" not in page(tmp_path, header)


def test_pictures_of_the_run_are_shown_where_nothing_was_compared(
    tmp_path: Path, header: ModelHeader
) -> None:
    (tmp_path / "validation").mkdir()
    io.write_overlay(tmp_path / "validation" / "one.png", np.zeros((5, 6, 3), np.uint8))
    assert captions(page(tmp_path, header)) == ["one"]


def test_the_page_says_by_which_score_the_best_model_was_chosen(tmp_path: Path, header: ModelHeader) -> None:
    assert "state with the best mean Dice over the classes" in page(tmp_path, header)
    assert "state with the best IoU" in page(tmp_path, header, chosen_by="iou")
    assert "state with the best AP(0.5)" in page(tmp_path, header, chosen_by="ap_0.50")


def test_errors_fall_on_an_axis_of_their_own(tmp_path: Path, header: ModelHeader) -> None:
    history = [{**HISTORY[0], "step": step, "ece": 0.1, "pixel_error": 0.2} for step in (10.0, 20.0)]
    write_page(tmp_path, header, history, history[0])
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    labels = re.findall('aria-label="(\\w+) over step: ([^"]*)"', html)
    assert [y for y, _ in labels] == ["loss", "score", "error"]
    assert "Dice" in labels[1][1]
    assert "error" not in labels[1][1]
    assert labels[2][1] == "pixel error, calibration error"
