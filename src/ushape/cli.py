"""The command `ushape`: reads options, calls one function, prints what it returned.

Nothing is computed here, and nothing heavy is imported before a command is chosen: `--help` must not wait
for torch. Exit status: 0 done, 2 the user's input is wrong (one line on standard error), 1 a defect of ours,
130 ended by Ctrl-C.
"""

import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from ushape.errors import DataError, UShapeError

STARTED = time.monotonic()

_UNFOLDED = 100_000  # characters in a line

# Unknown command or option, missing argument, ...: typer exports only this one of the errors derived from it.
_UsageError = cast(type[Exception], typer.BadParameter.__mro__[1])

app = typer.Typer(
    help="The original U-Net, exact: from a few annotated images to a segmentation you can trust.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show a traceback with an error.")]
Device = Annotated[
    str, typer.Option(help="auto (the first CUDA GPU, else the CPU), cpu, cuda, cuda:1 or mps.")
]
Images = Annotated[
    str | None, typer.Option(help="Glob of the images below DATA; pairs by the digits in the names.")
]
Masks = Annotated[str | None, typer.Option(help="Glob of the masks below DATA.")]
Classes = Annotated[
    str | None, typer.Option(help="Masks hold the class indices 0 to N-1, or `objects`: settles ambiguity.")
]

Ignore = Annotated[str | None, typer.Option(metavar="LABEL", help="Label value of pixels that do not count.")]


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for pictures and report.html.")] = Path("demo-output"),
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train and predict on the nuclei images inside the package: a result in three minutes."""
    from ushape.demo import render, run_demo

    _show(render(run_demo(output, quiet=quiet)), quiet)


@app.command()
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
    _show(render(report), quiet)
    if report.errors:
        raise DataError(
            f"training on {data} would be wrong; first of {len(report.errors)} faults: {report.errors[0]}"
        )


@app.command()
def train(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of images and masks.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the model, scores and pictures.")
    ],
    model: Annotated[str, typer.Option(help="auto (the recipe decides), paper or released.")] = "auto",
    width: Annotated[
        int | None, typer.Option(min=1, help="Channels of the first level (auto and paper).")
    ] = None,
    from_model: Annotated[
        Path | None,
        typer.Option("--from", metavar="MODEL", help="Start from the weights of this model file."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="fast or paper.")] = "fast",
    time: Annotated[str | None, typer.Option(help="Budget for everything, such as 10m.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Budget in optimiser steps.")] = None,
    validation: Annotated[
        str, typer.Option(help="Share, folder, or comma-separated names or slice numbers to validate on.")
    ] = "0.2",
    classes: Classes = None,
    ignore: Ignore = None,
    images: Images = None,
    masks: Masks = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**64 - 1, help="Same seed and --steps: same model file.")
    ] = 0,
    device: Device = "auto",
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that make tiles; 0: the training process.")
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a network on annotated images."""
    from ushape.config import parse_duration

    if time is not None:
        parse_duration(time)  # refused before torch is imported, which takes seconds

    from ushape.training import train as train_network

    result = train_network(
        data,
        output,
        model=model,
        width=width,
        from_model=from_model,
        recipe=recipe,
        time=time,
        steps=steps,
        validation=validation,
        classes=classes,
        ignore=ignore,
        images=images,
        masks=masks,
        seed=seed,
        device=device,
        workers=workers,
        resume=resume,
        quiet=quiet,
        started=STARTED,
    )
    _show(f"best model: {result.model}", quiet)
    if result.interrupted:
        _show(f"stopped by Ctrl-C after {result.steps} steps; to go on: {_again('--resume')}", quiet)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model.safetensors.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders or globs.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    device: Device = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Segment images of any size: the same numbers as one pass over the whole image.

    Objects are found as the model file says, unless --threshold ... --foi say otherwise.
    """
    from ushape.config import parse_area, parse_bytes, parse_split

    memory = None if max_memory is None else parse_bytes(max_memory)
    changes = {"threshold": threshold, "fill_holes": fill_holes, "border": border, "foi_px": foi}
    changes = {name: value for name, value in changes.items() if value is not None}
    if min_area is not None:
        changes |= parse_area(min_area)
    if split is not None:
        changes |= parse_split(split)
    screen = _PredictScreen(quiet)
    try:
        with screen.bar:
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
                overwrite=overwrite,
                device=device,
                progress=screen.show_tiles,
                finished=screen.show_result,
            )
    except KeyboardInterrupt:
        _stopped(screen.how_to_go_on())


@app.command()
def evaluate(
    prediction: Annotated[Path, typer.Argument(metavar="PREDICTION", help="File, folder, stack or 01_RES.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="File, folder, stack or 01_GT.")],
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
    _show(evaluation.render(per_image=per_image), quiet, is_folded=sys.stdout.isatty())
    if json is not None:
        evaluation.to_json(json)
    if csv is not None:
        evaluation.to_csv(csv)
    if report is not None:
        from ushape.report import evaluation_report

        evaluation_report(report, evaluation)


@app.command()
def info(
    model: Annotated[
        Path | None, typer.Argument(metavar="[MODEL]", help="A model file; default: the paper.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Input height and width; default: 572.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Draw the U with every shape, parameters, operations and valid sizes."""
    from ushape.checkpoint import read_header
    from ushape.config import UNetConfig
    from ushape.models.summary import draw

    header = None if model is None else read_header(model)
    architecture = UNetConfig() if header is None else header.architecture
    if header is not None:
        _show(_describe(header), quiet)
    _show(draw(architecture, size, size), quiet)


def main() -> None:
    """Run the command line; the entry point of the `ushape` script."""
    try:
        status = app(sys.argv[1:] or ["--help"], prog_name="ushape", standalone_mode=False)
    except UShapeError as error:
        if "--verbose" in sys.argv:
            raise
        _refuse(str(error))
    except _UsageError as error:
        _refuse(_usage(error))
    except BrokenPipeError:
        sys.exit(1)  # whoever read our output went away
    if status == 130:  # what typer makes of Ctrl-C
        _stopped("only whole files were written; to go on, give the same command again")


class _PredictScreen:
    """What a person sees of a prediction: on a terminal a bar of tiles, everywhere a line per file done."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(quiet=quiet)
        columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
        self.bar = Progress(
            *columns,
            TextColumn("tiles"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self.task = self.bar.add_task("loading the model", total=None)
        self.done: list[str] = []

    def show_tiles(self, done: int, total: int, image: str) -> None:
        self.bar.update(self.task, completed=done, total=total, description=image)

    def show_result(self, result: Any) -> None:
        if not self.done and result.objects_in_words is not None:
            self._print(result.objects_in_words)
        self.done.append(result.input.name)
        self._print(result.summary)

    def _print(self, line: str) -> None:
        self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def how_to_go_on(self) -> str:
        if not self.done:
            return "no file was done; to go on, give the same command again"
        count = "1 file is" if len(self.done) == 1 else f"{len(self.done)} files are"
        return (
            f"{count} done and whole, at last {self.done[-1]}; to go on, give the inputs after it, or the "
            "same command with --overwrite"
        )


def _stopped(message: str) -> NoReturn:
    sys.stderr.write(f"ushape: stopped by Ctrl-C; {message}\n")
    sys.exit(130)


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"ushape: {' '.join(message.split())}\n")
    sys.exit(2)


def _usage(error: Any) -> str:
    """What is wrong with the words on the command line, in the one line that all our errors have."""
    message = error.format_message().rstrip(".")
    command = "ushape" if error.ctx is None else error.ctx.command_path
    return f"{message[:1].lower()}{message[1:]}; see {command} --help"


def _show(content: Any, quiet: bool, *, is_folded: bool = True) -> None:
    if quiet:
        return
    from rich.console import Console

    # Plain lines must not be folded where somebody pipes them on; nor must tables that can grow wide.
    console = Console(soft_wrap=isinstance(content, str), width=None if is_folded else _UNFOLDED)
    console.print(content, highlight=False, markup=False)


def _again(option: str) -> str:
    import shlex

    words = [word for word in sys.argv[1:] if word != option]
    return shlex.join(["ushape", *words, option])


def _describe(header: Any) -> str:
    names = ", ".join(f"{index} {info.name}" for index, info in enumerate(header.classes))
    return f"{header.name}\nclasses: {names}\nnormalization: {header.normalization.kind}"
