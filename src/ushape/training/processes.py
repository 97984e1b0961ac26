"""Several processes train one network: how many there are, and what they share.

Each makes its own part of the tiles of a step; gradients are averaged over them (DDP). What has to be the
same in all of them, such as the end of the run, is decided from what the first process saw.
"""

import os
from typing import Any, cast

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, distributed

from ushape.errors import ConfigError


def own_device(device: str, devices: int, nodes: int) -> str:
    """Choose the device of this process.

    Parameters
    ----------
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    devices, nodes : int
        Processes per machine, and machines.

    Raises
    ------
    ConfigError
        If there cannot be so many, or others were started.
    """
    if devices < 1 or nodes < 1:
        raise ConfigError(f"--devices and --nodes must be at least 1, got {devices} and {nodes}")
    count = devices * nodes
    starter, started = _started_by_others()
    if started not in (None, count):
        raise ConfigError(
            f"{starter} started {started} processes, --devices {devices} and --nodes {nodes} make {count}; "
            f"give a --devices and a --nodes whose product is {started}"
        )
    if nodes > 1 and started is None and "MASTER_ADDR" not in os.environ:
        raise ConfigError(
            f"--nodes {nodes}: nothing says where the other machines are; start the command on each of "
            "them by torchrun or srun (docs/cluster.md)"
        )
    if count == 1:
        return device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise ConfigError(
            f"--device {device} is one device; with --devices {devices} give --device cuda or cpu"
        )
    if device == "cpu":
        return device
    if devices > torch.cuda.device_count():
        raise ConfigError(
            f"--devices {devices}: there are {torch.cuda.device_count()} GPUs; give as many or fewer"
        )
    return f"cuda:{os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0'))}"


def environment(devices: int) -> ClusterEnvironment:
    """Tell Lightning who starts the processes, and where each learns its number.

    Not left to Lightning, which takes a single process in somebody's SLURM allocation for one of many.

    Parameters
    ----------
    devices : int
        Processes per machine.
    """
    starter, _ = _started_by_others()
    if starter == "torchrun":
        return TorchElasticEnvironment()
    if starter == "srun":
        # Lightning wants to see the option of that name, and not the number that all options come to.
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(devices))
        return SLURMEnvironment(auto_requeue=False)  # that would save a pickle; SIGTERM saves the run
    return LightningEnvironment()


def is_first() -> bool:
    """Whether this process is the one that validates, writes and prints."""
    return bool(cast(Any, rank_zero_only).rank == 0)


def from_first(values: list[float]) -> list[float]:
    """Return what the first process gave, in all of them."""
    if not _are_several():
        return list(values)
    # NCCL sends nothing that is not on a GPU.
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    sent = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.broadcast(sent, src=0)
    return sent.tolist()


def total(own: Tensor) -> Tensor:
    """Sum over all processes, in each of them.

    A loss made of such sums is that of all tiles of the step, and the same in all processes; its gradients,
    averaged over the processes, are those of one process that has all the tiles.
    """
    return _Total.apply(own) if _are_several() else own  # type: ignore[no-untyped-call]


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        whole = own.clone()
        distributed.all_reduce(whole)
        return whole

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        # Every process makes the same loss of the sum, so the gradients from all of them are this one each.
        return gradient * distributed.get_world_size()


def _are_several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _started_by_others() -> tuple[str, int | None]:
    """Who started the processes, and how many: None where `ushape` starts them itself."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun", int(os.environ["WORLD_SIZE"])
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    return ("srun", tasks) if tasks > 1 else ("", None)  # one task may be a shell, `srun --pty bash`
