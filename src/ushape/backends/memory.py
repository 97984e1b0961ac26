"""Memory of this machine and of this process, in bytes. Linux and macOS."""

import os
import resource
import sys
from pathlib import Path


def available_memory() -> int:
    """Memory that new work can take without swapping; a container's limit counts."""
    # macOS has no /proc; half of what is built in is a careful guess there.
    free = _kilobytes("/proc/meminfo", "MemAvailable")
    if free is None:
        free = installed_memory() // 2
    limit, used = memory_limit(), _number("/sys/fs/cgroup/memory.current")
    return free if limit is None or used is None else min(free, max(limit - used, 0))


def installed_memory() -> int:
    """Memory built into this machine; a container's limit does not count."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory_limit() -> int | None:
    """Memory that the container of this process may take; None if it has no limit."""
    return _number("/sys/fs/cgroup/memory.max")


def resident_memory() -> int:
    """Memory this process holds now; where the system does not say, the most it ever held."""
    resident = _kilobytes("/proc/self/status", "VmRSS")
    return peak_memory() if resident is None else resident


def peak_memory() -> int:
    """Most memory this process ever held."""
    # On Linux getrusage starts from the memory of the process that started this one.
    peak = _kilobytes("/proc/self/status", "VmHWM")
    if peak is not None:
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _kilobytes(path: str, key: str) -> int | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":")), None)


def _number(path: str) -> int | None:
    """Content of a file of one number; None where the file is absent or says "max"."""
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
