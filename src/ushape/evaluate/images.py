"""The image that was segmented: evaluation does not need it, but a person who looks at mistakes does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ushape.data.tracking import frame_number, numbered_frames
from ushape.errors import ImageFormatError
from ushape.evaluate.pairs import Pair, bare
from ushape.io import holds_image, is_store, read_image, stem_of


def image_of(pair: Pair, index: int, size: tuple[int, ...]) -> NDArray[Any] | None:
    """Find and read the image behind a pair of prediction and truth.

    It is looked for where `predict` noted it down (`a.json` beside `a_classes.png`), beside the truth in the
    layouts that `train` knows (`images/` beside `masks/`, `train-volume.tif` beside `train-labels.tif`), and
    in the sequence of a Cell Tracking Challenge folder (`01/` beside `01_GT/`).

    Parameters
    ----------
    pair : Pair
    index : int
        Number of the plane in its file, if it is not that of the pair.
    size : (int, int)
        Height and width that it must have.

    Returns
    -------
    ndarray, shape (C, H, W), or None
        None if there is no such image, it cannot be read or has another size.
    """
    for path in _candidates(pair):
        try:
            planes = read_image(path).planes
        except ImageFormatError:
            continue
        place = index if pair.plane is None else pair.plane
        if planes.shape[-2:] == size and place < len(planes):
            found: NDArray[Any] = planes[place]
            return found
    return None


def _candidates(pair: Pair) -> Iterator[Path]:
    truth = pair.truth
    yield from _noted(bare(pair.prediction).with_suffix(".json"))
    if truth.parent.name == "masks":
        folder = truth.parent.with_name("images")
        beside = sorted(folder.iterdir()) if folder.is_dir() else []
        yield from (path for path in beside if stem_of(path) == stem_of(truth) and holds_image(path))
    if "labels" in truth.stem:
        yield from _existing(truth.with_stem(truth.stem.replace("labels", "volume")))
    if truth.parent.name in ("SEG", "TRA"):
        yield from _frame(truth)


def _frame(truth: Path) -> Iterator[Path]:
    """Frame of the sequence `01/` that a file in `01_GT/SEG/` annotates."""
    reference, frame = truth.parents[1], frame_number(truth)
    frames = numbered_frames(reference.with_name(reference.name.partition("_")[0]))
    if frame is not None and (frame[0], None) in frames:
        yield frames[frame[0], None]


def _noted(report: Path) -> Iterator[Path]:
    """Input that the JSON file of a prediction names."""
    try:
        file = json.loads(report.read_text(encoding="utf-8"))["image"]["file"]
        yield from _existing(Path(file))
    except (OSError, ValueError, LookupError, TypeError):
        return  # no such file, or somebody else's


def _existing(path: Path) -> Iterator[Path]:
    if path.is_file() or is_store(path):
        yield path
