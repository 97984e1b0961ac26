"""What a data set is before it is read: pairs of an image and its mask, and what is wrong with them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ushape.data.faults import Fault

Split = Literal["train", "val"]


@dataclass(frozen=True)
class Source:
    """One plane: a file, and which of its planes (counted from 0; None for a file of one plane)."""

    path: Path
    plane: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.plane is None else f"{self.path}[{self.plane}]"


@dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes
    ----------
    name : str
        Unique in the data set: the stem of the image, `train-volume[3]` for a slice, `01_t031` for a frame.
    image : Source
        The image.
    mask : Source or None
        Its mask; None if there is none.
    region : Source or None
        Image that is 0 where pixels do not count.
    split : {"train", "val"} or None
        What the layout says the pair is for.
    number : int or None
        Number by which `--validation` may call it: slice, frame, or the only number in its name.
    sequence : str or None
        Sequence of the Cell Tracking Challenge that it is of: `--validation` may call all of it so.
    """

    name: str
    image: Source
    mask: Source | None
    region: Source | None = None
    split: Split | None = None
    number: int | None = None
    sequence: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Pairs of a data set.

    Attributes
    ----------
    root : Path
        The folder given.
    layout : str
        Which layout it is, in words.
    pairs : tuple of Pair
        Sorted by name within a split.
    notes : tuple of str
        Choices made on the way, for the user to read.
    faults : tuple of Fault
        Missing partners, names that occur twice, stacks of unequal length.
    class_names : tuple of str
        Names of the classes, where the layout implies them.
    """

    root: Path
    layout: str
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    class_names: tuple[str, ...] = ()
