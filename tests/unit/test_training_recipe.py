"""The numbers the paper states, and which network a run gets."""

import pytest

from ushape.augment import GreyValues
from ushape.config import EncoderUNetConfig, UNetConfig
from ushape.errors import ConfigError
from ushape.training.recipe import DEGRADED, FAST, PAPER, architecture, recipe


def test_the_paper_recipe_is_the_papers() -> None:
    assert PAPER.optimizer == "sgd"
    assert PAPER.momentum == 0.99
    assert (PAPER.tile, PAPER.tiles) == (572, 1)
    assert (PAPER.norm, PAPER.weight_decay) == (None, 0.0)
    assert PAPER.interpolation == "linear"
    assert (PAPER.border_w0, PAPER.border_sigma_px) == (10.0, 5.0)
    assert (PAPER.elastic_std_px, PAPER.grid, PAPER.spline) == (10.0, 3, "interpolating")
    assert PAPER.class_power == 1.0


def test_the_paper_network_does_not_depend_on_the_recipe() -> None:
    for chosen in (PAPER, FAST):
        network = architecture(chosen, "paper", None, 1, 2)
        assert (network.width, network.norm, network.dropout, network.variant) == (64, None, 0.5, "paper")


def test_auto_follows_the_recipe_and_the_width_asked_for() -> None:
    assert architecture(FAST, "auto", None, 3, 5).width == FAST.width
    assert architecture(FAST, "auto", 8, 3, 5).width == 8
    assert architecture(FAST, "auto", 8, 3, 5).in_channels == 3


def test_the_width_of_an_encoders_decoder_may_be_asked_for() -> None:
    assert architecture(FAST, "resnet18", None, 3, 5) == EncoderUNetConfig(
        encoder="resnet18", in_channels=3, classes=5
    )
    assert architecture(FAST, "resnet18", 8, 3, 5).width == 8


def test_a_description_is_taken_but_for_what_the_data_decide() -> None:
    told = UNetConfig(in_channels=9, classes=9, width=6, depth=2, dropout=0.25)
    data = {"in_channels": 3, "classes": 5}
    assert architecture(FAST, told, None, 3, 5) == told.model_copy(update=data)


@pytest.mark.parametrize(
    ("model", "width", "message"),
    [
        ("resnet", None, "no model 'resnet'; the nearest names are resnet"),
        ("papr", None, "no model 'papr'; the nearest names are paper"),
        ("released", 32, "drop --width 32"),
    ],
)
def test_a_network_that_cannot_be(model: str, width: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        architecture(FAST, model, width, 1, 2)


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no recipe 'slow'; there are: paper, fast"):
        recipe("slow")


def test_a_recipe_of_ones_own_is_taken_as_it_is() -> None:
    changes = {"spline": "approximating", "grid": 7, "class_power": 0.5, "accumulate": 2}
    own = FAST.model_copy(update=changes)
    assert recipe(own) == own != FAST


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splin": "approximating"}, "recipe: splin 'approximating': no such setting; help"),
        ({"spline": "approximating"}, "recipe: grid must be at least 4 for an approximating spline, got 3"),
        ({"scale": (2.0, 1.0)}, "recipe: scale must be a range of positive numbers"),
        ({"accumulate": 0}, "recipe: accumulate 0: input should be greater than or equal to 1"),
        ({"class_power": -1.0}, "recipe: class_power -1.0: input should be"),
        ({"loss": "diced"}, "recipe: loss 'diced': input should be"),
        ({"dropout": 1.0}, "recipe: dropout 1.0: input should be less than 1"),
        ({"learning_rate": -1.0}, "recipe: learning_rate -1.0: input should be greater than 0"),
        ({"weight_decay": -1.0}, "recipe: weight_decay -1.0: input should be"),
        ({"warmup": 1.0}, "recipe: warmup 1.0: input should be less than 1"),
        ({"encoder_share": -0.3}, "recipe: encoder_share -0.3: input should be"),
        ({"steps": 0}, "recipe: steps 0: input should be"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_before_it_is_run(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        recipe(FAST.model_copy(update=change))
    assert "\n" not in str(raised.value)


def test_what_a_recipe_leaves_to_the_images_is_decided_and_nothing_else() -> None:
    cells = FAST.decided(has_top=False, areas=False)
    assert (cells.upright, cells.grey) == (False, DEGRADED)
    street = FAST.decided(has_top=True, areas=True)
    assert (street.upright, street.grey) == (True, GreyValues())
    assert street.model_copy(update={"upright": None, "grey": None}) == FAST
    own = FAST.model_copy(update={"upright": False, "grey": GreyValues(noise=0.1)})
    assert own.decided(has_top=True, areas=True) == own
    assert PAPER.decided(has_top=True, areas=True) == PAPER
