"""The model file: exact round trip, equal bytes for equal models, one line for every wrong file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from ushape import UNet
from ushape.checkpoint import load_model, model_hash, read_header, read_tiles, save_model
from ushape.config import ClassInfo, ModelHeader, UNetConfig
from ushape.errors import CheckpointError

HEADER = ModelHeader(
    name="small",
    architecture=UNetConfig(in_channels=2, classes=3, width=4, depth=2, norm="batch"),
    classes=tuple(ClassInfo(name=n, value=i, color=(i, i, i)) for i, n in enumerate("abc")),
    provenance={"seed": 7},
)


def network() -> UNet:
    torch.manual_seed(0)
    return UNet(2, 3, width=4, depth=2, norm="batch")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, network(), HEADER)
    return path


def test_round_trip_is_exact(model: Path) -> None:
    loaded, header = load_model(model)
    assert header == HEADER
    assert not loaded.training
    for name, tensor in network().state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_has_the_dtype_of_its_file(tmp_path: Path, dtype: torch.dtype) -> None:
    expected = network().to(dtype)
    save_model(tmp_path / "model.safetensors", expected, HEADER)
    loaded = load_model(tmp_path / "model.safetensors")[0]
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)


def test_reading_a_model_draws_no_weights(model: Path) -> None:
    before = torch.get_rng_state()
    loaded, _ = load_model(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert {parameter.device.type for parameter in loaded.parameters()} == {"cpu"}


def test_equal_models_give_equal_bytes(model: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    save_model(again, network(), HEADER)
    assert model_hash(model) == model_hash(again)
    assert model.read_bytes() == again.read_bytes()


def test_tiles_are_kept_beside_the_weights(model: Path, tmp_path: Path) -> None:
    tiles = np.random.default_rng(0).standard_normal((3, 2, 20, 28)).astype(np.float16)
    path = tmp_path / "with-tiles.safetensors"
    save_model(path, network(), HEADER, tiles)
    np.testing.assert_array_equal(read_tiles(path), tiles)
    assert read_tiles(model) is None
    loaded, header = load_model(path)
    assert header == HEADER
    for name, tensor in load_model(model)[0].state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)


def test_nothing_is_left_beside_the_file(model: Path) -> None:
    assert [path.name for path in model.parent.iterdir()] == ["model.safetensors"]


def rewritten(model: Path, change: dict[str, object], tensors: dict[str, torch.Tensor] | None = None) -> None:
    content = HEADER.model_dump(mode="json") | change
    state = network().state_dict() if tensors is None else tensors
    model.write_bytes(safetensors.torch.save(state, metadata={"ushape": json.dumps(content)}))


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in network().state_dict().items() if key != name}


@pytest.mark.parametrize(
    ("change", "tensors", "message"),
    [
        ({"format": "ushape/9"}, None, "model format 'ushape/9'; this version of ushape reads 'ushape/1'"),
        ({"surprise": 1}, None, "the model header is wrong at `surprise`"),
        ({"architecture": {"kind": "unet", "width": 0}}, None, "`architecture.width`"),
        (
            {"normalization": {"kind": "fixed"}},
            None,
            "wrong at `normalization`: kind 'fixed' needs mean and std",
        ),
        (
            {"normalization": {"kind": "fixed", "mean": [1, 2, 3], "std": [1, 1, 1]}},
            None,
            "3 numbers for 2 channels",
        ),
        ({"members": 2}, None, "the weights have `contracting.0.0.weight`"),
        ({"members": 1000}, None, "the model header is wrong at `members`"),
        ({"temperature": 0}, None, "wrong at `temperature`: Input should be greater than 0"),
        ({"class_bias": [0.5, -0.5]}, None, "wrong at `class_bias`: 2 numbers for 3 classes"),
        ({"object_diameter_px": -1}, None, "wrong at `object_diameter_px`"),
        ({}, without("score.bias"), "the weights lack `score.bias`"),
        ({}, network().state_dict() | {"more": torch.zeros(1)}, "the weights have `more`"),
        ({}, network().state_dict() | {"score.bias": torch.zeros(5)}, "`score.bias` has shape (5,)"),
        ({}, network().state_dict() | {"score.bias": torch.zeros(3, dtype=int)}, "is of torch.int64"),
    ],
)
def test_a_model_that_does_not_fit_says_where(
    model: Path, change: dict[str, object], tensors: dict[str, torch.Tensor] | None, message: str
) -> None:
    rewritten(model, change, tensors)
    with pytest.raises(CheckpointError) as raised:
        load_model(model)
    assert message in str(raised.value)
    assert str(model) in str(raised.value)


def test_a_file_of_before_there_was_a_temperature_means_what_it_meant(model: Path) -> None:
    content = HEADER.model_dump(mode="json")
    for name in ("temperature", "class_bias", "object_diameter_px"):
        del content[name]
    text = json.dumps(content)
    model.write_bytes(safetensors.torch.save(network().state_dict(), metadata={"ushape": text}))
    assert read_header(model) == HEADER
    assert HEADER.temperature == 1


def test_files_that_are_no_models(tmp_path: Path, model: Path) -> None:
    text = tmp_path / "text.safetensors"
    text.write_text("not a model")
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(safetensors.torch.save({"a": torch.zeros(1)}))
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(model.read_bytes()[:-100])
    cases = {
        tmp_path / "absent.safetensors": "no such model file",
        tmp_path: "is a folder",
        text: "not a safetensors file",
        foreign: "not a model of ushape",
        torn: "damaged",
    }
    for path, message in cases.items():
        with pytest.raises(CheckpointError, match=message):
            load_model(path)


def test_the_header_is_read_without_the_weights(model: Path) -> None:
    assert read_header(model) == HEADER


def test_reading_a_model_does_not_load_the_compiler(model: Path) -> None:
    """Which takes a second, a third of what the first result of a small image may take."""
    script = (
        "import sys; from ushape.checkpoint import load_model; load_model(sys.argv[1]); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, model], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "ushape.models.unet" in loaded
    assert not {"torch._dynamo", "sympy", "torch._inductor"} & loaded
