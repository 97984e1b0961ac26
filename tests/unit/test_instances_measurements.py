"""Measurements: equal to those of scikit-image, on drawn, random and real objects; in micrometres by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from skimage.measure import regionprops_table

from ushape.instances import measure
from ushape.instances.measurements import has_square_pixels

PROPERTIES = {
    "label": "id",
    "centroid-0": "centroid_y",
    "centroid-1": "centroid_x",
    "bbox-0": "top",
    "bbox-1": "left",
    "bbox-2": "bottom",
    "bbox-3": "right",
    "area": "area_px",
    "perimeter": "perimeter_px",
    "eccentricity": "eccentricity",
}


def require_equal_to_skimage(ids: np.ndarray, image: np.ndarray | None = None) -> None:
    """Every column that scikit-image has, too."""
    names = ["label", "centroid", "bbox", "area", "perimeter", "eccentricity"]
    expected = regionprops_table(ids.astype(np.int64), properties=names)
    found = measure(ids, image=image)
    for theirs, ours in PROPERTIES.items():
        # Sums in another order; scikit-image's eccentricity of a circle is the root of a rounding error.
        tolerance = 1e-7 if theirs == "eccentricity" else 1e-10
        np.testing.assert_allclose(found[ours], expected[theirs], rtol=1e-12, atol=tolerance, err_msg=ours)
    for channel, values in enumerate([] if image is None else image):
        names = ["intensity_mean", "intensity_min", "intensity_max"]
        expected = regionprops_table(ids.astype(np.int64), values, properties=names)
        end = "" if len(image) == 1 else f"_{channel}"
        for name in names:
            # scikit-image sums float32 in float32.
            tolerance = 1e-6 if values.dtype.kind == "f" else 1e-12
            np.testing.assert_allclose(found[f"{name}{end}"], expected[name], rtol=tolerance)


SIZES = st.tuples(st.integers(1, 20), st.integers(1, 20))


@given(arrays(np.uint16, SIZES, elements=st.sampled_from([0, 1, 2, 5])))
def test_random_objects_in_pieces(ids):
    if ids.any():  # without an object, scikit-image gives columns of no type
        require_equal_to_skimage(ids)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_grey_values_of_the_file(channels, dtype):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 6, (30, 40)).astype(np.uint32)
    image = (rng.random((channels, 30, 40)) * 250).astype(dtype)
    require_equal_to_skimage(ids, image)
    found = measure(ids, image=image)
    name = "intensity_max" if channels == 1 else "intensity_max_2"
    assert found[name].dtype == dtype


@pytest.mark.data
def test_real_objects(data_dir):
    for path in sorted((data_dir / "dsb2018" / "masks").iterdir())[::60]:
        ids = np.asarray(Image.open(path)).astype(np.int32)
        image = np.asarray(Image.open(data_dir / "dsb2018" / "images" / path.name).convert("L"))[np.newaxis]
        require_equal_to_skimage(ids, image)


def test_columns_of_a_drawn_object():
    ids = np.array([[0, 0, 0, 0], [0, 7, 7, 7], [0, 7, 0, 0]])
    classes = np.array([[9] * 4, [9, 2, 1, 1], [9, 1, 9, 9]])
    found = measure(ids, classes=classes, image=np.arange(12).reshape(1, 3, 4))
    assert {name: values.tolist() for name, values in found.items()} == {
        "id": [7],
        "class": [2],  # that of the first pixel
        "centroid_y": [1.25],
        "centroid_x": [1.75],
        "top": [1],
        "left": [1],
        "bottom": [3],
        "right": [4],
        "area_px": [4],
        "perimeter_px": [pytest.approx(2 + (1 + 2**0.5) / 2)],
        "eccentricity": [pytest.approx((5 / 6) ** 0.5)],
        "intensity_mean": [6.75],
        "intensity_min": [5],
        "intensity_max": [9],
    }


def test_micrometres_are_from_the_corner_of_the_image():
    found = measure(np.array([[0, 0], [0, 1]]), pixel_size_um=(0.5, 0.5))
    um = {name: values.tolist() for name, values in found.items() if "_um" in name}
    assert um == {
        "centroid_y_um": [0.75],
        "centroid_x_um": [0.75],
        "top_um": [0.5],
        "left_um": [0.5],
        "bottom_um": [1.0],
        "right_um": [1.0],
        "area_um2": [0.25],
        "perimeter_um": [0.0],
        "eccentricity_um": [0.0],
    }


def test_shapes_in_micrometres_are_those_of_scikit_image():
    ids = np.pad(np.random.default_rng(1).integers(0, 3, (20, 30)), 2)
    for size in ((0.3, 0.3), (0.25, 0.5)):
        names = ["area", "eccentricity", "centroid", *(["perimeter"] if size[0] == size[1] else [])]
        expected = regionprops_table(ids, properties=names, spacing=size)
        found = measure(ids, pixel_size_um=size)
        np.testing.assert_allclose(found["area_um2"], expected["area"], rtol=1e-12)
        np.testing.assert_allclose(found["eccentricity_um"], expected["eccentricity"], rtol=1e-9)
        # scikit-image measures from the centre of the first pixel.
        np.testing.assert_allclose(found["centroid_x_um"], expected["centroid-1"] + size[1] / 2, rtol=1e-12)
        for side, step in (("top", size[0]), ("left", size[1]), ("bottom", size[0]), ("right", size[1])):
            np.testing.assert_array_equal(found[f"{side}_um"], found[side] * step)
        assert ("perimeter_um" in found) == ("perimeter" in expected)
        if "perimeter" in expected:
            np.testing.assert_allclose(found["perimeter_um"], expected["perimeter"], rtol=1e-12)


def test_a_disc_in_pixels_that_are_not_square_is_round_in_micrometres():
    y, x = np.indices((41, 81))
    ids = ((y - 20) ** 2 + ((x - 40) / 2) ** 2 < 15**2).astype(int)
    found = measure(ids, pixel_size_um=(1.0, 0.5))
    assert found["eccentricity"][0] == pytest.approx(3**0.5 / 2, abs=0.01)  # axes 1 : 2
    assert found["eccentricity_um"][0] < 0.2  # axes equal within 2 %
    assert "perimeter_um" not in found


@pytest.mark.parametrize(
    ("size", "is_square"), [((1, 1), True), ((0.325, 0.3251), True), ((0.2, 0.21), False)]
)
def test_pixels_that_are_square_but_for_rounding(size, is_square):
    assert has_square_pixels(size) == is_square


@pytest.mark.parametrize("shape", [(1, 1), (3, 4)])
def test_no_object(shape):
    ids = np.zeros(shape, np.uint16)
    found = measure(ids, classes=ids, image=np.zeros((2, *shape), np.uint8), pixel_size_um=(1, 1))
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(found, 0)
    assert {"id", "class", "perimeter_um", "intensity_mean_1"} <= set(found)


def test_an_object_of_one_pixel_and_a_line():
    found = measure(np.array([[1, 0, 2, 2, 2, 2]]))
    assert found["eccentricity"].tolist() == [0, 1]
    assert found["perimeter_px"].tolist() == [0, 2]
