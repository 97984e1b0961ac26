"""An encoder through the commands: trained from a file of weights, predicted with, described, and refused."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import tifffile
from PIL import Image

from ushape import EncoderUNet
from ushape.checkpoint import load_model, read_header
from ushape.config import EncoderUNetConfig
from ushape.models.encoders import TimmEncoder

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


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    """Images of odd sizes with red and green discs; a strip of their masks was not looked at."""
    folder = tmp_path_factory.mktemp("colours")
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        y, x = np.indices((61 + 2 * number, 83 - 4 * number))
        red, green = ((y - 30) ** 2 + (x - middle) ** 2 < 100 for middle in (17, 45 + number))
        mask = (red + 2 * green).astype(np.uint8)
        mask[:8] = 255
        discs = np.stack([red, green, np.zeros_like(red)], axis=-1)
        image = 60 + 120 * discs + rng.normal(0, 10, discs.shape)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"c{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"c{number}.png")
    return folder


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_colours_of_odd_size_in_three_classes_with_an_ignored_label(colours, ushape, weights, tmp_path):
    said = ("--classes", 3, "--ignore", 255)
    words = ("--model", NAME, "--encoder-weights", weights, "--steps", 2, "--device", "cpu")
    done = ushape("train", colours, "--output", tmp_path / "run", *said, *words)
    assert done.returncode == 0, done.stderr
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert header.architecture == EncoderUNetConfig(encoder=NAME, in_channels=3, classes=3)
    assert header.normalization.mean == pytest.approx([255 * mean for mean in (0.485, 0.456, 0.406)])
    out, model = tmp_path / "out", tmp_path / "run" / "model.safetensors"
    done = ushape("predict", model, colours / "images", "--output", out, "--instances", "--overlay")
    assert done.returncode == 0, done.stderr
    for path in (colours / "images").iterdir():
        sizes = [size_of(out / f"{path.stem}_{kind}.png") for kind in ("classes", "overlay")]
        ids = tifffile.imread(out / f"{path.stem}_instances.tif")
        assert {*sizes, ids.shape[::-1]} == {size_of(path)}
    scored = ushape("evaluate", out, colours / "masks", *said, "--json", tmp_path / "scores.json")
    assert scored.returncode == 0, scored.stderr
    counts = json.loads((tmp_path / "scores.json").read_text())["counts"]
    masks = [np.asarray(Image.open(path)) for path in (colours / "masks").iterdir()]
    confusion = np.array(counts["dice"]["confusion"])
    assert confusion.shape == (3, 3)
    assert confusion.sum() == sum((mask != 255).sum() for mask in masks)


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
    assert "none: layer `encoder.model.blocks.0.0.se` looks at the whole image" in done.stdout
    listed = ushape("models")
    assert "resnet34" in listed.stdout, listed.stderr
    assert "31.0" in listed.stdout


def test_models_lists_names_of_timm(ushape):
    listed = ushape("models", "resnet3")
    assert "resnet34" in listed.stdout.splitlines(), listed.stderr
    assert "vgg" not in listed.stdout
    none = ushape("models", "resmet34")
    assert (none.returncode, none.stdout) == (2, "")
    assert re.search(r"no network of timm has .resmet34. in its name; the nearest .*resnet34", none.stderr)


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
    ],
)
def test_wrong_options_are_one_line(discs, ushape, tmp_path, options, message):
    done = ushape("train", discs, "--output", tmp_path / "run", "--steps", 1, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


class Unauthorised(BaseHTTPRequestHandler):
    """Knows nobody."""

    def do_GET(self):
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *words):
        """Print nothing."""


@pytest.fixture
def unauthorised_hub() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Unauthorised) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({"HTTPS_PROXY": "http://127.0.0.1:9"}, "127.0.0.1 is out of reach"),  # nobody listens there
        ({"HF_ENDPOINT": "HUB"}, "401"),
    ],
    ids=["offline", "proxy", "unauthorised"],
)
def test_weights_that_cannot_be_fetched_are_one_line(
    discs, ushape, unauthorised_hub, tmp_path, changes, reason
):
    kept = {name: value for name, value in os.environ.items() if not re.search("proxy|^hf_", name, re.I)}
    changes = {name: unauthorised_hub if value == "HUB" else value for name, value in changes.items()}
    words = ("--model", "resnet18", "--output", tmp_path / "run", "--steps", 1, "--device", "cpu")
    done = ushape("train", discs, *words, timeout=60, env=kept | {"HF_HOME": str(tmp_path)} | changes)
    assert done.returncode == 2, done.stderr
    endpoint = changes.get("HF_ENDPOINT", "https://huggingface.co")
    address = rf"{endpoint}/timm/resnet18\.\w+/resolve/main/model\.safetensors"
    message = rf"resnet18 cannot be fetched: .*{reason}.*; download {address} .* --encoder-weights FILE"
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


WITHOUT_TIMM = "import sys; sys.modules['timm'] = None; from ushape import cli; cli.main()"
"""The command as it is where the extra is not installed."""


def without_timm(*words):
    words = [sys.executable, "-c", WITHOUT_TIMM, *map(str, words)]
    return subprocess.run(words, capture_output=True, text=True, timeout=300)


def test_models_without_the_extra_names_it():
    done = without_timm("models")
    assert (done.returncode, done.stderr) == (0, "")
    assert "paper" in done.stdout
    assert "encoders need timm: pip install -c constraints.txt 'ushape[encoders]'" in done.stdout
    assert "resnet34" not in done.stdout
    done = without_timm("models", "resnet")
    assert done.returncode == 2
    assert done.stderr.endswith("install it with: pip install -c constraints.txt 'ushape[encoders]'\n")


@pytest.mark.parametrize("command", ["train", "predict"])
def test_commands_without_the_extra_name_it(command, run, discs, tmp_path):
    words = {
        "train": (discs, "--model", "resnet34", "--steps", 1),
        "predict": (run / "model.safetensors", discs / "images" / "d0.png"),
    }[command]
    done = without_timm(command, *words, "--output", tmp_path / "out")
    assert done.returncode == 2, done.stderr
    assert "encoders need timm" in done.stderr
    assert done.stderr.endswith("install it with: pip install -c constraints.txt 'ushape[encoders]'\n")
    assert done.stderr.count("\n") == 1
