"""`ushape models`."""

from typing import Annotated

import typer

from ushape.cli.options import Quiet, Verbose
from ushape.cli.screen import show


def models(
    pattern: Annotated[
        str | None,
        typer.Argument(metavar="[PATTERN]", help="List the names of timm that contain this instead."),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List the networks that `train --model` knows, with their size and work."""
    if pattern is not None:
        from ushape.models.encoders import timm_names

        show("\n".join(timm_names(pattern)), quiet)
        return
    from ushape.training.catalogue import render

    show(render(), quiet)
