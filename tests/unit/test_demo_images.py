"""The images inside the package: complete, small, public domain, and what their card says of them."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ushape.demo import IMAGES, SMALLEST_PX, annotated, otsu_objects
from ushape.metrics import match, total

CARD = (IMAGES / "README.md").read_text(encoding="utf-8")
LISTED = re.findall(
    r"^\| (train|val) \| (\w+\.png) \| (\w+) \| (\d+) x (\d+) \| (\d+) \| [\d.]+ \| (\w{12}) \|$",
    CARD,
    re.MULTILINE,
)
PARTS = ("train", "val")


def file_names(part: str, kind: str) -> list[str]:
    return sorted(path.name for path in (IMAGES / part / kind).iterdir())


def test_the_sample_is_small_and_split_once() -> None:
    assert sum(path.stat().st_size for path in IMAGES.rglob("*") if path.is_file()) <= 1_500_000
    assert (len(file_names("train", "images")), len(file_names("val", "images"))) == (12, 8)
    assert not set(file_names("train", "images")) & set(file_names("val", "images"))


@pytest.mark.parametrize("part", PARTS)
def test_every_image_has_a_mask_of_its_size_that_numbers_the_nuclei(part: str) -> None:
    assert file_names(part, "images") == file_names(part, "masks")
    for one in annotated(IMAGES / part):
        assert one.image.dtype == np.uint8
        assert one.image.shape == (1, *one.ids.shape)
        ids = np.unique(one.ids)
        assert ids.tolist() == list(range(len(ids)))
        assert len(ids) > 1


def test_the_card_lists_every_file_and_its_pixels() -> None:
    assert sorted(row[:2] for row in LISTED) == [(p, name) for p in PARTS for name in file_names(p, "images")]
    assert len(LISTED) == 20
    for part, name, _, height, width, nuclei, digest in LISTED:
        image = np.asarray(Image.open(IMAGES / part / "images" / name))
        ids = np.asarray(Image.open(IMAGES / part / "masks" / name))
        assert image.shape == (int(height), int(width))
        assert len(np.unique(ids)) - 1 == int(nuclei)
        assert hashlib.sha256(image.tobytes()).hexdigest()[:12] == digest


@pytest.mark.parametrize("part", PARTS)
def test_every_kind_is_in_both_parts(part: str) -> None:
    assert {row[2] for row in LISTED if row[0] == part} == {"large", "dim", "crowded", "sparse"}


def test_the_card_names_source_and_licence() -> None:
    for words in ("BBBC038", "CC0 1.0", "2018 Data Science Bowl", "recipes/demo_images.py"):
        assert words in CARD


def test_the_card_states_the_score_of_the_baseline_on_the_held_out_images() -> None:
    held_out, cells = annotated(IMAGES / "val"), []
    for smallest_px in (0, SMALLEST_PX):
        matchings = [match(otsu_objects(one.image[0], smallest_px=smallest_px), one.ids) for one in held_out]
        mean = np.mean([one.average_precision for one in matchings])
        cells += [f"{total(matchings).average_precision:.3f}", f"{mean:.3f}"]
    assert f"| sample, val (held out) | 8 | 370 | {' | '.join(cells)} |" in CARD


@pytest.mark.data
def test_no_pixel_differs_from_the_source(data_dir: Path) -> None:
    for part, name, *_ in LISTED:
        for kind in ("images", "masks"):
            ours = np.asarray(Image.open(IMAGES / part / kind / name))
            assert np.array_equal(ours, np.asarray(Image.open(data_dir / "dsb2018" / kind / name)))
