"""Objects from hand-drawn planes; numbering and measurements against scipy and scikit-image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.measure import regionprops

from ushape.config import Postprocessing
from ushape.errors import ShapeError
from ushape.instances import instances, measure, outlines

DRAWN = np.array(
    [
        [1, 1, 0, 0, 1],
        [0, 0, 1, 0, 1],
        [0, 0, 1, 0, 0],
    ]
)


def test_components_touch_by_edges_only():
    expected = [[1, 1, 0, 0, 2], [0, 0, 3, 0, 2], [0, 0, 3, 0, 0]]
    assert instances(DRAWN * 0.9).tolist() == expected


def test_components_touch_by_corners_if_asked():
    expected = [[1, 1, 0, 0, 2], [0, 0, 1, 0, 2], [0, 0, 1, 0, 0]]
    assert instances(DRAWN * 0.9, Postprocessing(connectivity=8)).tolist() == expected


def test_a_pixel_at_the_threshold_is_background():
    foreground = np.array([[0.5, 0.51, 0.3]])
    assert instances(foreground).tolist() == [[0, 1, 0]]
    assert instances(foreground, Postprocessing(threshold=0.25)).tolist() == [[1, 1, 1]]


def test_small_objects_are_dropped_and_leave_no_gap():
    foreground = np.array([[1.0, 0, 1, 1, 0, 1, 0, 1, 1, 1]])
    assert instances(foreground, Postprocessing(min_area=2)).tolist() == [[0, 0, 1, 1, 0, 0, 0, 2, 2, 2]]


def test_classes_part_objects_that_touch():
    classes = np.array([[1, 1, 2, 2, 1]])
    assert instances(np.ones((1, 5)), classes=classes).tolist() == [[1, 1, 2, 2, 3]]


def test_type_grows_with_the_number_of_objects():
    foreground = np.zeros((512, 514))
    foreground[::2, ::2] = 1  # 65,792 single pixels
    assert instances(foreground).dtype == np.uint32
    foreground[-2:] = 0  # 65,535
    ids = instances(foreground)
    assert (ids.dtype, ids.max()) == (np.uint16, 65535)


def test_no_object():
    ids = instances(np.zeros((1, 1)))
    assert (ids.dtype, ids.tolist(), measure(ids)) == (np.uint16, [[0]], [])


def test_a_stack_is_refused():
    with pytest.raises(ShapeError, match=r"\(2, 3, 4\) is not one plane"):
        instances(np.zeros((2, 3, 4)))


BINARY = arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20)))


@given(BINARY, st.sampled_from([4, 8]))
def test_numbering_is_line_by_line(binary, connectivity):
    ids = instances(binary.astype(np.float32), Postprocessing(connectivity=connectivity))
    structure = np.ones((3, 3)) if connectivity == 8 else None
    reference, count = ndimage.label(binary, structure)
    numbers, first = np.unique(ids[ids > 0], return_index=True)
    assert numbers.tolist() == list(range(1, count + 1))
    assert (np.diff(first) > 0).all()
    pairs = set(zip(ids[binary].tolist(), reference[binary].tolist(), strict=True))
    assert len(pairs) == count
    assert not ids[~binary].any()


@given(BINARY)
def test_measurements_are_those_of_skimage(binary):
    ids = instances(binary.astype(np.float32))
    found = measure(ids)
    expected = regionprops(ids.astype(int))
    assert [one.id for one in found] == [one.label for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.top, one.left, one.bottom, one.right) == other.bbox
        assert one.area_px == other.area
        assert (one.centroid_y, one.centroid_x) == pytest.approx(other.centroid, rel=1e-12, abs=1e-12)


def test_an_object_has_the_class_of_its_pixels():
    ids = np.array([[0, 1, 0], [1, 1, 2]])
    assert [one.class_index for one in measure(ids)] == [1, 1]
    assert [one.class_index for one in measure(ids, np.array([[9, 2, 9], [2, 2, 3]]))] == [2, 3]


def test_outlines_are_inside_the_objects():
    ids = np.zeros((5, 7), int)
    ids[1:4, 1:4] = 1
    ids[1:4, 4:6] = 2
    expected = [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 1, 0, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    assert outlines(ids).astype(int).tolist() == expected
    assert not outlines(np.ones((3, 3), int)).any(), "the border of the image is no outline"
