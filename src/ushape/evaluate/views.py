"""Planes seen as what the scores need: classes, a proposal of cells, objects."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.config import IGNORE
from ushape.data.evidence import ranked
from ushape.errors import DataError
from ushape.evaluate.pairs import Kind
from ushape.evaluate.planes import Plane
from ushape.evaluate.values import Coding
from ushape.metrics import label_components
from ushape.weight_map import cut_gap

Array = NDArray[Any]


@dataclass(frozen=True)
class Views:
    """What the values of all planes mean.

    Attributes
    ----------
    kind : {"probabilities", "classes", "instances"}
        What the predicted files hold.
    coding : Coding
        Which value is which class.
    """

    kind: Kind
    coding: Coding

    @property
    def connects_prediction(self) -> bool:
        """Whether predicted objects are components, not ids."""
        return self.kind != "instances"

    @property
    def connects_truth(self) -> bool:
        """Whether true objects are components, not ids."""
        return self.coding.truth is not None

    def seen(self, plane: Plane) -> Plane:
        """A plane just read, its prediction taken for what it is."""
        return replace(plane, kind=self.kind)

    def classes(self, plane: Plane) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Predicted and true class indices (H, W), IGNORE in both where nothing counts."""
        pred = indices(as_labels(plane), self.coding.prediction)
        true = indices(plane.truth, self.coding.truth)
        return np.where(plane.counted, pred, IGNORE), np.where(plane.counted, true, IGNORE)

    def cells(self, plane: Plane) -> tuple[Array, NDArray[np.bool_]]:
        """P(cell), class 1 of two, and the true cells (H, W); where they touch they are cut apart."""
        if self.connects_truth:
            true = indices(plane.truth, self.coding.truth) == 1
        else:  # the definitions want cells that are apart; training does the same
            true = cut_gap(_ids(plane.truth, plane, "truth")) > 0
        if plane.kind == "probabilities":
            return plane.prediction[-1], true
        return (indices(plane.prediction, self.coding.prediction) == 1).astype(np.float32), true

    def probabilities(self, plane: Plane) -> tuple[Array, NDArray[np.uint8]]:
        """Probability of each class (C, H, W) and true class indices (H, W), IGNORE where nothing counts.

        Classes that the truth alone has were never predicted: probability 0.
        """
        values = plane.prediction
        if len(values) == 1:
            values = np.concatenate([1 - values, values])
        missing = max(self.coding.classes - len(values), 0)
        return np.pad(values, [(0, missing), (0, 0), (0, 0)]), self.classes(plane)[1]

    def objects(self, plane: Plane) -> tuple[Array, Array]:
        """Predicted and true object ids (H, W), 0 where nothing counts; of two classes, not of more.

        Objects of classes are the 4-connected components of class 1.
        """
        pred, true = self.classes(plane)
        return (
            label_components(pred == 1)
            if self.connects_prediction
            else _ids(plane.prediction, plane, "prediction"),
            label_components(true == 1) if self.connects_truth else _ids(plane.truth, plane, "truth"),
        )


def _ids(values: Array, plane: Plane, side: str) -> Array:
    """Object ids where pixels count, else 0."""
    ids: Array = values * plane.counted
    if (lowest := ids.min(initial=0)) < 0:
        fix = f"give --ignore={lowest} if these pixels do not count" if side == "truth" else "save them anew"
        raise DataError(
            f"{getattr(plane.pair, side)}: object ids must not be negative, found {lowest}; {fix}"
        )
    return ids


def as_labels(plane: Plane) -> Array:
    """Predicted labels (H, W): as given, or the most probable class."""
    if plane.kind != "probabilities":
        return plane.prediction
    if len(plane.prediction) == 1:
        return np.asarray(plane.prediction[0] > 0.5, np.uint8)
    return np.asarray(plane.prediction.argmax(0))


def indices(values: Array, coding: Mapping[int, int] | None) -> NDArray[np.uint8]:
    """Class index of each value, IGNORE for values that nowhere count; without a coding, 1 but for 0."""
    if coding is None:
        return np.asarray(values != 0, np.uint8)
    known, ranks = ranked(values)
    table = np.array([coding.get(value, IGNORE) for value in known.tolist()], np.uint8)
    return np.asarray(table[ranks])
