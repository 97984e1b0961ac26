"""Two real processes: sums over both, gradients of all tiles, one clock, and the same average."""

import os
import socket
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from ushape import UNet
from ushape.errors import ConfigError
from ushape.loss import weighted_cross_entropy
from ushape.training.budget import Budget
from ushape.training.module import TrainingModule
from ushape.training.processes import from_first, own_device, total
from ushape.training.recipe import FAST


def tiles(network: UNet) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two tiles of very different weight: the mean of two means would be another loss."""
    random, size = torch.Generator().manual_seed(0), network.geometry.smallest
    out = network.geometry.output_size(size)
    image = torch.randn(2, 1, size, size, generator=random, dtype=torch.float64)
    classes = torch.randint(0, 2, (2, out, out), generator=random)
    weights = torch.rand(2, out, out, generator=random, dtype=torch.float64)
    return image, classes, weights * torch.tensor([1.0, 50.0]).reshape(2, 1, 1)


def net() -> UNet:
    torch.manual_seed(1)
    return UNet(width=2, depth=1, dropout=0.0).double()


def one_of_two(rank: int, port: int, folder: Path) -> None:
    """What each process does; it leaves what it found in a file."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    module = TrainingModule(net(), FAST, Budget(3, None), seed=0)
    spread = DistributedDataParallel(module.network)
    optimizer = torch.optim.SGD(module.network.parameters(), lr=0.1)
    losses, own = [], [part[rank : rank + 1] for part in tiles(module.network)]
    for _ in range(3):
        optimizer.zero_grad()
        loss = weighted_cross_entropy(spread(own[0]), *own[1:], total=total)
        loss.backward()
        losses.append(loss.detach())
        optimizer.step()
        module.average.update_parameters(module.network)
    budget = Budget(None, 60.0, started=0.0, clock=lambda: 10.0 + rank)
    budget.share = from_first
    if rank == 1:
        budget.ask_to_stop()  # a Ctrl-C that has not reached the first one
    budget.tick()
    found = {
        "losses": torch.stack(losses),
        "weights": module.network.state_dict(),
        "average": module.average.state_dict(),
        "budget": torch.tensor([budget.elapsed, budget.interrupted]),
    }
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


def test_two_processes_take_the_steps_of_one_with_both_tiles(found: list[dict]) -> None:
    network = net()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    image, *target = tiles(network)
    for step in range(3):
        optimizer.zero_grad()
        loss = weighted_cross_entropy(network(image), *target)
        loss.backward()
        optimizer.step()
        torch.testing.assert_close(found[0]["losses"][step], loss.detach(), rtol=1e-12, atol=0)
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(found[0]["weights"][name], weight, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("what", ["losses", "weights", "average", "budget"])
def test_both_have_the_same_in_the_end(found: list[dict], what: str) -> None:
    first, second = (one[what] if isinstance(one[what], dict) else {"": one[what]} for one in found)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


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
