"""One step: in parts, compiled, and where it goes wrong."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ushape import UNet
from ushape.backends import PyTorchBackend
from ushape.errors import ConfigError
from ushape.loss import counted
from ushape.training.budget import Budget
from ushape.training.compiling import compiles
from ushape.training.loop import lightning, trainer_for, without_chatter
from ushape.training.module import TrainingModule
from ushape.training.recipe import PAPER, Recipe

CPU, GPU = torch.device("cpu"), torch.device("cuda")
STEPS = 3


class Stop(lightning.Callback):
    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        trainer.should_stop = trainer.global_step == STEPS


def batch(number: int, tiles: int = 5) -> dict[str, Any]:
    """Tiles whose weights and ignored pixels differ, so that a mean of means is not the mean."""
    draw = torch.Generator().manual_seed(number)
    classes = torch.randint(0, 2, (tiles, 12, 12), generator=draw)
    classes[0, :, 3:] = 255
    weights = torch.rand(tiles, 12, 12, generator=draw) * torch.arange(1, tiles + 1)[:, None, None]
    images = torch.randn(tiles, 1, 28, 28, generator=draw)
    return {"number": [number] * tiles, "image": images, "classes": classes, "weights": weights}


def trained(folder: Path, batches: list[dict[str, Any]], recipe: Recipe, **options: Any) -> TrainingModule:
    torch.manual_seed(0)
    network = UNet(width=2, depth=1, dropout=0.0)
    module = TrainingModule(network, recipe, Budget(STEPS, None), seed=0, **options)
    loader = torch.utils.data.DataLoader(batches * 10, batch_size=None)
    with without_chatter():
        trainer_for(folder, PyTorchBackend(network, "cpu", "fp32"), [Stop()], 1, 1).fit(
            module.train(), loader
        )
    return module


def worst_difference(left: TrainingModule, right: TrainingModule) -> float:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("parts", [2, 5])
def test_a_step_in_parts_is_the_same_step(tmp_path: Path, parts: int) -> None:
    recipe = PAPER.model_copy(update={"learning_rate": 0.1, "momentum": 0.5, "ema": 0.9})
    batches = [batch(n) for n in range(STEPS)]
    whole = trained(tmp_path, batches, recipe)
    in_parts = trained(tmp_path, batches, recipe.model_copy(update={"accumulate": parts}))
    torch.manual_seed(0)
    start = UNet(width=2, depth=1, dropout=0.0)
    moved = zip(whole.network.parameters(), start.parameters(), strict=True)
    assert max(float((a - b).detach().abs().max()) for a, b in moved) > 0.01
    # Sums of float32 in another order; weights are of size 1.
    assert worst_difference(whole, in_parts) < 1e-6
    assert in_parts.mean_loss() == pytest.approx(whole.mean_loss(), rel=1e-6)


def test_the_average_starts_at_the_first_weights_and_follows(tmp_path: Path) -> None:
    recipe = PAPER.model_copy(update={"learning_rate": 0.1, "ema": 0.9})
    seen = []

    class Watched(TrainingModule):
        def _follow(self, average: UNet) -> None:
            super()._follow(average)
            seen.append([network.score.weight.detach().clone() for network in (self.network, average)])

    torch.manual_seed(0)
    network = UNet(width=2, depth=1, dropout=0.0)
    module = Watched(network, recipe, Budget(STEPS, None), seed=0)
    loader = torch.utils.data.DataLoader([batch(n) for n in range(10)], batch_size=None)
    with without_chatter():
        trainer_for(tmp_path, PyTorchBackend(network, "cpu", "fp32"), [Stop()], 1, 1).fit(
            module.train(), loader
        )
    (w1, a1), (w2, a2), (w3, a3) = seen
    assert torch.equal(a1, w1)
    # A young average weighs its past by (1 + n) / (10 + n) after n steps.
    torch.testing.assert_close(a2, a1 * 2 / 11 + w2 * 9 / 11)
    torch.testing.assert_close(a3, a2 * 3 / 12 + w3 * 9 / 12)


def test_a_compiled_network_takes_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced forward and backward as for any compiler; code for a processor would take g++ a minute."""
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend="aot_eager", fullgraph=True))
    recipe = PAPER.model_copy(update={"learning_rate": 0.1, "momentum": 0.5})
    batches = [batch(n, tiles=1) for n in range(STEPS)]
    plain, compiled = (trained(tmp_path, batches, recipe, compiled=c) for c in (False, True))
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    # Decomposed operations may round float32 differently.
    assert worst_difference(plain, compiled) < 1e-6


def test_each_coarser_level_counts_half_as_much_as_the_one_above() -> None:
    module = TrainingModule(UNet(width=2, depth=1), PAPER, Budget(STEPS, None), seed=0)
    _, _, classes, weights = batch(0).values()
    levels = [torch.randn(5, 2, 12, 12, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    told = classes, weights, counted(classes, weights)
    first, second, third = (module._loss(level, *told) for level in levels)
    torch.testing.assert_close(module._loss(levels, *told), (first + second / 2 + third / 4) / 1.75)


def test_a_loss_that_is_no_number_ends_the_run_in_words(tmp_path: Path) -> None:
    broken = batch(0)
    broken["image"][:] = float("nan")
    with pytest.raises(ConfigError, match="training diverged: the loss is nan at step 2"):
        trained(tmp_path, [batch(0), broken], PAPER)


def test_weights_that_overflow_in_the_last_step_are_met_before_they_are_scored(tmp_path: Path) -> None:
    module = trained(tmp_path, [batch(0)], PAPER)
    module.require_finite()
    with torch.no_grad():
        next(module.network_to_keep.parameters())[0] = float("inf")
    with pytest.raises(ConfigError, match="training diverged: there are infinite weights after step 3; try"):
        module.require_finite()


class TestCompiles:
    """Decided by device and budget, never by a clock."""

    @pytest.fixture(autouse=True)
    def everything_is_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
        monkeypatch.setattr("shutil.which", lambda name: name)

    @pytest.mark.parametrize(
        ("device", "tiles", "steps", "seconds", "expected"),
        [
            (CPU, 8, 100_000, None, False),
            (GPU, 8, 2_999, None, False),
            (GPU, 8, 3_000, None, True),
            (GPU, 7, 3_000, None, False),
            (GPU, 8, None, 149.0, False),
            (GPU, 8, None, 150.0, True),
        ],
    )
    def test_by_itself_in_a_long_run_of_many_tiles_on_a_gpu(
        self, device, tiles, steps, seconds, expected
    ) -> None:
        assert compiles(None, device, tiles=tiles, steps=steps, seconds=seconds) is expected

    @pytest.mark.parametrize("device", [CPU, GPU])
    def test_as_asked(self, device) -> None:
        assert compiles(True, device, tiles=1, steps=1, seconds=None)
        assert not compiles(False, device, tiles=8, steps=100_000, seconds=None)

    def test_what_is_missing_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda name: None)
        message = (
            "compiled=True: torch.compile needs a C++ compiler (g++, c++, clang++) on cpu, and there is none"
        )
        with pytest.raises(ConfigError, match=re.escape(message)):
            compiles(True, CPU, tiles=1, steps=1, seconds=None)
        assert not compiles(None, GPU, tiles=8, steps=100_000, seconds=None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ConfigError, match="needs the package triton on cuda"):
            compiles(True, GPU, tiles=1, steps=1, seconds=None)


def test_what_does_not_count_counts_at_no_level() -> None:
    module = TrainingModule(UNet(width=2, depth=1), PAPER, Budget(STEPS, None), seed=0)
    draw = torch.Generator().manual_seed(3)
    classes, weights = batch(0)["classes"], batch(0)["weights"]
    levels = [torch.randn(5, 2, 12, 12, generator=draw) for _ in range(3)]
    whole = counted(classes, weights)
    before = module._loss(levels, classes, weights, whole)
    for level in levels:
        level.masked_fill_((classes == 255)[:, None], 50.0)
    assert torch.equal(module._loss(levels, classes, weights, whole), before)
