"""Several networks used as one: the mean of their logits, in one file, wherever one network would do."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from small_model import make_model

from ushape import Segmenter, UNet
from ushape.backends import PyTorchBackend
from ushape.checkpoint import join_models, load_model, model_hash, read_header, read_tiles, save_model
from ushape.cli.info import _describe
from ushape.config import ModelHeader, Normalization, Postprocessing
from ushape.errors import ConfigError, ShapeError
from ushape.models import Ensemble
from ushape.predict import predict_files


def unlike(number: int) -> UNet:
    torch.manual_seed(number)
    return UNet(width=2, depth=2).eval()


def written(folder: Path, count: int, **changes: object) -> list[Path]:
    """As many model files of networks that differ."""
    paths = []
    for number in range(count):
        header = make_model(provenance={"seed": number})[1].model_copy(update=changes)
        torch.manual_seed(number)
        paths.append(folder / f"{number}.safetensors")
        save_model(paths[-1], UNet.from_config(header.architecture), header)
    return paths


def test_logits_are_averaged() -> None:
    members = [unlike(number) for number in range(3)]
    image = torch.randn(2, 1, 60, 76)
    with torch.inference_mode():
        each = torch.stack([member(image) for member in members]).double()
        found = Ensemble(members)(image)
    assert found.dtype == torch.float32
    assert not torch.equal(each[0], each[1])
    torch.testing.assert_close(found.double(), each.mean(0), rtol=0, atol=1e-6)  # sums of three in float32


def test_what_members_compute_in_bfloat16_is_added_in_float32() -> None:
    members = [unlike(number).bfloat16() for number in range(2)]
    image = torch.randn(1, 1, 60, 60).bfloat16()
    with torch.inference_mode():
        one, other = (member(image).float() for member in members)
        assert torch.equal(Ensemble(members)(image), (one + other) / 2)


def test_it_is_asked_what_a_network_is_asked() -> None:
    members = [unlike(number) for number in range(3)]
    one, several = PyTorchBackend(members[0], "cpu"), PyTorchBackend(Ensemble(members), "cpu")
    assert several.geometry == one.geometry
    # The feature maps of one member live at a time, the weights of all do.
    assert several.bytes_per_input_pixel == one.bytes_per_input_pixel
    weights = sum(parameter.numel() * 4 for parameter in members[0].parameters())
    assert several.fixed_bytes - one.fixed_bytes == 2 * weights
    with pytest.raises(ShapeError, match="input height 61 is not valid"):
        Ensemble(members)(torch.zeros(1, 1, 61, 60))


def test_models_are_joined_in_one_file(tmp_path: Path) -> None:
    paths = written(tmp_path, 3)
    tuned = Postprocessing(threshold=0.7)
    header = join_models(paths, tmp_path / "joined.safetensors", changes={"postprocessing": tuned})
    network, found = load_model(tmp_path / "joined.safetensors")
    assert found == header == read_header(tmp_path / "joined.safetensors")
    assert (found.members, found.name, found.postprocessing) == (3, "ensemble of 3: small", tuned)
    assert [one["sha256"] for one in found.provenance["joined"]] == [model_hash(path) for path in paths]
    assert [one["seed"] for one in found.provenance["joined"]] == [0, 1, 2]
    assert isinstance(network, Ensemble)
    assert not network.training
    for path, member in zip(paths, network.members, strict=True):
        for name, tensor in load_model(path)[0].state_dict().items():
            assert torch.equal(tensor, member.state_dict()[name])


def test_members_of_members_are_members(tmp_path: Path) -> None:
    paths = written(tmp_path, 3)
    join_models(paths, tmp_path / "flat.safetensors")
    join_models(paths[:2], tmp_path / "two.safetensors")
    header = join_models([tmp_path / "two.safetensors", paths[2]], tmp_path / "nested.safetensors")
    assert header.members == 3
    nested, flat = (
        load_model(tmp_path / f"{name}.safetensors")[0].state_dict() for name in ("nested", "flat")
    )
    assert all(torch.equal(nested[name], flat[name]) for name in flat)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architecture", make_model(classes=2)[1].architecture.model_copy(update={"width": 3})),
        ("normalization", Normalization(kind="fixed", mean=(1.0,), std=(2.0,))),
        ("classes", make_model(classes=2)[1].classes[::-1]),
    ],
)
def test_models_of_another_kind_are_not_joined(tmp_path: Path, field: str, value: object) -> None:
    (tmp_path / "other").mkdir()
    paths = [*written(tmp_path, 2), *written(tmp_path / "other", 1, **{field: value})]
    with pytest.raises(
        ConfigError, match=rf"other/0.safetensors and .*0.safetensors differ in their {field}"
    ):
        join_models(paths, tmp_path / "joined.safetensors")
    assert not (tmp_path / "joined.safetensors").exists()


def test_one_model_is_no_ensemble(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs two models or more, got 1"):
        join_models(written(tmp_path, 1), tmp_path / "joined.safetensors")


def test_predict_averages_and_says_so(tmp_path: Path) -> None:
    paths = written(tmp_path, 2)
    join_models(paths, tmp_path / "joined.safetensors")
    grey = np.random.default_rng(0).integers(0, 255, (50, 70), np.uint8)
    one, other, both = (
        np.log(Segmenter.load(path, device="cpu")(grey, "fp32").probabilities)
        for path in (*paths, tmp_path / "joined.safetensors")
    )
    # Differences of logits are those of log probabilities.
    expected = ((one[1] - one[0]) + (other[1] - other[0])) / 2
    np.testing.assert_allclose(both[1] - both[0], expected, atol=1e-4)  # measured: 1e-5
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, grey)
    (result,) = predict_files(tmp_path / "joined.safetensors", [image], tmp_path / "out", device="cpu")
    assert result.report["model"]["members"] == 2


def test_a_file_of_one_network_has_one_member(tmp_path: Path) -> None:
    (path,) = written(tmp_path, 1)
    content = read_header(path).model_dump()
    del content["members"]  # as files were before there were ensembles
    assert ModelHeader.model_validate(content).members == 1
    assert isinstance(load_model(path)[0], UNet)


def test_info_says_how_many_networks_there_are(tmp_path: Path) -> None:
    header = join_models(written(tmp_path, 2), tmp_path / "joined.safetensors")
    assert "members: 2 networks as drawn below" in _describe(header, None)
    assert "members" not in _describe(read_header(tmp_path / "0.safetensors"), None)


def test_joined_models_keep_tiles_of_each_as_many_as_one(tmp_path: Path) -> None:
    paths = written(tmp_path, 3)
    for number, path in enumerate(paths[:2]):  # the third has none
        save_model(path, *load_model(path), np.full((4, 1, 20, 20), number, np.float16))
    join_models(paths, tmp_path / "joined.safetensors")
    assert read_tiles(tmp_path / "joined.safetensors")[:, 0, 0, 0].tolist() == [0, 0, 1, 1]
