"""Tasks on a Dask cluster: processes of this machine, or workers of a scheduler elsewhere.

A task is a function of a module with arguments that can be sent. It may be run more than once: what a worker
had in hand when it died is given to another one. Who may reach a scheduler may run code on its workers; use
one on a network you trust, as Dask's documentation says.
"""

import asyncio
import importlib.util
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

import ushape
from ushape.backends import available_memory, resident_memory
from ushape.errors import ConfigError, to_install

_SECONDS_FOR_SCHEDULER = 5
_SECONDS_FOR_WORKERS = 60
_SECONDS_BETWEEN_LOOKS = 0.02
_LOGGERS = tuple(f"distributed{name}" for name in ("", ".client", ".core", ".comm", ".nanny", ".scheduler"))
_ONE_AT_A_TIME = threading.Lock()


class Cluster:
    """Workers that run tasks; made by `local_cluster` and `connected_cluster`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @property
    def memory_per_task(self) -> int:
        """Bytes a worker may take: half of what is free on its machine, shared by the workers there now.

        Raises
        ------
        ConfigError
            If there is no worker, or one that joined lately has not this package.
        """
        _wait_for(self._client, 1, "no worker is left")
        _require_package(self._client)
        found = self._client.run(_inspect).values()
        of_machine = Counter(machine for machine, _ in found)
        return min(int(free) // 2 // of_machine[machine] for machine, free in found)

    def run(
        self,
        task: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        *,
        errors: tuple[type[Exception], ...] = (),
    ) -> Iterator[tuple[int, Any]]:
        """Run a task once for each tuple of arguments; in each worker one at a time.

        Parameters
        ----------
        task : callable
            A function of a module.
        arguments : sequence of tuple
        errors : tuple of type, optional
            Exceptions of a task that are given in place of what it returns; the others go on.

        Yields
        ------
        (int, object)
            Number of the tuple and what the task returned, in the order in which they are done.

        Raises
        ------
        ConfigError
            If workers die over and over in one task, all of them or the scheduler go and do not come back, or
            a worker has another version of this package.
        Exception
            What a task raised but for `errors`. Tasks that wait are dropped then; those that run go on to
            their end.
        """
        from distributed import as_completed

        futures = {
            self._client.submit(_alone, ushape.__version__, task, *words, pure=False): number
            for number, words in enumerate(arguments)
        }
        try:
            completed = as_completed([*futures], loop=self._client.loop)
            while completed.count():
                self._wait_while_there_are_workers(completed.has_ready)
                future = next(completed)
                yield futures[future], _result(future, errors)
        finally:
            self._client.cancel([*futures])

    def _wait_while_there_are_workers(self, is_ready: Callable[[], bool]) -> None:
        """Wait for a task, however long it takes, but not for workers that do not come back."""
        looked = time.monotonic()
        while not is_ready():
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            if time.monotonic() - looked > _SECONDS_FOR_WORKERS:
                if not self._client.nthreads():  # paused ones are there
                    _wait_for(
                        self._client, 1, "no worker is left; start some, and give the same command to go on"
                    )
                looked = time.monotonic()


def _alone(version: str, task: Callable[..., Any], *words: Any) -> Any:
    """Run a task when no other one runs in this process: a network computes one tile at a time."""
    if ushape.__version__ != version:
        place, there = socket.gethostname(), ushape.__version__
        raise ConfigError(f"{place} has ushape {there}, not {version} as here; install that there")
    with _ONE_AT_A_TIME:
        return task(*words)


def _result(future: Any, errors: tuple[type[Exception], ...]) -> Any:
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except errors as error:
        return error
    except KilledWorker as error:
        raise ConfigError(
            "workers died again and again in the same task, as they do when memory runs out; lower "
            "--max-memory and add --overwrite, or give them more and go on (the last one was "
            f"{error.last_worker.address})"
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
        If Dask is missing, `workers` is not positive, or they do not start in a minute.

    Notes
    -----
    Workers import the script that started them: its own call must stand below
    ``if __name__ == "__main__":``.
    """
    if workers < 1:
        raise ConfigError(f"--workers {workers}: at least 1 process is needed")
    _require_dask("--workers")
    import dask
    from distributed import Client, LocalCluster

    threads = os.environ.get("OMP_NUM_THREADS") or str(max(torch.get_num_threads() // workers, 1))
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    with (
        _quiet(),
        # Dask would give every worker one thread. It must be said before the process starts, because
        # that imports the script and with it torch, which then looks.
        dask.config.set({"distributed.nanny.pre-spawn-environ": dict.fromkeys(variables, threads)}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # the plan of tiles sees to it
            dashboard_address="127.0.0.1:0",  # any free port; None means 8787
            silence_logs=logging.CRITICAL,
        ) as processes,
        Client(processes, set_as_default=False) as client,  # other Dask code here stays as it is
    ):
        _wait_for(client, workers, f"--workers {workers}: they did not start; give fewer")
        yield Cluster(client)


@contextmanager
def connected_cluster(address: str) -> Iterator[Cluster]:
    """Use the workers of a scheduler that runs, such as ``tcp://10.0.0.1:8786``.

    Raises
    ------
    ConfigError
        If Dask is missing, nothing answers at the address, no worker joins in a minute, or one of them or the
        scheduler has not this package, or another version of it.
    """
    _require_dask("--scheduler")
    from distributed import Client

    with _quiet():
        _require_answer(address)
        with Client(address, timeout=_SECONDS_FOR_SCHEDULER, set_as_default=False) as client:
            start = f"start some with dask worker {address} --nthreads 1"
            _wait_for(client, 1, f"--scheduler {address}: no worker joined; {start}")
            _require_package(client)
            yield Cluster(client)


def _require_answer(address: str) -> None:
    """Refuse an address where no scheduler answers.

    Before a client is made: one that cannot connect closes itself when it is collected, and if that is while
    the next one starts, both wait for a lock for ever.
    """
    from distributed.comm.core import connect
    from distributed.security import Security

    async def call() -> None:
        words = Security().get_connection_args("client")
        (await connect(address, timeout=_SECONDS_FOR_SCHEDULER, **words)).abort()

    try:
        with ThreadPoolExecutor(1) as thread:  # this one may have a loop that runs, as in a notebook
            thread.submit(asyncio.run, call()).result()
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"--scheduler {address}: no Dask scheduler answers there ({reason}); give the address that "
            "`dask scheduler` prints, such as tcp://10.0.0.1:8786"
        ) from None


def _require_dask(option: str) -> None:
    if importlib.util.find_spec("distributed") is None:
        raise ConfigError(f"{option} needs Dask; install it with {to_install('cluster')}")


def _wait_for(client: Any, workers: int, complaint: str) -> None:
    try:
        client.wait_for_workers(workers, timeout=_SECONDS_FOR_WORKERS)
    except TimeoutError:
        raise ConfigError(f"{complaint} (waited {_SECONDS_FOR_WORKERS} s)") from None


def _require_package(client: Any) -> None:
    """Refuse workers and a scheduler without this package in this version: all of them unpack tasks."""
    told = {f"worker {one}": found for one, found in client.run(_version, on_error="return").items()}
    try:
        told["the scheduler"] = client.run_on_scheduler(_version)
    except (ImportError, AttributeError) as error:  # what unpacking `_version` meets there
        told["the scheduler"] = error
    for place, found in told.items():
        if isinstance(found, Exception):
            reason = str(found).partition("\n")[0]
            raise ConfigError(
                f"{place} cannot import ushape ({reason}); install ushape {ushape.__version__} there"
            )
        if found != ushape.__version__:
            raise ConfigError(
                f"{place} has ushape {found}, not {ushape.__version__} as here; install that there"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's log off the screen: what matters is told by our errors."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _version() -> str:
    return ushape.__version__


def _inspect() -> tuple[str, int]:
    """Machine, and its free memory, with what this process has taken already."""
    return socket.gethostname(), available_memory() + resident_memory()
