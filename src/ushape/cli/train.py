"""`ushape train`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ushape.cli.clock import STARTED
from ushape.cli.options import Classes, Device, Ignore, Images, Masks, Quiet, Verbose
from ushape.cli.screen import again, show, stopped


def train(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of images and masks.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the model, scores and pictures.")
    ],
    model: Annotated[
        str,
        typer.Option(help="auto (the recipe decides), paper, released, or an encoder of timm: resnet34, ..."),
    ] = "auto",
    width: Annotated[
        int | None, typer.Option(min=1, help="Channels at full resolution, instead of the network's own.")
    ] = None,
    from_model: Annotated[
        Path | None,
        typer.Option("--from", metavar="MODEL", help="Start from the weights of this model file."),
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|none|FILE",
            help="Weights that an encoder starts from: imagenet (default; timm's), none, or a file of them.",
        ),
    ] = None,
    freeze_encoder: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --from or an encoder: keep the first N levels of its way down."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="fast or paper.")] = "fast",
    time: Annotated[str | None, typer.Option(help="Budget for everything, such as 10m.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Budget in optimiser steps.")] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC=VALUE",
            help="End as soon as a score is reached, such as v_rand=0.96 or dice=0.9; or when `stalled`.",
        ),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(help="Share (0.2), folder, or comma-separated names or slice numbers to validate on."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(metavar="N", help="Hold each image out once, in N runs; join their models.")
    ] = None,
    classes: Classes = None,
    ignore: Ignore = None,
    images: Images = None,
    masks: Masks = None,
    pixel_size: Annotated[
        str | None,
        typer.Option(metavar="UM[,UM]", help="Pixel size of the training images, for the model file."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**64 - 1, help="Same seed and --steps: same model file.")
    ] = 0,
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="auto (bf16 where processor or GPU has it), fp32 or bf16.")
    ] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="GPUs (or CPU processes) on each machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines; see docs/cluster.md.")] = 1,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that make tiles; 0: the training process. Default: by device."),
    ] = None,
    no_int8_tiles: Annotated[
        bool,
        typer.Option("--no-int8-tiles", help="Keep no pieces of training images in the model file."),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a network on annotated images."""
    from ushape.config import parse_duration, parse_pixel_size, parse_until

    # Refused before torch is imported, which takes seconds.
    if time is not None:
        parse_duration(time)
    if until is not None:
        parse_until(until)
    if pixel_size is not None:
        parse_pixel_size(pixel_size)

    from ushape.training import train as train_network
    from ushape.training import train_folds

    try:
        result = (train_network if folds is None else partial(train_folds, folds=folds))(
            data,
            output,
            model=model,
            width=width,
            from_model=from_model,
            pretrained={"imagenet": True, "none": False}.get(encoder_weights or "", encoder_weights),
            freeze_encoder=freeze_encoder,
            recipe=recipe,
            time=time,
            steps=steps,
            until=until,
            validation=validation,
            classes=classes,
            ignore=ignore,
            images=images,
            masks=masks,
            pixel_size=pixel_size,
            seed=seed,
            device=device,
            precision=precision,
            devices=devices,
            nodes=nodes,
            workers=workers,
            int8_tiles=not no_int8_tiles,
            resume=resume,
            quiet=quiet,
            started=STARTED,
        )
    except KeyboardInterrupt:
        if not any((output / begun).is_dir() for begun in ("checkpoint", "fold-1")):
            raise
        stopped(f"only whole files were written; to go on: {again('--resume')}")
    if result.rank:
        return  # the first of the processes has said it
    what = "best model" if folds is None or result.interrupted else "ensemble of all folds"
    show(f"{what}: {result.model}", quiet)
    if result.interrupted:
        show(f"stopped after {result.steps} steps; to go on: {again('--resume')}", quiet)
