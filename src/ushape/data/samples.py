"""From pairs of files to what training uses: an image, its objects, and the class of each."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ushape.config import IGNORE, ClassInfo
from ushape.data.check import CheckReport, check_dataset
from ushape.data.coding import MaskCoding, not_counted
from ushape.data.evidence import Array, label_plane
from ushape.data.inspection import Files
from ushape.data.layouts import find_pairs
from ushape.data.pairs import Dataset, Pair
from ushape.errors import ConfigError, DataError

DEFAULT_VALIDATION = "0.2"


@dataclass(frozen=True)
class Sample:
    """One annotated image in memory.

    Attributes
    ----------
    name : str
        Name of the pair.
    image : ndarray, shape (C, H, W)
        Grey values, dtype as in the file.
    objects : ndarray of int32, shape (H, W)
        Object ids, 0 = background.
    object_class : ndarray of uint8, shape (n + 1,)
        Class of each id; IGNORE for pixels that do not count, which have the last id.
    pixel_size_um : tuple of float, or None
        Height and width of a pixel in micrometres.
    """

    name: str
    image: Array
    objects: Array
    object_class: Array
    pixel_size_um: tuple[float, float] | None = None

    @property
    def classes(self) -> Array:
        """Class of each pixel, uint8 (H, W); IGNORE where it does not count."""
        return np.asarray(self.object_class[self.objects])


def open_dataset(
    data: Path | str,
    *,
    images: str | None = None,
    masks: str | None = None,
    classes: int | str | None = None,
    ignore: int | str | None = None,
    validation: str | Path | float | Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[list[Sample], list[Sample], tuple[ClassInfo, ...], list[str]]:
    """Open a data set for training.

    Parameters
    ----------
    data, images, masks, classes, ignore
        See `check`.
    validation : str, path, float or sequence of str, optional
        What to hold out; see `split`. A folder is opened as a data set of its own.
    seed : int
        Chooses which pairs are held out.

    Returns
    -------
    train, validation : list of Sample
        All with the same number of channels.
    classes : tuple of ClassInfo
        Classes by index.
    notes : list of str
        Layout, mapping of the masks, choices and warnings, for the user to read.

    Raises
    ------
    DataError
        On anything that would make training wrong: whatever `check` calls an error.
    """
    dataset = find_pairs(data, images=images, masks=masks)
    validation = str(validation) if isinstance(validation, Path) else validation
    folder = _validation_folder(validation, dataset.root)
    if folder is not None:
        dataset = _with_validation(dataset, find_pairs(folder, images=images, masks=masks))
    report = check_dataset(dataset, classes=classes, ignore=ignore)
    coding = _require_sound(report)
    pairs = _without_copies(report)
    parts = split(pairs, None if folder else validation, seed=seed)
    samples = {sample.name: sample for sample in load_samples(replace(dataset, pairs=tuple(pairs)), coding)}
    train, held_out = ([samples[pair.name] for pair in part] for part in parts)
    _require_counted(train, "train on")
    _require_counted(held_out, "validate with")
    notes = [f"{dataset.layout}: {len(train)} images to train on, {len(held_out)} held out", *report.notes]
    notes += _unused_share(pairs, validation)
    notes += [f"warning: {fault}" for fault in report.warnings]
    return train, held_out, coding.classes, notes


def open_folds(
    data: Path | str,
    folds: int,
    *,
    images: str | None = None,
    masks: str | None = None,
    classes: int | str | None = None,
    ignore: int | str | None = None,
    seed: int = 0,
) -> tuple[list[list[Sample]], tuple[ClassInfo, ...]]:
    """Open a data set for cross-validation.

    Parameters
    ----------
    data, images, masks, classes, ignore
        See `check`.
    folds : int
        Number of parts.
    seed : int
        Decides which image is in which part.

    Returns
    -------
    folds : list of list of Sample
        Each image in one of them, of copies only the first; their numbers of images differ by one at most. Of
        any `folds` images that follow each other in the order of the pairs, each is in another part, so that
        slow changes along a stack or a film are in all. `train/` and `val/` folders are not told apart.
    classes : tuple of ClassInfo
        Classes by index.

    Raises
    ------
    ConfigError
        If there are fewer images than folds.
    DataError
        On anything that would make training wrong: whatever `check` calls an error.
    """
    dataset = find_pairs(data, images=images, masks=masks)
    report = check_dataset(dataset, classes=classes, ignore=ignore)
    coding = _require_sound(report)
    pairs = _without_copies(report)
    if len(pairs) < folds:
        if len(pairs) == 1:
            raise ConfigError(f"--folds {folds}, but only 1 annotated image; annotate more")
        raise ConfigError(
            f"--folds {folds}, but only {len(pairs)} annotated images; give --folds 2 to {len(pairs)}"
        )
    samples = load_samples(replace(dataset, pairs=tuple(pairs)), coding)
    rng = np.random.default_rng(seed)
    parts = np.concatenate([rng.permutation(folds) for _ in range(0, len(samples), folds)])
    groups = [
        [sample for sample, own in zip(samples, parts, strict=False) if own == part] for part in range(folds)
    ]
    for group in groups:
        _require_counted(group, "hold out together")
    return groups, coding.classes


def load_samples(dataset: Dataset, coding: MaskCoding) -> list[Sample]:
    """Read the pairs of a data set into memory.

    Parameters
    ----------
    dataset : Dataset
        Pairs that have a mask; the others are passed over.
    coding : MaskCoding
        How masks are read.

    Returns
    -------
    list of Sample
        In the order of the pairs. Where grey and RGB images are mixed, grey ones get three equal channels.

    Raises
    ------
    ImageFormatError
        If a file cannot be read.
    DataError
        If a mask holds a value that `coding` does not know.
    """
    files = Files.opened()
    samples = [_load(pair, coding, files) for pair in dataset.pairs if pair.mask is not None]
    most = max((len(sample.image) for sample in samples), default=1)
    return [
        replace(sample, image=np.repeat(sample.image, most, axis=0))
        if len(sample.image) == 1 < most
        else sample
        for sample in samples
    ]


def split(
    pairs: Sequence[Pair], validation: str | float | Sequence[str] | None = None, *, seed: int = 0
) -> tuple[list[Pair], list[Pair]]:
    """Choose what is held out for validation; whole images and slices, never parts of them.

    Parameters
    ----------
    pairs : sequence of Pair
        Pairs of the data set.
    validation : str, float or sequence of str, optional
        A share such as 0.2 (the default): that many, at least one, spread evenly over the order of the
        pairs, so that slow changes along a stack or a film are in both parts. Or names or numbers,
        separated by commas: slices are counted from 0, frames as in their file names. Or a sequence of whole
        names. Pairs from `train/` and `val/` folders stay what they are, unless names are given.
    seed : int
        Where the even spread begins.

    Returns
    -------
    train, validation : list of Pair

    Raises
    ------
    DataError
        If a name is unknown, or nothing would be left to train on or to validate with.
    """
    share = _share(DEFAULT_VALIDATION if validation is None else validation)
    if isinstance(validation, Sequence) and not isinstance(validation, str):
        held_out = set(validation)
        if unknown := sorted(held_out - {pair.name for pair in pairs}):
            raise _unknown(pairs, unknown[0])
    elif share is None:
        held_out = _named(pairs, str(validation))
    elif any(pair.split for pair in pairs):
        held_out = {pair.name for pair in pairs if pair.split == "val"}
    else:
        held_out = _evenly(pairs, share, seed)
    train = [pair for pair in pairs if pair.name not in held_out]
    kept = [pair for pair in pairs if pair.name in held_out]
    if not train or not kept:
        what = "nothing is left to train on" if not train else "nothing is held out for validation"
        raise DataError(f"{what}: {len(pairs)} annotated images; annotate more, or give --validation FOLDER")
    return train, kept


def _load(pair: Pair, coding: MaskCoding, files: Files) -> Sample:
    assert pair.mask is not None
    plane = label_plane(files.labels(pair.mask.path), pair.mask.plane)
    try:
        objects, object_class = coding.objects(plane)
    except DataError as error:
        raise DataError(f"{pair.mask}: {error}") from error
    region = files.region(pair)
    if region is not None:
        objects, object_class = not_counted(objects, object_class, ~region)
    size_um = files.image(pair.image.path).pixel_size_um
    return Sample(pair.name, files.image_plane(pair), objects, object_class, size_um)


def _require_sound(report: CheckReport) -> MaskCoding:
    if report.coding is None or report.errors:
        more = len(report.errors) - 1
        rest = f" (and {more} more: see ushape check {report.dataset.root})" if more > 0 else ""
        raise DataError(f"{report.errors[0]}{rest}")
    return report.coding


def _require_counted(samples: Sequence[Sample], purpose: str) -> None:
    if not any((sample.classes != IGNORE).any() for sample in samples):
        names = ", ".join(sample.name for sample in samples[:3])
        raise DataError(
            f"no pixel of the images to {purpose} counts ({names}): all are outside of the region, or of the "
            "label that is ignored; annotate some, choose others by --validation, or leave these out"
        )


def _without_copies(report: CheckReport) -> list[Pair]:
    return [pair for pair in report.dataset.pairs if pair.name not in report.repeated]


def _share(validation: str | float | Sequence[str]) -> float | None:
    """Number between 0 and 1, or None if it is anything else: `1` is a slice, `0.1` a share."""
    try:
        share = float(validation)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return share if 0 < share < 1 else None


def _unused_share(pairs: Sequence[Pair], validation: str | float | Sequence[str] | None) -> list[str]:
    """Note that folders overrule a share; the default share, which nobody need have asked for, has none."""
    share = None if validation is None else _share(validation)
    if share in (None, float(DEFAULT_VALIDATION)) or not any(pair.split for pair in pairs):
        return []
    return [f"--validation {validation} is not used: train/ and val/ say what is held out"]


def _evenly(pairs: Sequence[Pair], share: float, seed: int) -> set[str]:
    count = min(max(1, round(share * len(pairs))), max(0, len(pairs) - 1))
    start = np.random.default_rng(seed).random()
    return {pairs[int((i + start) * len(pairs) / count)].name for i in range(count)}


def _named(pairs: Sequence[Pair], validation: str) -> set[str]:
    held_out: set[str] = set()
    for word in filter(None, (part.strip() for part in validation.split(","))):
        found = _called(pairs, word)
        if not found:
            raise _unknown(pairs, word)
        held_out |= found
    return held_out


def _unknown(pairs: Sequence[Pair], word: str) -> DataError:
    some = ", ".join(pair.name for pair in pairs[:3])
    return DataError(f"--validation {word!r} is no folder, share or image; images are called {some}, ...")


def _called(pairs: Sequence[Pair], word: str) -> set[str]:
    """Names that `word` means: a whole name, else the end of one after `_`, else a number."""
    stem = re.sub(r"\.(png|jpe?g|bmp|gif|tiff?)$", "", word, flags=re.IGNORECASE)
    exact = {pair.name for pair in pairs if pair.name in (word, stem)}
    exact = exact or {pair.name for pair in pairs if pair.sequence == word}
    ending = {pair.name for pair in pairs if pair.name.endswith("_" + stem)}
    numbered = {pair.name for pair in pairs if word.isdecimal() and pair.number == int(word)}
    return exact or numbered or ending


def _validation_folder(validation: str | float | Sequence[str] | None, root: Path) -> Path | None:
    if not isinstance(validation, str) or _share(validation) is not None:
        return None
    # `Path.is_dir` raises where a path is too long, as that of a long list of names is.
    if any(os.path.isdir(root / f"{validation}_{kind}") for kind in ("GT", "ST")):
        return None  # a sequence of the Cell Tracking Challenge
    return next((Path(path) for path in (validation, root / validation) if os.path.isdir(path)), None)


def _with_validation(dataset: Dataset, held_out: Dataset) -> Dataset:
    """One data set of both: what lies in the second is for validation, all else for training."""
    inside = {(pair.image.path.resolve(), pair.image.plane) for pair in held_out.pairs}
    train = [
        replace(pair, split="train")
        for pair in dataset.pairs
        if (pair.image.path.resolve(), pair.image.plane) not in inside
    ]
    names = {pair.name for pair in train}
    val = [
        replace(pair, split="val", name=f"val_{pair.name}" if pair.name in names else pair.name)
        for pair in held_out.pairs
    ]
    return replace(
        dataset,
        pairs=(*train, *val),
        notes=tuple(dict.fromkeys((*dataset.notes, *held_out.notes))),
        faults=tuple(dict.fromkeys((*dataset.faults, *held_out.faults))),
    )
