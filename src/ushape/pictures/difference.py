"""Where prediction and truth differ, object by object: found, missed, added, split, merged.

Which objects belong together
-----------------------------
A predicted and a true object are *partners* if they share more than half of the smaller one of the two. So
the pieces of a cell belong to the cell, and every cell under a blob belongs to the blob; neighbours whose
common border lies a little off do not. Two exceptions keep crumbs out, a tenth being our choice:

- of several partners of an object, those that share with it less than a tenth of what the largest one shares
  do not count: a speck in a cell that is found does not split it;
- an object of which less than a tenth is shared with partners has none: a speck alone has not found the cell
  that it lies in, and a blob over the whole image finds nothing.

No rule by one threshold of IoU does all this. With IoU > 0.1 (Caicedo et al. 2019, Cytometry A 95, 952) a
blob of ten equal cells would have no partner, and a border that lies off would split one cell and merge two.

A *marker* stands for an object that nobody outlined, as in the Cell Tracking Challenge: any object that
covers more than half of it is its partner, however small the marker is.

What becomes of an object
-------------------------
==============  =================================  ====================================
partners        a true object is                   a predicted object is
==============  =================================  ====================================
none            missed                             added
several         split                              merged
one             found, or part of a split or merge, as its partner is
==============  =================================  ====================================
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.config import IGNORE
from ushape.errors import ShapeError
from ushape.metrics.overlaps import Overlaps, count_overlaps
from ushape.pictures.drawing import BACKGROUND, Color, colorize

Array = NDArray[Any]

_CRUMB = 10
"""What is smaller than one such part of the rest is a crumb."""


class Difference(IntEnum):
    """What a pixel of a comparison, or an object as a whole, is."""

    NOTHING = 0
    """Background in both."""
    FOUND = 1
    """In an object and its only partner; of class masks: the same class in both."""
    LACKING = 2
    """In a true object that is found, but not in its partner."""
    EXCESS = 3
    """In a predicted object that is right, but not in its partner."""
    MISSED = 4
    ADDED = 5
    SPLIT = 6
    MERGED = 7
    OTHER_CLASS = 8
    """Of class masks: another class than the true one, neither of them background."""


# Vermillion, yellow and blue of Okabe and Ito (jfly.uni-koeln.de/color, 2008), cyan of Tol's bright scheme
# (sronpersonalpages.nl/~pault, 2021), made for every kind of colour vision: warm for what becomes of true
# objects, cold for predicted ones. What is right is grey, its rims are dark.
DIFFERENCE_COLORS: tuple[Color, ...] = (
    BACKGROUND,
    (78, 82, 88),
    (104, 48, 8),
    (24, 56, 88),
    (213, 94, 0),
    (102, 204, 238),
    (240, 228, 66),
    (0, 114, 178),
    (0, 114, 178),  # never in one picture with MERGED
)
"""Colour of each `Difference`."""


@dataclass(frozen=True)
class Differences:
    """A comparison of a predicted with a true plane.

    Attributes
    ----------
    codes : ndarray of uint8, shape (H, W)
        The `Difference` that each pixel shows; IGNORE where pixels do not count. Where a predicted and a true
        object overlap and fare differently, that of the true one shows, unless it is found.
    counts : mapping of Difference to int
        Of objects: true ones that are found, missed, split and part of a merge, together all of them, and
        predicted ones that are added. Of class masks: pixels.
    matched : int
        How many of those found agree with an IoU of at least 0.5, as AP(0.5) asks; of class masks all.
    lines : ndarray of bool, shape (H, W)
        Borders of objects within an area of one code: where a cell was split, which cells were merged.
    predicted, true : ndarray of int, shape (H, W)
        Both planes. Objects are renumbered, true ones 1..n, predicted ones that are found as their partner,
        the others beyond.
    """

    codes: Array
    counts: Mapping[Difference, int]
    matched: int
    lines: Array
    predicted: Array
    true: Array

    def picture(self) -> Array:
        """Draw the codes in `DIFFERENCE_COLORS`, uint8 (H, W, 3), and the lines in a darker tone of them."""
        drawn = colorize(self.codes, DIFFERENCE_COLORS)
        drawn[self.lines] //= 3
        return drawn

    @property
    def wrong(self) -> Array:
        """Pixels of objects (of class masks: pixels) that are not right, bool (H, W); rims do not count."""
        return _is_fault(self.codes)

    @property
    def of_objects(self) -> bool:
        """Whether objects were compared, not class masks."""
        return Difference.SPLIT in self.counts

    @property
    def agreement(self) -> float:
        """What was matched, as a part of all that was or should have been; 1 where there is nothing."""
        total = sum(self.counts.values())
        return self.matched / total if total else 1.0

    def without_added(self) -> "Differences":
        """The same for a truth in which objects may be left out: what seems added there does not count."""
        codes = np.where(self.codes == Difference.ADDED, np.uint8(IGNORE), self.codes)
        counts = dict(self.counts)
        counts.pop(Difference.ADDED, None)
        return replace(self, codes=codes, counts=counts)

    def words(self) -> str:
        """Counts in words: "38 found (36 at IoU 0.5), 2 missed, 1 split, ...", of class masks in px."""
        unit = "" if self.of_objects else "px "
        words = {
            kind: f"{n:,} {unit}{kind.name.lower().replace('_', ' ')}" for kind, n in self.counts.items()
        }
        if self.matched < self.counts[Difference.FOUND]:
            words[Difference.FOUND] += f" ({self.matched:,} at IoU 0.5)"
        return ", ".join(words.values())


def differences(
    pred_ids: Array, true_ids: Array, *, counted: Array | None = None, markers: Array | None = None
) -> Differences:
    """Compare objects, by the rule above.

    Parameters
    ----------
    pred_ids, true_ids : ndarray of int, shape (H, W)
        Object ids, 0 = background; what the numbers are does not matter.
    counted : ndarray of bool, shape (H, W), optional
        Pixels that count; all if not given. Objects are what counts of them.
    markers : ndarray of bool, shape (H, W), optional
        Where true objects are markers.

    Returns
    -------
    Differences

    Raises
    ------
    ShapeError
        If the shapes differ.
    DataError
        If ids are negative or no whole numbers.
    """
    if counted is not None:
        pred_ids, true_ids = (np.where(counted, ids, 0) for ids in (pred_ids, true_ids))
    overlaps = count_overlaps(pred_ids, true_ids)
    columns, rows = _places(pred_ids, overlaps.pred_ids), _places(true_ids, overlaps.true_ids)
    is_marker = np.isin(overlaps.true_ids, [] if markers is None else true_ids[markers])
    pairs = _partners(overlaps, is_marker)
    column, row = overlaps.pred[pairs] + 1, overlaps.true[pairs] + 1
    of_predicted, of_true = _verdicts(column, row, overlaps.pred_ids.size + 1, overlaps.true_ids.size + 1)
    # Only a true object that is found has one partner that has no other.
    is_pair = of_true[row] == Difference.FOUND
    partner = np.full(len(of_true), -1)
    partner[row[is_pair]] = column[is_pair]
    numbers = np.arange(len(of_predicted)) + len(of_true) - 1
    numbers[0], numbers[column[is_pair]] = 0, row[is_pair]
    codes = _codes(of_predicted[columns], of_true[rows], columns == partner[rows])
    of_marker = is_marker[overlaps.true[pairs]]
    # A marker does not tell how large its object should be.
    codes[(codes == Difference.EXCESS) & np.isin(columns, column[of_marker])] = Difference.FOUND
    matched = int(np.count_nonzero((overlaps.iou[pairs] >= 0.5)[is_pair] | of_marker[is_pair]))
    lines = _lines(codes, columns, rows)
    if counted is not None:
        codes[~counted] = IGNORE
    return Differences(codes, _counts(of_predicted, of_true), matched, lines, numbers[columns], rows)


def class_differences(pred: Array, true: Array) -> Differences:
    """Compare class masks pixel by pixel; class 0 is background.

    Parameters
    ----------
    pred, true : ndarray of int, shape (H, W)
        Class indices; pixels that are IGNORE in `true` do not count.

    Returns
    -------
    Differences

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    if pred.shape != true.shape:
        raise ShapeError(f"prediction has shape {pred.shape}, truth {true.shape}; make them equal")
    codes = np.full(true.shape, Difference.OTHER_CLASS, np.uint8)
    codes[pred == true] = Difference.FOUND
    codes[(pred == 0) & (true != 0)] = Difference.MISSED
    codes[(pred != 0) & (true == 0)] = Difference.ADDED
    codes[(pred == 0) & (true == 0)] = Difference.NOTHING
    counted = true != IGNORE
    codes[~counted] = IGNORE
    kinds = [Difference.FOUND, Difference.MISSED, Difference.ADDED]
    if max(plane.max(initial=0, where=counted) for plane in (pred, true)) > 1:
        kinds.append(Difference.OTHER_CLASS)
    counts = {kind: int(np.count_nonzero(codes == kind)) for kind in kinds}
    matched = counts[Difference.FOUND]
    return Differences(codes, counts, matched, np.zeros(true.shape, np.bool_), pred, true)


def _places(ids: Array, present: Array) -> Array:
    """Each pixel's object, counted from 1 in the list of those present; 0 is background."""
    places: Array = np.where(ids == 0, 0, np.searchsorted(present, ids) + 1)
    return places


def _partners(overlaps: Overlaps, is_marker: Array) -> Array:
    """Indices of the pairs that are partners, ascending; `is_marker`: which true objects are markers."""
    pred, true, shared = overlaps.pred, overlaps.true, overlaps.shared
    pred_area, true_area = overlaps.pred_areas[pred], overlaps.true_areas[true]
    of_marker = is_marker[true]
    covered = np.flatnonzero(of_marker & (2 * shared > true_area))
    kept = np.flatnonzero(~of_marker & (2 * shared > np.minimum(pred_area, true_area)))
    for_pred, for_true = (_largest(objects[kept], shared[kept]) for objects in (pred, true))
    kept = kept[_CRUMB * shared[kept] >= np.maximum(for_pred, for_true)]
    of_pred, of_true = (_sum(objects[kept], shared[kept]) for objects in (pred, true))
    kept = kept[(_CRUMB * of_pred >= pred_area[kept]) & (_CRUMB * of_true >= true_area[kept])]
    return np.sort(np.concatenate([kept, covered]))


def _sum(objects: Array, shared: Array) -> Array:
    """Of each pair, the pixels that its object shares in all of the pairs."""
    total: Array = np.bincount(objects, shared)[objects]
    return total


def _largest(objects: Array, shared: Array) -> Array:
    """Of each pair, the most pixels that its object shares in one of the pairs."""
    most = np.zeros(objects.max(initial=-1) + 1, shared.dtype)
    np.maximum.at(most, objects, shared)
    largest: Array = most[objects]
    return largest


def _verdicts(column: Array, row: Array, predicted: int, true: int) -> tuple[Array, Array]:
    """What becomes of each predicted and each true object, by its place; NOTHING at place 0."""
    of_column = np.bincount(column, minlength=predicted)  # number of partners
    of_row = np.bincount(row, minlength=true)
    of_predicted = np.array([Difference.ADDED, Difference.FOUND, Difference.MERGED], np.uint8)[
        np.minimum(of_column, 2)
    ]
    of_true = np.array([Difference.MISSED, Difference.FOUND, Difference.SPLIT], np.uint8)[
        np.minimum(of_row, 2)
    ]
    of_true[row[(of_row[row] == 1) & (of_column[column] > 1)]] = Difference.MERGED
    of_predicted[column[(of_column[column] == 1) & (of_row[row] > 1)]] = Difference.SPLIT
    of_predicted[0] = of_true[0] = Difference.NOTHING
    return of_predicted, of_true


def _codes(predicted: Array, true: Array, is_partner: Array) -> Array:
    """Codes (H, W) from the verdicts on the objects that each pixel lies in."""
    choices = (
        (_is_fault(true), true),
        (_is_fault(predicted), predicted),
        ((true == Difference.FOUND) & is_partner, true),
        (true == Difference.FOUND, np.uint8(Difference.LACKING)),
        (predicted == Difference.FOUND, np.uint8(Difference.EXCESS)),
    )
    chosen = np.select([where for where, _ in choices], [code for _, code in choices], Difference.NOTHING)
    return chosen.astype(np.uint8)


def _is_fault(codes: Array) -> Array:
    faults: Array = (codes >= Difference.MISSED) & (codes != IGNORE)
    return faults


def _counts(predicted: Array, true: Array) -> dict[Difference, int]:
    kinds = (Difference.FOUND, Difference.MISSED, Difference.SPLIT, Difference.MERGED)
    counts = {kind: int(np.count_nonzero(true == kind)) for kind in kinds}
    return counts | {Difference.ADDED: int(np.count_nonzero(predicted == Difference.ADDED))}


def _lines(codes: Array, columns: Array, rows: Array) -> Array:
    """Borders of objects inside one area of faults, on the pixels below and to the right of the border."""
    lines = np.zeros(codes.shape, np.bool_)
    for axis in (0, 1):
        line, code, column, row = (np.moveaxis(plane, axis, 0) for plane in (lines, codes, columns, rows))
        within = _is_fault(code[1:]) & (code[1:] == code[:-1])
        line[1:] |= within & ((column[1:] != column[:-1]) | (row[1:] != row[:-1]))
    return lines
