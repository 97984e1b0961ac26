"""The command in a process of its own that need not import anything: forked from one that has."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def start_server() -> Any:
    """Start the process to fork from; its imports cost seconds, which each `ushape` would spend again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["__main__", "ushape.cli", "ushape.demo", "ushape.evaluate", "ushape.training"]
    )
    return context


def run(context: Any, words: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run `ushape` with the given words in `folder`; return status, output and errors."""
    with tempfile.TemporaryDirectory() as aside:
        streams = [Path(aside) / name for name in ("stdout", "stderr")]
        process = context.Process(target=_main, args=(words, folder, streams))
        process.start()
        process.join(timeout=300)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, 300)
        return subprocess.CompletedProcess(words, process.exitcode, *(path.read_text() for path in streams))


def _main(words: list[str], folder: Path, streams: list[Path]) -> None:
    for descriptor, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(folder)
    sys.argv = ["ushape", *words]
    from ushape import cli

    cli.main()
