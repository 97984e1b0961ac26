"""Outlines along the edges of pixels: shapely finds area, pixels and valid rings; GeoJSON for QuPath."""

import json

import numpy as np
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from shapely.geometry import shape as geometry_of

from ushape.config import ClassInfo
from ushape.errors import OutputError
from ushape.instances import features, measure, outlines, polygons
from ushape.io import write_geojson

CLASSES = (
    ClassInfo(name="background", value=0, color=(0, 0, 0)),
    ClassInfo(name="cell", value=255, color=(255, 80, 0)),
    ClassInfo(name="debris", value=7, color=(0, 80, 255)),
)


def drawn(*lines: str) -> np.ndarray:
    return np.array([[0 if mark == " " else int(mark) for mark in line] for line in lines])


def require_exact(ids: np.ndarray) -> None:
    """Each outline is valid, has the area of its object, and contains the centres of its pixels alone."""
    found = polygons(ids)
    assert list(found) == list(dict.fromkeys(ids[ids > 0].tolist()))
    y, x = np.indices(ids.shape) + 0.5
    for number, parts in found.items():
        shape = shapely.MultiPolygon([(rings[0], rings[1:]) for rings in parts])
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area == np.count_nonzero(ids == number)
        np.testing.assert_array_equal(shapely.contains_xy(shape, x, y), ids == number)
        for polygon in shape.geoms:
            assert polygon.exterior.is_ccw
            assert not any(hole.is_ccw for hole in polygon.interiors)
    for rings in (rings for parts in found.values() for rings in parts):
        for ring in rings:
            assert ring[0] == ring[-1]
            turns = np.diff(ring, axis=0)
            assert (turns.astype(bool).sum(1) == 1).all(), "along rows and columns"
            assert (turns[:-1].astype(bool) != turns[1:].astype(bool)).all(), "only corners are listed"


@pytest.mark.parametrize(
    "ids",
    [
        drawn("1"),
        drawn("11", "1 "),
        drawn("111", "1 1", "111"),
        drawn("1111", "1 11", "11 1", "1111"),  # two holes that meet at a corner
        drawn("11 ", "1 1", "111"),  # a hole that meets the outer ring at a corner
        drawn("111", "1 1", "11 "),
        drawn(" 1 ", "1 1", " 1 "),  # four parts around nothing
        drawn("11111", "1   1", "1 1 1", "1   1", "11111"),  # a part in a hole
        drawn("11111", "11  1", "1 1 1", "1  11", "11111"),  # a part in a hole, which it meets at corners
        drawn("12", "21"),
        drawn("1122", "1322", "1332"),
        np.zeros((3, 3), int),
        np.ones((3, 4), np.uint16),
    ],
)
def test_drawn_objects(ids):
    require_exact(ids)


PLANES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@given(arrays(np.uint16, PLANES, elements=st.sampled_from([0, 1])))
@example(np.indices((12, 12)).sum(0).astype(np.uint16) % 2)
def test_random_pixels(ids):
    require_exact(ids)


@given(arrays(np.int32, PLANES, elements=st.sampled_from([0, 1, 2, 9])))
def test_random_objects_that_touch(ids):
    require_exact(ids)


@pytest.mark.data
def test_real_objects(data_dir):
    for path in sorted((data_dir / "dsb2018" / "masks").iterdir())[::100]:
        require_exact(np.asarray(Image.open(path)).astype(np.int32))


def test_parts_of_an_object_are_polygons_of_their_own():
    found = polygons(drawn("1 1", " 1 "))
    assert [len(parts) for parts in found.values()] == [3]
    assert found[1][0] == [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]


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


# GeoJSON


def features_of(ids: np.ndarray, **options: object) -> list[dict]:
    classes = np.where(ids > 1, 2, 1)
    return list(features(ids, measure(ids, classes=classes, pixel_size_um=(0.5, 0.5)), CLASSES, **options))


def test_a_feature_is_a_detection_of_qupath():
    first, second = features_of(drawn("11 2"))
    assert first == {
        "type": "Feature",
        "id": 1,
        "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 1], [0, 1], [0, 0]]]},
        "properties": {
            "objectType": "detection",
            "name": "1",
            "classification": {"name": "cell", "color": [255, 80, 0]},
            "measurements": [
                {"name": "centroid_y", "value": 0.0},
                {"name": "centroid_x", "value": 0.5},
                {"name": "area_px", "value": 2},
                {"name": "perimeter_px", "value": 0.0},
                {"name": "eccentricity", "value": 1.0},
                {"name": "centroid_y_um", "value": 0.25},
                {"name": "centroid_x_um", "value": 0.5},
                {"name": "area_um2", "value": 0.5},
                {"name": "perimeter_um", "value": 0.0},
                {"name": "eccentricity_um", "value": 1.0},
            ],
        },
    }
    assert second["id"] == 2
    assert second["properties"]["classification"] == {"name": "debris", "color": [0, 80, 255]}


def test_the_plane_of_a_stack_is_where_qupath_looks_for_it():
    (feature,) = features_of(drawn("1"), plane=3)
    assert feature["geometry"]["plane"] == {"c": -1, "z": 3, "t": 0}


def test_several_parts_become_a_multipolygon():
    one, other = features_of(drawn("1 2", " 12"))
    assert (one["geometry"]["type"], other["geometry"]["type"]) == ("MultiPolygon", "Polygon")
    assert geometry_of(one["geometry"]).area == 2


def test_a_file_of_features_is_read_back(tmp_path):
    ids = drawn("111 ", "1 12", "111 ")
    write_geojson(tmp_path / "a.geojson", features_of(ids))
    text = (tmp_path / "a.geojson").read_text()
    content = json.loads(text)
    assert list(content) == ["type", "features"]
    assert content == {"type": "FeatureCollection", "features": features_of(ids)}
    assert len(text.splitlines()) == 4, "a line per feature"
    collection = shapely.from_geojson(text)
    assert [one.area for one in collection.geoms] == [8, 1]


def test_no_object_is_an_empty_collection(tmp_path):
    write_geojson(tmp_path / "a.geojson", [])
    assert json.loads((tmp_path / "a.geojson").read_text()) == {"type": "FeatureCollection", "features": []}


def test_half_a_file_is_never_left(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_geojson(tmp_path / "a.geojson", [{"value": 1.0}, {"value": float("nan")}])
    assert not list(tmp_path.iterdir())
    (tmp_path / "b.geojson").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*b\.geojson"):
        write_geojson(tmp_path / "b.geojson", [])
