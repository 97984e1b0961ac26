"""What `predict` writes of OME-Zarr is scored as any other file: alone, in folders, beside TIFF and PNG."""

import json
from pathlib import Path

import numpy as np
import pytest

from files_to_score import cells, noisy, png, predicted, squares, stack
from ushape import io
from ushape.errors import DataError
from ushape.evaluate import evaluate

TRUE = squares((2, 2), (2, 12), (12, 2))
FOUND = np.where(TRUE == 3, 0, TRUE).astype(np.uint16)


def store(path: Path, array: np.ndarray, axes: str, version: str = "0.5") -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    chunks = (1,) * (array.ndim - 2) + (16, 16)
    io.create_store(path, axes, array.shape, array.dtype, chunks, version=version)[0][:] = array
    return path


@pytest.fixture(params=["0.4", "0.5"])
def out(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Results of `a.ome.zarr`: two of three objects are found. In `tiff` are those of an equal TIFF."""
    p = (0.1 + 0.8 * (FOUND > 0)).astype(np.float32)
    arrays = {
        "classes": ((FOUND > 0).astype(np.uint8), "YX"),
        "instances": (FOUND, "YX"),
        "probabilities": (np.stack([1 - p, p]), "CYX"),
    }
    folder = tmp_path / "out"
    for kind, (array, axes) in arrays.items():
        store(folder / f"a_{kind}.ome.zarr", array, axes, request.param)
    (folder / "a.json").write_text(json.dumps({"image": {"file": str(tmp_path / "image" / "a.ome.zarr")}}))
    predicted(tmp_path / "tiff" / "a_classes.tif", FOUND > 0)
    io.write_instances(tmp_path / "tiff" / "a_instances.tif", FOUND)
    io.write_probabilities(tmp_path / "tiff" / "a_probabilities.tif", np.stack([1 - p, p]))
    stack(tmp_path / "truth" / "a.tif", TRUE)
    return folder


@pytest.mark.parametrize("kind", ["classes", "instances", "probabilities"])
def test_a_store_is_scored_as_the_equal_tiff(tmp_path, out, kind):
    truth = tmp_path / "truth" / "a.tif"
    found = evaluate(out / f"a_{kind}.ome.zarr", truth)
    assert found.scores == evaluate(tmp_path / "tiff" / f"a_{kind}.tif", truth).scores
    assert [place.name for place in found.places] == ["a"]
    same = store(tmp_path / "stores" / "a.ome.zarr", TRUE, "YX")
    assert evaluate(out / f"a_{kind}.ome.zarr", same).scores == found.scores


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.zarr", "a.ome.zarr"])
def test_a_folder_of_stores_pairs_by_stem(tmp_path, out, name):
    """Of several kinds of results that is taken which fits, as it is of files."""
    (tmp_path / "truth" / "a.tif").unlink()
    truth = tmp_path / "truth" / name
    {".tif": stack, ".png": png}.get(truth.suffix, lambda path, ids: store(path, ids, "YX"))(truth, TRUE)
    evaluation = evaluate(out, tmp_path / "truth")
    assert [place.name for place in evaluation.places] == ["a"]
    assert evaluation.pairs.how == "by equal stems"
    assert evaluation.pairs.pairs[0].prediction.name == "a_instances.ome.zarr"
    assert evaluation.scores["ap_0.50"] == 2 / 3
    pixels = evaluate(out, tmp_path / "truth", metrics=["dice", "pixel_error"])
    assert pixels.pairs.pairs[0].prediction.name == "a_probabilities.ome.zarr"
    assert pixels.scores["dice"] == pytest.approx(2 * 72 / (72 + 108))


def test_planes_of_a_store(tmp_path):
    truth = cells(planes=3)
    p = noisy(truth)
    both = np.stack([1 - p, p])  # (C, Z, H, W)
    store(tmp_path / "a_probabilities.ome.zarr", both, "CZYX")
    io.write_probabilities(tmp_path / "b_probabilities.tif", both.swapaxes(0, 1))
    store(tmp_path / "a.ome.zarr", truth.astype(np.uint8), "ZYX")
    stack(tmp_path / "b.tif", truth.astype(np.uint8))
    found = evaluate(tmp_path / "a_probabilities.ome.zarr", tmp_path / "a.ome.zarr")
    assert found.scores == evaluate(tmp_path / "b_probabilities.tif", tmp_path / "b.tif").scores
    assert [place.name for place in found.places] == ["a[0]", "a[1]", "a[2]"]


def test_the_store_that_was_segmented_is_found(tmp_path, out):
    picture = np.arange(TRUE.size, dtype=np.uint16).reshape(TRUE.shape)
    truth = tmp_path / "truth"
    assert evaluate(out, truth).image(0) is None
    store(tmp_path / "image" / "a.ome.zarr", picture, "YX")
    np.testing.assert_array_equal(evaluate(out, truth).image(0), picture[np.newaxis])
    (out / "a.json").unlink()
    masks = truth.rename(tmp_path / "masks")
    store(tmp_path / "images" / "a.ome.zarr", picture + 1, "YX")
    np.testing.assert_array_equal(evaluate(out, masks).image(0), picture[np.newaxis] + 1)


def test_a_store_is_no_folder_of_images(tmp_path, out):
    with pytest.raises(DataError, match=r"a_classes\.ome\.zarr is a file but .*truth a folder"):
        evaluate(out / "a_classes.ome.zarr", tmp_path / "truth")
