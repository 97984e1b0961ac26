"""Runs with an encoder of one's own: what they train, and who is given the module again."""

import copy
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from small_encoder import Pyramid
from small_model import make_model

import ushape
from ushape import Segmenter
from ushape.checkpoint import load_model, read_header, save_model
from ushape.config import EncoderUNetConfig, UNetConfig
from ushape.errors import ConfigError
from ushape.training import FAST, train_folds
from ushape.training.recipe import architecture

OPTIONS = {"steps": 2, "device": "cpu"}
DECODER = EncoderUNetConfig(encoder="mine", width=2, up="resize", full_resolution=False)


@pytest.fixture
def encoder() -> Pyramid:
    torch.manual_seed(2)
    return Pyramid(in_channels=1)


def weights_of(path: Path, encoder: Pyramid) -> dict[str, torch.Tensor]:
    return load_model(path, encoder=encoder)[0].encoder.state_dict()


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_a_run_trains_a_copy_and_its_model_is_read_with_the_module(
    discs: Path, tmp_path: Path, encoder: Pyramid
) -> None:
    before = copy.deepcopy(encoder.state_dict())
    result = ushape.train(discs, tmp_path, encoder=encoder, width=2, **OPTIONS)
    assert changed(before, encoder.state_dict()) == set()
    assert changed(before, weights_of(result.last, encoder)) == set(before)
    assert changed(before, encoder.state_dict()) == set(), "reading a file is no reason, either"
    header = read_header(result.model)
    assert header.architecture == EncoderUNetConfig(encoder="Pyramid", width=2)
    found = Segmenter.load(result.model, encoder=encoder, device="cpu")(discs / "images" / "d0.png")
    assert found.classes.shape == (96, 120)
    with pytest.raises(ConfigError, match="no model 'Pyramid'"):
        Segmenter.load(result.model)


def test_a_description_says_what_is_built_on_it(discs: Path, tmp_path: Path, encoder: Pyramid) -> None:
    result = ushape.train(discs, tmp_path, model=DECODER, encoder=encoder, **OPTIONS)
    assert read_header(result.model).architecture == DECODER
    network = load_model(result.model, encoder=encoder)[0]
    assert network.stem is None
    assert {type(module).__name__ for module in network.decoder.modules()}.isdisjoint({"ConvTranspose2d"})


def test_what_a_description_does_not_say_the_recipe_does(
    discs: Path, tmp_path: Path, encoder: Pyramid
) -> None:
    own = FAST.model_copy(update={"deep_supervision": True, "dropout": 0.25})
    result = ushape.train(discs, tmp_path, model=DECODER, encoder=encoder, recipe=own, **OPTIONS)
    decided = {"deep_supervision": True, "dropout": 0.25}
    assert read_header(result.last).architecture == DECODER.model_copy(update=decided)
    (coarse,) = load_model(result.last, encoder=encoder)[0].coarse_scores
    assert coarse.bias.all(), "they start at 0, and move where the level is scored"
    said = DECODER.model_copy(update={"deep_supervision": False, "dropout": 0.0})
    assert architecture(own, said, None, 1, 2, encoder) == said


def test_trained_weights_are_changed_less(discs: Path, tmp_path: Path, encoder: Pyramid) -> None:
    still = FAST.model_copy(update={"encoder_share": 0.0})
    before = encoder.state_dict()
    for name, pretrained, moved in (("yes", True, set()), ("no", None, set(before))):
        run = ushape.train(
            discs, tmp_path / name, encoder=encoder, width=2, recipe=still, pretrained=pretrained, **OPTIONS
        )
        assert changed(before, weights_of(run.last, encoder)) == moved
        told = read_header(run.last).provenance.get("encoder_weights")
        assert told == ("own" if pretrained else None)
    options = {"encoder": encoder, "width": 2, "pretrained": True, "freeze_encoder": 1}
    run = ushape.train(discs, tmp_path / "frozen", **options, **OPTIONS)
    assert changed(before, weights_of(run.last, encoder)) == {"second.weight", "second.bias"}


def test_a_run_starts_from_such_a_model_and_goes_on(discs: Path, tmp_path: Path, encoder: Pyramid) -> None:
    first = ushape.train(discs, tmp_path / "first", encoder=encoder, width=2, **OPTIONS)
    other = Pyramid(in_channels=1)
    options = {"from_model": first.last, "encoder": other, "freeze_encoder": 2, "device": "cpu"}
    second = ushape.train(discs, tmp_path / "second", steps=1, **options)
    again = ushape.train(discs, tmp_path / "second", steps=2, resume=True, **options)
    assert (second.steps, again.steps) == (1, 2)
    kept = weights_of(again.last, other)
    assert changed(weights_of(first.last, other), kept) == set(), "frozen, and not those of `other`"


def test_images_of_five_channels_are_trained_on_and_predicted(discs: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "masks").symlink_to(discs / "masks")
    for path in (discs / "images").iterdir():
        with Image.open(path) as image:
            channels = np.stack([np.roll(image, shift, 0) for shift in range(5)])
        place = tmp_path / "data" / "images" / f"{path.stem}.tif"
        tifffile.imwrite(place, channels, photometric="minisblack", metadata={"axes": "CYX"})
    encoder = Pyramid(in_channels=5)
    result = ushape.train(tmp_path / "data", tmp_path / "run", encoder=encoder, width=2, **OPTIONS)
    assert read_header(result.model).architecture.in_channels == 5
    segmenter = Segmenter.load(result.model, encoder=encoder, device="cpu")
    found, expected = segmenter(place), segmenter(channels, axes="CYX")
    assert found.probabilities.shape == (2, 96, 120)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": Pyramid()}, "model=Pyramid: give a name, .* is the encoder: encoder=module"),
        ({"encoder": "resnet18"}, "encoder='resnet18' is no module; give an nn.Module, or model=NAME"),
        ({"encoder": Pyramid}, "encoder=<class .*Pyramid'> is no module"),
    ],
)
def test_what_is_no_model_or_no_module_is_refused(
    discs: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ushape.train(discs, tmp_path / "run", **options, **OPTIONS)


def test_a_model_without_an_encoder_is_not_started_from_with_one(
    discs: Path, tmp_path: Path, encoder: Pyramid
) -> None:
    save_model(tmp_path / "m.safetensors", *make_model())
    with pytest.raises(ConfigError, match=r"encoder=Pyramid: --from .*m\.safetensors has none; drop one"):
        ushape.train(
            discs, tmp_path / "run", encoder=encoder, from_model=tmp_path / "m.safetensors", **OPTIONS
        )


def test_folds_are_joined_with_copies_of_it(discs: Path, tmp_path: Path, encoder: Pyramid) -> None:
    result = train_folds(discs, tmp_path, 2, encoder=encoder, width=2, **OPTIONS)
    ensemble, _ = load_model(result.model, encoder=encoder)
    first, second = (member.encoder.first.weight for member in ensemble.members)
    assert not torch.equal(first, second)
    image = np.zeros((30, 40), np.uint8)
    assert Segmenter.load(result.model, encoder=encoder)(image).classes.shape == (30, 40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "resnet18"}, "encoder=Pyramid: model='resnet18' has its own; drop one"),
        ({"model": UNetConfig()}, r"encoder=Pyramid: model=UNetConfig\(...\) has none; drop one"),
        ({"model": DECODER, "width": 3}, "width=3: the description of the network has a width; say it there"),
        ({"pretrained": __file__}, "files are for networks of timm; load the weights of Pyramid yourself"),
        ({"freeze_encoder": 1}, "--freeze-encoder 1 keeps weights of a trained model"),
    ],
)
def test_what_contradicts_itself_is_refused(
    discs: Path, tmp_path: Path, encoder: Pyramid, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ushape.train(discs, tmp_path / "run", encoder=encoder, **options, **OPTIONS)
