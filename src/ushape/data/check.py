"""The data doctor: everything about a data set that would make training wrong, before it starts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ushape.config import ClassInfo
from ushape.data.coding import MaskCoding, renamed
from ushape.data.evidence import Array, Evidence
from ushape.data.faults import Fault
from ushape.data.inspection import Files, Inspected, inspect, smearing
from ushape.data.layouts import find_pairs
from ushape.data.masks import decide
from ushape.data.pairs import Dataset, Split

HISTOGRAM_BINS = 16


@dataclass(frozen=True)
class ClassRow:
    """One class in the whole data set.

    Attributes
    ----------
    info : ClassInfo
        Name, label value, colour.
    pixels : int
        Pixels of this class.
    share : float
        The same as a share of all pixels that count, 0 to 1.
    images : int
        Number of images in which it occurs.
    """

    info: ClassInfo
    pixels: int
    share: float
    images: int


@dataclass(frozen=True)
class Histogram:
    """Grey values of a sample of pixels of every image, all channels together.

    Attributes
    ----------
    edges : ndarray of float64, shape (n + 1,)
        Grey values between which the bins lie.
    counts : ndarray of int64, shape (n,)
        Values in each bin.
    """

    edges: Array
    counts: Array


@dataclass(frozen=True)
class CheckReport:
    """What `ushape check` shows.

    Attributes
    ----------
    dataset : Dataset
        Layout, pairs and notes.
    rows : tuple of Inspected
        One for each pair: sizes, dtypes, labels.
    coding : MaskCoding or None
        How masks are read; None if that cannot be told.
    classes : tuple of ClassRow
        Empty without a coding.
    uncounted_share : float
        Share of the pixels that do not count, 0 to 1.
    num_objects : int or None
        Objects of instance masks in all images.
    histogram : Histogram or None
        None if no image can be read.
    faults : tuple of Fault
        Errors first.
    repeated : frozenset of str
        Names of pairs that are copies of another; training leaves them out.
    """

    dataset: Dataset
    rows: tuple[Inspected, ...]
    coding: MaskCoding | None
    classes: tuple[ClassRow, ...]
    uncounted_share: float
    num_objects: int | None
    histogram: Histogram | None
    faults: tuple[Fault, ...]
    repeated: frozenset[str]

    @property
    def errors(self) -> tuple[Fault, ...]:
        """Faults that would make training wrong."""
        return tuple(fault for fault in self.faults if fault.severity == "error")

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """Faults worth a look."""
        return tuple(fault for fault in self.faults if fault.severity == "warning")

    @property
    def exit_status(self) -> int:
        """2 if training would be wrong, else 0."""
        return 2 if self.errors else 0

    @property
    def needs_validation(self) -> bool:
        """Whether training needs a folder of its own to validate with: there is only one image."""
        return _splits(self.dataset, self.repeated) == [None]

    @property
    def notes(self) -> tuple[str, ...]:
        """Choices made on the way: pairs, mapping of the masks, channels, copies left out."""
        notes = list(self.dataset.notes)
        if self.coding is not None:
            notes.insert(0, f"masks hold {self.coding.words}")
        if len({row.shape[0] for row in self.rows if row.shape}) > 1:
            notes.append("grey and RGB images are mixed: grey ones are given three equal channels")
        if self.repeated:
            notes.append(f"copies of other images, left out: {', '.join(sorted(self.repeated))}")
        return tuple(notes)


def check(
    data: Path | str,
    *,
    images: str | None = None,
    masks: str | None = None,
    classes: int | str | None = None,
    ignore: int | str | None = None,
) -> CheckReport:
    """Look at every image and mask of a data set.

    Parameters
    ----------
    data : path
        Folder of the data set; see `find_pairs`.
    images, masks : str, optional
        Globs that name images and masks.
    classes : int or str, optional
        Number of classes, or "objects"; see `decide`.
    ignore : int or str, optional
        Label that does not count.

    Returns
    -------
    CheckReport
        Every fault found, with file and fix. Unreadable files and unclear masks are faults, too.

    Raises
    ------
    DataError
        If there are no pairs to look at; see `find_pairs`.
    ConfigError
        If an option cannot be.
    """
    return check_dataset(find_pairs(data, images=images, masks=masks), classes=classes, ignore=ignore)


def check_dataset(
    dataset: Dataset, *, classes: int | str | None = None, ignore: int | str | None = None
) -> CheckReport:
    """Look at every pair of a data set that was found already; see `check`."""
    files = Files.opened()
    rows = tuple(inspect(pair, files) for pair in dataset.pairs)
    readable = [row.evidence for row in rows if row.evidence is not None]
    evidence, mask_faults = _sound(readable, classes, ignore)
    coding = decide(evidence, classes=classes, ignore=ignore) if evidence else None
    if isinstance(coding, Fault):
        mask_faults.append(coding)
        coding = None
    if coding is not None:
        coding = renamed(coding, dataset.class_names)
    copies, copy_faults = _copies(rows)
    faults = [*dataset.faults, *(fault for row in rows for fault in row.faults), *mask_faults, *copy_faults]
    faults += [*_mixed_kinds(rows), *_too_few(dataset, copies)]
    if coding is not None and coding.ignore is not None:
        faults += _unused_ignore(evidence, coding, dataset.root)
    return CheckReport(
        dataset,
        rows,
        coding,
        () if coding is None else tuple(_class_rows(evidence, coding)),
        0.0 if coding is None else _uncounted_share(evidence, coding),
        _num_objects(evidence, coding) if coding is not None and coding.kind == "instances" else None,
        _histogram(rows),
        tuple(sorted(dict.fromkeys(faults), key=lambda fault: fault.severity)),
        copies,
    )


def _sound(
    evidence: Sequence[Evidence], classes: int | str | None, ignore: int | str | None
) -> tuple[list[Evidence], list[Fault]]:
    """Masks to learn the coding from, and faults of the others.

    A number of classes that fits the values excuses soft edges: a border class may be one pixel wide.
    """
    is_number = classes not in (None, "objects")
    if is_number and isinstance(decide(evidence, classes=classes, ignore=ignore), MaskCoding):
        return list(evidence), []
    faults = [fault for fault in map(smearing, evidence) if fault is not None]
    return [item for item in evidence if not item.smeared], faults


def _copies(rows: Sequence[Inspected]) -> tuple[frozenset[str], list[Fault]]:
    """Images that occur twice: names to leave out, and faults."""
    first: dict[bytes, Inspected] = {}
    copies, faults = set(), []
    # Validation images come first, so that a copy in the training set is the one to go.
    for row in sorted(rows, key=lambda row: row.pair.split != "val"):
        image, mask = row.digests
        if not image or row.grey_values is None or np.ptp(row.grey_values) == 0:
            continue
        other = first.setdefault(image, row)
        if other is row:
            continue
        what = f"the same image as {other.pair.image}"
        if mask == other.digests[1]:
            copies.add(row.pair.name)
            fault = Fault("warning", row.pair.image.path, what, "training uses one of the two; remove one")
        else:
            what = f"{row.pair.image} is {what}, but their masks differ"
            fault = Fault("error", row.pair.image.path, what, "keep the pair with the right mask")
        faults.append(fault)
    return frozenset(copies), faults


def _mixed_kinds(rows: Sequence[Inspected]) -> Iterator[Fault]:
    """Images whose channels or dtypes differ from those of most others."""
    readable = [row for row in rows if row.shape is not None]
    channels = [row.shape[0] for row in readable if row.shape is not None]
    usual = max(set(channels), key=channels.count, default=0)
    if not set(channels) <= {1, 3} and len(set(channels)) > 1:
        odd = next(row for row in readable if row.shape is not None and row.shape[0] != usual)
        what = f"{odd.shape and odd.shape[0]} channels, but most images have {usual}"
        yield Fault("error", odd.pair.image.path, what, "save all images with the same channels")
    dtypes = [row.dtype for row in readable]
    if len(set(dtypes)) > 1:
        usual_dtype = max(sorted(set(dtypes)), key=dtypes.count)
        odd = next(row for row in readable if row.dtype != usual_dtype)
        what = f"{odd.dtype} grey values, but most images have {usual_dtype}"
        yield Fault("warning", odd.pair.image.path, what, "right only if one microscope made both")


def _too_few(dataset: Dataset, copies: frozenset[str]) -> Iterator[Fault]:
    """Faults of a data set that leaves nothing to validate with, or to train on, without its copies."""
    splits = _splits(dataset, copies)
    if splits == [None]:
        what = "only one annotated image: none to validate with"
        yield Fault("warning", dataset.root, what, "annotate more, or give --validation FOLDER")
    if splits and set(splits) == {"val"}:
        what = "every annotated image is held out for validation: nothing is left to train on"
        yield Fault("error", dataset.root, what, "add images that are not in the validation set")


def _splits(dataset: Dataset, copies: frozenset[str]) -> list[Split | None]:
    """What each pair that is no copy of another is for."""
    return [pair.split for pair in dataset.pairs if pair.name not in copies]


def _unused_ignore(evidence: Sequence[Evidence], coding: MaskCoding, root: Path) -> Iterator[Fault]:
    if not any(coding.ignore in coding.common_values(item) for item in evidence):
        what = "no mask holds the label given by --ignore"
        yield Fault("warning", root, f"{what}; mapping: {coding.words}", "check the number")


def _counted(item: Evidence, coding: MaskCoding) -> tuple[Array, Array]:
    """Class of each value of one mask, and its pixels, less those that do not count."""
    codes = coding.common_values(item)
    kept = codes != coding.ignore if coding.ignore is not None else np.ones(codes.shape, bool)
    classes = coding.classes_of(codes[kept])
    return classes, item.pixels[kept]


def _class_rows(evidence: Sequence[Evidence], coding: MaskCoding) -> Iterator[ClassRow]:
    num = len(coding.classes)
    counts = np.array([np.bincount(*_counted(item, coding), minlength=num)[:num] for item in evidence])
    pixels = counts.sum(0).astype(np.int64)
    shares = pixels / max(1, pixels.sum())
    for index, info in enumerate(coding.classes):
        yield ClassRow(
            info, int(pixels[index]), float(shares[index]), int(np.count_nonzero(counts[:, index]))
        )


def _uncounted_share(evidence: Sequence[Evidence], coding: MaskCoding) -> float:
    total = sum(int(item.pixels.sum()) + item.outside for item in evidence)
    counted = sum(int(_counted(item, coding)[1].sum()) for item in evidence)
    return 1 - counted / max(1, total)


def _num_objects(evidence: Sequence[Evidence], coding: MaskCoding) -> int:
    return sum(int(np.count_nonzero(_counted(item, coding)[0])) for item in evidence)


def _histogram(rows: Sequence[Inspected]) -> Histogram | None:
    samples = [row.grey_values for row in rows if row.grey_values is not None]
    if not samples:
        return None
    values = np.concatenate(samples).astype(np.float64)
    low, high = values.min(), values.max()
    if all(sample.dtype.kind in "iu" for sample in samples):
        # Bins of equally many whole numbers; others would count some twice as often.
        width = np.ceil((high - low + 1) / HISTOGRAM_BINS)
        edges = np.arange(low, high + width + 1, width)
    else:
        edges = np.linspace(low, high if high > low else low + 1, HISTOGRAM_BINS + 1)
    return Histogram(edges, np.histogram(values, edges)[0])
