"""Memory of this machine and of this process, in bytes. Linux and macOS."""

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")
"""Where the system tells of itself."""


class _Control(NamedTuple):
    """Where a version of control groups (of containers, of jobs) tells of memory."""

    controller: str  # in /proc/self/cgroup
    folder: str
    limit: str
    used: str
    files: str  # in memory.stat: content of files in memory that nobody has read lately


_CONTROLS = (
    _Control("", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    _Control(
        "memory",
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
_NO_LIMIT = 2**62
"""Version 1 says 2**63, rounded down to a page, where there is none; version 2 says "max"."""


def available_memory() -> int:
    """Memory that new work can take without swapping; the limit of a container or a job counts."""
    # macOS has no /proc; half of what is built in is a careful guess there.
    free = _kilobytes("proc/meminfo", "MemAvailable")
    if free is None:
        free = installed_memory() // 2
    return min([free, *(max(limit - used, 0) for limit, used in _limits())])


def installed_memory() -> int:
    """Memory built into this machine; a container's limit does not count."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory_limit() -> int | None:
    """Memory that the container or the job of this process may take; None if it has no limit."""
    return min((limit for limit, _ in _limits()), default=None)


def resident_memory() -> int:
    """Memory this process holds now; where the system does not say, the most it ever held."""
    resident = _kilobytes("proc/self/status", "VmRSS")
    return peak_memory() if resident is None else resident


def peak_memory() -> int:
    """Most memory this process ever held."""
    # On Linux getrusage starts from the memory of the process that started this one.
    peak = _kilobytes("proc/self/status", "VmHWM")
    if peak is not None:
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _limits() -> Iterator[tuple[int, int]]:
    """Limit of each control group that this process is in, and what the group has taken of it.

    Content of files counts as taken there, but makes room as soon as memory is wanted.
    """
    for control, group in _groups():
        limit, used = _number(group / control.limit), _number(group / control.used)
        if limit is not None and used is not None and limit < _NO_LIMIT:
            yield limit, used - (_value(group / "memory.stat", control.files) or 0)


def _groups() -> Iterator[tuple[_Control, Path]]:
    """Folders of the control group of this process and of all that it lies in.

    A container may see only its own group, as the outermost folder, and be told a path that leads nowhere.
    """
    for line in _lines(ROOT / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        for control in _CONTROLS:
            if control.controller in controllers.split(","):
                outermost = ROOT / control.folder
                group = outermost / path.strip("/")
                nested = (group, *group.parents)
                yield from ((control, one) for one in nested if one.is_relative_to(outermost))


def _kilobytes(path: str, key: str) -> int | None:
    value = _value(ROOT / path, f"{key}:")
    return None if value is None else 1024 * value


def _value(path: Path, key: str) -> int | None:
    """Number that follows a key; None where file or key is absent."""
    words = (line.split() for line in _lines(path))
    return next((int(found[1]) for found in words if found[:1] == [key]), None)


def _number(path: Path) -> int | None:
    """Content of a file of one number; None where the file is absent or says "max"."""
    text = next(iter(_lines(path)), "")
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    """Lines of a file; none where it is absent."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
