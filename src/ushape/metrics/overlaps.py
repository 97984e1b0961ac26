"""Which objects of two label images share pixels, and how many: what every score of objects is made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError, ShapeError

Array = NDArray[Any]
Counts = NDArray[np.int64]

_LOOKUP_LIMIT = 1 << 20
"""Ids up to here (all of 16 bits among them) are renumbered by a table, larger ones by sorting."""


@dataclass(frozen=True)
class Overlaps:
    """The objects of a prediction and of the truth, and the pairs of them that share a pixel.

    Attributes
    ----------
    pred_ids, true_ids : ndarray of int64
        Ids in ascending order.
    pred_areas, true_areas : ndarray of int64
        Their sizes in pixels.
    pred, true : ndarray of int64, shape (pairs,)
        Where in those lists the two objects of each pair are; ordered by `pred`, then by `true`.
    shared : ndarray of int64, shape (pairs,)
        Pixels that lie in both objects of the pair; at least 1.
    """

    pred_ids: Counts
    true_ids: Counts
    pred_areas: Counts
    true_areas: Counts
    pred: Counts
    true: Counts
    shared: Counts

    @property
    def union(self) -> Counts:
        """Pixels that lie in either object of each pair."""
        union: Counts = self.pred_areas[self.pred] + self.true_areas[self.true] - self.shared
        return union

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair."""
        iou: NDArray[np.float64] = self.shared / self.union
        return iou


def count_overlaps(pred_ids: Array, true_ids: Array) -> Overlaps:
    """Count the pixels that each predicted object shares with each true one.

    Parameters
    ----------
    pred_ids, true_ids : ndarray of int or bool, same shape, any number of axes
        Object ids, 0 = background; an object need not be connected.

    Returns
    -------
    Overlaps

    Raises
    ------
    ShapeError
        If the shapes differ.
    DataError
        If an id is negative or no whole number.

    Notes
    -----
    One pass over the pixels finds the runs in which neither id changes; the rest is done on runs, of which
    images of objects have about ten times fewer. No table of all pairs is made: memory grows with the image.
    """
    if pred_ids.shape != true_ids.shape:
        raise ShapeError(f"prediction has shape {pred_ids.shape}, truth {true_ids.shape}; make them equal")
    pred_runs, true_runs, pixels = _runs(pred_ids.ravel(), true_ids.ravel())
    pred, pred_areas, column = _objects(pred_runs, pixels)
    true, true_areas, row = _objects(true_runs, pixels)
    both = (column >= 0) & (row >= 0)
    pairs, pair = np.unique(column[both] * true.size + row[both], return_inverse=True)
    shared = np.bincount(pair, pixels[both]).astype(np.int64)
    return Overlaps(
        pred, true, pred_areas, true_areas, pairs // max(true.size, 1), pairs % max(true.size, 1), shared
    )


def one_to_one(pred: Counts, true: Counts, gain: NDArray[np.float64]) -> NDArray[np.intp]:
    """Choose pairs so that no object has two partners and the gains add up to the most.

    Parameters
    ----------
    pred, true : ndarray of int64, shape (pairs,)
        The two objects of each pair; no pair twice.
    gain : ndarray of float64, shape (pairs,)
        Above 0.

    Returns
    -------
    ndarray of int, shape (chosen,)
        Indices of the chosen pairs, ascending.

    Notes
    -----
    Pairs that have no object in common with another are taken. The others fall into groups that have no
    object in common, and the Hungarian method solves each: its cost grows with the cube of the largest group,
    not of the number of objects.
    """
    alone = (np.bincount(pred)[pred] == 1) & (np.bincount(true)[true] == 1)
    if alone.all():
        return np.arange(gain.size)
    chosen = [np.flatnonzero(alone)]
    disputed = np.flatnonzero(~alone)
    for group in _groups(pred[disputed], true[disputed]):
        members = disputed[group]
        chosen.append(members[_hungarian(pred[members], true[members], gain[members])])
    return np.sort(np.concatenate(chosen))


def _runs(pred: Array, true: Array) -> tuple[Counts, Counts, Counts]:
    """Cut two flat images where either changes: both ids of each run, and its pixels."""
    for what, ids in (("prediction", pred), ("truth", true)):
        if ids.dtype.kind not in "biu":
            raise DataError(f"object ids must be whole numbers, the {what} has {ids.dtype}")
    starts = np.flatnonzero((pred[1:] != pred[:-1]) | (true[1:] != true[:-1])) + 1
    starts = np.concatenate([np.zeros(min(pred.size, 1), np.int64), starts])
    pixels = np.diff(starts, append=pred.size)
    return pred[starts].astype(np.int64), true[starts].astype(np.int64), pixels


def _objects(run_ids: Counts, pixels: Counts) -> tuple[Counts, Counts, Counts]:
    """Ids in ascending order, their areas, and where in that list the object of each run is (-1: nowhere)."""
    if run_ids.min(initial=0) < 0:
        raise DataError(f"object ids must not be negative, found {run_ids.min()}")
    names = None
    if run_ids.max(initial=0) > _LOOKUP_LIMIT:
        names = np.unique(np.append(run_ids, 0))  # 0 stays 0
        run_ids = np.searchsorted(names, run_ids)
    areas = np.bincount(run_ids, pixels, minlength=1)
    areas[0] = 0
    present = np.flatnonzero(areas)
    place = np.full(areas.size, -1)
    place[present] = np.arange(present.size)
    return present if names is None else names[present], areas[present].astype(np.int64), place[run_ids]


def _groups(pred: Counts, true: Counts) -> list[NDArray[np.intp]]:
    """Indices of the pairs of each group that is held together by common objects."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    node = true + pred.max() + 1
    size = int(node.max()) + 1
    graph = coo_array((np.ones(pred.size), (pred, node)), shape=(size, size))
    group = connected_components(graph, directed=False)[1][pred]
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _hungarian(pred: Counts, true: Counts, gain: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of the pairs of one group that gain the most."""
    from scipy.optimize import linear_sum_assignment

    column, row = (np.unique(objects, return_inverse=True)[1] for objects in (pred, true))
    table = np.zeros((column.max() + 1, row.max() + 1))
    table[column, row] = gain
    place = np.full(table.shape, -1)
    place[column, row] = np.arange(gain.size)
    chosen: NDArray[np.intp] = place[linear_sum_assignment(table, maximize=True)]
    return chosen[chosen >= 0]  # the others are no pairs, and gain nothing
