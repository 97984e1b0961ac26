"""Where and when figures were taken: printed above every table, or below that of runs that are kept.

And where the data sets are.
"""

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

DATA = Path(os.environ.get("USHAPE_DATA", ROOT.parent / "shared" / "data"))
"""Folder of the data sets."""


def circumstances(packages: tuple[str, ...], cores: str, *, load: bool = True) -> str:
    """Date, machine, versions and commit in one line; `cores` says how many were used.

    Without the load the lines of one day, machine and commit are equal.
    """
    facts = [
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        f"{processor()}, {cores} of {os.cpu_count()}",
        *([f"load before {os.getloadavg()[0]:.1f}"] if load else []),
        ", ".join([f"python {platform.python_version()}", *map(name_and_version, packages)]),
        f"commit {commit()}",
    ]
    return "; ".join(facts)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(models), platform.processor())


def commit() -> str:
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return git.stdout.strip() or "unknown"


def name_and_version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"
