"""The images of one command: one after the other here, or shared out to the workers of a cluster."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ushape.cluster import Cluster
from ushape.errors import DataError, ImageFormatError, ShapeError, UShapeError
from ushape.io import is_store
from ushape.predict.large import predict_large
from ushape.predict.settings import Settings
from ushape.predict.targets import Targets, clear, drop, unfinished
from ushape.predict.whole import predict_aside, predict_whole, take

Progress = Callable[[int, int, str], None]
Failed = Callable[[Path, UShapeError], None]

_OF_AN_IMAGE = (ImageFormatError, ShapeError, DataError)
"""What is wrong with one image, and need not be with the next."""


def segment_each(
    settings: Settings,
    targets: Mapping[Path, Targets],
    large: set[Path],
    stated_memory: int | None,
    cluster: Cluster | None,
    progress: Progress | None,
    failed: Failed | None,
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Segment images; see `predict_files`.

    Parameters
    ----------
    settings : Settings
    targets : mapping
        Where the results of each image go, by kind.
    large : set of Path
        Images that are predicted block by block.
    stated_memory : int, optional
        The limit that a person gave.
    cluster, progress, failed
        See `predict_files`.

    Yields
    ------
    (Path, dict)
        An image and the content of its JSON file, when all of its results are written.
    """
    rest = [*targets]
    if cluster is not None:
        rest = [path for path in targets if path in large]
        yield from _by_workers(settings, targets, large, cluster, progress, failed)
    for number, path in enumerate(rest, start=1):
        show = _named(progress, path.name if len(rest) == 1 else f"{path.name} ({number} of {len(rest)})")
        with told(failed, path, *_OF_AN_IMAGE, begun=targets[path] if path in large else None):
            if path in large:
                how: dict[str, Any] = {"stated_memory": stated_memory, "cluster": cluster}
                yield path, predict_large(settings, path, targets[path], **how, progress=show)
            else:
                yield path, predict_whole(settings, path, targets[path], show)


@contextmanager
def told(
    failed: Failed | None, path: Path, *errors: type[UShapeError], begun: Targets | None = None
) -> Iterator[None]:
    """Tell what is wrong with an image in place of ending the run, if there is somebody to tell."""
    try:
        yield
    except errors as error:
        if failed is None:
            raise
        if begun is not None and not is_store(path):
            clear(unfinished(begun))  # a file that is mended is another one: its blocks are of no use
        failed(path, error)


def _by_workers(
    settings: Settings,
    targets: Mapping[Path, Targets],
    large: set[Path],
    cluster: Cluster,
    progress: Progress | None,
    failed: Failed | None,
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Of the images in memory; they come in the order in which they are done."""
    paths = [path for path in targets if path not in large]
    absolute = {path: {kind: one.absolute() for kind, one in targets[path].items()} for path in paths}
    elsewhere = replace(settings, model=str(Path(settings.model).absolute()))
    tasks = [(elsewhere, path.absolute(), absolute[path]) for path in paths]
    try:
        run = cluster.run(predict_aside, tasks, errors=() if failed is None else _OF_AN_IMAGE)
        for done, (number, found) in enumerate(run, start=1):
            path = paths[number]
            with told(failed, path, *_OF_AN_IMAGE):
                if isinstance(found, Exception):
                    raise found
                take(path, absolute[path], settings.command)
                yield path, found
            if progress is not None:
                progress(done, len(paths), "images")
    finally:
        for path in paths:
            drop(absolute[path], settings.command)


def _named(progress: Progress | None, image: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(done, total, f"tiles of {image}")
