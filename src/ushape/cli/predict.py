"""`ushape predict`."""

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from ushape.cli.options import Device, Quiet, Verbose
from ushape.cli.screen import again, complain, refuse, stopped
from ushape.errors import ConfigError, UShapeError

EVERY_S = 60.0
"""Seconds after which a line says how far a run is, where nobody sees a bar."""


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model.safetensors.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders or globs.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or int8.")] = "auto",
    max_memory: Annotated[str | None, typer.Option(help="Memory for the whole process, such as 4GB.")] = None,
    instances: Annotated[
        bool, typer.Option("--instances", help="Write object ids and a table of objects.")
    ] = False,
    outlines: Annotated[
        bool, typer.Option("--outlines", help="Write outlines of objects as GeoJSON, for QuPath and napari.")
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write class probabilities.")
    ] = False,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Write the image with the result drawn on it.")
    ] = False,
    layout: Annotated[
        str, typer.Option(help="plain, or ctc: 01/t000.tif becomes 01_RES/mask000.tif.")
    ] = "plain",
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Objects are where the probability is above it.")
    ] = None,
    connectivity: Annotated[
        int | None, typer.Option(help="Pixels of an object touch by edges (4), or by corners, too (8).")
    ] = None,
    min_area: Annotated[str | None, typer.Option(help="Smallest object, such as 30 (px) or 7.5um2.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Part what touches: none, probability[:SEED] or distance[:DEPTH_PX].")
    ] = None,
    fill_holes: Annotated[
        bool | None, typer.Option("--fill-holes/--keep-holes", help="Fill what an object encloses.")
    ] = None,
    border: Annotated[str | None, typer.Option(help="keep or remove objects at the image border.")] = None,
    foi: Annotated[
        int | None, typer.Option(min=0, help="Drop objects entirely within this many px of the border.")
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Magnify images by this for the network: 0.5 for objects twice as large."),
    ] = None,
    pixel_size: Annotated[
        str | None,
        typer.Option(help="Micrometres per pixel of the images, or height,width: gives the scale."),
    ] = None,
    average: Annotated[
        str,
        typer.Option(help="Mean over turned and mirrored tiles: none, paper (7 of them) or d4 (all 8)."),
    ] = "none",
    average_of: Annotated[
        str, typer.Option(help="What is averaged: logits (raw scores) or probabilities.")
    ] = "logits",
    workers: Annotated[
        int | None, typer.Option(help="Share the work among this many processes of this machine.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Or among the workers of this Dask scheduler, such as tcp://10.0.0.1:8786."),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace results that exist, and remove the rest of their run."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep results that are whole, and go on with the rest.")
    ] = False,
    device: Device = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Segment images of any size: the same numbers as one pass over the whole image.

    Objects are found as the model file says, unless --threshold ... --foi say otherwise.
    """
    from ushape.config import parse_area, parse_bytes, parse_split

    memory = None if max_memory is None else parse_bytes(max_memory)
    changes: dict[str, Any] = {"threshold": threshold, "connectivity": connectivity}
    changes |= {"fill_holes": fill_holes, "border": border, "foi_px": foi}
    changes = {name: value for name, value in changes.items() if value is not None}
    if min_area is not None:
        changes |= parse_area(min_area)
    if split is not None:
        changes |= parse_split(split)
    screen = _Screen(quiet)
    try:
        with screen.bar, _workers(workers, scheduler) as cluster:
            from ushape.predict import predict_files  # imports torch, which takes seconds

            predict_files(
                model,
                inputs,
                output,
                precision=precision,  # type: ignore[arg-type]  # checked there, with a message
                max_memory=memory,
                instances=instances,
                outlines=outlines,
                probabilities=probabilities,
                overlay=overlay,
                layout=layout,
                postprocessing=changes,
                scale=scale,
                pixel_size=pixel_size,
                average=average,
                average_of=average_of,
                overwrite=overwrite,
                resume=resume,
                device=device,
                cluster=cluster,
                progress=screen.show_progress,
                finished=screen.show_result,
                failed=screen.show_failure,
            )
    except KeyboardInterrupt:
        stopped(screen.how_to_go_on())
    screen.end()


def _workers(workers: int | None, scheduler: str | None) -> AbstractContextManager[Any]:
    """Who shares the work; nobody if nobody is named."""
    if workers is not None and scheduler is not None:
        raise ConfigError("--workers starts processes here, --scheduler uses others; drop one of them")
    if workers is not None:
        from ushape.cluster import local_cluster  # imports torch, which takes seconds

        return local_cluster(workers)
    if scheduler is not None:
        from ushape.cluster import connected_cluster

        return connected_cluster(scheduler)
    return nullcontext()


class _Screen:
    """What a person sees of a prediction: on a terminal a bar of tiles, everywhere a line per file done.

    Elsewhere than on a terminal also a line a minute, or a large image would be hours of silence.
    """

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(quiet=quiet)
        columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
        self.bar = Progress(
            *columns,
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
            redirect_stderr=sys.stderr.isatty(),  # else what is wrong would not be in its file
        )
        self.task = self.bar.add_task("loading the model", total=None)
        self.done: list[str] = []
        self.failed: list[str] = []
        self.told = time.monotonic()

    def show_progress(self, done: int, total: int, what: str) -> None:
        self.bar.update(self.task, completed=done, total=total, description=what)
        if self.bar.disable and time.monotonic() - self.told > EVERY_S:
            self._print(f"{what}: {done} of {total}")

    def show_result(self, result: Any) -> None:
        if not self.done and result.objects_in_words is not None:
            self._print(result.objects_in_words)
        self.done.append(result.input.name)
        self._print(result.summary)
        for line in result.warnings:
            self._print(line)

    def show_failure(self, path: Path, error: UShapeError) -> None:
        self.failed.append(path.name)
        complain(str(error))

    def end(self) -> None:
        """Say once more, at the end of it all, what was told in passing."""
        if self.failed:
            names = ", ".join(self.failed[:3] + ["..."] * (len(self.failed) > 3))
            count = f"{len(self.failed)} of {len(self.failed) + len(self.done)} images"
            how = "give them alone" if "--overwrite" in sys.argv else again("--resume")
            refuse(f"{count} could not be segmented: {names}; mend or remove them; to go on: {how}")

    def _print(self, line: str) -> None:
        self.told = time.monotonic()
        self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def how_to_go_on(self) -> str:
        overwrites = "--overwrite" in sys.argv
        kept = "; without --overwrite, a large image keeps its blocks" if overwrites else ""
        if not self.done:
            return f"no file was done; to go on, give the same command again{kept}"
        count = "1 file is" if len(self.done) == 1 else f"{len(self.done)} files are"
        if overwrites:  # what is left may be there, but of another run
            how = f"to go on, give the inputs after it, or the same command again{kept}"
        else:
            how = f"to go on: {again('--resume')}"
        return f"{count} done and whole, at last {self.done[-1]}; {how}"
