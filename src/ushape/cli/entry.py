"""The commands in the order of `--help`, and what happens when one of them fails."""

import sys
import traceback
from io import TextIOWrapper
from typing import Any, cast

import typer

from ushape.cli.check import check
from ushape.cli.demo import demo
from ushape.cli.doctor import doctor
from ushape.cli.evaluate import evaluate
from ushape.cli.info import info
from ushape.cli.models import models
from ushape.cli.predict import predict
from ushape.cli.screen import refuse, stopped
from ushape.cli.train import train
from ushape.errors import UShapeError

# Unknown command or option, missing argument, ...: typer exports only this one of the errors derived from it.
_UsageError = cast(type[Exception], typer.BadParameter.__mro__[1])

app = typer.Typer(
    help="The original U-Net, exact: from a few annotated images to a segmentation you can trust.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (demo, check, train, predict, evaluate, models, info, doctor):
    app.command()(command)


def main() -> None:
    """Run the command line; the entry point of the `ushape` script."""
    if isinstance(sys.stdout, TextIOWrapper):  # a name that the terminal cannot show must not end a run
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = app(sys.argv[1:] or ["--help"], prog_name="ushape", standalone_mode=False)
    except UShapeError as error:
        if "--verbose" in sys.argv:
            traceback.print_exc()
        refuse(str(error))
    except _UsageError as error:
        refuse(_usage(error))
    except BrokenPipeError:
        sys.exit(1)  # whoever read our output went away
    if status == 130:  # what typer makes of Ctrl-C
        stopped("only whole files were written; to go on, give the same command again")


def _usage(error: Any) -> str:
    """What is wrong with the words on the command line, in the one line that all our errors have."""
    message = error.format_message().rstrip(".")
    command = "ushape" if error.ctx is None else error.ctx.command_path
    return f"{message[:1].lower()}{message[1:]}; see {command} --help"
