"""How much memory may be taken, and the one line where it does not suffice."""

from ushape.backends import Backend, available_memory, resident_memory
from ushape.errors import ConfigError


def free_memory(max_memory: int | None, resident: int) -> float:
    """Bytes that a process may take beside those it holds: without a limit half of what is available."""
    return available_memory() / 2 if max_memory is None else max_memory - resident


def budget_of(backend: Backend, max_memory: int | None, resident: int) -> float:
    """Bytes that a backend may take where it computes; this process holds `resident`."""
    if max_memory is None:
        return backend.available_memory() / 2
    return max_memory - (0 if backend.has_own_memory else resident)


def require_memory(
    needed: float, max_memory: int | None, what: str, instead: str, *, in_any_case: float = 0.0
) -> None:
    """Refuse what takes more memory than there is, and say how much to give.

    Parameters
    ----------
    needed : float
        Bytes.
    max_memory : int, optional
        Limit of the whole process.
    what : str
        Takes them, in words.
    instead : str
        What could be done with less.
    in_any_case : float
        Bytes that are never refused: what is free is not known better.

    Raises
    ------
    ConfigError
    """
    resident = resident_memory()
    if needed > max(free_memory(max_memory, resident), in_any_case):
        raise ConfigError(
            f"{what} takes {needed / 1e9:.1f} GB; give --max-memory "
            f"{(needed + resident) / 1e9 + 0.1:.1f}GB, or, with --overwrite, {instead}"
        )
