"""Two partitions of a plane into objects, and how well they agree: what V_rand and V_info are made of.

After Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142 (2015), with the details of the challenge's own
code in Fiji's Trainable Segmentation plugin.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError, ShapeError

Array = NDArray[Any]


class FScore(NamedTuple):
    """A score and the two numbers it is the harmonic mean of, all in 0..1.

    `precision` falls with every false merger, `recall` with every false split.
    """

    score: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Agreement:
    """How well two partitions of one plane agree where the truth has objects.

    A truth pixel that the proposal leaves unassigned (label 0) counts as an object of its own.

    Attributes
    ----------
    pixels : int
        Truth pixels with an object; the others do not count.
    unassigned : int
        Those of them that the proposal leaves without one.
    truth_objects, proposal_objects : int
        Objects in the truth, and in the proposal (those that lie outside the truth's included).
    truth_pairs, proposal_pairs, common_pairs : int
        Ordered pairs of pixels (each pixel with itself included) that lie in one object of the truth, of the
        proposal, of both.
    truth_entropy, proposal_entropy, mutual_information : float
        In nats.
    """

    pixels: int
    unassigned: int
    truth_objects: int
    proposal_objects: int
    truth_pairs: int
    proposal_pairs: int
    common_pairs: int
    truth_entropy: float
    proposal_entropy: float
    mutual_information: float

    @property
    def rand(self) -> FScore:
        """V_rand: F-score of the pairs; 1 if the truth has no object, where nothing can be wrong."""
        if not self.pixels:
            return FScore(1.0, 1.0, 1.0)
        return FScore(
            2 * self.common_pairs / (self.truth_pairs + self.proposal_pairs),
            self.common_pairs / self.proposal_pairs,
            self.common_pairs / self.truth_pairs,
        )

    @property
    def information(self) -> FScore:
        """V_info: mutual information over each entropy; 1 if the truth has no object.

        By the official rule the score is 0 if truth or proposal is one single object, even if they are equal.
        """
        if not self.pixels:
            return FScore(1.0, 1.0, 1.0)
        if not self.proposal_entropy:
            return FScore(0.0, 1.0, 0.0)
        if not self.truth_entropy:
            return FScore(0.0, 0.0, 1.0)
        return FScore(
            2 * self.mutual_information / (self.truth_entropy + self.proposal_entropy),
            self.mutual_information / self.truth_entropy,
            self.mutual_information / self.proposal_entropy,
        )


def rand_scores(labels_pred: Array, labels_true: Array) -> Agreement:
    """Compare two partitions of one plane, without thinning and thresholds.

    Parameters
    ----------
    labels_pred, labels_true : ndarray of int, same shape
        Object ids, not negative. Where the truth is 0 nothing counts; 0 in the prediction is unassigned.

    Returns
    -------
    Agreement

    Raises
    ------
    ShapeError
        If the shapes differ.
    DataError
        If a label is negative.
    """
    if labels_pred.shape != labels_true.shape:
        raise ShapeError(
            f"prediction has shape {labels_pred.shape}, truth {labels_true.shape}; make them equal"
        )
    return compare(TruthObjects(*_consecutive(labels_true)), *_consecutive(labels_pred))


def label_components(binary: Array, connectivity: Literal[4, 8] = 4) -> NDArray[np.int32]:
    """Number the connected components of the non-zero pixels of one plane.

    Parameters
    ----------
    binary : ndarray of bool or int, shape (H, W)
    connectivity : {4, 8}

    Returns
    -------
    ndarray of int32, shape (H, W)
        Components 1..n, 0 elsewhere.
    """
    import cc3d

    # As numbers: version 4.1.1 counts background to objects of a bool array whose corners count as touching.
    plain = np.ascontiguousarray(binary != 0, np.uint8)
    labels: NDArray[np.int32] = cc3d.connected_components(
        plain, connectivity=connectivity, out_dtype=np.uint32
    ).astype(np.int32)
    return labels


def thin_borders(cell: Array) -> NDArray[np.int32]:
    """Grow the cells of a binary plane until only lines of one pixel lie between them.

    Parameters
    ----------
    cell : ndarray of bool, shape (H, W)

    Returns
    -------
    ndarray of int32, shape (H, W)
        Cells 1..n, 0 on the lines. A plane without any cell is one cell.

    Notes
    -----
    The Vincent-Soille watershed of the inverted plane, 4-connected, watershed lines 0. Which pixels become
    line where cells are an even number of pixels apart depends on the order of the scan: column by column
    from the left, each from top to bottom, as the official code does.
    """
    return thin_by_column(np.ascontiguousarray(cell.T, np.bool_))[0].T


def thin_by_column(cell: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """`thin_borders` of a transposed plane, which is scanned row by row; also returns the number of cells."""
    from ushape.metrics.flooding import watershed_of_binary

    labels, cells = watershed_of_binary(cell)
    return labels, int(cells)


class TruthObjects:
    """The objects of one plane, sorted once for the comparison with many proposals."""

    def __init__(self, labels: NDArray[np.int32], objects: int) -> None:
        from ushape.metrics.flooding import group_pixels

        self.objects = objects
        self.starts, self.pixels = group_pixels(labels, objects)
        self.pairs = sum(size * size for size in np.diff(self.starts).tolist())


def compare(truth: TruthObjects, proposal: NDArray[np.int32], objects: int) -> Agreement:
    """Compare a proposal, flat labels 0..objects, with the truth."""
    from ushape.metrics.flooding import table_sums

    sums = table_sums(truth.starts, truth.pixels, proposal, objects).tolist()
    unassigned, proposal_pairs, common_pairs = (int(value) for value in sums[:3])
    proposal_pairs, common_pairs = proposal_pairs + unassigned, common_pairs + unassigned
    n = len(truth.pixels)
    # A single object has no entropy; rounding must not hide it, because the official score depends on it.
    of_truth = _entropy(n, sums[3]) if truth.pairs < n * n else 0.0
    of_proposal = _entropy(n, sums[4]) if proposal_pairs < n * n else 0.0
    information = max(of_truth + of_proposal - _entropy(n, sums[5]), 0.0)
    return Agreement(
        n,
        unassigned,
        truth.objects,
        objects,
        truth.pairs,
        proposal_pairs,
        common_pairs,
        of_truth,
        of_proposal,
        information,
    )


def _entropy(n: int, sum_of_c_log_c: float) -> float:
    """Entropy of counts c that add up to n: -sum(c/n * ln(c/n))."""
    return math.log(n) - sum_of_c_log_c / n if n else 0.0


def _consecutive(labels: Array) -> tuple[NDArray[np.int32], int]:
    """Renumber labels to 0..n without gaps, 0 staying 0; return them flat, and n."""
    values, inverse = np.unique(labels, return_inverse=True)
    if values.size and values[0] < 0:
        raise DataError(f"object ids must not be negative, found {values[0]}")
    first = 0 if values.size and values[0] == 0 else 1
    return (inverse.ravel() + first).astype(np.int32), values.size - 1 + first
