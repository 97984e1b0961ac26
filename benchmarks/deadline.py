"""Whether `ushape train --time` keeps its deadline, and how often there are new pictures.

    python benchmarks/deadline.py --minutes 1 2

Seconds from the start of Python to its end, on ISBI 2012 and on DSB 2018, then with `--folds 3` in three
times as long. A run on a busy processor counts, too: what is kept free is measured in the run itself.
"""

import argparse
import itertools
import shutil
import subprocess
import sys
import time
from pathlib import Path

from machine import DATA, circumstances


def run(data: Path, minutes: float, folds: int, output: Path) -> tuple[float, list[float], str]:
    """Train once; seconds in all, seconds at which a picture was new, and the last line of scores.

    Where the time is refused as too short, no pictures, and why.
    """
    shutil.rmtree(output, ignore_errors=True)
    ushape = Path(sys.executable).with_name("ushape")
    words = [ushape, "train", data, "--output", output, "--time", f"{minutes:g}m", "--device", "cpu"]
    words += ["--folds", folds] if folds > 1 else []
    pictures, latest, begun = [], 0.0, time.monotonic()
    with subprocess.Popen(
        map(str, words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        while process.poll() is None:
            time.sleep(0.2)
            newest = max((path.stat().st_mtime for path in output.glob("**/validation/*.png")), default=0.0)
            if newest > latest:
                latest = newest
                pictures.append(time.monotonic() - begun)
        seconds = time.monotonic() - begun
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    if process.returncode == 2:
        return seconds, [], lines[-1]
    assert process.returncode == 0, lines
    return seconds, pictures, next(line for line in reversed(lines) if " step " in line)


def main() -> None:
    """Make all runs and print the table."""
    parser = argparse.ArgumentParser(description="Whether --time is kept.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of isbi2012/, dsb2018/")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", default=["isbi2012", "dsb2018"])
    parser.add_argument("--output", type=Path, default=Path("runs/deadline"))
    options = parser.parse_args()
    print(circumstances(("ushape", "torch", "lightning"), "all cores"), "", sep="\n", flush=True)
    print("| data | asked for | seconds | off | first picture | longest without a new one |")
    print("|---|---|---|---|---|---|")
    for folds, each, name in itertools.product((1, 3), options.minutes, options.only):
        minutes, what = each * folds, name if folds == 1 else f"{name}, {folds} folds"
        output = options.output / f"{name}-{minutes:g}-{folds}"
        seconds, pictures, last = run(options.data / name, minutes, folds, output)
        if not pictures:
            print(f"| {what} | {minutes:g} min | {last} | | | |", flush=True)
            continue
        pauses = [after - before for before, after in itertools.pairwise([*pictures, seconds])]
        off = 100 * (seconds / (60 * minutes) - 1)
        shown = f"{pictures[0]:.0f} s | {max(pauses):.0f} s"
        print(f"| {what} | {minutes:g} min | {seconds:.1f} | {off:+.1f} % | {shown} |", flush=True)
        print(last, file=sys.stderr)


if __name__ == "__main__":
    main()
