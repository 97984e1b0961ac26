"""Settings of the post-processing: old model files, changes, words on the command line."""

import re

import pytest
from pydantic import ValidationError

from ushape.config import ModelHeader, Postprocessing, UNetConfig, parse_area, parse_split
from ushape.errors import ConfigError


def test_model_files_from_before_these_settings_load():
    header = ModelHeader.model_validate(
        {
            "name": "old",
            "architecture": UNetConfig().model_dump(),
            "classes": [],
            "postprocessing": {"threshold": 0.4, "min_area": 12, "connectivity": 8},
        }
    )
    assert header.postprocessing == Postprocessing(threshold=0.4, min_area=12, connectivity=8)
    assert header.postprocessing.in_words() == "above 0.4, 8-connected, at least 12 px"


def test_settings_survive_the_model_file():
    settings = Postprocessing(split="distance", seed_depth_px=0.75, min_area_um2=2.5, foi_px=9)
    assert Postprocessing.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "above 0.5, 4-connected"),
        ({"seed_depth_px": 3}, "above 0.5, 4-connected"),  # has no effect without a split
        ({"split": "probability"}, "above 0.5, 4-connected, split between peaks above 0.8"),
        (
            {"split": "distance", "seed_depth_px": 1.5, "fill_holes": True},
            "above 0.5, 4-connected, split between peaks of the distance 1.5 px deep, holes filled",
        ),
        ({"min_area_um2": 7.5}, "above 0.5, 4-connected, at least 7.5 um2"),
        (
            {"border": "remove", "foi_px": 50},
            "above 0.5, 4-connected, none at the border, not entirely within 50 px of the border",
        ),
    ],
)
def test_words_for_what_has_an_effect(settings, words):
    assert Postprocessing(**settings).in_words() == words


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": 1.1},
        {"threshold": float("nan")},
        {"min_area": -1},
        {"connectivity": 6},
        {"split": "lines"},
        {"seed_depth_px": -0.5},
        {"foi_px": -1},
        {"treshold": 0.5},
        {"split": "probability", "threshold": 0.9},
    ],
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(ValidationError):
        Postprocessing(**settings)
    with pytest.raises(ConfigError, match=r"^objects cannot be found so: "):
        Postprocessing().changed(settings)


def test_seeds_may_be_as_high_as_the_threshold_and_do_not_matter_without_a_split():
    assert Postprocessing(split="probability", threshold=0.8).threshold == 0.8
    assert Postprocessing(split="distance", threshold=0.9).threshold == 0.9


def test_changes_leave_the_rest_as_it_is():
    before = Postprocessing(threshold=0.4, min_area=7)
    assert before.changed({"border": "remove"}) == Postprocessing(threshold=0.4, min_area=7, border="remove")
    assert before.changed({}) == before


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("30", {"min_area": 30, "min_area_um2": None}),
        ("0", {"min_area": 0, "min_area_um2": None}),
        (" 30 PX", {"min_area": 30, "min_area_um2": None}),
        ("30um2", {"min_area": 0, "min_area_um2": 30.0}),
        ("0.5 um2", {"min_area": 0, "min_area_um2": 0.5}),
    ],
)
def test_areas(text, changes):
    assert parse_area(text) == changes


@pytest.mark.parametrize("text", ["", "px", "-3", "2.5", "30 mm2", "um2", "1e3", "30um2 or so"])
def test_what_is_no_area(text):
    with pytest.raises(ConfigError, match=f"^not an area: '{re.escape(text)}'; write for example 30 "):
        parse_area(text)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("none", {"split": "none"}),
        ("Probability", {"split": "probability"}),
        ("probability:0.95", {"split": "probability", "seed_threshold": 0.95}),
        ("distance", {"split": "distance"}),
        ("distance:2", {"split": "distance", "seed_depth_px": 2.0}),
    ],
)
def test_splits(text, changes):
    assert parse_split(text) == changes


@pytest.mark.parametrize("text", ["", "yes", "none:1", "distance:", "distance:-1", "probability:high"])
def test_what_is_no_split(text):
    with pytest.raises(ConfigError, match=r"^not a way to split objects: .*; write none, probability"):
        parse_split(text)
