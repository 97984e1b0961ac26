"""Tasks on a Dask cluster: processes of this machine, or workers of a scheduler elsewhere.

A task is a function of a module with arguments that can be sent. It may be run more than once: what a worker
had in hand when it died is given to another one. Who may reach a scheduler may run code on its workers; use
one on a network you trust, as Dask's documentation says.
"""

import importlib.util
import logging
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

import ushape
from ushape.backends import available_memory
from ushape.errors import ConfigError

_SECONDS_FOR_SCHEDULER = 5
_SECONDS_FOR_WORKERS = 60
_ONE_AT_A_TIME = threading.Lock()


class Cluster:
    """Workers that run tasks; made by `local_cluster` and `connected_cluster`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @property
    def memory_per_task(self) -> int:
        """Bytes a task may take: half of what is free on its machine, shared by the workers there."""
        workers = [*_inspected(self._client).values()]
        of_machine = Counter(machine for machine, _, _ in workers)
        return min(int(free) // 2 // of_machine[machine] for machine, free, _ in workers)

    def run(
        self, task: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        """Run a task once for each tuple of arguments.

        Yields
        ------
        (int, object)
            Number of the tuple and what the task returned, in the order in which they are done.

        Raises
        ------
        ConfigError
            If workers die over and over in one task, or the scheduler goes.
        Exception
            What a task raised; tasks that wait are dropped then.
        """
        from distributed import as_completed

        futures = {
            self._client.submit(_alone, task, *words, pure=False): number
            for number, words in enumerate(arguments)
        }
        try:
            for future in as_completed([*futures], loop=self._client.loop):
                yield futures[future], _result(future)
        finally:
            self._client.cancel([*futures])


def _alone(task: Callable[..., Any], *words: Any) -> Any:
    """Run a task when no other one runs in this process: a network computes one tile at a time."""
    with _ONE_AT_A_TIME:
        return task(*words)


def _result(future: Any) -> Any:
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise ConfigError(
            "workers died again and again in the same task, as they do when memory runs out; lower "
            f"--max-memory, or give them more (the last one was {error.last_worker.address})"
        ) from None
    except CancelledError:
        raise ConfigError(
            "the scheduler is gone; give the same command again, with one that runs, to go on"
        ) from None


@contextmanager
def local_cluster(workers: int) -> Iterator[Cluster]:
    """Start worker processes on this machine for as long as the context lasts.

    Parameters
    ----------
    workers : int
        How many, >= 1. They share the cores: each computes with an equal number of threads, or with as many
        as OMP_NUM_THREADS says.

    Raises
    ------
    ConfigError
        If Dask is missing or `workers` is not positive.

    Notes
    -----
    Workers import the script that started them: its own call must stand below
    ``if __name__ == "__main__":``.
    """
    if workers < 1:
        raise ConfigError(f"--workers {workers}: at least 1 process is needed")
    _require_dask("--workers")
    from distributed import Client, LocalCluster

    threads = os.environ.get("OMP_NUM_THREADS") or str(max(torch.get_num_threads() // workers, 1))
    # Dask would give every worker one thread, by variables like these.
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # the plan of tiles sees to it
            dashboard_address="127.0.0.1:0",  # any free port; None means 8787
            silence_logs=logging.CRITICAL,
            env=dict.fromkeys(variables, threads),
        ) as processes,
        Client(processes, set_as_default=False) as client,  # other Dask code here stays as it is
    ):
        client.wait_for_workers(workers)
        yield Cluster(client)


@contextmanager
def connected_cluster(address: str) -> Iterator[Cluster]:
    """Use the workers of a scheduler that runs, such as ``tcp://10.0.0.1:8786``.

    Raises
    ------
    ConfigError
        If Dask is missing, nothing answers at the address, no worker joins in a minute, or a worker has
        another version of this package or runs several tasks at once.
    """
    _require_dask("--scheduler")
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is told by our errors
    try:
        client = Client(address, timeout=_SECONDS_FOR_SCHEDULER, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"--scheduler {address}: no Dask scheduler answers there ({reason}); give the address that "
            "`dask scheduler` prints, such as tcp://10.0.0.1:8786"
        ) from None
    with client:
        _require_workers(client, address)
        yield Cluster(client)


def _require_dask(option: str) -> None:
    if importlib.util.find_spec("distributed") is None:
        raise ConfigError(f"{option} needs Dask; install it with pip install 'ushape[cluster]'")


def _require_workers(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=_SECONDS_FOR_WORKERS)
    except TimeoutError:
        raise ConfigError(
            f"--scheduler {address}: no worker joined in {_SECONDS_FOR_WORKERS} s; start some with "
            f"dask worker {address} --nthreads 1"
        ) from None
    for worker, found in _inspected(client).items():
        if not isinstance(found, tuple):
            raise ConfigError(f"worker {worker} cannot import ushape ({found}); install it there")
        if found[2] != ushape.__version__:
            raise ConfigError(
                f"worker {worker} has ushape {found[2]}, here it is {ushape.__version__}; install the same"
            )
    for worker, told in client.scheduler_info(n_workers=-1)["workers"].items():
        if told["nthreads"] > 1:
            raise ConfigError(
                f"worker {worker} runs {told['nthreads']} tasks at once, which would take as many times the "
                "memory; start it with --nthreads 1, and say with OMP_NUM_THREADS how many cores it has"
            )


def _inspected(client: Any) -> dict[str, Any]:
    """Machine, free memory and version of each worker, by its address; or the error instead."""
    return client.run(_inspect, on_error="return")  # type: ignore[no-any-return]


def _inspect() -> tuple[str, int, str]:
    return socket.gethostname(), available_memory(), ushape.__version__
