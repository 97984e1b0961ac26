"""A model file of today must load in every later version, mean the same, and predict the same.

The files in `tests/golden/models/` are never written anew: what no longer reads them breaks the models of
users. When the format grows, `python tests/contract/test_golden_model.py NAME` adds one beside them.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ushape import Segmenter
from ushape.checkpoint import read_tiles, save_model
from ushape.config import ClassInfo, ModelHeader, Normalization, Postprocessing, UNetConfig
from ushape.models import Ensemble

GOLDEN = Path(__file__).parents[1] / "golden" / "models"

HEADER = ModelHeader(
    name="golden",
    architecture=UNetConfig(
        in_channels=2, classes=3, width=2, depth=2, norm="batch", dropout=0.25, variant="released", shrink=2
    ),
    members=2,
    normalization=Normalization(kind="fixed", mean=(90.5, 120.25), std=(31.0, 64.5)),
    classes=(
        ClassInfo(name="background", value=0, color=(0, 0, 0)),
        ClassInfo(name="cell", value=255, color=(255, 80, 0)),
        ClassInfo(name="debris", value=(7, 8, 9), color=(0, 80, 255)),
    ),
    temperature=1.5,
    class_bias=(0.25, -0.5, 0.125),
    postprocessing=Postprocessing(
        threshold=0.4, min_area=3, connectivity=8, min_area_um2=0.5, split="probability", fill_holes=True
    ),
    pixel_size_um=(0.5, 0.25),
    object_diameter_px=12.5,
    provenance={"seed": 7, "tuned_on": ["a"]},
)
"""Every field has another value than its default."""


def image():
    """Grey values (2, 40, 52), the same everywhere: no random numbers, whose sequence may change."""
    y, x = np.mgrid[:40, :52]
    return np.stack([(3 * x + 5 * y) % 251, (x * y) % 241]).astype(np.uint8)


def probabilities(model):
    return Segmenter.load(model, device="cpu", engine="pytorch")(image(), "fp32", axes="CYX").probabilities


def test_every_field_of_a_header_is_in_the_file():
    written = HEADER.model_dump()
    for name, field in ModelHeader.model_fields.items():
        assert name == "format" or written[name] != field.get_default(), name


@pytest.mark.parametrize("model", sorted(GOLDEN.glob("*.safetensors")), ids=lambda path: path.stem)
def test_a_model_file_of_before_means_and_predicts_what_it_did(model):
    stored = np.load(model.with_suffix(".npz"))
    # Another processor adds in another order; weights of the wrong place change the first digit.
    np.testing.assert_allclose(probabilities(model), stored["probabilities"], atol=1e-5)
    header = Segmenter.load(model).header.model_dump(mode="json")
    expected = json.loads(str(stored["header"]))
    assert {name: header[name] for name in expected} == expected
    np.testing.assert_array_equal(read_tiles(model), stored["tiles"])


def test_there_is_a_model_file():
    assert list(GOLDEN.glob("*.safetensors"))


def write(model):
    """Write a model of every kind of field, and what it means and predicts."""
    torch.manual_seed(0)
    network = Ensemble.from_config(HEADER.architecture, HEADER.members).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    tiles = (np.arange(2 * 2 * 4 * 4).reshape(2, 2, 4, 4) / 8).astype(np.float16)
    model.parent.mkdir(exist_ok=True)
    save_model(model, network, HEADER, tiles)
    expected = probabilities(model), json.dumps(HEADER.model_dump(mode="json")), tiles
    np.savez(
        model.with_suffix(".npz"), **dict(zip(("probabilities", "header", "tiles"), expected, strict=True))
    )


if __name__ == "__main__":
    import sys

    name = GOLDEN / f"{sys.argv[1]}.safetensors"
    assert not name.exists(), f"{name} is there; it stays as it is"
    write(name)
