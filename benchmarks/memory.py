"""Memory that one tile takes on a CPU, in each engine and precision, beside what is planned for it.

    python benchmarks/memory.py
    python benchmarks/memory.py --width 16 --sides 572 1084

Plans of tiles rest on these figures. Each row is a process of its own: the backend is there and has computed
a small tile, then the peak of resident memory is set back (Linux alone can do that) and one tile computed.
Weights are random: how many labels int8 changes then is not looked at.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from machine import circumstances
from ushape.backends import peak_memory, quantization, resident_memory, start
from ushape.models import UNet

ROWS = (
    ("pytorch", "fp32"),
    ("pytorch", "bf16"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
SMALL = 188
"""Side of the tile that is computed before."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=64, help="channels of the first level (default 64)")
    parser.add_argument("--sides", type=int, nargs="+", default=[572, 1084, 2236], help="of the tiles, in px")
    parser.add_argument("--one", nargs=3, metavar=("ENGINE", "PRECISION", "SIDE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        engine, precision, side = options.one
        print(measured(options.width, engine, precision, int(side)))
        return
    packages = ("ushape", "torch", "openvino", "nncf")
    print(circumstances(packages, f"{torch.get_num_threads()} threads"), f"width {options.width}", sep="; ")
    columns = "engine", "precision", "tile", "MB", "MB planned", "bytes a px", "planned"
    print("", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", sep="\n")
    for engine, precision in ROWS:
        for side in options.sides:
            words = [sys.executable, __file__, "--width", str(options.width)]
            words += ["--one", engine, precision, str(side)]
            with tempfile.TemporaryDirectory() as cache:  # networks of no use to anybody
                variables = os.environ | {"USHAPE_CACHE": cache}
                done = subprocess.run(words, capture_output=True, text=True, env=variables)
            why = done.stderr.strip().splitlines()[-1:] or [f"ended by signal {-done.returncode}"]
            print(done.stdout.strip() or f"| {engine} | {precision} | {side} | {why[0]} | | | |", flush=True)


def measured(width: int, engine: str, precision: str, side: int) -> str:
    """A row of the table: what the tile took beyond what the process held, and what is planned for it."""
    torch.manual_seed(0)
    quantization.ALLOWED_SHARE = 1.0
    network = UNet(width=width).eval()
    tiles = [torch.randn(1, SMALL, SMALL).numpy() for _ in range(2)] if precision == "int8" else []
    backend = start(network, "cpu", precision, engine=engine, tiles=tiles)  # type: ignore[arg-type]
    small, tile = (torch.randn(1, length, length).numpy() for length in (SMALL, side))
    backend(small)
    backend.release_memory()
    planned = backend.fixed_bytes + backend.bytes_per_input_pixel * side**2
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
    before = resident_memory()
    backend(tile)
    taken = peak_memory() - before
    each = f"{taken / side**2:.0f} | {planned / side**2:.0f}"
    return f"| {engine} | {precision} | {side} | {taken / 1e6:.0f} | {planned / 1e6:.0f} | {each} |"


if __name__ == "__main__":
    main()
