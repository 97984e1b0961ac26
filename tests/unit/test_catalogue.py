"""What `ushape models` and `ushape info` say of networks with an encoder."""

import sys

from rich.console import Console

from ushape.config import EncoderUNetConfig
from ushape.models.encoder_summary import draw_encoder
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
