"""What all commands say alike: results, the one line of an error, and how to go on after Ctrl-C."""

import sys
from typing import Any, NoReturn

_UNFOLDED = 100_000  # characters in a line


def show(content: Any, quiet: bool, *, is_folded: bool = True) -> None:
    """Print a line, a table or a drawing, folded at the width of the terminal or not at all."""
    if quiet:
        return
    from rich.console import Console

    # Plain lines must not be folded where somebody pipes them on; nor must tables that can grow wide.
    console = Console(soft_wrap=isinstance(content, str), width=None if is_folded else _UNFOLDED)
    console.print(content, highlight=False, markup=False)


def fits_the_terminal(table: Any) -> bool:
    """Whether a table can be folded at the width of the terminal without cutting its numbers."""
    from rich.console import Console

    console = Console()
    unbounded = console.options.update(max_width=_UNFOLDED)
    return console.measure(table, options=unbounded).minimum <= console.width


def complain(message: str) -> None:
    """Tell what is wrong with the user's input, in one line."""
    sys.stderr.write(f"ushape: {' '.join(message.split())}\n")


def refuse(message: str) -> NoReturn:
    """End because the user's input is wrong."""
    complain(message)
    sys.exit(2)


def stopped(message: str) -> NoReturn:
    """End because of Ctrl-C; `message` says what is there and how to go on."""
    sys.stderr.write(f"ushape: stopped by Ctrl-C; {message}\n")
    sys.exit(130)


def again(option: str) -> str:
    """The command line that was given, with one more option."""
    import shlex

    words = [word for word in sys.argv[1:] if word != option]
    return shlex.join(["ushape", *words, option])
