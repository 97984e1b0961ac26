"""Which mask belongs to which image, told by their names alone.

Several ways to read a name are tried, the strictest first; a way counts only if it gives every file of
a group another key, so that nothing is ever paired by accident.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

Keys = list[Hashable]


@dataclass(frozen=True)
class Pairing:
    """Images and masks that belong together.

    Attributes
    ----------
    partners : tuple of (Path, Path or None)
        Every image, in the order given, and its mask.
    orphans : tuple of Path
        Masks without an image.
    how : str
        The way in which names were compared, in words.
    """

    partners: tuple[tuple[Path, Path | None], ...]
    orphans: tuple[Path, ...]
    how: str

    @property
    def count(self) -> int:
        """Number of images that have a mask."""
        return sum(mask is not None for _, mask in self.partners)


def pair_up(images: Sequence[Path], masks: Sequence[Path]) -> Pairing:
    """Pair images with masks by name.

    The ways, in order: equal stems; equal stems once the letters that all names of a group share are cut
    off (`cell_01_mask` and `cell_01`); the same numbers; the same numbers among those that vary within
    the group (`t031` and `man2_seg031`); the same first number (`21_training` and `21_manual1`). Equal
    stems are taken if they pair at least half of the smaller group, else the way that pairs most.

    Parameters
    ----------
    images, masks : sequence of Path
        Files of the two groups.

    Returns
    -------
    Pairing
    """
    pairings = [_pair_by(keys_of, images, masks, how) for how, keys_of in _WAYS]
    by_stem = pairings[0]
    # A few names that do not match are missing partners, not a reason to read names more loosely.
    if by_stem.count and 2 * by_stem.count >= min(len(images), len(masks)):
        return by_stem
    return max(pairings, key=lambda pairing: pairing.count)


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers in `text`, in order: `t031_z02` -> (31, 2)."""
    return tuple(int(digits) for digits in re.findall(r"[0-9]+", text))


def _pair_by(
    keys_of: Callable[[Sequence[Path]], Keys], images: Sequence[Path], masks: Sequence[Path], how: str
) -> Pairing:
    image_keys, mask_keys = keys_of(images), keys_of(masks)
    unusable = {key for keys in (image_keys, mask_keys) for key, n in Counter(keys).items() if n > 1}
    partner = {
        key: mask for key, mask in zip(mask_keys, masks, strict=True) if key not in unusable and key != ()
    }
    partners = tuple((image, partner.get(key)) for image, key in zip(images, image_keys, strict=True))
    taken = {mask for _, mask in partners}
    return Pairing(partners, tuple(mask for mask in masks if mask not in taken), how)


def _name(path: Path) -> str:
    """The name that is compared: macOS takes some letters apart that others write as one."""
    return normalize("NFC", path.stem)


def _stems(group: Sequence[Path]) -> Keys:
    return [_name(path) for path in group]


def _stems_without_shared_letters(group: Sequence[Path]) -> Keys:
    """Stems less the prefix and suffix shared by all, digits never cut: `a10`, `a20` keep their zeros."""
    stems = [_name(path) for path in group]
    if len(stems) < 2:
        return list(stems)
    prefix = _shared_start(stems).rstrip("0123456789")
    suffix = _shared_start([stem[len(prefix) :][::-1] for stem in stems]).rstrip("0123456789")
    return [stem[len(prefix) : len(stem) - len(suffix)] for stem in stems]


def _shared_start(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:length]


def _numbers(group: Sequence[Path]) -> Keys:
    return [numbers(_name(path)) for path in group]


def _varying_numbers(group: Sequence[Path]) -> Keys:
    rows = [numbers(_name(path)) for path in group]
    if len({len(row) for row in rows}) != 1:
        return list(rows)
    varying = [place for place, column in enumerate(zip(*rows, strict=True)) if len(set(column)) > 1]
    return [tuple(row[place] for place in varying) for row in rows]


def _first_number(group: Sequence[Path]) -> Keys:
    return [numbers(_name(path))[:1] for path in group]


_WAYS: tuple[tuple[str, Callable[[Sequence[Path]], Keys]], ...] = (
    ("equal stems", _stems),
    ("equal stems but for the letters that all share", _stems_without_shared_letters),
    ("the numbers in their names", _numbers),
    ("the numbers that vary in their names", _varying_numbers),
    ("the first number in their names", _first_number),
)
