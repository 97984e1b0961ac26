"""Tiles are turned at will, unless the annotations have a top and a bottom."""

import math
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ushape
from ushape.augment import Deformation, generator
from ushape.augment.deformation import UPRIGHT_RADIANS
from ushape.checkpoint import read_header
from ushape.config import IGNORE
from ushape.data import Sample, open_dataset
from ushape.training import FAST
from ushape.training.orientation import has_top


def street(horizon: int, noise: int = 0) -> Sample:
    """Sky (0) over road (1), and a car (2)."""
    classes = np.zeros((60, 80), np.int32)
    classes[horizon:] = 1
    classes[horizon - 4 : horizon + 4, 10 + noise : 30 + noise] = 2
    image, table = np.zeros((1, 60, 80), np.uint8), np.array([0, 1, 2], np.uint8)
    return Sample(f"street {next(NUMBERS)}", image, classes, table)


NUMBERS = count()


def turned(sample: Sample) -> Sample:
    return replace(sample, objects=sample.objects[::-1].copy())


def test_streets_have_a_top_and_turned_streets_have_none() -> None:
    streets = [street(horizon, horizon) for horizon in (20, 28, 33, 40)]
    assert has_top(streets)
    assert has_top([turned(one) for one in streets])
    assert not has_top([*streets[:2], *map(turned, streets[2:])])
    assert not has_top([replace(one, objects=one.objects.T.copy()) for one in streets]), (
        "left and right differ"
    )


def test_three_images_may_lie_alike_by_chance() -> None:
    assert not has_top([street(30) for _ in range(3)])


@pytest.mark.parametrize("name", ["01_t{:03d}", "stack[{}]", "02_t000[{}]"])
def test_frames_of_a_film_are_no_more_than_one_image(name: str) -> None:
    film = [replace(street(30), name=name.format(number)) for number in range(30)]
    assert not has_top(film)
    assert not has_top([*film, street(30), street(30)])
    assert has_top([*film, street(30), street(30), street(30)])
    upside_down = [replace(turned(one), name=one.name) for one in film]
    streets = [street(30) for _ in range(12)]
    assert has_top([*upside_down, *streets]), "thirty frames do not outvote twelve images"


def test_pixels_that_do_not_count_have_no_say() -> None:
    half = np.array([0, IGNORE, IGNORE], np.uint8)
    assert not has_top([replace(street(30), object_class=half) for _ in range(4)])


@pytest.mark.data
@pytest.mark.parametrize("name", ["isbi2012", "DIC-C2DH-HeLa", "dsb2018", "drive", "camvid/train"])
def test_what_the_real_data_sets_have(data_dir: Path, name: str) -> None:
    samples, *_ = open_dataset(data_dir / name, validation="0.2", seed=0)
    assert has_top(samples) == (name == "camvid/train")


def test_upright_tiles_are_turned_a_little_and_mirrored_left_to_right() -> None:
    drawn = [Deformation.draw(generator(0, n), upright=True) for n in range(200)]
    angles = np.array([one.angle for one in drawn])
    assert np.abs(angles).max() <= UPRIGHT_RADIANS
    assert angles.min() < -0.9 * UPRIGHT_RADIANS < 0.9 * UPRIGHT_RADIANS < angles.max()
    plain = [Deformation.draw_plain(generator(0, n), upright=True) for n in range(50)]
    assert {one.angle for one in plain} == {0.0}
    for some in (drawn, plain):
        assert {one.mirror for one in some} == {False, True}
    others = [Deformation.draw(generator(0, n)) for n in range(200)]
    assert max(one.angle for one in others) > 1.9 * math.pi
    for one, other in zip(drawn, others, strict=True):  # all else is drawn as before
        np.testing.assert_array_equal(one.displacements, other.displacements)
        assert (one.mirror, one.scale, one.shift) == (other.mirror, other.scale, other.shift)


def test_a_run_says_that_images_have_a_top_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for number, horizon in enumerate((20, 28, 33, 40, 24, 36)):
        classes = street(horizon).classes
        image = (80 * classes + rng.integers(0, 40, classes.shape)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "data" / "images" / f"{number}.png")
        Image.fromarray(classes).save(tmp_path / "data" / "masks" / f"{number}.png")
    options = {"steps": 1, "width": 2, "device": "cpu", "classes": 3, "quiet": False}
    result = ushape.train(tmp_path / "data", tmp_path / "run", **options)
    assert "images have a top: tiles are turned by 10 degrees at most" in capsys.readouterr().out
    kept = read_header(result.model).provenance["recipe"]
    assert (kept["upright"], kept["grey"]["noise"]) == (True, 0.0)
    free = FAST.model_copy(update={"upright": False})
    result = ushape.train(tmp_path / "data", tmp_path / "free", recipe=free, **options)
    assert "have a top" not in capsys.readouterr().out
    assert read_header(result.model).provenance["recipe"]["upright"] is False
