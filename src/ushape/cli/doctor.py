"""`ushape doctor`."""

from ushape.cli.options import Quiet, Verbose
from ushape.cli.screen import show


def doctor(quiet: Quiet = False, verbose: Verbose = False) -> None:
    """What this machine can do: versions, instruction sets, memory, and seconds per megapixel."""
    from rich.console import Console

    from ushape.doctor import examine, probe, render_speeds, warnings_of  # imports torch, which takes seconds

    machine = examine()
    show(machine.render(), quiet)
    with Console(quiet=quiet).status("timing a tile") as status:
        speeds, auto = probe(lambda what: status.update(f"timing a tile: {what}"))
    show(render_speeds(speeds, auto), quiet)
    for line in warnings_of(machine):
        show(f"warning: {line}", quiet)
