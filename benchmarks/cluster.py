"""A large image shared out to Dask workers of this machine: how fast, and whether the bits stay the same.

    python benchmarks/cluster.py --side 8192 --workers 1 2

Each row is `ushape predict` of a synthetic OME-Zarr by a narrow network. For each number of workers one
process without Dask predicts first, with as many threads as each of them has: their labels are compared with
its labels. In the last row one of two workers is killed with SIGKILL in the middle.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from machine import circumstances
from out_of_core import command, differing, noted, predicted, synthetic, wait_for_blocks, write_model

CORES = len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--max-memory", default="3GB", help="of each process (default 3GB)")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where images and results go (default: a temporary one)")
    options = parser.parse_args()
    print(circumstances(("ushape", "torch", "openvino", "distributed"), f"{CORES} cores"))
    print(f"side {options.side}, width {options.width}, depth {options.depth}, fp32", end="\n\n")
    print("| who | threads each | seconds | Mpx/s | blocks | labels that differ | tiles |")
    print("|---" * 7 + "|", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_model(folder / "model.safetensors", options.width, options.depth)
        synthetic(folder / "a.ome.zarr", options.side)
        for line in rows(folder, options.workers, "--max-memory", options.max_memory):
            print(line, flush=True)


def rows(folder: Path, workers: list[int], *memory: str) -> Iterator[str]:
    for count in workers:
        threads = max(CORES // count, 1)
        alone, variables = folder / f"alone-{threads}", {"OMP_NUM_THREADS": str(threads)}
        if not alone.exists():
            found = predicted(folder, alone.name, *memory, **variables)
            yield row("one process", threads, *found, alone, alone)
        output = folder / f"{count}-workers"
        found = predicted(folder, output.name, *memory, "--workers", count, **variables)
        yield row(f"--workers {count}", threads, *found, output, alone)
        if count == 2:
            output = folder / "killed"
            found = with_one_killed(folder, output, *memory, **variables)
            yield row("--workers 2, one killed", threads, *found, output, alone)


def row(who: str, threads: int, record: dict[str, Any], seconds: float, output: Path, alone: Path) -> str:
    """Markdown: speed, and what is other than in the result of one process."""
    megapixels = record["image"]["height"] * record["image"]["width"] / 1e6
    same = "the same" if record["tiles"]["keep"] == noted(alone)["tiles"]["keep"] else "OTHERS"
    cells = (who, threads, f"{seconds:.1f}", f"{megapixels / seconds:.2f}", record["blocks"]["number"])
    return f"| {' | '.join(map(str, cells))} | {differing(output, alone)} | {same} |"


def with_one_killed(
    folder: Path, output: Path, *memory: str, **variables: str
) -> tuple[dict[str, Any], float]:
    """What is noted of a prediction by two workers, one of which is killed when two blocks are done."""
    started = time.perf_counter()
    words = command(folder, output.name, *memory, "--workers", 2)
    process = subprocess.Popen(words, env=os.environ | variables)
    assert wait_for_blocks(process, output, 2), "too few blocks to kill a worker in the middle"
    worker_of(process).kill()
    assert process.wait() == 0
    return noted(output), time.perf_counter() - started


def worker_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    """One of the worker processes of a command; what else it started only keeps the books."""
    children = psutil.Process(process.pid).children(recursive=True)
    return next(child for child in children if "spawn_main" in " ".join(child.cmdline()))


if __name__ == "__main__":
    main()
