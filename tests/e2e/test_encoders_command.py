"""An encoder through the commands: trained from a file of weights, predicted with, described, and refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import tifffile
from PIL import Image

from ushape import EncoderUNet
from ushape.checkpoint import load_model, read_header
from ushape.config import EncoderUNetConfig
from ushape.errors import ConfigError
from ushape.models.encoders import TimmEncoder, require_known

NAME = "mobilenetv3_small_100"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    TimmEncoder(NAME)  # defines what timm's import needs
    import timm

    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    safetensors.torch.save_file(timm.create_model(NAME).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def run(discs, ushape, weights, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("encoder") / "run"
    options = ("--model", NAME, "--encoder-weights", weights, "--freeze-encoder", 1, "--steps", 2)
    done = ushape("train", discs, "--output", output, *options, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert f"U-Net with encoder {NAME}" in done.stdout
    return output


def test_the_model_file_says_how_it_was_pretrained(run, weights):
    header = read_header(run / "model.safetensors")
    assert header.architecture == EncoderUNetConfig(encoder=NAME)
    # The grey mean of the three colours of ImageNet, for the 8-bit images of the discs.
    assert header.normalization.mean == (pytest.approx(255 * (0.485 + 0.456 + 0.406) / 3),)
    assert set(header.provenance["encoder_weights"]) == {"sha256"}
    assert header.provenance["frozen_levels"] == 1


def test_frozen_weights_are_those_of_the_file(run, weights):
    network, _ = load_model(run / "model.safetensors")
    assert isinstance(network, EncoderUNet)
    stem = safetensors.torch.load_file(weights)["conv_stem.weight"].sum(1, keepdim=True)
    np.testing.assert_array_equal(network.encoder.model.conv_stem.weight.detach(), stem)


def test_an_image_of_odd_size_is_predicted(run, ushape, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (61, 83), np.uint8)).save(tmp_path / "odd.png")
    done = ushape("predict", run / "model.safetensors", tmp_path / "odd.png", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "odd_classes.png") as classes:
        assert classes.size == (83, 61)


@pytest.fixture
def trained_for(discs, ushape, weights, tmp_path):
    """Train with the encoder and more options; returns the model of the last step."""

    def train(name, *options, says=""):
        words = ("--output", tmp_path / name, "--encoder-weights", weights, "--device", "cpu")
        done = ushape("train", discs, "--model", NAME, *words, *options)
        assert done.returncode == 0, done.stderr
        assert says in done.stdout
        return tmp_path / name / "last.safetensors"

    return train


def test_a_run_is_gone_on_with(trained_for):
    trained_for("run", "--steps", 2)
    last = trained_for("run", "--steps", 4, "--resume")
    assert read_header(last).provenance["validation"]["step"] == 4
    found, anew = (load_model(it)[0].state_dict() for it in (last, trained_for("anew", "--steps", 4)))
    # Its first two steps were annealed to the end of two, not of four.
    assert any(not np.array_equal(found[name], anew[name]) for name in found)


def test_two_processes_train_one_network(trained_for):
    last = trained_for("two", "--steps", 2, "--devices", 2, says="on each of 2 devices")
    assert read_header(last).architecture == EncoderUNetConfig(encoder=NAME)


def test_folds_make_an_ensemble_that_predicts(trained_for, ushape, tmp_path, discs):
    folder = trained_for("folds", "--steps", 2, "--folds", 2).parent
    assert read_header(folder / "model.safetensors").members == 2
    image = discs / "images" / "d0.png"
    done = ushape("predict", folder / "model.safetensors", image, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "d0_classes.png") as classes:
        assert classes.size == (120, 96)


def test_a_run_from_its_model_keeps_encoder_and_normalisation(run, discs, ushape, tmp_path):
    words = ("--from", run / "model.safetensors", "--freeze-encoder", 2, "--steps", 2, "--device", "cpu")
    done = ushape("train", discs, "--output", tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr
    before, after = (read_header(path / "model.safetensors") for path in (run, tmp_path / "run"))
    assert after.architecture == before.architecture
    assert after.normalization == before.normalization
    old, new = (load_model(path / "last.safetensors")[0].state_dict() for path in (run, tmp_path / "run"))
    changed = {name for name in new if not np.array_equal(old[name], new[name])}
    assert not [name for name in changed if name.startswith("encoder.model.conv_stem")]
    assert [name for name in changed if name.startswith("encoder.model.blocks.4")]
    assert [name for name in changed if name.startswith("decoder")]


def test_an_image_of_16_bits_is_warned_of(run, ushape, tmp_path):
    tifffile.imwrite(tmp_path / "deep.tif", np.full((40, 50), 3000, np.uint16), photometric="minisblack")
    done = ushape("predict", run / "model.safetensors", tmp_path / "deep.tif", "--output", tmp_path / "out")
    assert (
        "grey values of type uint16 are normalised as those of 8 bits are, with means of 114;" in done.stdout
    )


def test_info_and_models_tell_the_cost(run, ushape):
    done = ushape("info", run / "model.safetensors")
    assert f"1/2       {NAME}: 16 channels" in done.stdout, done.stderr
    listed = ushape("models")
    assert "resnet34" in listed.stdout, listed.stderr
    assert "31.0" in listed.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "resnet43"), "no model 'resnet43'; the nearest names are"),
        (("--encoder-weights", "none"), "is for encoders such as --model resnet34; drop it, or --model auto"),
        (("--model", NAME, "--encoder-weights", "absent.pth"), "absent.pth: no such file of encoder weights"),
        (
            ("--model", NAME, "--encoder-weights", "none", "--freeze-encoder", "1"),
            "an encoder that is pretrained",
        ),
        (("--model", NAME, "--width", "8"), "has its own widths; drop --width 8"),
    ],
)
def test_wrong_options_are_one_line(discs, ushape, tmp_path, options, message):
    done = ushape("train", discs, "--output", tmp_path / "run", "--steps", 1, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"encoders need timm .*pip install 'ushape\[encoders\]'"):
        require_known("resnet34")
