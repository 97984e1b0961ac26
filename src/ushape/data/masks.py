"""What the values of masks mean: classes or objects, and which value is which class.

One decision for a whole data set, taken from all its masks, shown to the user, and refused where it would
be a guess.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ushape.config import IGNORE
from ushape.data.coding import MaskCoding, class_coding, color_code, listed, object_coding
from ushape.data.evidence import Array, Evidence, common_codes, examine
from ushape.data.faults import Fault
from ushape.errors import ConfigError, DataError
from ushape.io import LabelImage

MAX_CLASSES = 64
"""More distinct values than this are never taken for classes unless `--classes` says so."""

STRAY_PIXELS = 16
"""A label value with no more pixels than this in the whole data set is a slip of the pen."""

_BINARY = {0, 1, 255, 65535}
"""What masks of two values are drawn with."""


def infer_coding(
    labels: Iterable[LabelImage], *, classes: int | str | None = None, ignore: int | str | None = None
) -> MaskCoding:
    """Tell what the values of the masks mean; see `decide` for the rule and the parameters.

    Raises
    ------
    DataError
        If it would be a guess; the message shows the values found and the option that settles it.
    """
    coding = decide([examine(label) for label in labels], classes=classes, ignore=ignore)
    if isinstance(coding, Fault):
        raise DataError(str(coding))
    return coding


def decide(
    evidence: Sequence[Evidence], *, classes: int | str | None = None, ignore: int | str | None = None
) -> MaskCoding | Fault:
    """Decide what the values of the masks of one data set mean.

    Parameters
    ----------
    evidence : sequence of Evidence
        One for each mask.
    classes : int or str, optional
        A number forces classes: 0..N-1 as they are, or else exactly N values in ascending order.
        "objects" forces objects.
    ignore : int or str, optional
        Label that does not count: a number, or a colour such as "0,0,0".

    Returns
    -------
    MaskCoding or Fault
        The fault says why it would be a guess, and which option settles it.

    Raises
    ------
    ConfigError
        If `classes` or `ignore` is not an option that can be.

    Notes
    -----
    Without `classes`, two values are two classes, 0 and 255 the same as 0 and 1. With more values they
    are **objects** if nearly every value is one connected piece wherever it occurs (95 % of them) and
    one of these holds: there are more than 32 of them; no value occurs in two images; the values are
    1..n in each image, with n varying and 6 or more somewhere; or there are 6 or more, of 16 bits or
    wider, and not the same in all images. More than 64 values are objects if half of them are connected.
    255 beside two or more numbers below 64 is refused in masks of 8 bits: by custom it does not count.
    They are **classes** if at most 64 occur and fewer than 75 % of their occurrences are connected;
    colours are classes if at most 64 occur. Anything else is refused.
    """
    number = number_of_classes(classes)
    found = _Found.of(evidence, ignored_label(ignore))
    if len(found.values) == 0:
        return Fault("error", None, "no sound mask to learn the classes from", "mend the masks listed")
    fault = _palette_among_colours(evidence, found) or _nothing_drawn(found)
    if fault is None and number in (None, 2) and classes != "objects":
        fault = _mixed_binary(found)
    if fault is not None:
        return fault
    if number is not None:
        return _other_palette(evidence) or _forced(found, number)
    fault = _negative(found) or (None if classes == "objects" else _unlabelled_255(found))
    if fault is not None:
        return fault
    if classes == "objects" or (len(found.values) > 2 and _are_objects(found)):
        return object_coding(ignore=found.ignore, is_rgb=found.is_rgb, bits=found.bits)
    if len(found.values) == 2 or _are_classes(found):
        return _other_palette(evidence) or _stray(found) or found.class_coding(found.values)
    return _ambiguous(found)


@dataclass(frozen=True)
class _InMask:
    """Values of one mask, ascending, less the ignored one; pixels and connected pieces of each."""

    file: Path | None
    values: Array
    pixels: Array
    pieces: Array

    @property
    def objects(self) -> tuple[int, ...]:
        """Values other than 0."""
        return tuple(value for value in self.values.tolist() if value)


@dataclass(frozen=True)
class _Found:
    """What the masks of a data set hold together."""

    masks: tuple[_InMask, ...]
    is_rgb: bool
    bits: int
    palette: Array | None
    ignore: int | None

    @classmethod
    def of(cls, evidence: Sequence[Evidence], ignore: tuple[int, ...] | None) -> "_Found":
        is_rgb = any(item.is_rgb and not item.is_grey for item in evidence)
        bits = max((item.bits for item in evidence), default=8)
        palettes = [item.palette for item in evidence if item.palette is not None]
        palette = palettes[0] if palettes else None
        ignored = ignored_code(ignore, is_rgb, bits, palettes)
        masks = []
        for item in evidence:
            codes = common_codes(item, is_rgb)
            kept = codes != ignored if ignored is not None else np.ones(codes.shape, bool)
            masks.append(_InMask(item.path, codes[kept], item.pixels[kept], item.pieces[kept]))
        return cls(tuple(masks), is_rgb, bits, palette, ignored)

    @cached_property
    def values(self) -> Array:
        """Values that occur anywhere, ascending."""
        return np.unique(np.concatenate([np.zeros(0, np.int64), *(mask.values for mask in self.masks)]))

    @cached_property
    def num_objects(self) -> int:
        """Number of values other than 0."""
        return int(np.count_nonzero(self.values))

    @cached_property
    def share_in_one_piece(self) -> float:
        """Share of the occurrences of a value other than 0 in a mask that are connected."""
        pieces = np.concatenate([mask.pieces[mask.values != 0] for mask in self.masks])
        return float((pieces == 1).mean()) if pieces.size else 1.0

    @property
    def listed(self) -> str:
        return listed(self.values, self.is_rgb, self.bits)

    def pixels_of(self, value: int) -> int:
        return int(sum(mask.pixels[mask.values == value].sum() for mask in self.masks))

    def file_with(self, value: int) -> Path | None:
        """First mask in which `value` occurs."""
        return next((mask.file for mask in self.masks if value in mask.values), None)

    def class_coding(self, values: Iterable[int]) -> MaskCoding:
        values = [int(value) for value in values]
        counts = [self.pixels_of(value) for value in values]
        return class_coding(
            values,
            ignore=self.ignore,
            is_rgb=self.is_rgb,
            bits=self.bits,
            palette=self.palette,
            # Where objects fill most of the image, thin lines are what separates them.
            connectivity=4 if 2 * counts[1] > sum(counts) else 8,
        )


def _forced(found: _Found, number: int) -> MaskCoding | Fault:
    outside = found.values[(found.values < 0) | (found.values >= number)]
    if outside.size == 0 and not found.is_rgb:
        return found.class_coding(range(number))
    if len(found.values) == number:
        return found.class_coding(found.values)
    return Fault(
        "error",
        found.file_with(int(outside[0])) if outside.size else None,
        f"--classes {number} given, but the masks hold {len(found.values)} values: {found.listed}",
        f"give --classes {len(found.values)}, or --ignore a value that does not count",
    )


def _nothing_drawn(found: _Found) -> Fault | None:
    if len(found.values) > 1:
        return None
    what = f"every mask holds only the value {found.listed}: nothing to tell apart"
    return Fault("error", None, what, "check that these are the masks and that something is drawn")


def _negative(found: _Found) -> Fault | None:
    if found.values[0] >= 0:
        return None
    lowest = int(found.values[0])
    what = f"masks hold the negative value {lowest}; all values: {found.listed}"
    return Fault("error", found.file_with(lowest), what, f"give --ignore={lowest} if it does not count")


def _mixed_binary(found: _Found) -> Fault | None:
    """Some masks drawn with 0 and 1, others with 0 and 255, or with the 65535 of 16 bits."""
    values: list[int] = found.values.tolist()
    is_binary = set(values) <= _BINARY and all(len(mask.objects) < 2 for mask in found.masks)
    if found.is_rgb or len(values) < 3 or not is_binary:
        return None
    second, last = values[-2:]
    what = f"drawn with 0 and {second}, but {found.file_with(last)} with 0 and {last}"
    return Fault("error", found.file_with(second), what, "save all masks with the same two values")


def _palette_among_colours(evidence: Sequence[Evidence], found: _Found) -> Fault | None:
    """Numbers of a palette among colours: they would be taken for greys."""
    if not found.is_rgb:
        return None
    files = (item.path for item in evidence if item.palette is not None)
    what, fix = "holds numbers of a palette, and other masks hold colours", "save all masks as RGB"
    return next((Fault("error", path, what, fix) for path in files), None)


def _other_palette(evidence: Sequence[Evidence]) -> Fault | None:
    """A number that stands for one colour here and for another there: programs make a palette per file."""
    first: dict[int, tuple[list[int], Path | None]] = {}
    for item in evidence:
        if item.palette is None:
            continue
        for value in item.values[(item.values >= 0) & (item.values < len(item.palette))].tolist():
            color = item.palette[value].tolist()
            other, file = first.setdefault(value, (color, item.path))
            if color != other:
                here, there = (f"({','.join(map(str, one))})" for one in (color, other))
                what = f"{value} stands for the colour {here} here, for {there} in {file}"
                return Fault("error", item.path, what, "save all masks as RGB, or with one palette")
    return None


def _unlabelled_255(found: _Found) -> Fault | None:
    """255 beside small numbers: by custom it does not count, but only the user knows."""
    others = found.values[found.values != 255].tolist()
    is_custom = 2 <= len(others) < len(found.values) and others[-1] < MAX_CLASSES
    if found.is_rgb or found.bits > 8 or not is_custom:
        return None
    what = f"masks hold {found.listed}: is 255 a class?"
    fix = (
        f"give --ignore 255 if these pixels do not count, --classes {len(found.values)} if they are a class, "
        "--classes objects if each value is one object"
    )
    return Fault("error", found.file_with(255), what, fix)


def _are_objects(found: _Found) -> bool:
    if found.is_rgb and found.num_objects <= MAX_CLASSES:
        return False
    if found.num_objects > MAX_CLASSES and found.share_in_one_piece >= 0.5:
        return True
    if found.share_in_one_piece < 0.95:
        return False
    sets = [mask.objects for mask in found.masks if mask.objects]
    return (
        found.num_objects > 32 or _disjoint(sets) or _numbered_from_1(sets) or _wide_and_varying(found, sets)
    )


def _disjoint(sets: list[tuple[int, ...]]) -> bool:
    return len(sets) > 1 and len(set().union(*sets)) == sum(map(len, sets))


def _numbered_from_1(sets: list[tuple[int, ...]]) -> bool:
    counts = {len(values) for values in sets}
    return len(counts) > 1 and max(counts) >= 6 and all(values[-1] == len(values) for values in sets)


def _wide_and_varying(found: _Found, sets: list[tuple[int, ...]]) -> bool:
    return found.bits > 8 and found.num_objects >= 6 and (len(sets) == 1 or len(set(sets)) > 1)


def _are_classes(found: _Found) -> bool:
    return found.num_objects <= MAX_CLASSES and (found.is_rgb or found.share_in_one_piece < 0.75)


def _stray(found: _Found) -> Fault | None:
    rare = next((value for value in found.values.tolist() if found.pixels_of(value) <= STRAY_PIXELS), None)
    if rare is None or len(found.values) == 2:
        return None
    value = listed([rare], found.is_rgb, found.bits)
    what = (
        f"value {value} has {found.pixels_of(rare)} pixels in all masks together, which hold {found.listed}"
    )
    fix = (
        f"repaint them, or give --classes {len(found.values)} if it is a class, --ignore if it does not count"
    )
    return Fault("error", found.file_with(rare), what, fix)


def _ambiguous(found: _Found) -> Fault:
    what = f"masks hold {found.listed}: classes or objects?"
    if len(found.values) > MAX_CLASSES:
        return Fault("error", None, what, "give --classes objects if each value is one object")
    fix = f"give --classes {len(found.values)} if these are classes, --classes objects if each is one object"
    return Fault("error", None, what, fix)


def number_of_classes(classes: int | str | None) -> int | None:
    """Read the option `--classes`: a number, or None where there is none or it says "objects".

    Raises
    ------
    ConfigError
        If it is anything else.
    """
    if classes is None or classes == "objects":
        return None
    number = int(classes) if str(classes).isdecimal() else 0
    if not 2 <= number < IGNORE:
        raise ConfigError(
            f"--classes {classes} is not valid; give a number from 2 to {IGNORE - 1}, or objects"
        )
    return number


def ignored_label(ignore: int | str | None) -> tuple[int, ...] | None:
    """Read the option `--ignore`: a number as (n,), a colour as (r, g, b).

    Raises
    ------
    ConfigError
        If it is anything else.
    """
    if ignore is None:
        return None
    try:
        numbers = tuple(int(part) for part in str(ignore).split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):
        raise ConfigError(
            f"--ignore {ignore} is no label; give a number such as 255, or a colour such as 0,0,0"
        )
    return numbers


def ignored_code(
    ignore: tuple[int, ...] | None, is_rgb: bool, bits: int, palettes: Sequence[Array] = ()
) -> int | None:
    """Code of the label in the form that all masks share: a grey and a number are the same thing.

    Raises
    ------
    ConfigError
        If it is a colour, and the masks hold numbers that do not stand for it.
    """
    if ignore is None:
        return None
    if is_rgb:
        return color_code(ignore if len(ignore) == 3 else ignore * 3, bits)
    if len(ignore) == 1 or (not palettes and len(set(ignore)) == 1):
        return ignore[0]
    if (entry := entry_of(ignore, palettes)) is not None:
        return entry
    color, what = ",".join(map(str, ignore)), "numbers of palettes without it" if palettes else "numbers"
    raise ConfigError(f"--ignore {color} is a colour, and the masks hold {what}; give the number")


def entry_of(color: tuple[int, ...], palettes: Sequence[Array]) -> int | None:
    """Number that stands for a colour in the first palette that has it; None if none has."""
    entries = (np.flatnonzero((palette == color).all(axis=1)) for palette in palettes)
    return next((int(found[0]) for found in entries if found.size), None)
