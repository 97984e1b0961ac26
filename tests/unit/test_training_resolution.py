"""Images are shrunk only as far as their annotations survive it."""

import numpy as np
import pytest
from skimage.draw import disk

from ushape.config import IGNORE
from ushape.data import Sample, open_dataset
from ushape.training.resolution import _busiest, coarsely_drawn, shrink_for


def sample_of(objects: np.ndarray, object_class: list[int]) -> Sample:
    image = np.zeros((1, *objects.shape), np.uint8)
    return Sample("drawn", image, objects.astype(np.int32), np.array(object_class, np.uint8))


def pairs(radius: int) -> Sample:
    """Pairs of touching discs, their columns and rows odd and even, with as much background around them."""
    objects, number = np.zeros((300, 301), int), 0
    for y in range(2 * radius, 300 - 2 * radius, 4 * radius + 1):
        for x in range(2 * radius, 300 - 4 * radius, 6 * radius + 1):
            for center in (x, x + 2 * radius):
                number += 1
                objects[disk((y, center), radius + 1, shape=objects.shape)] = number
    return sample_of(objects, [0] + [1] * number)


def test_large_touching_cells_may_be_seen_at_half_the_size_and_small_ones_not():
    assert shrink_for([pairs(30)], 2) == 2
    assert shrink_for([pairs(5)], 2) == 1


@pytest.mark.parametrize(("thickness", "shrink"), [(2, 1), (30, 2)])
def test_lines_of_a_class_may_be_seen_at_half_the_size_if_they_are_thick(thickness, shrink):
    objects = np.zeros((200, 300), int)
    for start in range(3, 270, 60):
        rows = np.arange(200)
        for y in rows:
            objects[y, start + y // 10 : start + y // 10 + thickness] = 1
    objects[:40] = 2  # a third class, so that classes and not objects count
    assert shrink_for([sample_of(objects, [0, 1, 2])], 3) == shrink


def test_blocks_take_their_most_frequent_class_and_a_tie_goes_to_the_background():
    classes = np.array(
        [[0, 0, 1, 1, 1], [1, 1, 1, 0, 1], [0, 1, 1, 1, 2], [IGNORE, IGNORE, 1, 1, 2]], np.uint8
    )
    drawn = coarsely_drawn(classes, 3, 2)
    assert drawn.shape == (3, 4, 5)
    # Blocks: a tie of 0 and 1, three of 1, 1 (repeated at the edge); a tie of 0 and 1 beside ignored, 1, 2.
    coarse = np.array([[0, 1, 1], [0, 1, 2]])
    np.testing.assert_array_equal(drawn[:, ::3, ::4].argmax(0), coarse[:, [0, 2]])
    np.testing.assert_allclose(drawn.sum(0), 1, atol=1e-6)


def test_a_control_without_objects_does_not_decide():
    blank = sample_of(np.zeros((1100, 1200), int), [0])
    small = sample_of(np.zeros((1100, 1200), int), pairs(5).object_class.tolist())
    small.objects[700:1000, 800:1101] = pairs(5).objects
    assert shrink_for([blank, small, small], 2) == 1
    rare = [*[blank] * 4, small, *[blank] * 5]
    assert shrink_for(rare, 2) == 1, "not even where the only image that shows some is passed over"
    assert shrink_for([blank], 2) == 1
    large = sample_of(np.kron(pairs(30).objects, np.ones((4, 4), int)), pairs(30).object_class.tolist())
    assert shrink_for([blank, large], 2) == 2


def test_of_large_images_the_part_with_the_most_ends_of_objects_is_looked_at():
    objects = np.zeros((900, 1000), int)
    objects[600:604, 500:504] = 1
    part = _busiest(sample_of(objects, [0, 1]), 300)
    assert part.objects.shape == part.image.shape[1:] == (300, 300)
    assert part.objects.sum() == 16
    small = sample_of(objects[:200, :200], [0, 1])
    assert _busiest(small, 300) is small


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "shrink"), [("isbi2012", 2), ("DIC-C2DH-HeLa", 2), ("dsb2018", 1), ("drive", 1)]
)
def test_what_the_real_data_sets_get(data_dir, name, shrink):
    """Membranes of 4 px between large cells, cells of 100 px, nuclei of 20 px, vessels of 1 to 8 px."""
    samples, _, infos, _ = open_dataset(data_dir / name, validation="0.2", seed=0)
    assert shrink_for(samples, len(infos)) == shrink
