"""`ushape info`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ushape.cli.options import Quiet, Verbose
from ushape.cli.screen import show
from ushape.errors import ConfigError


def info(
    model: Annotated[
        Path | None, typer.Argument(metavar="[MODEL]", help="A model file; default: the paper.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Input height and width; default: 572.")] = None,
    certify: Annotated[
        bool,
        typer.Option("--certify", help="Measure that tiles equal the whole image: a minute, status 0 or 1."),
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Draw the U with every shape, parameters, operations and valid sizes."""
    if certify:
        _certify(model, size, quiet)
        return
    from ushape.checkpoint import read_header, read_tiles
    from ushape.config import EncoderUNetConfig, UNetConfig
    from ushape.models.encoder_summary import draw_encoder
    from ushape.models.summary import draw

    header = None if model is None else read_header(model)
    architecture = UNetConfig() if header is None else header.architecture
    if header is not None and model is not None:
        show(_describe(header, read_tiles(model)), quiet)
    if isinstance(architecture, EncoderUNetConfig):
        show(draw_encoder(architecture), quiet)  # any size is valid, none needs to be drawn
        return
    show(draw(architecture, size, size), quiet)


def _certify(model: Path | None, size: int | None, quiet: bool) -> None:
    """Measure a model file; the status of the process says how it ended."""
    if model is None or size is not None:
        raise ConfigError("--certify measures a model file at sizes of its own; give MODEL, and no --size")
    from rich.console import Console
    from rich.progress import Progress

    console = Console(quiet=quiet)
    show("comparing tiles with whole images, which takes about a minute", quiet)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("loading the model", total=1)
        from ushape.predict import certify  # imports torch, which takes seconds

        certificate = certify(
            model,
            progress=lambda done, share: bar.update(task, completed=share, description=f"{done} images"),
        )
    show(certificate.render(), quiet)
    if not certificate.is_exact:
        sys.exit(1)


def _describe(header: Any, tiles: Any) -> str:
    members = f"members: {header.members} networks as drawn below\n" if header.members > 1 else ""
    names = ", ".join(f"{index} {info.name}" for index, info in enumerate(header.classes))
    pieces = "none" if tiles is None else f"{len(tiles)}, {tiles.shape[2]} x {tiles.shape[3]} px"
    return (
        f"{header.name}\n{members}classes: {names}\nnormalization: {header.normalization.kind}\n"
        f"pieces of training images, kept to be quantised on: {pieces}"
    )
