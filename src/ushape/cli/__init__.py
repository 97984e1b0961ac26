"""The command `ushape`: reads options, calls one function, prints what it returned.

Nothing is computed here, and nothing heavy is imported before a command is chosen: `--help` must not wait
for torch. Exit status: 0 done, 2 the user's input is wrong (a line on standard error), 1 a defect of ours,
130 ended by Ctrl-C.
"""

from ushape.cli.clock import STARTED
from ushape.cli.entry import app, main

__all__ = ["STARTED", "app", "main"]
