"""In what a network is trained: what was asked for, and what the processor has."""

from pathlib import Path

import pytest
import torch

from ushape import UNet
from ushape.backends import PyTorchBackend, training_format
from ushape.checkpoint import load_model
from ushape.training import train


@pytest.fixture(autouse=True)
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that multiplies bfloat16; on others PyTorch does the same more slowly."""
    monkeypatch.setattr("ushape.backends.pytorch.cpu_has_bf16", lambda: True)


def test_steps_are_computed_in_the_precision_asked_for(
    discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"width": 2, "device": "cpu", "seed": 3}
    weights, told = {}, {}
    for precision in ("auto", "fp32", "bf16"):
        last = train(discs, tmp_path / precision, steps=1, precision=precision, **options).last
        network, header = load_model(last)
        weights[precision] = torch.cat([weight.flatten() for weight in network.parameters()])
        told[precision] = header.provenance["precision"]
    assert told == {"auto": "bf16", "fp32": "fp32", "bf16": "bf16"}
    assert torch.equal(weights["auto"], weights["bf16"])
    assert 0 < (weights["fp32"] - weights["bf16"]).abs().max() < 0.01

    capsys.readouterr()
    train(discs, tmp_path / "bf16", steps=2, precision="fp32", resume=True, quiet=False, **options)
    assert "trained in bf16 until now, goes on in fp32\n" in capsys.readouterr().out
    train(discs, tmp_path / "fp32", steps=2, precision="fp32", resume=True, quiet=False, **options)
    assert "until now" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("precision", "layout"), [("fp32", torch.contiguous_format), ("bf16", torch.channels_last)]
)
def test_maps_follow_the_layout_of_the_weights(precision: str, layout: torch.memory_format) -> None:
    network = UNet(3, width=2, depth=1)
    backend = PyTorchBackend(network, "cpu", precision)
    assert training_format(backend) == layout
    network.train().to(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        assert network(torch.randn(2, 3, 28, 28)).is_contiguous(memory_format=layout)
