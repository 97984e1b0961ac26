"""The numbers the paper states, and which network a run gets."""

import pytest

from ushape.errors import ConfigError
from ushape.training.recipe import FAST, PAPER, architecture, recipe


def test_the_paper_recipe_is_the_papers() -> None:
    assert PAPER.optimizer == "sgd"
    assert PAPER.momentum == 0.99
    assert PAPER.tile == 572
    assert PAPER.norm is None
    assert (PAPER.border_w0, PAPER.border_sigma_px) == (10.0, 5.0)
    assert PAPER.elastic_std_px == 10.0


def test_the_paper_network_does_not_depend_on_the_recipe() -> None:
    for chosen in (PAPER, FAST):
        network = architecture(chosen, "paper", None, 1, 2)
        assert (network.width, network.norm, network.dropout, network.variant) == (64, None, 0.5, "paper")


def test_auto_follows_the_recipe_and_the_width_asked_for() -> None:
    assert architecture(FAST, "auto", None, 3, 5).width == FAST.width
    assert architecture(FAST, "auto", 8, 3, 5).width == 8
    assert architecture(FAST, "auto", 8, 3, 5).in_channels == 3


@pytest.mark.parametrize(
    ("model", "width", "message"),
    [
        ("resnet", None, "no model 'resnet'; the nearest names are resnet"),
        ("papr", None, "no model 'papr'; the nearest names are paper"),
        ("resnet18", 32, "resnet18 has its own widths; drop --width 32"),
        ("released", 32, "drop --width 32"),
    ],
)
def test_a_network_that_cannot_be(model: str, width: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        architecture(FAST, model, width, 1, 2)


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no recipe 'slow'; there are: paper, fast"):
        recipe("slow")
