"""`ushape evaluate`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ushape.cli.options import Classes, Ignore, Quiet, Verbose
from ushape.cli.screen import fits_the_terminal, show


def evaluate(
    prediction: Annotated[
        Path, typer.Argument(metavar="PREDICTION", help="File, stack, OME-Zarr, folder or 01_RES.")
    ],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="File, stack, OME-Zarr, folder or 01_GT.")],
    metrics: Annotated[
        str | None, typer.Option(help="Comma-separated scores; default: those that fit.")
    ] = None,
    classes: Classes = None,
    ignore: Ignore = None,
    json: Annotated[Path | None, typer.Option(help="Write all scores and counts to this file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one row per image to this file.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with pictures, worst first.")
    ] = None,
    per_image: Annotated[bool, typer.Option("--per-image", help="Show a row for each image.")] = False,
    tolerance: Annotated[
        str | None, typer.Option(help="For scores of boundaries: pixels such as 2 (default), or 1um.")
    ] = None,
    pixel_size: Annotated[
        str | None, typer.Option(help="Micrometres per pixel, or height,width; default: what files say.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score predictions against the truth, by the official definitions."""
    from ushape.evaluate import evaluate as evaluate_paths

    evaluation = evaluate_paths(
        prediction,
        truth,
        metrics=None if metrics is None else metrics.split(","),
        classes=classes,
        ignore=ignore,
        tolerance=tolerance,
        pixel_size=pixel_size,
    )
    # Files first: whoever reads the screen may go away before its end.
    if json is not None:
        evaluation.to_json(json)
    if csv is not None:
        evaluation.to_csv(csv)
    if report is not None:
        from ushape.report import evaluation_report

        evaluation_report(report, evaluation)
    is_folded = sys.stdout.isatty() and fits_the_terminal(evaluation.table(per_image=per_image))
    show(evaluation.render(per_image=per_image), quiet, is_folded=is_folded)
