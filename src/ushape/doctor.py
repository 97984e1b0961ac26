"""What this machine is for predictions: versions, instructions, cores, memory, GPU, and how fast it is.

The probe times one small tile of the upper levels of each network in each precision, and scales that by the
multiplications of the whole network on the tile that a prediction takes: close enough to tell seconds from
minutes. It times the machine as it is, other work included.
"""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ushape import __version__
from ushape.backends import available_memory, start
from ushape.backends.memory import installed_memory, memory_limit
from ushape.errors import ConfigError, to_install
from ushape.models import UNet
from ushape.models.summary import summarize
from ushape.training import FAST, PAPER, Recipe

Array = np.ndarray[Any, Any]

TIMED = ("fp32", "bf16", "int8")
_PACKAGES = ("torch", "openvino", "nncf")
_INSTRUCTIONS = {"AVX2": "avx2", "AVX-512": "avx512f", "bf16": "avx512_bf16", "AMX": "amx_tile"}
"""What speeds up convolutions, and its name in /proc/cpuinfo."""

_PROBED_DEPTH = 2
"""The levels below do as much work, but have nine tenths of the weights, which take seconds to convert."""

_PROBED_SIDE = 252
"""Input pixels of a tile: large enough for threads, half a second on a slow core."""

_LITTLE_MEMORY = 2e9


@dataclass(frozen=True)
class Machine:
    """What can be known without computing.

    Attributes
    ----------
    versions : dict of str or None
        Of packages that compute; None: not installed.
    processor : str
    instructions : dict of bool, or None
        Instruction sets by name; None where the system does not tell them.
    cores_allowed, cores_present : int
        Of logical processors: those this process may run on, and all.
    core_limit : float or None
        Processor seconds per second that a container may take; None: no limit.
    threads : int
        That PyTorch computes with.
    load : float
        Threads that wanted to run in the last minute, on average, ours included.
    memory, memory_free : int
        Bytes in the machine, and those new work can take.
    memory_limit : int or None
        Bytes that a container may take; None: no limit.
    gpus : tuple of str
        Names of those that PyTorch can use.
    has_idle_gpu : bool
        There is an NVIDIA GPU, but this PyTorch cannot use it.
    """

    versions: dict[str, str | None]
    processor: str
    instructions: dict[str, bool] | None
    cores_allowed: int
    cores_present: int
    core_limit: float | None
    threads: int
    load: float
    memory: int
    memory_free: int
    memory_limit: int | None
    gpus: tuple[str, ...]
    has_idle_gpu: bool

    def render(self) -> str:
        """Lines for a person."""
        versions = [f"{name} {found or 'not installed'}" for name, found in self.versions.items()]
        sets = (self.instructions or {}).items()
        instructions = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in sets)
        threads = _counted(self.threads, "thread")
        cores = f"{self.cores_allowed} of {self.cores_present} allowed, PyTorch takes {threads}"
        if self.core_limit is not None:
            cores += f", at most {self.core_limit:g} in this container"
        memory = f"{self.memory / 1e9:.1f} GB, {self.memory_free / 1e9:.1f} GB free"
        if self.memory_limit is not None:
            memory += f", at most {self.memory_limit / 1e9:.1f} GB in this container"
        lines = {
            "ushape": f"{__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}",
            "computes with": ", ".join(versions),
            "processor": f"{self.processor}: {instructions or 'instruction sets not known'}",
            "cores": f"{cores}; load {self.load:.1f}",
            "memory": memory,
            "GPU": ", ".join(self.gpus) or "none that PyTorch can use",
        }
        return "\n".join(f"{name + ':':<15}{text}" for name, text in lines.items())


@dataclass(frozen=True)
class Speed:
    """How long a prediction takes.

    Attributes
    ----------
    network, precision : str
    seconds_per_megapixel : float or None
        To expect for a large image; None if it is not timed.
    reason : str
        Why there is no figure.
    """

    network: str
    precision: str
    seconds_per_megapixel: float | None
    reason: str = ""


def examine() -> Machine:
    """Look at this machine; nothing is computed."""
    limit = memory_limit()
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        gpus.append("Apple GPU, by --device mps only")
    return Machine(
        versions={name: _version(name) for name in _PACKAGES},
        processor=_processor(),
        instructions=_instructions(),
        cores_allowed=_cores_allowed(),
        cores_present=os.cpu_count() or 1,
        core_limit=_core_limit(),
        threads=torch.get_num_threads(),
        load=os.getloadavg()[0],
        memory=installed_memory(),
        memory_free=available_memory(),
        memory_limit=limit,
        gpus=tuple(gpus),
        has_idle_gpu=not gpus and Path("/dev/nvidia0").exists(),
    )


def warnings_of(machine: Machine) -> list[str]:
    """What makes predictions slower than they need be, a line each, with what to do."""
    return list(_warnings(machine))


def _warnings(machine: Machine) -> Iterator[str]:
    usable = machine.cores_allowed
    if machine.core_limit is not None and machine.core_limit < usable:
        usable = max(int(machine.core_limit), 1)
    if machine.threads > usable:
        yield (
            f"{machine.threads} threads share {_counted(usable, 'core')} and wait for each other; set "
            f"OMP_NUM_THREADS={usable}"
        )
    elif machine.threads < usable:
        yield f"{machine.threads} of {usable} cores are used; unset OMP_NUM_THREADS, or set it to {usable}"
    if machine.load > max(machine.cores_present / 2, 0.75):
        yield (
            f"{machine.load:.1f} threads of other work share {_counted(machine.cores_present, 'core')}: the "
            "figures are of what is left, and threads that wait for each other lose most; run less beside it"
        )
    if machine.instructions is not None and not machine.instructions["AVX2"]:
        yield "the processor has no AVX2: expect a fraction of the usual speed"
    if machine.memory_free < _LITTLE_MEMORY:
        yield (
            f"{machine.memory_free / 1e9:.1f} GB of memory are free, so tiles will be small and margins cost "
            "more; close other programs, or raise the limit of the container"
        )
    if machine.has_idle_gpu:
        yield (
            f"there is an NVIDIA GPU, but torch {machine.versions['torch']} cannot use it; install a build "
            "of torch with CUDA"
        )


def probe(progress: Callable[[str], None] | None = None) -> tuple[list[Speed], str]:
    """Time the paper's network and that of `fast` in each precision, for some seconds.

    Parameters
    ----------
    progress : callable, optional
        Called with what is timed next.

    Returns
    -------
    list of Speed
        Of each network and precision, on the device and engine that "auto" takes.
    str
        What `--precision auto` takes: precision, device and engine.
    """
    speeds, auto = [], ""
    with _cache_of_its_own():
        for recipe in (PAPER, FAST):
            network, whole = _network_of(recipe), _whole_network_of(recipe)
            chosen = start(network)
            auto = f"{chosen.precision}, on {chosen.device}, by {chosen.engine}"
            for precision in TIMED:
                if progress is not None:
                    progress(f"{recipe.name}, {precision}")
                speeds.append(_speed(network, whole, recipe.name, precision))
    return speeds, auto


@contextmanager
def _cache_of_its_own() -> Iterator[None]:
    """Converted networks of random weights are not worth a place in the user's cache."""
    before = os.environ.get("USHAPE_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["USHAPE_CACHE"] = folder
        try:
            yield
        finally:
            del os.environ["USHAPE_CACHE"]
            if before is not None:
                os.environ["USHAPE_CACHE"] = before


def _network_of(recipe: Recipe) -> UNet:
    """An untrained network that is sure of a class: int8 is refused where it changes too many labels."""
    network = UNet(width=recipe.width, depth=_PROBED_DEPTH, norm=recipe.norm).eval()
    network.state_dict()["score.bias"][0] = 100.0
    return network


def _whole_network_of(recipe: Recipe) -> UNet:
    """The network that is told of, without weights."""
    with torch.device("meta"):
        return UNet(width=recipe.width, norm=recipe.norm)


def _missing_for_int8() -> str:
    missing = [name for name in ("openvino", "nncf") if _version(name) is None]
    return f"not possible: needs {' and '.join(missing)}; {to_install('fast')}" if missing else ""


def _speed(network: UNet, whole: UNet, name: str, precision: str) -> Speed:
    missing = _missing_for_int8() if precision == "int8" else ""
    if missing:
        return Speed(name, precision, None, missing)
    # It takes several passes to quantise, so that is done on the smallest tile; the result is as fast.
    smallest, tile = (_noise(side) for side in (network.geometry.smallest, _PROBED_SIDE))
    try:
        backend = start(network, "auto", precision, tiles=[smallest])  # type: ignore[arg-type]
    except ConfigError as error:
        return Speed(name, precision, None, f"not possible: {error}")
    backend(tile)  # the first pass compiles kernels
    started = time.perf_counter()
    backend(tile)
    seconds = time.perf_counter() - started
    large, _ = whole.geometry.nearest_valid_sizes(backend.largest_tile)
    assert large is not None
    more = _work(whole, large) / _work(network, _PROBED_SIDE)
    return Speed(name, precision, seconds * more / (whole.geometry.output_size(large) ** 2 / 1e6))


def _noise(side: int) -> Array:
    return np.random.default_rng(0).standard_normal((1, side, side), np.float32)


def _work(network: UNet, side: int) -> int:
    return sum(step.multiply_accumulates for step in summarize(network, side, side))


def render_speeds(speeds: list[Speed], auto: str) -> str:
    """Lines for a person: a column per network, a row per precision, and what `auto` takes."""
    names = dict.fromkeys(speed.network for speed in speeds)
    lines = ["seconds per megapixel to expect:", " " * 6 + "".join(f"{name:>8}" for name in names)]
    for precision in dict.fromkeys(speed.precision for speed in speeds):
        row = [speed for speed in speeds if speed.precision == precision]
        figures = "".join(_two_digits(speed.seconds_per_megapixel).rjust(8) for speed in row)
        reason = next((f"   {speed.reason}" for speed in row if speed.reason), "")
        lines.append(f"  {precision}{reason or figures}")
    return "\n".join([*lines, f"--precision auto takes {auto}"])


def _two_digits(value: float | None) -> str:
    return "-" if value is None else f"{float(f'{value:.2g}'):g}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    return next(_cpuinfo("model name"), platform.processor() or platform.machine())


def _instructions() -> dict[str, bool] | None:
    flags = next(_cpuinfo("flags"), None)
    return None if flags is None else {name: flag in flags.split() for name, flag in _INSTRUCTIONS.items()}


def _cpuinfo(key: str) -> Iterator[str]:
    """Values of a key in /proc/cpuinfo, one per processor; none on other systems than Linux."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == key:
            yield value.strip()


def _cores_allowed() -> int:
    # macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _core_limit(folder: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Processor seconds per second that a container may take: cgroup 2, else cgroup 1."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = (
                (folder / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        except OSError:
            return None
    return int(quota) / int(period) if quota.isdigit() else None
