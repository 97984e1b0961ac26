"""Pieces of training images in a model file: which they are, and that int8 is then quantised once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from small_blocks import cut_small
from small_model import make_model
from test_io_large import write_ome_zarr

from ushape import Segmenter, UNet
from ushape.checkpoint import read_tiles, save_model
from ushape.config import Normalization
from ushape.data import Sample, open_dataset
from ushape.io import read_labels
from ushape.predict import files, predict_files
from ushape.predict.typical_tiles import tiles_to_keep
from ushape.training import train

AS_IT_IS = Normalization(kind="fixed", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def image_of_places(number: int, height: int, width: int) -> Sample:
    """An image whose channels tell of each pixel: number of the image, row, column."""
    rows, columns = np.indices((height, width), np.uint16)
    image = np.stack([np.full_like(rows, number), rows, columns])
    return Sample(str(number), image, np.zeros((height, width), np.int32), np.zeros(1, np.uint8))


def geometry():
    with torch.device("meta"):
        return UNet(3).geometry


@pytest.mark.parametrize("count", [1, 3, 8, 20])
def test_pieces_are_windows_of_images_that_are_evenly_spread(count: int) -> None:
    tiles = tiles_to_keep([image_of_places(n, 500, 600) for n in range(count)], AS_IT_IS, geometry())
    assert tiles.shape == (8, 3, 380, 380)  # the largest valid size up to 384
    assert tiles.dtype == np.float16
    places = set()
    for number, rows, columns in tiles.astype(int):
        assert len(np.unique(number)) == 1
        assert (rows == rows[0, 0] + np.arange(380)[:, np.newaxis]).all()
        assert (columns == columns[0, 0] + np.arange(380)).all()
        places.add((number[0, 0], rows[0, 0], columns[0, 0]))
    assert len(places) == 8
    taken = sorted({number for number, _, _ in places})
    assert len(taken) == min(count, 8)
    assert max(np.diff([-1, *taken, count])) <= -(-count // 8) + 1


def test_small_images_go_on_as_their_mirror_images() -> None:
    (tile, *_) = tiles_to_keep([image_of_places(0, 100, 700)], AS_IT_IS, geometry())
    assert tile.shape == (3, 380, 380)
    turn = np.r_[0:100, 98:0:-1]
    np.testing.assert_array_equal(tile[1, :, 0], np.resize(turn, 380))


def blobs(seed: int, side: int = 150) -> np.ndarray:
    """Light and dark areas, which whole numbers can tell apart."""
    noise = np.random.default_rng(seed).standard_normal((side, side))
    return (120 + 900 * gaussian_filter(noise, 6)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model file with pieces; few labels are near enough to the brink to change."""
    monkeypatch.setattr("ushape.backends.quantization.ALLOWED_SHARE", 0.2)
    network, header = make_model()
    with torch.no_grad():  # an edge through the grey values, as a trained network would have it
        network.score.bias += 0.3
    nothing = np.zeros((150, 150), np.int32), np.zeros(1, np.uint8)
    samples = [Sample(str(seed), blobs(seed)[np.newaxis], *nothing) for seed in range(3)]
    tiles = tiles_to_keep(samples, header.normalization, network.geometry)
    save_model(tmp_path / "model.safetensors", network, header, tiles)
    return tmp_path / "model.safetensors"


def test_a_model_with_pieces_is_quantised_once(model: Path) -> None:
    segmenter = Segmenter.load(model, device="cpu")
    first, second = (segmenter(blobs(seed), "int8") for seed in (7, 8))
    assert first.precision == second.precision == "int8"
    assert first.backend is second.backend
    alone = Segmenter.load(model, device="cpu")(blobs(8), "int8")
    np.testing.assert_array_equal(second.probabilities, alone.probabilities)
    assert (second.probabilities != segmenter(blobs(8), "fp32").probabilities).any()
    of_the_image = Segmenter(segmenter.network, segmenter.header, device="cpu")(blobs(8), "int8")
    assert (second.probabilities != of_the_image.probabilities).any()


def test_an_image_in_blocks_is_computed_by_the_same_network(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_small(monkeypatch, 80)
    monkeypatch.setattr(files, "_takes_blocks", lambda *_: True)
    path = write_ome_zarr(tmp_path / "a.zarr", blobs(7), "YX", "0.5")
    (result,) = predict_files(model, [path], tmp_path / "out", precision="int8", device="cpu")
    expected = Segmenter.load(model, device="cpu")(blobs(7), "int8").classes
    np.testing.assert_array_equal(read_labels(result.outputs["classes"]).array, expected)


def test_a_run_keeps_pieces_of_its_training_images_alone(discs: Path, tmp_path: Path) -> None:
    result = train(discs, tmp_path / "run", steps=1, width=2, device="cpu")
    samples, held_out, *_ = open_dataset(discs)
    segmenter = Segmenter.load(result.model, device="cpu")
    expected = tiles_to_keep(samples, segmenter.header.normalization, segmenter.network.geometry)
    for path in (result.model, result.last):
        np.testing.assert_array_equal(read_tiles(path), expected)
    of_others = tiles_to_keep(held_out, segmenter.header.normalization, segmenter.network.geometry)
    assert not any((one == other).all() for one in expected for other in of_others)


def test_a_run_keeps_none_if_it_shall_not(discs: Path, tmp_path: Path) -> None:
    result = train(discs, tmp_path / "run", steps=1, width=2, device="cpu", int8_tiles=False)
    assert read_tiles(result.model) is None
    assert read_tiles(result.last) is None
