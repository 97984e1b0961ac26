"""The command on a terminal, as a person sees it."""

import os
import re
import subprocess
import sys
from pathlib import Path


def on_a_terminal(*words: object, columns: int) -> str:
    """Run `ushape` with the given words, which must succeed; return all it prints, control sequences too."""
    import pty  # not on Windows

    command = [Path(sys.executable).with_name("ushape"), *map(str, words)]
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": str(columns)}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b"")).decode()
    os.close(ours)
    assert process.returncode == 0, shown
    return shown


def plain(shown: str) -> str:
    """Text without control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux: the other side has closed it
        return b""
