"""The findings of the data doctor as tables for a terminal."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ushape.data.check import CheckReport, Histogram
from ushape.data.faults import Fault

MAX_ROWS = 12
"""Pairs shown one by one; of more, the first ones and a summary."""

MAX_FILES = 4
"""Files shown for the same fault."""

BAR_WIDTH = 40


def render(report: CheckReport) -> Any:
    """Show a report: pairs, sizes, classes, grey values, faults.

    Returns
    -------
    rich.console.Group
        To be printed by a rich console.
    """
    from rich.console import Group
    from rich.text import Text

    dataset = report.dataset
    title = Text(f"{dataset.root}: {dataset.layout}, {_number(len(report.rows), 'pair')}", style="bold")
    parts: list[Any] = [title, _pairs(report), *(Text(line) for line in _sizes(report))]
    parts += [Text(f"note: {note}") for note in report.notes]
    if report.classes:
        parts.append(_classes(report))
    if report.histogram is not None:
        parts.append(_grey_values(report.histogram))
    parts += [Text(line, style=style) for line, style in _fault_lines(report.faults)]
    return Group(*parts, _verdict(report))


def _pairs(report: CheckReport) -> Any:
    from rich.table import Table

    table = Table(title="pairs", title_justify="left")
    for name in ("name", "image", "mask", "size", "channels", "dtype", "labels", "for"):
        table.add_column(name, overflow="fold")
    for row in report.rows[:MAX_ROWS]:
        pair, shape = row.pair, row.shape
        table.add_row(
            pair.name,
            pair.image.path.name,
            "-" if pair.mask is None else pair.mask.path.name,
            "?" if shape is None else f"{shape[1]} x {shape[2]}",
            "?" if shape is None else str(shape[0]),
            f"{row.dtype} / {row.mask_dtype or '-'}",
            "?" if row.evidence is None else str(len(row.evidence.values)),
            pair.split or "-",
        )
    if len(report.rows) > MAX_ROWS:
        table.add_row(f"... and {len(report.rows) - MAX_ROWS} more")
    return table


def _sizes(report: CheckReport) -> Iterator[str]:
    """How many images have which size, channels and dtype; the commonest first."""
    kinds = Counter(
        f"{row.shape[1]} x {row.shape[2]}, {row.shape[0]} ch, {row.dtype}" for row in report.rows if row.shape
    )
    for kind, count in kinds.most_common(MAX_ROWS):
        yield f"{count:6d} image{'s' * (count != 1)} of {kind}"


def _classes(report: CheckReport) -> Any:
    from rich.table import Table

    title = "classes" if report.num_objects is None else f"classes; {_number(report.num_objects, 'object')}"
    table = Table(title=title, title_justify="left")
    for name in ("class", "name", "label", "pixels", "share", "images"):
        table.add_column(name, justify="left" if name == "name" else "right")
    is_objects = report.coding is not None and report.coding.kind == "instances"
    for index, row in enumerate(report.classes):
        label = "1..." if is_objects and index else str(row.info.value)
        table.add_row(
            str(index), row.info.name, label, f"{row.pixels:,}", f"{row.share:.2%}", str(row.images)
        )
    if report.uncounted_share:
        table.add_row("-", "does not count", "", "", f"{report.uncounted_share:.2%} of all", "")
    return table


def _grey_values(histogram: Histogram) -> Any:
    from rich.bar import Bar
    from rich.table import Table

    table = Table(title="grey values", title_justify="left", show_header=False, box=None, padding=(0, 1))
    top = max(1, int(histogram.counts.max()))
    for low, high, count in zip(histogram.edges[:-1], histogram.edges[1:], histogram.counts, strict=True):
        table.add_row(f"{low:g} - {high:g}", Bar(top, 0, int(count), width=BAR_WIDTH))
    return table


def _fault_lines(faults: Sequence[Fault]) -> Iterator[tuple[str, str]]:
    """Every fault; of the same one in many files, the first files and a count."""
    groups: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        groups.setdefault((fault.severity, fault.fix or fault.what), []).append(fault)
    for (severity, _), group in groups.items():
        style = "red" if severity == "error" else "yellow"
        for fault in group[:MAX_FILES]:
            yield f"{severity}: {fault}", style
        if len(group) > MAX_FILES:
            yield f"{severity}: ... and {len(group) - MAX_FILES} more files like this", style


def _verdict(report: CheckReport) -> Any:
    from rich.text import Text

    if report.errors:
        return Text(f"{_number(len(report.errors), 'error')}: training would be wrong", style="bold red")
    only, style = (" only with --validation FOLDER", "yellow") if report.needs_validation else ("", "green")
    found = f"no errors, {_number(len(report.warnings), 'warning')}"
    return Text(f"{found}: ready to train{only}", style=f"bold {style}")


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
