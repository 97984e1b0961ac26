"""The network equals an independent NumPy implementation of the paper, and of the released variant."""

import numpy as np
import pytest
import torch
from numpy_unet import layer_names, unet
from unet_weights import by_layer, randomized

from ushape import UNet


def assert_equal_to_numpy(network: UNet, *, height: int, width: int, images: int = 1) -> None:
    network = randomized(network.double().eval())
    image = np.random.default_rng(1).normal(size=(images, network.in_channels, height, width))
    with torch.inference_mode():
        got = network(torch.from_numpy(image)).numpy()
    for logits, tile in zip(got, image, strict=True):
        expected = unet(tile, by_layer(network), depth=network.depth, released=network.variant == "released")
        assert logits.shape == expected.shape
        assert np.abs(logits - expected).max() <= 1e-10 * np.abs(expected).max()


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize(("height", "width"), [(188, 188), (204, 236), (252, 188)])
def test_four_levels_equal_numpy(variant, height, width):
    assert_equal_to_numpy(UNet(width=4, variant=variant), height=height, width=width)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_other_depths_equal_numpy(variant, depth):
    network = UNet(width=3, depth=depth, variant=variant)
    small, period = network.geometry.smallest, network.geometry.period
    assert_equal_to_numpy(network, height=small + period, width=small)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize(("in_channels", "classes"), [(1, 1), (3, 5), (2, 20)])
def test_other_channels_and_classes_equal_numpy(variant, in_channels, classes):
    network = UNet(in_channels, classes, width=4, depth=2, variant=variant)
    assert_equal_to_numpy(network, height=60, width=44, images=2)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_full_width_equals_numpy(variant):
    assert_equal_to_numpy(UNet(variant=variant), height=204, width=188)


def test_every_weight_has_a_layer_of_the_paper():
    network = UNet(width=1)
    arrays = by_layer(network)
    assert list(arrays) == [f"{layer}.{kind}" for layer in layer_names() for kind in ("weight", "bias")]
    assert sum(array.size for array in arrays.values()) == sum(p.numel() for p in network.parameters())
