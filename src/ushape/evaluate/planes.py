"""Read predictions and truths as planes that can be compared."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.data.coding import MaskCoding
from ushape.data.evidence import examine, pieces_of, ranked
from ushape.data.masks import decide, entry_of, ignored_code
from ushape.errors import DataError, ShapeError
from ushape.evaluate.pairs import Kind, Pair, kind_of
from ushape.evaluate.values import is_mask
from ushape.io import read_image, read_labels, stores_floats

Array = NDArray[Any]

_SHARE_IN_ONE_PIECE = 0.75
"""Of true values; below it training takes them for classes, too (`data.masks.decide`)."""


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
    counted : ndarray of bool, shape (H, W)
        Pixels that count.
    may_be_ids : bool
        Whether the truth is stored in numbers wider than 8 bits, as object ids are and classes hardly ever.
    from_8_bits : bool
        Whether the prediction is probabilities that were stored as 0 to 255.
    """

    name: str
    pair: Pair
    index: int
    kind: Kind
    prediction: Array
    truth: Array
    counted: Array
    may_be_ids: bool
    from_8_bits: bool = False


def read_planes(pair: Pair, ignore: tuple[int, ...] | None = None) -> Iterator[Plane]:
    """Read both files of a pair and yield them plane by plane.

    Parameters
    ----------
    pair : Pair
    ignore : tuple of int, optional
        Label in the truth of pixels that do not count, (n,) or (r, g, b).

    Raises
    ------
    ImageFormatError
        If a file cannot be read.
    ShapeError
        If their sizes or numbers of planes differ.
    """
    truth, is_color, may_be_ids, palette = _labels(pair.truth)
    if palette is not None and ignore is not None and len(ignore) == 3:
        ignored = entry_of(ignore, [palette])  # a palette without the colour has no pixel of it
    else:
        ignored = ignored_code(ignore, is_color, 8)
    kind, prediction, from_8_bits = _prediction(pair, planes=len(truth))
    if pair.plane is not None:
        prediction = prediction[pair.plane : pair.plane + 1]
    if prediction.shape[0] != len(truth) or prediction.shape[-2:] != truth.shape[-2:]:
        raise ShapeError(
            f"{pair.prediction} has {_size(prediction)}, {pair.truth} has {_size(truth)}; they must be equal"
        )
    for index, (plane, labels) in enumerate(zip(prediction, truth, strict=True)):
        name = pair.name if len(truth) == 1 else f"{pair.name}[{index}]"
        counted = np.ones(labels.shape, np.bool_) if ignored is None else labels != ignored
        yield Plane(name, pair, index, kind, plane, labels, counted, may_be_ids, from_8_bits)


def as_objects(planes: Sequence[Plane]) -> list[Plane]:
    """Take predictions for object ids if they can be such."""
    return [replace(plane, kind="instances") for plane in planes] if can_be_ids(planes) else list(planes)


def can_be_ids(planes: Sequence[Plane]) -> bool:
    """Whether the names of the predictions do not say what they hold, and they are no masks."""
    unnamed = all(plane.kind == "classes" and kind_of(plane.pair.prediction) is None for plane in planes)
    return unnamed and not is_mask(values_in(plane.prediction for plane in planes))


def hold_objects(planes: Sequence[Plane], ignore: int | str | None = None) -> bool:
    """Whether the truth holds object ids, and the prediction such too, or background and foreground.

    Against a mask, numbers wider than 8 bits are ids if they hang together. Else it must be as clear as in
    training.
    """
    predicted = [plane.prediction for plane in planes if plane.kind == "classes"]
    binary = all(len(plane.prediction) <= 2 for plane in planes if plane.kind == "probabilities")
    against_mask = binary and is_mask(values_in(predicted))
    if planes[0].kind == "instances" or not (against_mask or can_be_ids(planes)):
        return False
    if len(values_in(plane.truth[plane.counted] for plane in planes)) <= 2:
        return False
    if against_mask and all(plane.may_be_ids for plane in planes):
        return hang_together(planes)
    files = {path: read_labels(path) for path in {plane.pair.truth for plane in planes}}
    evidence = [examine(files[plane.pair.truth], plane.index) for plane in planes]
    coding = decide(evidence, ignore=ignore)
    is_sound = not any(item.smeared for item in evidence)
    return is_sound and isinstance(coding, MaskCoding) and coding.kind == "instances"


def hang_together(planes: Sequence[Plane]) -> bool:
    """Whether most true values but 0 are one piece wherever they occur, as objects are, classes are not."""
    pieces = []
    for plane in planes:
        values, ranks = ranked(np.where(plane.counted, plane.truth, 0))
        pieces.append(pieces_of(ranks, len(values))[values != 0])
    counts = np.concatenate(pieces)
    return not counts.size or bool((counts == 1).mean() >= _SHARE_IN_ONE_PIECE)


def values_in(arrays: Iterable[Array]) -> set[int]:
    """Values that occur in arrays of integers."""
    return {value for array in arrays if array.size for value in ranked(array)[0].tolist()}


def _prediction(pair: Pair, planes: int) -> tuple[Kind, Array, bool]:
    """Probabilities (Z, C, H, W) or labels (Z, H, W), which of them, and whether they were 0 to 255."""
    path = pair.prediction
    kind = kind_of(path)
    if kind in ("classes", "instances"):
        return kind, _labels(path)[0], False
    if kind is None and not stores_floats(path):
        return "classes", _labels(path)[0], False
    values = read_image(path).planes
    from_8_bits = values.dtype == np.uint8
    if from_8_bits:
        values = _of_8_bits(values, path)
    low, high = float(values.min()), float(values.max())
    if kind is None and (high > 1 or not np.any((values > 0) & (values < 1))):
        return "classes", _labels(path)[0], False  # whole numbers stored as floats
    if low < 0 or high > 1:
        raise DataError(
            f"{path} holds values {low:g} to {high:g}; probabilities are 0 to 1: save them as floats, or as "
            "0 to 255 in 8 bits"
        )
    rounded = max(0.01, len(values) / 255) if from_8_bits else 0.01
    if values.shape[1] == 1 and planes == 1 and np.allclose(values.sum(0), 1, atol=rounded):
        values = values.transpose(1, 0, 2, 3)  # planes that add up to 1 are the classes of one image
    return "probabilities", values, from_8_bits


def _of_8_bits(values: Array, path: Path) -> Array:
    """Probabilities (Z, C, H, W) float32 that are stored as 0 to 255."""
    probabilities = values.astype(np.float32) / 255
    channels = values.shape[1]
    # Each value was rounded or cut off, by less than 1.
    if channels > 1 and not np.allclose(probabilities.sum(1), 1, atol=channels / 255):
        raise DataError(
            f"{path} has {channels} channels of 8 bits that do not add up to 255, as probabilities of "
            "classes do; save one grey channel, that of class 1, or floats from 0 to 1"
        )
    return probabilities


def _labels(path: Path) -> tuple[Array, bool, bool, Array | None]:
    """Label values (Z, H, W), whether they are colours, or numbers wider than 8 bits, and their palette."""
    image = read_labels(path)
    array, is_color, may_be_ids = image.array, "C" in image.axes, image.array.dtype.itemsize > 1
    if is_color:
        if may_be_ids:
            raise DataError(f"{path} has colours of {array.dtype}; save them with 8 bits per channel")
        array = array.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    return array if "Z" in image.axes else array[np.newaxis], is_color, may_be_ids, image.palette


def _size(array: Array) -> str:
    planes = f"{array.shape[0]} planes of " if array.shape[0] > 1 else ""
    return f"{planes}{array.shape[-2]} x {array.shape[-1]} px"
