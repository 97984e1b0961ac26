"""What a run takes over from a model, what it draws anew, and what it leaves alone."""

from pathlib import Path

import pytest
import torch
from small_encoder import Pyramid
from small_model import make_model

import ushape
from ushape import EncoderUNet, UNet
from ushape.checkpoint import join_models, load_model, model_hash, read_header, save_model
from ushape.config import EncoderUNetConfig, Normalization, UNetConfig
from ushape.errors import ConfigError
from ushape.training.budget import Budget
from ushape.training.fine_tuning import in_words, slower, source_header, start_from
from ushape.training.module import TrainingModule
from ushape.training.recipe import FAST, PAPER


def batch_normed(seed: int, classes: int = 2) -> UNet:
    torch.manual_seed(seed)
    return UNet(1, classes, width=2, depth=2, norm="batch")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model whose batch norms have seen something."""
    network = batch_normed(1)
    for _ in range(3):
        network(torch.randn(2, 1, 60, 60))
    header = make_model(normalization=Normalization(kind="fixed", mean=(90.0,), std=(25.0,)))[1]
    config = UNetConfig(width=2, depth=2, norm="batch")
    path = tmp_path / "source.safetensors"
    save_model(path, network, header.model_copy(update={"architecture": config}))
    return path


def fine_tuned(data: Path, output: Path, source: Path, **options: object) -> dict[str, torch.Tensor]:
    """Weights after a few steps from a model."""
    options = {"steps": 3, "device": "cpu"} | options
    ushape.train(data, output, from_model=source, **options)
    return load_model(output / "last.safetensors")[0].state_dict()


def of_levels(names: dict[str, torch.Tensor], levels: int) -> set[str]:
    return {name for name in names for level in range(levels) if name.startswith(f"contracting.{level}.")}


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_frozen_levels_stay_to_the_bit_and_all_others_learn(
    discs: Path, tmp_path: Path, source: Path, levels: int
) -> None:
    before = load_model(source)[0].state_dict()
    after = fine_tuned(discs, tmp_path / "run", source, freeze_encoder=levels)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == of_levels(before, levels)
    provenance = read_header(tmp_path / "run" / "last.safetensors").provenance
    assert provenance["frozen_levels"] == levels


def test_without_freezing_every_weight_and_every_statistic_follows_the_data(
    discs: Path, tmp_path: Path, source: Path
) -> None:
    before = load_model(source)[0].state_dict()
    after = fine_tuned(discs, tmp_path / "run", source)
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert header.provenance["from"] == {"name": "small", "sha256": model_hash(source)}
    assert header.provenance["recipe"]["learning_rate"] == slower(FAST).learning_rate
    assert header.normalization == read_header(source).normalization


def test_a_frozen_run_is_gone_on_with(discs: Path, tmp_path: Path, source: Path) -> None:
    before = load_model(source)[0].state_dict()
    fine_tuned(discs, tmp_path / "run", source, freeze_encoder=2, steps=2)
    options = {"steps": 4, "resume": True}
    after = fine_tuned(discs, tmp_path / "run", source, freeze_encoder=2, **options)
    assert {name for name in before if torch.equal(before[name], after[name])} == of_levels(before, 2)
    for other in (None, 1):
        with pytest.raises(ConfigError, match="--resume: --freeze-encoder differs from the interrupted run"):
            fine_tuned(discs, tmp_path / "run", source, freeze_encoder=other, **options)
    changed = tmp_path / "changed.safetensors"
    save_model(changed, load_model(source)[0], read_header(source).model_copy(update={"name": "other"}))
    with pytest.raises(ConfigError, match="--resume: --from differs"):
        fine_tuned(discs, tmp_path / "run", changed, freeze_encoder=2, **options)


def test_the_optimiser_does_not_hold_what_is_frozen(source: Path) -> None:
    network = batch_normed(2)
    start_from(network, source, 2)
    module = TrainingModule(network, FAST, Budget(5, None), seed=0)
    held = {id(p) for group in module.configure_optimizers().param_groups for p in group["params"]}
    names = {name for name, p in network.named_parameters() if id(p) not in held}
    assert names == {name for name in of_levels(network.state_dict(), 2) if name.endswith(("weight", "bias"))}


def shares(network: EncoderUNet, part: torch.nn.Module) -> set[float]:
    """Of the learning rate, that weights of a part are trained with."""
    groups = TrainingModule(network, FAST, Budget(5, None), seed=0).configure_optimizers().param_groups
    known = {id(weight): group["share"] for group in groups for weight in group["params"]}
    return {known[id(weight)] for weight in part.parameters()}


def test_an_encoder_that_comes_from_a_model_is_changed_less(tmp_path: Path) -> None:
    config = EncoderUNetConfig(encoder="Pyramid", width=2)
    header = make_model()[1].model_copy(update={"architecture": config})
    save_model(tmp_path / "m.safetensors", EncoderUNet(Pyramid(1), width=2), header)
    network = EncoderUNet(Pyramid(1), width=2)
    assert shares(network, network) == {1.0}
    start_from(network, tmp_path / "m.safetensors", None, Pyramid(1))
    assert shares(network, network.encoder) == {FAST.encoder_share} == {0.3}
    assert shares(network, network.decoder) == {1.0}


def test_frozen_levels_stay_in_evaluation_mode() -> None:
    network = batch_normed(2)
    assert network.contracting[0].training
    network.freeze_encoder(1)
    for _ in range(2):
        assert not any(module.training for module in network.contracting[0].modules())
        assert all(module.training for module in network.contracting[1].modules())
        assert network.training
        network.eval()
        assert not any(module.training for module in network.modules())
        network.train()


@pytest.mark.parametrize("levels", [0, -1, 4])
def test_a_level_that_is_not_there_is_not_frozen(source: Path, levels: int) -> None:
    with pytest.raises(ConfigError, match=f"cannot freeze {levels} levels .*, it has 3; .* 1 to 3"):
        start_from(batch_normed(2), source, levels)


def test_what_was_taken_over_is_said_in_one_line(source: Path) -> None:
    header = read_header(source)
    assert in_words(header, source, None) == f"from {source} (small): all weights taken over"
    three = make_model(classes=3)[1]
    assert in_words(three, source, 2) == (
        f"from {source} (small): all weights taken over but the last layer, drawn anew for 3 classes (the "
        "model has 2); level 1 to 2 of the contracting path frozen"
    )
    renamed = header.model_copy(update={"classes": three.classes[::2]})
    assert "its last layer, of background, cell, now stands for background, debris" in in_words(
        renamed, source, None
    )


def test_training_does_not_start_from_an_ensemble(tmp_path: Path, source: Path) -> None:
    both = tmp_path / "both.safetensors"
    join_models([source, source], both)
    with pytest.raises(
        ConfigError, match=r"both.safetensors: holds 2 networks, .* give the model of one fold"
    ):
        source_header(both, 1)


@pytest.mark.parametrize("recipe", [FAST, PAPER])
def test_only_the_learning_rate_is_another(recipe) -> None:
    assert 0 < slower(recipe).learning_rate < recipe.learning_rate
    assert slower(recipe).model_copy(update={"learning_rate": recipe.learning_rate}) == recipe
