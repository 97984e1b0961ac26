"""Gap and border weights on real label images equal the paper's equation written out object by object."""

import brute_weight_map
import numpy as np
import pytest
import tifffile
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import label
from skimage.io import imread

from ushape import weight_map

# Terms below 1e-6 are taken as 0, and a float32 near w0 = 10 is rounded by at most 4.8e-7.
TOLERANCE = 1e-6

PLANES = {
    # Dense nuclei, nuclei of every size, sparse nuclei; windows that keep a transform per object quick.
    "dsb2018/masks/0ea221716cf13710.png": np.s_[100:300, 200:450],
    "dsb2018/masks/07fb37aafa662660.png": np.s_[:200, :260],
    "dsb2018/masks/a102535b0e88374b.png": np.s_[100:300, 800:1100],
    "DIC-C2DH-HeLa/01_ST/SEG/man_seg000.tif": np.s_[:, :],
    "isbi2012/train-labels.tif": np.s_[3, :256, :256],
}


@pytest.fixture(params=PLANES)
def objects(request, data_dir):
    path = data_dir / request.param
    plane = (tifffile.imread(path) if path.suffix == ".tif" else imread(path))[PLANES[request.param]]
    if "isbi" in request.param:
        plane = label(plane > 0)[0]
    return plane.astype(np.int32)


@pytest.mark.data
def test_the_gap_is_where_two_objects_share_a_neighbourhood(objects):
    separated = weight_map.cut_gap(objects)
    assert_array_equal(separated, brute_weight_map.cut_gap(objects))


@pytest.mark.data
def test_border_weights_are_those_of_equation_2(objects):
    separated = weight_map.cut_gap(objects)
    expected = brute_weight_map.border_weights(separated, 10.0, 5.0)
    assert expected.max() > 1
    assert_allclose(weight_map.border_weights(separated), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.data
@pytest.mark.parametrize(("w0", "sigma_px"), [(50.0, 6.0), (1.0, 1.5)])
def test_border_weights_of_other_strengths(data_dir, w0, sigma_px):
    objects = imread(data_dir / "dsb2018/masks/0ea221716cf13710.png")[:150, :200].astype(np.int32)
    expected = brute_weight_map.border_weights(objects, w0, sigma_px)
    # A float32 near 50 is rounded by up to 1.9e-6.
    assert_allclose(
        weight_map.border_weights(objects, w0=w0, sigma_px=sigma_px), expected, rtol=0, atol=3 * TOLERANCE
    )


def volume(seed: int, shape=(14, 40, 44), count: int = 25) -> np.ndarray:
    """Balls and what is left of them where they overlap."""
    rng = np.random.default_rng(seed)
    objects = np.zeros(shape, np.int32)
    places = np.indices(shape)
    for number in range(1, count + 1):
        center, radius = rng.uniform(0, shape), rng.uniform(1.5, 5)
        offsets = places - center.reshape(3, 1, 1, 1)
        objects[(offsets**2).sum(axis=0) < radius**2] = number
    return objects


@pytest.mark.parametrize("one_sided", [False, True])
def test_the_gap_in_planes_and_volumes(one_sided):
    for objects in (volume(1, (8, 20, 22)), volume(2)[5], volume(3, (3, 30, 30))):
        expected = brute_weight_map.cut_gap_pixel_by_pixel(objects, one_sided=one_sided)
        assert (expected != objects).any()
        assert_array_equal(weight_map.cut_gap(objects, one_sided=one_sided), expected)


SPACINGS = [None, (3, 1, 1), (2.5, 0.9, 1.1), (40.0, 1.0, 1.0), (0.3, 0.1, 0.1)]
"""Cubes, thick slices in whole and broken numbers, slices out of each other's reach, micrometres."""


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_border_weights_in_volumes(spacing):
    objects = weight_map.cut_gap(volume(4))
    sigma_px = 0.5 if spacing == (0.3, 0.1, 0.1) else 5.0
    expected = brute_weight_map.border_weights(objects, 10.0, sigma_px, spacing)
    weights = weight_map.border_weights(objects, sigma_px=sigma_px, spacing=spacing)
    assert expected.max() > 1
    assert_allclose(weights, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (6, 7), (4, 1, 5), (4, 5, 6)])
def test_the_objects_of_a_mask_are_its_connected_components(size):
    """Many small ones: version 4.1.1 of connected-components-3d fails on some masks of dtype bool."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        mask = rng.random(size) < 0.3
        ids = label(mask, np.ones((3,) * mask.ndim))[0]
        assert_array_equal(weight_map.border_weights(mask), weight_map.border_weights(ids))
        assert_array_equal(weight_map.cut_gap(mask) > 0, mask)


@pytest.mark.data
@pytest.mark.parametrize("spacing", [(1, 2), (0.7, 0.45)])
def test_border_weights_of_pixels_that_are_not_square(data_dir, spacing):
    objects = imread(data_dir / "dsb2018/masks/0ea221716cf13710.png")[:150, :200].astype(np.int32)
    expected = brute_weight_map.border_weights(objects, 10.0, 5.0, spacing)
    assert_allclose(weight_map.border_weights(objects, spacing=spacing), expected, rtol=0, atol=TOLERANCE)


# A float32 near 50 is rounded by up to 1.9e-6, and two are (a class, the sum), beside d1. Measured: 6.1e-6.
FALK_TOLERANCE = 8e-6


@pytest.mark.data
def test_weights_of_the_later_form(objects):
    """Objects in two classes by turns, some of them not counted."""
    object_class = np.r_[0, np.resize([1, 2, 1, 2, 255], objects.max())].astype(np.uint8)
    expected = brute_weight_map.falk_weights(objects, object_class, ignore=255)
    weights = weight_map.falk_weights(objects, object_class)
    assert expected.max() > 5
    assert_allclose(weights, expected, rtol=0, atol=FALK_TOLERANCE)


@pytest.mark.parametrize("spacing", [None, (3, 1, 1), (2.5, 0.9, 1.1)], ids=str)
def test_weights_of_the_later_form_in_volumes(spacing):
    objects = weight_map.cut_gap(volume(5), one_sided=True)
    object_class = np.r_[0, np.ones(objects.max())].astype(np.uint8)
    expected = brute_weight_map.falk_weights(objects, object_class, 255, spacing)
    assert_allclose(weight_map.falk_weights(objects, spacing=spacing), expected, rtol=0, atol=FALK_TOLERANCE)
