"""Runs of minutes, each kept as a JSON file: what is there is not made again, and says where it was made."""

import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from machine import circumstances

Record = dict[str, Any]


def recorded(run: Path, packages: tuple[str, ...], make: Callable[[Path], Record]) -> Record:
    """The record beside the folder of a run; if it is not there, the run is made in an empty folder."""
    path = run.with_name(run.name + ".json")
    if not path.exists():
        print(f"{run.name}: started", file=sys.stderr, flush=True)
        shutil.rmtree(run, ignore_errors=True)  # what a killed run left cannot be scored
        run.mkdir(parents=True)
        where = circumstances(packages, "all cores", load=False)
        known = {"where": where, "load_before": os.getloadavg()[0]}
        path.write_text(json.dumps(make(run) | known, indent=1))
    return dict(json.loads(path.read_text()))


def places(records: Iterable[Record]) -> list[str]:
    """Where and when the runs were made, each place once; older records tell it in their own form."""
    told = (str(record.get("where", "date and machine were not recorded")) for record in records)
    return [*dict.fromkeys(told)]


def median_and_spread(values: Sequence[float], digits: int = 4) -> str:
    """The median, and in brackets the largest minus the smallest."""
    return f"{statistics.median(values):.{digits}f} ({max(values) - min(values):.{digits}f})"
