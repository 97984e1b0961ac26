"""What a person sees of an evaluation on the screen."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ushape.evaluate.names import PER_IMAGE, base
from ushape.evaluate.pairs import Pairs
from ushape.evaluate.scored import Numbers, Scored

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement
    from rich.table import Table

_MOST_NAMES = 5
"""Files named on the screen; JSON has all."""

_SHORTEST_NAME = 12
"""Characters that are left of the name of an image on a narrow terminal."""

_SHOWN = ("threshold", "tp", "fp", "fn", "matched", "objects", "splits", "merges")
"""Counts that stand beside a score."""


def score_table(scored: Scored) -> "Table":
    """One row per score: its value, what it was taken over, its counts; those of sequences first."""
    from rich.table import Table

    table = Table("score", "value", "over")
    table.columns[1].justify = "right"
    for part in (*_parts(scored).values(), scored):
        for name, value in part.scores.items():
            over = ", ".join([part.averages[name], *_counted(part.counts[name])])
            table.add_row(name, shown(value), over, style="bold" if part is scored else None)
        table.add_section()
    return table


def image_table(scored: Scored, names: Sequence[str], columns: Sequence[str]) -> "Table":
    """One row per image; below them the sequences, the whole set, and the means over images."""
    from rich.table import Table

    table = Table("image")
    for column in columns:
        table.add_column(column, no_wrap=True)  # where it is narrow, names are cut, not numbers
    for name, row in zip(names, scored.rows, strict=True):
        table.add_row(_Name(name), *_cells(row, columns))
    table.add_section()
    for name, part in _parts(scored).items():
        table.add_row(f"sequence {name}", *_cells(part.scores, columns))
    table.add_row("all", *_cells(scored.scores, columns), style="bold")
    means = {base(name): value for name, value in scored.scores.items() if name.endswith(PER_IMAGE)}
    if means:
        table.add_row(PER_IMAGE, *_cells(means, columns), style="bold")
    return table


def lines(pairs: Pairs, scored: Scored) -> Iterator[str]:
    """What was matched with what, and by which conventions the scores were taken."""
    matched = [f"{pair.prediction.name} with {pair.truth.name}" for pair in pairs.pairs]
    yield f"matched ({pairs.how}): {_shortened(matched)}"
    for what, paths in (("truth", pairs.lone_predictions), ("prediction", pairs.lone_truths)):
        if paths:
            yield f"no {what} for, so not scored: {_shortened([path.name for path in paths])}"
    yield from scored.conventions


def shown(value: float) -> str:
    """A score with four decimals, a small error with six."""
    return f"{value:.6f}" if 0 < value < 0.01 else f"{value:.4f}"


class _Name:
    """A name that is cut where there is no room for it, unlike any other word."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __rich_measure__(self, console: "Console", options: "ConsoleOptions") -> "Measurement":
        from rich.measure import Measurement

        return Measurement(min(len(self.name), _SHORTEST_NAME), len(self.name))

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        yield Text(self.name, no_wrap=True, overflow="ellipsis")


def _parts(scored: Scored) -> Mapping[str, Scored]:
    """Sequences; a single one is the whole set."""
    return scored.groups if len(scored.groups) > 1 else {}


def _cells(row: Mapping[str, float], columns: Sequence[str]) -> list[str]:
    return [shown(row[name]) if name in row else "-" for name in columns]


def _counted(counts: Numbers) -> Iterator[str]:
    for name in _SHOWN:
        if name in counts:
            number = counts[name]
            yield f"{name} {number:.1f}" if isinstance(number, float) else f"{name} {number}"


def _shortened(names: Sequence[str]) -> str:
    few = ", ".join(names[:_MOST_NAMES])
    return few if len(names) <= _MOST_NAMES else f"{few}, ... {len(names)} in all"
