"""`ushape info`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ushape.cli.options import Quiet, Verbose
from ushape.cli.screen import show


def info(
    model: Annotated[
        Path | None, typer.Argument(metavar="[MODEL]", help="A model file; default: the paper.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Input height and width; default: 572.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Draw the U with every shape, parameters, operations and valid sizes."""
    from ushape.checkpoint import read_header
    from ushape.config import UNetConfig
    from ushape.models.summary import draw

    header = None if model is None else read_header(model)
    architecture = UNetConfig() if header is None else header.architecture
    if header is not None:
        show(_describe(header), quiet)
    show(draw(architecture, size, size), quiet)


def _describe(header: Any) -> str:
    members = f"members: {header.members} networks as drawn below\n" if header.members > 1 else ""
    names = ", ".join(f"{index} {info.name}" for index, info in enumerate(header.classes))
    return f"{header.name}\n{members}classes: {names}\nnormalization: {header.normalization.kind}"
