"""Whether a training run compiles its network with `torch.compile`: decided by rule, never by a clock."""

import importlib.util
import shutil

import torch

from ushape.errors import ConfigError

WORTH_TILES = 8
"""Tiles a step from which on a GPU gains by it; at one tile Python is what is waited for.

Paper's network on an NVIDIA H200: 228 tiles a second instead of 164 at 8 tiles a step, 243 instead of 190 at
16, after 21 s of compiling.
"""

WORTH_STEPS, WORTH_SECONDS = 3_000, 150.0
"""Length of a run from which on that is gained back twice over."""

_CPP, _C = ("g++", "c++", "clang++"), ("gcc", "cc", "clang")


def compiles(
    asked: bool | None, device: torch.device, *, tiles: int, steps: int | None, seconds: float | None
) -> bool:
    """Decide whether to compile.

    Parameters
    ----------
    asked : bool or None
        What the user said; None decides: on a GPU, for many tiles a step, in a long run, where it can be.
    device : torch.device
        Where the network is trained.
    tiles : int
        In a step.
    steps, seconds
        The budget; one of the two is given.

    Raises
    ------
    ConfigError
        If it is asked for and cannot be.
    """
    missing = _missing(device)
    if asked is None:
        is_long = (steps or 0) >= WORTH_STEPS or (seconds or 0.0) >= WORTH_SECONDS
        return device.type == "cuda" and tiles >= WORTH_TILES and is_long and missing is None
    if asked and missing is not None:
        raise ConfigError(
            f"compiled=True: torch.compile needs {missing} on {device.type}, and there is none; "
            "install it, or leave compiled out"
        )
    return asked


def _missing(device: torch.device) -> str | None:
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "the package triton"
    # Triton compiles its launchers in C, the code for processors is C++.
    wanted, name = (_C, "a C compiler") if device.type == "cuda" else (_CPP, "a C++ compiler")
    return None if any(map(shutil.which, wanted)) else f"{name} ({', '.join(wanted)})"
