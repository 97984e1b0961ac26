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
