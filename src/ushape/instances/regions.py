"""Objects of a plane that is seen block by block, numbered as `instances` numbers those of the whole plane.

Every pixel belongs to a region: a connected component of one class, or of the background. A region is a row
of numbers and a list of the regions it touches; what is joined across blocks, which holes are filled and
which objects are dropped is decided on them. Memory grows with the number of regions, not with the image.
"""

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np

from ushape.config import Connectivity, Postprocessing
from ushape.instances import neighbours
from ushape.instances.finding import OPPOSITE, smallest_area

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Numbering:
    """Object of each region.

    Attributes
    ----------
    number : int
        Objects, with ids 1..number in the order in which they are met line by line.
    classes : ndarray of int, shape (number,)
        Class of each; of parts its number among them.
    """

    number: int
    classes: Array
    connectivity: Connectivity
    _of_region: Array
    _starts: list[int]

    def ids(self, block: int, kinds: Array) -> Array:
        """Give the object ids of the block that was added as number `block`, from the same `kinds`."""
        found: Array = self._of_region[self._starts[block] + _labelled(kinds, self.connectivity)[0]]
        return found


class Regions:
    """Regions of one plane, gathered from its blocks.

    Parameters
    ----------
    height, width : int
        Of the plane.
    postprocessing : Postprocessing
        But for its split: a watershed needs more than regions; see `predict.large_splitting`.
    pixel_size_um : tuple of float, optional

    Attributes
    ----------
    count : int
        Regions so far: those that lie in several blocks count in each.

    Notes
    -----
    The ids equal those of `instances` on the whole plane, with one exception: where holes are filled,
    objects connect by corners (`connectivity=8`), and two of different classes, or two parts, cross at a
    corner, what lies behind the crossing is not seen as enclosed.
    """

    def __init__(
        self,
        height: int,
        width: int,
        postprocessing: Postprocessing,
        pixel_size_um: tuple[float, float] | None = None,
    ) -> None:
        self.height, self.width, self.how = height, width, postprocessing
        self._smallest = smallest_area(postprocessing, pixel_size_um)
        self._starts: list[int] = []
        self.count = 0
        self._rows: list[tuple[Array, ...]] = []
        self._straight: list[Array] = []
        self._diagonal: list[Array] = []
        # Labels along the blocks above, along those of this line, and of the block to the left.
        self._above = self._line = np.full(width + 2, -1, np.int64)
        self._left = np.empty(0, np.int64)

    def add(self, kinds: Array, top: int, left: int) -> None:
        """Take the next block, line by line.

        Parameters
        ----------
        kinds : ndarray of unsigned int, shape (h, w)
            Class of each pixel of an object, or the part of a component; 0 for background.
        top, left : int
            Place of the block in the plane. Blocks of a line have the same height.
        """
        labels, count = _labelled(kinds, self.how.connectivity)
        self._rows.append(self._measured(kinds, labels, count, top, left))
        labels = labels.astype(np.int64) + self.count
        self._touch(labels, left)
        self._starts.append(self.count)
        self.count += count

    def _measured(self, kinds: Array, labels: Array, count: int, top: int, left: int) -> tuple[Array, ...]:
        """Class, area, first pixel, whether at the border, and whether in the field of interest."""
        height, width = kinds.shape
        flat = labels.ravel()
        first = np.empty(count, np.int64)
        first[flat[::-1]] = np.arange(flat.size)[::-1]  # of several values for one place the last one stays
        at_border, inside = np.zeros(count, bool), np.zeros(count, bool)
        lines = [(top == 0, labels[0]), (top + height == self.height, labels[-1])]
        lines += [(left == 0, labels[:, 0]), (left + width == self.width, labels[:, -1])]
        for is_border, line in lines:
            if is_border:
                at_border[line] = True
        foi = self.how.foi_px
        rows = slice(max(foi - top, 0), max(self.height - foi - top, 0))
        columns = slice(max(foi - left, 0), max(self.width - foi - left, 0))
        inside[labels[rows, columns]] = True
        y, x = np.divmod(first, width)
        place = (y + top) * self.width + x + left
        return kinds.ravel()[first], np.bincount(flat, minlength=count), place, at_border, inside

    def _touch(self, labels: Array, left: int) -> None:
        """Note which regions touch, within the block and across its upper and left side."""
        height, width = labels.shape
        if left == 0:
            self._above, self._line = self._line, np.full(self.width + 2, -1, np.int64)
            self._left = np.full(height, -1, np.int64)
        framed = np.full((height + 1, width + 2), -1, np.int64)
        framed[0] = self._above[left : left + width + 2]
        framed[1:, 0], framed[1:, 1:-1] = self._left, labels
        self._line[left + 1 : left + 1 + width], self._left = labels[-1], labels[:, -1]
        self._straight.append(neighbours.straight(framed))
        self._diagonal.append(neighbours.diagonal(framed))

    def numbered(self, *, of_parts: bool = False) -> Numbering:
        """Join, fill, drop and number, when all blocks have been added.

        Parameters
        ----------
        of_parts : bool
            What was added are numbers of parts, not classes: pixels of one number are one object, also where
            they hang together by a corner, and holes were filled before.
        """
        kinds, areas, first, at_border, inside = map(np.concatenate, zip(*self._rows, strict=True))
        straight, diagonal = neighbours.unique(*self._straight), neighbours.unique(*self._diagonal)
        whole = _joined(
            self.count,
            straight[:, kinds[straight[0]] == kinds[straight[1]]],
            diagonal[:, self._join_by_corners(kinds, diagonal)],
            *([_links(kinds)] if of_parts else []),
        )
        count = int(whole.max()) + 1
        plane = _Plane(
            kinds=_merged(np.maximum, whole, kinds, count, 0),
            areas=_merged(np.add, whole, areas, count, 0),
            at_border=_merged(np.logical_or, whole, at_border, count, False),
            inside=_merged(np.logical_or, whole, inside, count, False),
            straight=_between(whole, straight),
            diagonal=_between(whole, diagonal),
            connectivity=self.how.connectivity,
        )
        first = _merged(np.minimum, whole, first, count, np.iinfo(np.int64).max)
        ids = np.where(plane.kinds > 0, np.arange(1, count + 1), 0)
        if self.how.fill_holes and not of_parts:
            ids = plane.filled(ids)
        ids = plane.kept(ids, self._smallest, self.how)
        if self.how.fill_holes:  # once more, where a speck in a hole was dropped
            ids = plane.filled(ids)
        objects = np.flatnonzero(ids == np.arange(1, count + 1))
        objects = objects[np.argsort(first[objects])]
        numbers = np.zeros(count + 1, np.uint32)
        numbers[objects + 1] = np.arange(1, len(objects) + 1)
        of_region = numbers[ids][whole]
        return Numbering(
            len(objects),
            plane.kinds[objects].astype(np.int64),
            self.how.connectivity,
            of_region,
            self._starts,
        )

    def _join_by_corners(self, kinds: Array, pairs: Array) -> Array:
        """Whether regions that touch by a corner are one: of objects or of background, never of both."""
        one, other = kinds[pairs]
        joins: Array = (one == other) & ((one > 0) == (self.how.connectivity == 8))
        return joins


@dataclass(frozen=True)
class _Plane:
    """Regions of a whole plane, and which of them touch: pairs, shape (2, number)."""

    kinds: Array
    areas: Array
    at_border: Array
    inside: Array
    straight: Array
    diagonal: Array
    connectivity: Connectivity

    def filled(self, ids: Array) -> Array:
        """Give regions of background that a single object encloses to that object, the innermost one."""
        from ushape.instances.enclosing import innermost

        touching = self.straight
        if OPPOSITE[self.connectivity] == 8:
            touching = np.concatenate([self.straight, self.diagonal], 1)
        # Nodes: what hangs together as background, and each object with what it was filled with.
        count = len(ids)
        is_same = ids[touching[0]] == ids[touching[1]]
        nodes = _joined(count, touching[:, is_same], _links(ids))
        number = int(nodes.max()) + 1
        at_border = _merged(np.logical_or, nodes, self.at_border, number, False)
        object_of = _merged(np.maximum, nodes, ids, number, 0)
        hole = (object_of == 0) & ~at_border
        if not hole.any():
            return ids
        # An object is only looked at where it touches a hole by an edge.
        sides = nodes[self.straight]
        around = np.zeros(number, bool)
        for one, other in ((0, 1), (1, 0)):
            around[sides[one][hole[sides[other]]]] = True
        edges = _between(nodes, touching)
        outside = np.stack([np.flatnonzero(at_border), np.full(int(at_border.sum()), number)])
        enclosing = innermost(
            *_neighbours(np.concatenate([edges, outside], 1), number + 1),
            number,
            np.append(around & (object_of > 0), False),
        )
        fills = np.where(hole & (enclosing[:-1] >= 0), object_of[enclosing[:-1]], 0)
        filled: Array = np.where(ids == 0, fills[nodes], ids)
        return filled

    def kept(self, ids: Array, smallest: int, how: Postprocessing) -> Array:
        """Drop objects that are too small, at the border or outside the field of interest."""
        count = len(ids) + 1
        keep = _merged(np.add, ids, self.areas, count, 0) >= smallest
        keep[0] = False
        if how.border == "remove":
            keep &= ~_merged(np.logical_or, ids, self.at_border, count, False)
        if how.foi_px:
            keep &= _merged(np.logical_or, ids, self.inside, count, False)
        return np.where(keep[ids], ids, 0)


def _labelled(kinds: Array, connectivity: Connectivity) -> tuple[Array, int]:
    """Regions of a block, numbered from 0, and how many there are."""
    objects = np.asarray(
        cc3d.connected_components(np.ascontiguousarray(kinds), connectivity=connectivity, out_dtype=np.uint32)
    )
    background = np.asarray(
        cc3d.connected_components(
            (kinds == 0).astype(np.uint8), connectivity=OPPOSITE[connectivity], out_dtype=np.uint32
        )
    )
    number = int(objects.max())
    labels = np.where(kinds > 0, objects, background + np.uint32(number)) - np.uint32(1)
    return labels, number + int(background.max())


def _between(nodes: Array, pairs: Array) -> Array:
    """Pairs of different nodes among those that the pairs of their parts make."""
    of_nodes = nodes[pairs]
    return neighbours.unique(of_nodes[:, of_nodes[0] != of_nodes[1]])


def _links(ids: Array) -> Array:
    """Pairs that hang together the parts of each object."""
    order = np.argsort(ids, kind="stable")
    order = order[ids[order] > 0]
    same = ids[order[1:]] == ids[order[:-1]]
    return np.stack([order[1:][same], order[:-1][same]])


def _joined(count: int, *pairs: Array) -> Array:
    """Number of the whole that each of `count` parts belongs to."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = np.concatenate(pairs, 1)
    graph = coo_array((np.ones(len(one), np.uint8), (one, other)), shape=(count, count))
    whole: Array = connected_components(graph, directed=False)[1]
    return whole.astype(np.int64)


def _merged(how: np.ufunc, whole: Array, values: Array, count: int, start: Any) -> Array:
    """Values of wholes from those of their parts."""
    merged = np.full(count, start, values.dtype)
    how.at(merged, whole, values)
    return merged


def _neighbours(pairs: Array, count: int) -> tuple[Array, Array]:
    """Where the neighbours of each node start, and the neighbours."""
    both = np.concatenate([pairs, pairs[::-1]], 1)
    order = np.argsort(both[0], kind="stable")
    starts = np.searchsorted(both[0][order], np.arange(count + 1))
    return starts.astype(np.int64), both[1][order]
