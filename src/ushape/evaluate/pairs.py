"""Which prediction belongs to which truth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ushape.data.pairing import pair_up
from ushape.errors import DataError, ImageFormatError
from ushape.io import holds_image, is_store, stem_of

Kind = Literal["probabilities", "classes", "instances"]

KINDS: tuple[Kind, ...] = ("probabilities", "classes", "instances")
"""What `ushape predict` writes, by the end of the stem. Probabilities first: classes follow from them."""

_PICTURES = ("_overlay", "_outlines")


@dataclass(frozen=True)
class Pair:
    """A predicted file and the file with its truth; `plane`: of the prediction only this one has a truth."""

    name: str
    prediction: Path
    truth: Path
    plane: int | None = None


@dataclass(frozen=True)
class Pairs:
    """All pairs, how they were found, and the files left without a partner."""

    pairs: tuple[Pair, ...]
    how: str
    lone_predictions: tuple[Path, ...] = ()
    lone_truths: tuple[Path, ...] = ()


def kind_of(path: Path) -> Kind | None:
    """What the name says a predicted file holds; None if it says nothing."""
    return next((kind for kind in KINDS if stem_of(path).endswith(f"_{kind}")), None)


def bare(path: Path) -> Path:
    """Path with the ending of its kind cut off the stem: `a.tif` of `a_classes.tif`."""
    kind, stem = kind_of(path), stem_of(path)
    return path.with_name((stem if kind is None else stem.removesuffix(f"_{kind}")) + path.suffix)


def pair_paths(prediction: Path, truth: Path, *, kinds: Sequence[Kind] = KINDS) -> Pairs:
    """Pair two files, or the images of two folders by their names without `_classes`, `_probabilities`, ...

    Parameters
    ----------
    prediction, truth : Path
    kinds : sequence of str
        If a folder holds several kinds of prediction, the first of these that is there is taken.

    Raises
    ------
    ImageFormatError
        If a path does not exist.
    DataError
        If one is a file and the other a folder, or nothing pairs.
    """
    for path in (prediction, truth):
        if not path.exists():
            raise ImageFormatError(f"no such file or folder: {path}; check the name")
    if _is_folder(prediction) != _is_folder(truth):
        folder, file = (prediction, truth) if _is_folder(prediction) else (truth, prediction)
        raise DataError(f"{file} is a file but {folder} a folder; give two files or two folders")
    if not _is_folder(prediction):
        return Pairs((Pair(bare(prediction).stem, prediction, truth),), "two files")
    return _pair_folders(prediction, truth, kinds)


def _is_folder(path: Path) -> bool:
    """Whether a path is a folder of images, and not one image that is a folder."""
    return path.is_dir() and not is_store(path)


def _pair_folders(prediction: Path, truth: Path, kinds: Sequence[Kind]) -> Pairs:
    predictions = _by_image(_of_one_kind(_images(prediction), kinds))
    truths = _by_image(_images(truth))
    pairing = pair_up(list(predictions), list(truths))
    pairs = tuple(
        Pair(image.stem, predictions[image], truths[partner])
        for image, partner in pairing.partners
        if partner is not None
    )
    if not pairs:
        first, other = next(iter(predictions.values())), next(iter(truths.values()))
        raise DataError(
            f"no file of {prediction} pairs with one of {truth} by name (first files: {first.name}, "
            f"{other.name}); give both the same stems"
        )
    return Pairs(
        pairs,
        f"by {pairing.how}",
        tuple(predictions[image] for image, partner in pairing.partners if partner is None),
        tuple(truths[image] for image in pairing.orphans),
    )


def _by_image(paths: Iterable[Path]) -> dict[Path, Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        other = found.setdefault(bare(path), path)
        if other != path:
            raise DataError(f"{other} and {path} are of the same image; leave one of them in the folder")
    return found


def _images(folder: Path) -> list[Path]:
    images = sorted(path for path in folder.iterdir() if holds_image(path))
    images = [path for path in images if not stem_of(path).endswith(_PICTURES)]
    if not images:
        raise DataError(f"no image in {folder}; give the folder that directly holds the files")
    return images


def _of_one_kind(paths: Iterable[Path], kinds: Sequence[Kind]) -> list[Path]:
    groups: dict[Kind | None, list[Path]] = {}
    for path in paths:
        groups.setdefault(kind_of(path), []).append(path)
    best = next((kind for kind in (*kinds, None, *KINDS) if kind in groups), None)
    return groups[best]
