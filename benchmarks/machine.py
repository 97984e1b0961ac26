"""Where and when figures were taken: printed above every table."""

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def circumstances(packages: tuple[str, ...], cores: str) -> str:
    """Date, machine, versions and commit in one line; `cores` says how many were used."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    facts = [
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        f"{next(iter(models), platform.processor())}, {cores} of {os.cpu_count()}",
        f"load before {os.getloadavg()[0]:.1f}",
        ", ".join([f"python {platform.python_version()}", *map(name_and_version, packages)]),
        f"commit {git.stdout.strip() or 'unknown'}",
    ]
    return "; ".join(facts)


def name_and_version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"
