"""Two real processes: the steps of one process with all tiles, one clock, and the same average."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from ushape import UNet
from ushape.backends import PyTorchBackend
from ushape.errors import ConfigError
from ushape.training.budget import Budget
from ushape.training.loop import lightning, trainer_for, without_chatter
from ushape.training.module import TrainingModule
from ushape.training.processes import from_first, own_device, total
from ushape.training.recipe import PAPER

STEPS = 3
RECIPE = PAPER.model_copy(update={"learning_rate": 0.1, "momentum": 0.5, "ema": 0.9})
PARTS = (1, 2)


def batch() -> dict[str, Any]:
    """Four tiles of very different weight: the mean of their means would be another loss."""
    random, size = torch.Generator().manual_seed(0), net().geometry.smallest
    out = net().geometry.output_size(size)
    weights = torch.rand(4, out, out, generator=random, dtype=torch.float64)
    return {
        "number": [0, 1, 2, 3],
        "image": torch.randn(4, 1, size, size, generator=random, dtype=torch.float64),
        "classes": torch.randint(0, 2, (4, out, out), generator=random),
        "weights": weights * torch.tensor([1.0, 50.0, 7.0, 300.0]).reshape(4, 1, 1),
    }


def net() -> UNet:
    torch.manual_seed(1)
    return UNet(width=2, depth=1, dropout=0.0).double()


class Losses(lightning.Callback):
    """Notes them, and ends the run."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: TrainingModule, *arguments: object
    ) -> None:
        self.seen.append(module.last_loss)
        trainer.should_stop = trainer.global_step == STEPS


def trained(folder: Path, tiles: dict[str, Any], *, parts: int, devices: int) -> dict[str, Any]:
    """Losses and weights of a run on the same tiles in each step."""
    recipe = RECIPE.model_copy(update={"accumulate": parts})
    module, losses = TrainingModule(net(), recipe, Budget(STEPS, None), seed=0), Losses()
    loader = torch.utils.data.DataLoader([tiles] * 10, batch_size=None)
    with without_chatter():
        trainer = trainer_for(folder, PyTorchBackend(module.network, "cpu"), [losses], devices, 1)
        trainer.fit(module.train(), loader)
    return {"losses": torch.tensor(losses.seen, dtype=torch.float64), "weights": module.state_dict()}


def one_of_two(rank: int, port: int, folder: Path) -> None:
    """What each process does; it leaves what it found in a file."""
    # By these Lightning sees that it need not start the other one.
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
    own = {name: value[2 * rank : 2 * rank + 2] for name, value in batch().items()}
    found: dict[str, Any] = {
        str(parts): trained(folder / f"{parts}-{rank}", own, parts=parts, devices=2) for parts in PARTS
    }
    budget = Budget(None, 60.0, started=0.0, clock=lambda: 10.0 + rank)
    budget.share = from_first
    if rank == 1:
        budget.ask_to_stop()  # a Ctrl-C that has not reached the first one
    budget.tick()
    found["budget"] = torch.tensor([budget.elapsed, budget.interrupted])
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(one_of_two, (port, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("parts", PARTS)
def test_two_processes_take_the_steps_of_one_with_all_tiles(
    found: list[dict], parts: int, tmp_path: Path
) -> None:
    alone = trained(tmp_path, batch(), parts=1, devices=1)
    # Sums of float64 in another order are all that differs.
    torch.testing.assert_close(found[0][str(parts)]["losses"], alone["losses"], rtol=1e-12, atol=0)
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(found[0][str(parts)]["weights"][name], weight, rtol=1e-10, atol=1e-12)
    start = net().state_dict()
    assert any((alone["weights"][f"network.{n}"] - w).abs().max() > 1e-3 for n, w in start.items())


@pytest.mark.parametrize("parts", PARTS)
def test_both_have_the_same_in_the_end(found: list[dict], parts: int) -> None:
    first, second = (one[str(parts)] for one in found)
    assert torch.equal(first["losses"], second["losses"])
    assert {name.split(".")[0] for name in first["weights"]} == {"network", "average"}
    assert all(torch.equal(weight, second["weights"][name]) for name, weight in first["weights"].items())


def test_clock_and_ctrl_c_are_those_of_the_first(found: list[dict]) -> None:
    assert found[1]["budget"].tolist() == [10.0, 0.0]


def test_alone_a_sum_is_what_it_is() -> None:
    own = torch.tensor(3.0)
    assert total(own) is own
    assert from_first([1.0, 2.0]) == [1.0, 2.0]


def test_one_process_has_the_device_that_was_asked_for() -> None:
    assert own_device("cuda:1", 1, 1) == "cuda:1"
    assert own_device("cpu", 2, 1) == "cpu"


@pytest.mark.parametrize(
    ("device", "devices", "nodes", "message"),
    [
        ("cpu", 0, 1, "must be at least 1, got 0 and 1"),
        ("cpu", 1, 2, "--nodes 2: nothing says where the other machines are.* by torchrun or srun"),
        ("mps", 2, 1, "--device mps is one device; with --devices 2 give --device cuda or cpu"),
        ("cuda", 99, 1, r"--devices 99: there are \d+ GPUs; give as many or fewer"),
    ],
)
def test_processes_that_cannot_be(device: str, devices: int, nodes: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        own_device(device, devices, nodes)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4"}, "torchrun started 4 processes.*product is 4"),
        ({"SLURM_STEP_NUM_TASKS": "8"}, "srun started 8 processes.*product is 8"),
    ],
)
def test_processes_that_others_started_are_counted(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        own_device("cpu", 2, 1)
