"""`ushape check`."""

from pathlib import Path
from typing import Annotated

import typer

from ushape.cli.options import Classes, Ignore, Images, Masks, Quiet, Verbose
from ushape.cli.screen import show
from ushape.errors import DataError


def check(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of images and masks.")],
    images: Images = None,
    masks: Masks = None,
    classes: Classes = None,
    ignore: Ignore = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Data doctor: what was found, what it means, and every fault with file and fix."""
    from ushape.data import check as check_data
    from ushape.data import render

    report = check_data(data, images=images, masks=masks, classes=classes, ignore=ignore)
    show(render(report), quiet)
    if report.errors:
        raise DataError(
            f"training on {data} would be wrong; first of {len(report.errors)} faults: {report.errors[0]}"
        )
