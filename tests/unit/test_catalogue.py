"""What `ushape models` and `ushape info` say of networks with an encoder."""

import sys

import pytest
from rich.console import Console
from small_encoder import Pyramid

from ushape import EncoderUNet
from ushape.config import EncoderUNetConfig
from ushape.models.encoder_summary import cost, draw_encoder
from ushape.training import catalogue


def test_the_extra_is_named_below_the_list_of_networks(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    console = Console(width=100)
    with console.capture() as screen:
        console.print(catalogue.render())
    assert "encoders need timm: pip install -c constraints.txt 'ushape[encoders]'" in screen.get()


def test_the_summary_tells_how_far_the_network_looks():
    assert f"\n{'halo':<22}286 px: " in draw_encoder(EncoderUNetConfig(encoder="resnet18"))
    text = draw_encoder(EncoderUNetConfig(encoder="mobilenetv3_small_100"))
    assert f"\n{'halo':<22}none: layer `encoder.model.blocks.0.0.se` looks at the whole image" in text


def test_the_cost_of_a_network_is_what_one_counts_by_hand():
    network = EncoderUNet(Pyramid(in_channels=1), in_channels=1, classes=2, width=2).eval()
    # Multiplications per pixel of the image. Maps: 1/1 (the stem's), 1/3 and 1/6; width 2, 6 at 1/3.
    encoder = 1 * 5 * 9 / 9 + 5 * 7 * 9 / 36
    stem = (1 * 2 + 2 * 2) * 9
    lower = 7 * 6 * 4 / 36 + ((5 + 6) * 6 + 6 * 6) * 9 / 9
    upper = 6 * 2 * 9 / 9 + ((2 + 2) * 2 + 2 * 2) * 9
    found = cost(network)
    assert found.gflop_per_megapixel == pytest.approx(2 * (encoder + stem + lower + upper + 2 * 2) / 1e3)
    assert found.encoder_parameters == (1 * 9 + 1) * 5 + (5 * 9 + 1) * 7
    assert found.parameters == sum(weight.numel() for weight in network.parameters())
