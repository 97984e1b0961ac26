"""Around the loop: what a run changes for its time is put back, however the run ends."""

import logging
import re
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ushape import EncoderUNet, UNet
from ushape.backends import PyTorchBackend
from ushape.errors import ConfigError
from ushape.training import FAST, train
from ushape.training.loop import CommonBatchNorms, lightning, trainer_for, without_chatter
from ushape.training.progress import ProgressLines


def test_the_level_of_lightnings_log_is_put_back() -> None:
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    with pytest.raises(OSError, match="disk"):
        fail_without_chatter()
    assert logger.level == before != logging.ERROR


def fail_without_chatter() -> None:
    with without_chatter():
        assert logging.getLogger("lightning.pytorch").level == logging.ERROR
        raise OSError("disk full")


@pytest.mark.parametrize("error", [None, OSError("disk full"), KeyboardInterrupt()])
def test_the_bar_ends_with_the_run_however_that_ends(error: BaseException | None) -> None:
    screen = StringIO()
    lines = ProgressLines(Console(file=screen, force_terminal=True), None)
    lines.on_train_start(None, None)
    assert lines.bar.live.is_started
    if error is None:
        lines.on_train_end(None, None)
    else:
        lines.on_exception(None, None, error)
    assert not lines.bar.live.is_started
    assert screen.getvalue().endswith("\x1b[2K"), "the bar is wiped away"
    lines.on_train_end(None, None)  # a second time does no harm


def test_a_resumed_run_shows_no_validation_twice() -> None:
    rows = [{"step": float(step), "loss": 1.0} for step in (1, 2)]
    before, screen = ProgressLines(Console(file=StringIO()), None), StringIO()
    before.shown = 1
    lines = ProgressLines(Console(file=screen), SimpleNamespace(history=rows, limited=""))
    lines.load_state_dict(before.state_dict())
    module = SimpleNamespace(budget=SimpleNamespace(elapsed=7.0))
    for _ in range(2):
        lines.on_train_batch_end(SimpleNamespace(global_step=3), module, None, None, 0)
    assert screen.getvalue().split()[:4] == ["7", "s", "step", "2"]
    assert screen.getvalue().count("step") == 1


def test_no_bar_where_there_is_no_terminal() -> None:
    lines = ProgressLines(Console(file=StringIO()), None)
    lines.on_train_start(None, None)
    lines.on_exception(None, None, OSError())
    assert lines.bar is None


def test_every_tenth_loss_is_in_the_tensorboard_events(discs: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(discs, tmp_path / "run", steps=21, width=2, device="cpu")
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    losses = events.Scalars("train/loss")
    assert [one.step for one in losses] == [10, 20]
    assert all(0 < one.value < 10 for one in losses)


@pytest.mark.parametrize(
    ("tiles", "accumulate", "words", "fix"),
    [
        (3, 1, "3 tiles of 284 x 284 px a step", "a recipe with `accumulate`"),
        (3, 3, "3 tiles of 284 x 284 px a step", "a recipe with a smaller `tile`"),
        (1, 1, "a tile of 284 x 284 px a step", "a recipe with a smaller `tile`"),
    ],
)
def test_too_little_memory_is_said_in_a_line_with_what_takes_less(
    discs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiles: int,
    accumulate: int,
    words: str,
    fix: str,
) -> None:
    def without_memory(network: UNet, tile: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation")

    own = FAST.model_copy(update={"shrink": 1, "tiles": tiles, "accumulate": accumulate})
    options = {"recipe": own, "steps": 1, "width": 2, "device": "cpu"}
    with monkeypatch.context() as patch:
        patch.setattr(UNet, "forward", without_memory)
        with pytest.raises(ConfigError, match=re.escape(f" {words}; use a narrower network ")) as raised:
            train(discs, tmp_path / "run", **options)
    assert f"(--width, --model), {fix} " in str(raised.value)
    assert str(raised.value).endswith(" (docs/recipes.md), or --device cpu")
    assert train(discs, tmp_path / "run", **options).steps == 1, "its folder is free again"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"model": "mobilenetv3_small_100", "pretrained": False},
            r"layer `encoder\.model\.blocks\.0\.0\.se` looks at the whole image at once, .* equal it",
        ),
        ({"width": 2}, "0 MB are left for a tile, the smallest one takes .* MB"),
    ],
)
def test_a_validation_that_cannot_be_computed_advises_nothing_of_predict(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], reason: str
) -> None:
    monkeypatch.setattr(PyTorchBackend, "available_memory", lambda self: 0)
    said = f"^a validation cannot be computed: {reason}; give smaller images, or use another network"
    with pytest.raises(ConfigError, match=said):
        train(discs, tmp_path / "run", steps=1, device="cpu", **options)


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def outputs_before_and_after(network: nn.Module) -> list[torch.Tensor]:
    """Without and with common batch norms, in evaluation mode, in which they work on a CPU, too."""
    image = torch.randn(1, 1, 188, 188, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = network.eval()(image)
        assert CommonBatchNorms().apply(network) is network
        assert all(type(module).__name__.startswith("SyncBatchNorm") for module in batch_norms(network))
        return [before, network(image)]


def test_common_batch_norms_keep_the_activations_of_timm() -> None:
    network = EncoderUNet("mobilenetv3_small_100", width=2)
    network.freeze_encoder(1)
    trained = [module.training for module in batch_norms(network)]
    assert torch.equal(*outputs_before_and_after(network))
    network.train()
    assert [module.training for module in batch_norms(network)] == trained, "what is frozen stays frozen"
    assert {True, False} == set(trained)


def test_common_batch_norms_need_no_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert torch.equal(*outputs_before_and_after(UNet(width=2, norm="batch")))


@pytest.mark.parametrize(
    ("device", "devices", "are_common"), [("cuda", 2, True), ("cuda", 1, False), ("cpu", 2, False)]
)
def test_batch_norms_are_common_to_several_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, devices: int, are_common: bool
) -> None:
    """What Lightning is told: it makes no trainer for GPUs that are not there."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(lightning, "Trainer", lambda **options: told.update(options))
    backend = SimpleNamespace(device=torch.device(device), precision="fp32")
    trainer_for(tmp_path, backend, [], devices, 1)
    assert any(isinstance(one, CommonBatchNorms) for one in told["plugins"]) == are_common
    assert not told.get("sync_batchnorm"), "that would convert them by itself"
