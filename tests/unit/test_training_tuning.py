"""Post-processing chosen on training images."""

import numpy as np
import pytest
from small_model import make_model

from ushape.config import IGNORE, Postprocessing
from ushape.data import Sample
from ushape.training.tuning import (
    object_diameter,
    objects_in_words,
    quality,
    speck_area,
    tune,
    tuning_set,
)

Array = np.ndarray


def two_squares(gap_px: int = 2) -> Sample:
    objects = np.zeros((40, 60), np.int32)
    objects[10:30, 8:28] = 1
    objects[10:30, 28 + gap_px : 48 + gap_px] = 2
    return sample(objects)


def sample(objects: Array, name: str = "s") -> Sample:
    table = np.minimum(np.arange(objects.max() + 1), 1).astype(np.uint8)
    return Sample(name, np.zeros((1, *objects.shape), np.uint8), objects, table)


def test_the_threshold_that_parts_two_objects_is_found() -> None:
    truth = two_squares()
    foreground = np.where(truth.objects > 0, 0.95, 0.02).astype(np.float32)
    foreground[15:25, 28:30] = 0.55  # a bridge, above the usual threshold
    start = Postprocessing()
    before, tuned = quality([truth], [foreground], start), tune([truth], [foreground], start)
    assert before == 0
    assert tuned.threshold > 0.55
    assert quality([truth], [foreground], tuned) == 1


def test_objects_without_a_gap_are_split() -> None:
    truth = two_squares(gap_px=0)
    foreground = np.where(truth.objects > 0, 0.95, 0.02).astype(np.float32)
    foreground[10:30, 27:29] = 0.86  # fainter where they touch, at no threshold that is tried
    tuned = tune([truth], [foreground], Postprocessing())
    assert tuned.split != "none"
    assert quality([truth], [foreground], tuned) > 0.9


def test_the_smallest_area_is_found() -> None:
    truth = two_squares()
    foreground = np.where(truth.objects > 0, 0.95, 0.02).astype(np.float32)
    foreground[2:6, 2:7] = 0.95  # a speck of 20 pixels
    tuned = tune([truth], [foreground], Postprocessing(min_area=12))
    assert tuned.min_area > 20
    assert quality([truth], [foreground], tuned) == 1


def test_holes_are_filled_where_that_finds_more() -> None:
    truth = two_squares()
    foreground = np.where(truth.objects > 0, 0.95, 0.02).astype(np.float32)
    foreground[13:27, 12:24] = 0.1
    start = Postprocessing()
    before, tuned = quality([truth], [foreground], start), tune([truth], [foreground], start)
    assert tuned.fill_holes
    assert before < quality([truth], [foreground], tuned) == 1


def test_no_more_than_a_few_true_objects_are_taken_for_specks() -> None:
    objects = np.zeros((100, 400), np.int32)
    for number in range(100):  # areas 2, 4, ... 200; the last two touch
        objects[: number + 1, 4 * number : 4 * number + 2] = number + 1
    objects[:100, 394:396] = 99
    assert 2 <= speck_area([sample(objects)]) <= 6
    assert speck_area([sample(np.zeros_like(objects))]) == 0, "there is none"


def test_an_image_that_shows_nothing_is_never_tuned_on_alone() -> None:
    empty = [sample(np.zeros((10, 10), np.int32), name=f"empty {n}") for n in range(5)]
    full = sample(np.eye(10, dtype=np.int32), name="full")
    images = [*empty, full]
    assert [one.name for one in tuning_set(images, images[:1])] == ["full"]
    assert len(tuning_set(images, images)) == 6, "among others it is as good as any"
    assert [one.name for one in tuning_set(empty, empty[:1])] == ["empty 2"], "there is nothing else"


def test_a_few_objects_do_not_say_how_small_one_in_a_hundred_is() -> None:
    objects = np.zeros((40, 400), np.int32)
    for number in range(10):
        objects[:30, 40 * number : 40 * number + 10 + number] = number + 1
    assert speck_area([sample(objects)]) == 150, "half of the smallest"


def test_the_typical_object_is_the_median_of_those_that_count() -> None:
    objects = np.zeros((60, 200), np.int32)
    for number, side in enumerate([4, 10, 10, 12, 40], start=1):
        objects[:side, 40 * number - 40 : 40 * number - 40 + side] = number
    objects[50:54, :4], objects[50:54, 4:8] = 6, 7
    # Areas 16, 16, 16, 100, 100, 144 and 1600.
    assert object_diameter([sample(objects)]) == round(np.sqrt(4 / np.pi * 100), 1)
    assert object_diameter([sample(np.zeros_like(objects))]) is None
    unknown = Sample(
        "s", np.zeros((1, 60, 200), np.uint8), objects, np.array([0, 1, 1, 1, 1, 255, 1, 1], np.uint8)
    )
    assert object_diameter([unknown]) == round(np.sqrt(4 / np.pi) * (4 + 10) / 2, 1)


def test_what_gains_nothing_is_left_as_it_was() -> None:
    truth = two_squares()
    foreground = (truth.objects > 0).astype(np.float32)
    start = Postprocessing(threshold=0.45, min_area=7)
    assert tune([truth], [foreground], start) == start


def test_pixels_that_do_not_count_have_no_say() -> None:
    truth = two_squares()
    objects = truth.objects.copy()
    objects[:, 50:] = 3
    unknown = Sample("s", truth.image, objects, np.array([0, 1, 1, IGNORE], np.uint8))
    foreground = np.where(truth.objects > 0, 0.95, 0.02).astype(np.float32)
    foreground[5:8, 53:58] = 0.95
    assert quality([unknown], [foreground], Postprocessing()) == 1


@pytest.mark.parametrize(("held_out", "expected"), [(20, 20), (7, 7), (1, 1), (1000, 40)])
def test_as_many_pixels_as_are_held_out_are_tuned_on(held_out: int, expected: int) -> None:
    images = [sample(np.zeros((10, 10), np.int32), name=str(number)) for number in range(40)]
    chosen = [int(one.name) for one in tuning_set(images, images[:1] * held_out)]
    assert len(chosen) == len(set(chosen)) == expected
    assert chosen == sorted(chosen)
    if expected > 2:
        assert (chosen[0], chosen[-1]) == (0, 39), "spread over all of them"


@pytest.mark.parametrize(
    ("classes", "diameter", "words"),
    [
        (2, 9.5, "objects, tuned on 3 images: above 0.4, 4-connected"),
        (2, None, "objects, not tuned (in the annotations none touch): above 0.4, 4-connected"),
        (3, None, "objects, not tuned (of 3 classes): above 0.4, 4-connected"),
    ],
)
def test_how_objects_are_found_is_said_whether_it_was_tuned_or_not(
    classes: int, diameter: float | None, words: str
) -> None:
    how = Postprocessing(threshold=0.4)
    header = make_model(classes=classes, object_diameter_px=diameter, postprocessing=how)[1]
    assert objects_in_words(header, "3 images").startswith(words)
