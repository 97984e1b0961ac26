"""`ushape demo`."""

from pathlib import Path
from typing import Annotated

import typer

from ushape.cli.options import Quiet, Verbose
from ushape.cli.screen import show


def demo(
    output: Annotated[Path, typer.Option(help="Folder for pictures and report.html.")] = Path("demo-output"),
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train and predict on the nuclei images inside the package: a result in three minutes."""
    from ushape.demo import render, run_demo

    show(render(run_demo(output, quiet=quiet)), quiet)
