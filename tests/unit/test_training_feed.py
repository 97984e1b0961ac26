"""Batches: the same whoever makes them, and wherever."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ushape import UNet
from ushape.augment import GreyValues
from ushape.config import Normalization
from ushape.data import Sample
from ushape.errors import ConfigError
from ushape.training import train
from ushape.training.device_tiles import fits_on
from ushape.training.feed import TileData
from ushape.training.recipe import FAST, Recipe
from ushape.training.tiles import TileDataset

CPU = torch.device("cpu")
STILL = FAST.model_copy(update={"grey": GreyValues(), "tile": 108, "tiles": 3})


def sample(seed: int, shape: tuple[int, int], kinds: int = 1) -> Sample:
    """Two channels of noise, and touching objects of an id each, of so many classes."""
    rng = np.random.default_rng(seed)
    objects = (1 + np.arange(shape[0])[:, None] // 20 * 10 + np.arange(shape[1]) // 20).astype(np.int32)
    objects[rng.uniform(size=shape) < 0.2] = 0
    classes = (1 + np.arange(objects.max() + 1) % kinds).astype(np.uint8)
    classes[0] = 0
    return Sample(f"s{seed}", rng.normal(size=(2, *shape)).astype(np.float32), objects, classes)


def batches(recipe: Recipe, augment_on: str, workers: int = 0, count: int = 4, classes: int = 2) -> list:
    dataset = TileDataset(
        [sample(0, (110, 130), classes - 1), sample(1, (150, 120), classes - 1)],
        recipe,
        UNet(width=1, depth=2).geometry,
        Normalization(),
        seed=3,
    )
    feed = TileData(dataset, workers=workers, device=CPU, augment_on=augment_on)
    loader = iter(feed.train_dataloader())
    return [feed.on_after_batch_transfer(next(loader), 0) for _ in range(count)]


@pytest.mark.parametrize(("separate", "classes"), [(None, 2), (False, 2), (None, 3), (True, 3)])
def test_plain_tiles_are_the_same_on_the_device(separate: bool | None, classes: int) -> None:
    recipe = STILL.model_copy(update={"plain": 1.0, "separate": separate})
    both = (batches(recipe, where, classes=classes) for where in ("cpu", "device"))
    for made, on_device in zip(*both, strict=True):
        assert int(made["classes"].max()) == classes - 1
        assert made["number"] == on_device["number"]
        assert torch.equal(made["classes"], on_device["classes"])
        # Rounding of float32 and float64, see test_weight_map_on_device.py and test_augment_on_device.py.
        torch.testing.assert_close(on_device["weights"], made["weights"], rtol=2e-6, atol=1e-6)
        torch.testing.assert_close(on_device["image"], made["image"], rtol=0, atol=2e-4)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_deformed_tiles_are_the_same_up_to_32nds_of_a_pixel(interpolation: str) -> None:
    recipe = STILL.model_copy(update={"plain": 0.0, "interpolation": interpolation})
    for made, on_device in zip(batches(recipe, "cpu"), batches(recipe, "device"), strict=True):
        differ = (made["classes"] != on_device["classes"]).float().mean()
        # One id of an edge in 20,000 pixels cuts another gap around itself.
        assert differ < 1e-3
        # White noise of standard deviation 1, coordinates off by up to 1/64 px: measured 0.019.
        assert (made["image"] - on_device["image"]).std() < 0.03
        assert made["image"].shape == on_device["image"].shape == (3, 2, 108, 108)


def test_spline_grid_and_class_power_reach_the_device() -> None:
    changes = {"spline": "approximating", "grid": 7, "class_power": 0.0, "border_w0": 0.0, "plain": 0.5}
    recipe, usual = STILL.model_copy(update=changes), STILL.model_copy(update={"plain": 0.5})
    made, on_device, other = batches(recipe, "cpu"), batches(recipe, "device"), batches(usual, "device")
    for here, there in zip(made, on_device, strict=True):
        # As in the test above; plain tiles, whose grid is 3 x 3, are in the same batches.
        assert (here["classes"] != there["classes"]).float().mean() < 1e-3
        assert (here["image"] - there["image"]).std() < 0.03
        assert torch.all(here["weights"] == 1)
        assert torch.all(there["weights"] == 1)
    moved = [float((a["image"] - b["image"]).std()) for a, b in zip(on_device, other, strict=True)]
    assert max(moved) > 0.1


@pytest.mark.parametrize("augment_on", ["cpu", "device"])
def test_a_tile_is_the_same_in_any_batch(augment_on: str) -> None:
    noisy = STILL.model_copy(update={"grey": GreyValues(noise=0.5), "plain": 0.5})
    threes = batches(noisy, augment_on)
    ones = batches(noisy.model_copy(update={"tiles": 1}), augment_on, count=12)
    for key in ("image", "classes", "weights"):
        together = torch.cat([batch[key] for batch in threes])
        # A product of matrices may round the last bit of a float64 differently in another batch.
        tolerance = 1e-4 if key == "image" else 0
        torch.testing.assert_close(together, torch.cat([one[key] for one in ones]), rtol=0, atol=tolerance)


def test_what_is_fed_does_not_depend_on_the_workers_and_the_cpu_feeds_itself(
    discs: Path, tmp_path: Path
) -> None:
    assert TileData(None, workers=None, augment_on="cpu").workers == 0  # type: ignore[arg-type]
    options = {"steps": 2, "width": 2, "device": "cpu", "augment_on": "device"}
    models = [
        train(discs, tmp_path / f"device-{workers}", workers=workers, **options).model.read_bytes()
        for workers in (0, 1)
    ]
    assert models[0] == models[1]
    other = train(discs, tmp_path / "by-opencv", **{**options, "augment_on": "cpu"}).model.read_bytes()
    assert other != models[0]


def test_a_place_that_is_not_known_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=re.escape("augment_on must be 'auto', 'cpu' or 'device', got 'gpu'")
    ):
        TileData(None, augment_on="gpu")  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match="augment_on 'device': tiles are made in float64, which mps has not"
    ):
        TileData(None, augment_on="device", device=torch.device("mps"))  # type: ignore[arg-type]


def test_the_later_form_of_the_weights_is_made_on_the_cpu() -> None:
    falk = STILL.model_copy(update={"border": "falk"})
    geometry = UNet(width=1, depth=2).geometry
    dataset = TileDataset([sample(0, (110, 130))], falk, geometry, Normalization(), seed=3)
    assert not fits_on(torch.device("cuda"), dataset)  # without asking for its memory
    tiles = batches(falk, "auto", count=1)[0]
    assert torch.all(tiles["weights"][tiles["classes"] == 1] == 1)
    with pytest.raises(ConfigError, match="tiles with border 'falk' are made on the CPU only"):
        batches(falk, "device")
