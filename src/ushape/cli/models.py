"""`ushape models`."""

from ushape.cli.options import Quiet, Verbose
from ushape.cli.screen import show


def models(quiet: Quiet = False, verbose: Verbose = False) -> None:
    """List the networks that `train --model` knows, with their size and work."""
    from ushape.models.catalogue import render

    show(render(), quiet)
