"""Read predictions and truths as planes that can be compared."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError, ShapeError
from ushape.evaluate.pairs import Kind, Pair, kind_of
from ushape.io import image_size, read_image, read_labels

Array = NDArray[Any]


@dataclass(frozen=True)
class Plane:
    """One predicted plane beside its truth.

    Attributes
    ----------
    name : str
        Stem of the prediction; for a plane of a stack with its number, counted from 0.
    pair : Pair
        The files.
    index : int
        Number of the plane in its file.
    kind : {"probabilities", "classes", "instances"}
    prediction : ndarray
        Probabilities (C, H, W) float32, else labels (H, W).
    truth : ndarray of int, shape (H, W)
        Label values as stored; a colour is one number, 0xRRGGBB.
    may_be_ids : bool
        Whether the truth is stored in numbers wider than 8 bits, as object ids are and classes hardly ever.
    """

    name: str
    pair: Pair
    index: int
    kind: Kind
    prediction: Array
    truth: Array
    may_be_ids: bool


def read_planes(pair: Pair) -> Iterator[Plane]:
    """Read both files of a pair and yield them plane by plane.

    Raises
    ------
    ImageFormatError
        If a file cannot be read.
    ShapeError
        If their sizes or numbers of planes differ.
    """
    truth, may_be_ids = _labels(pair.truth)
    kind, prediction = _prediction(pair, planes=len(truth))
    if prediction.shape[0] != len(truth) or prediction.shape[-2:] != truth.shape[-2:]:
        raise ShapeError(
            f"{pair.prediction} has {_size(prediction)}, {pair.truth} has {_size(truth)}; they must be equal"
        )
    for index, (plane, labels) in enumerate(zip(prediction, truth, strict=True)):
        name = pair.name if len(truth) == 1 else f"{pair.name}[{index}]"
        yield Plane(name, pair, index, kind, plane, labels, may_be_ids)


def _prediction(pair: Pair, planes: int) -> tuple[Kind, Array]:
    """Probabilities (Z, C, H, W) or labels (Z, H, W), and which of them."""
    path = pair.prediction
    kind = kind_of(path)
    if kind in ("classes", "instances"):
        return kind, _labels(path)[0]
    if kind is None and image_size(path).dtype.kind != "f":
        return "classes", _labels(path)[0]
    values = read_image(path).planes
    low, high = float(values.min()), float(values.max())
    if kind is None and (high > 1 or not np.any((values > 0) & (values < 1))):
        return "classes", _labels(path)[0]  # whole numbers stored as floats
    if low < 0 or high > 1:
        raise DataError(f"{path} holds values {low:g} to {high:g}; probabilities are 0 to 1")
    if values.shape[1] == 1 and planes == 1 and np.allclose(values.sum(0), 1, atol=0.01):
        values = values.transpose(1, 0, 2, 3)  # planes that add up to 1 are the classes of one image
    return "probabilities", values


def _labels(path: Path) -> tuple[Array, bool]:
    """Label values (Z, H, W), and whether they are numbers wider than 8 bits."""
    image = read_labels(path)
    array, may_be_ids = image.array, image.array.dtype.itemsize > 1
    if "C" in image.axes:
        if may_be_ids:
            raise DataError(f"{path} has colours of {array.dtype}; save them with 8 bits per channel")
        array = array.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    return array if "Z" in image.axes else array[np.newaxis], may_be_ids


def _size(array: Array) -> str:
    planes = f"{array.shape[0]} planes of " if array.shape[0] > 1 else ""
    return f"{planes}{array.shape[-2]} x {array.shape[-1]} px"
