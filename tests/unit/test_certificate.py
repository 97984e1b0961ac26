"""The certificate: exact networks pass, whatever makes tiles differ from the whole image does not."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small_model import make_model
from torch import Tensor, nn

from ushape import UNet, certify
from ushape.backends.openvino import openvino_pays
from ushape.checkpoint import save_model
from ushape.config import EncoderUNetConfig
from ushape.errors import CheckpointError, ConfigError, TilingError
from ushape.models import EncoderUNet, Ensemble


def network(**options: object) -> UNet:
    torch.manual_seed(1)
    return UNet(**{"width": 2, "depth": 2, **options}).eval()  # type: ignore[arg-type]


class Centred(nn.Module):
    """Subtracts the mean of the tile: statistics per tile, by a name that nobody knows."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    "net",
    [
        network(depth=1),
        network(depth=4, in_channels=3, classes=3),
        network(norm="batch"),
        network(shrink=4),
        Ensemble([network(), network(variant="released")]),
    ],
    ids=["depth 1", "depth 4", "batch norm", "half size twice", "ensemble"],
)
def test_exact_networks_pass(net: nn.Module) -> None:
    found = certify(net, images=3)  # type: ignore[arg-type]
    assert found.is_exact
    assert (found.images, found.tiles) == (3, 12)
    assert (found.margin, found.period) == (net.geometry.margin, net.geometry.period)
    assert {*found.differences} == {"fp32", "fp64", *(["fp32 openvino"] if openvino_pays() else [])}
    assert found.misaligned > 0.05
    assert found.render().endswith("\ntiles equal the whole image")


def test_what_looks_at_the_whole_tile_fails() -> None:
    net = network()
    net.expanding[0].append(Centred())
    found = certify(net, images=3)
    assert not found.is_exact
    assert min(found.differences.values()) > 1e-3
    assert found.render().count("FAIL") == len(found.differences)
    assert found.render().endswith("\nTILES DO NOT EQUAL THE WHOLE IMAGE")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_fails(value: float) -> None:
    net = network()
    nn.init.constant_(net.score.bias, value)
    assert not certify(net, images=1).is_exact


def test_a_layer_of_statistics_per_tile_is_refused_by_name() -> None:
    net = network()
    net.expanding[0].append(nn.GroupNorm(1, 2))
    with pytest.raises(TilingError, match=r"GroupNorm `expanding\.0\.\d` computes its statistics per tile"):
        certify(net)


def test_a_network_that_looks_at_all_of_an_image_has_no_tiles_to_certify() -> None:
    config = EncoderUNetConfig(encoder="mobilenetv3_small_050", in_channels=1, classes=2, width=4)
    with pytest.raises(TilingError, match=r"layer `.*se.*` looks at the whole image .* no tiles to certify"):
        certify(EncoderUNet.from_config(config).eval())


def test_equal_seeds_compare_the_same() -> None:
    one, other, third = (certify(network(), images=2, seed=seed) for seed in (5, 5, 6))
    assert one == other != third


def test_without_time_three_images_are_compared_and_progress_reaches_the_end() -> None:
    shares: list[float] = []
    found = certify(network(), seconds=1e-9, progress=lambda done, share: shares.append(share))
    assert found.images == len(shares) == 3
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_file_is_measured_as_its_network(tmp_path: Path) -> None:
    net, header = make_model()
    save_model(tmp_path / "model.safetensors", net, header)
    assert certify(tmp_path / "model.safetensors", images=2) == certify(net, images=2)
    with pytest.raises(CheckpointError, match="no such model file"):
        certify(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("options", [{"seed": -1}, {"images": 0}])
def test_impossible_numbers_are_refused(options: dict[str, int]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ConfigError, match=re.escape(f"{name} {value}")):
        certify(network(), **options)  # type: ignore[arg-type]
