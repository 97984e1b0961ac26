"""The table of a cross-validation: a row per image, per fold and for all; as a file, on screen, as a page."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ushape import io, report
from ushape.config import ModelHeader
from ushape.training.scores import NAMES, Kind, Scores

if TYPE_CHECKING:
    from rich.table import Table

_MOST_ROWS = 60
"""On the screen; of more images only the folds are shown, the file has all."""

_BY_KIND = {"cells": "V_rand", "objects": "AP(0.5)", "areas": "mean Dice over the classes"}


class Row(NamedTuple):
    """Scores of one image, or of "all" images of a fold, or of "all" folds."""

    fold: str
    image: str
    scores: Scores


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV; a score that does not apply is left empty.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    columns = _columns(rows)
    cells = [[row.fold, row.image, *(row.scores.row().get(name, "") for name in columns)] for row in rows]
    io.write_csv(path, ["fold", "image", *columns], cells)


def on_screen(rows: Sequence[Row]) -> "Table":
    """Draw the rows; of many images only the folds."""
    from rich.table import Table

    columns = _columns(rows)
    table = Table("fold", "image", *(NAMES[name] for name in columns))
    for row in rows:
        if row.image == "all" or len(rows) <= _MOST_ROWS:
            values = row.scores.row()
            cells = [f"{values[name]:.4f}" for name in columns]
            table.add_row(row.fold, row.image, *cells, style="bold" if row.image == "all" else None)
            if row.image == "all":
                table.add_section()
    return table


def write_page(output: Path, header: ModelHeader, rows: Sequence[Row], kind: Kind) -> None:
    """Write `report.html` of the whole: all folds, each fold, and each image, the worst first.

    Raises
    ------
    OutputError
        If the page cannot be written.
    """
    columns = _columns(rows)
    names = [NAMES[name] for name in columns]
    everything, folds = rows[-1], [row for row in rows[:-1] if row.image == "all"]
    images = sorted((row for row in rows if row.image != "all"), key=lambda row: row.scores.score)
    model = shlex.quote(str(output / "model.safetensors"))
    command = f"ushape predict {model} my-new-images --output my-results"
    sections = [
        report.section(
            "Result", report.key_numbers(dict(zip(names, _values(everything, columns), strict=True)))
        ),
        report.section(
            "Folds",
            f"The model of each fold is seen in {output}/fold-1/report.html and its like.",
            report.table(
                ["fold", *names], [[row.fold, *_values(row, columns)] for row in (*folds, everything)]
            ),
        ),
        report.section(
            "Images, worst first",
            report.table(
                ["image", "fold", *names], [[r.image, r.fold, *_values(r, columns)] for r in images]
            ),
        ),
        report.section("Model", *_model(header, kind)),
        report.section(
            "Next",
            report.commands(command),
        ),
    ]
    lead = (
        f"{len(images)} images, each scored once, by the last model of the run that did not train on it. The "
        f"best models were chosen by their {_BY_KIND[kind]} on these images and have no part in it."
    )
    report.write_report(
        output / "report.html", f"Cross-validation of {len(folds)} folds", sections, lead=lead
    )


def _model(header: ModelHeader, kind: Kind) -> list[str]:
    words = [f"The file holds the last model of each fold; predictions average their logits ({header.name})."]
    if kind != "areas":
        words.append(
            f"Objects, tuned on images as predicted out of fold: {header.postprocessing.in_words()}. The "
            "scores above are taken with what each fold tuned on its own training images."
        )
    return words


def _columns(rows: Sequence[Row]) -> list[str]:
    return [name for name in NAMES if any(name in row.scores.row() for row in rows)]


def _values(row: Row, columns: Sequence[str]) -> list[float]:
    values = row.scores.row()
    return [values[name] for name in columns]
