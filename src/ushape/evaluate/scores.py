"""Scores of many planes: what they hold, which scores are wanted of them, and each kind of score in turn."""

from collections.abc import Sequence
from typing import Literal

from ushape.errors import DataError
from ushape.evaluate.boundaries import Tolerance, boundary_scores
from ushape.evaluate.calibration import calibration_scores
from ushape.evaluate.classes import class_scores
from ushape.evaluate.membranes import membrane_scores
from ushape.evaluate.names import (
    BOUNDARY_METRICS,
    CALIBRATION_METRICS,
    CLASS_METRICS,
    MEMBRANE_METRICS,
    OBJECT_METRICS,
    base,
)
from ushape.evaluate.objects import object_scores
from ushape.evaluate.pairs import Kind, kind_of
from ushape.evaluate.planes import Plane, hang_together, values_in
from ushape.evaluate.scored import Scored, merged
from ushape.evaluate.values import IDS, Coding, ids_against_mask, infer_coding, is_mask, object_ids
from ushape.evaluate.views import Views
from ushape.metrics import label_components

Classes = int | Literal["objects"] | None


def understand(planes: Sequence[Plane], classes: Classes) -> Views:
    """Find out what the values of planes of one kind mean.

    Parameters
    ----------
    planes : sequence of Plane
    classes : int or "objects", optional
        See `infer_coding`; "objects" says that the truth holds object ids.

    Raises
    ------
    DataError
        If the values of prediction and truth do not fit together.
    """
    kind = _only_kind(planes)
    _require_255(planes)
    if not any(plane.counted.any() for plane in planes):
        raise DataError("no pixel of the truth counts; choose another --ignore")
    return Views(kind, _coding(planes, classes))


def score(planes: Sequence[Plane], views: Views, wanted: Sequence[str], tolerance: Tolerance) -> Scored:
    """Take the scores wanted, which must fit, of all planes.

    Raises
    ------
    DataError
        If a pixel size is needed and not known.
    """
    bases = [base(name) for name in wanted]
    parts = []
    if set(bases) & set(CLASS_METRICS):
        parts.append(class_scores(planes, views))
    if set(bases) & set(BOUNDARY_METRICS):
        parts.append(boundary_scores(planes, views, tolerance))
    if set(bases) & set(MEMBRANE_METRICS):
        parts.append(membrane_scores(planes, views, bases))
    if set(bases) & set(CALIBRATION_METRICS):
        parts.append(calibration_scores(planes, views, bases))
    if set(bases) & set(OBJECT_METRICS):
        parts.append(object_scores(planes, views, bases))
    scaled = ["probabilities of 8 bits are value / 255"] if any(plane.from_8_bits for plane in planes) else []
    return merged(parts, wanted, [views.coding.words, *scaled])


def _only_kind(planes: Sequence[Plane]) -> Kind:
    kinds = {plane.kind: plane for plane in planes}
    if len(kinds) > 1:
        files = " but ".join(f"{plane.pair.prediction} holds {kind}" for kind, plane in kinds.items())
        raise DataError(f"{files}; give predictions of one kind")
    return planes[0].kind


def _require_255(planes: Sequence[Plane]) -> None:
    """Refuse probabilities of 8 bits that are 0 and 1 instead of 0 to 255 in all files."""
    stored = [plane for plane in planes if plane.from_8_bits]
    if stored and max(round(255 * float(plane.prediction.max())) for plane in stored) == 1:
        raise DataError(
            f"{stored[0].pair.prediction} holds 0 and 1, but in 8 bits 255 stands for probability 1; end its "
            "name in _classes if it is a mask, or save floats from 0 to 1"
        )


def _is_mask_of_several(planes: Sequence[Plane], values: set[int]) -> bool:
    """Whether the truth is a mask: black and white, or of 0 and 1 where that is not one object each time."""
    if values == {0, 1}:
        return any(label_components(plane.truth == 1, 8).max() > 1 for plane in planes)
    return len(values) == 2 and is_mask(values)


def _coding(planes: Sequence[Plane], classes: Classes) -> Coding:
    true = values_in(plane.truth[plane.counted] for plane in planes)
    if planes[0].kind == "instances":
        if classes != "objects" and _is_mask_of_several(planes, true):
            return ids_against_mask(max(true))
        if classes != "objects" and len(true) > 2 and not hang_together(planes):
            raise DataError(
                f"{planes[0].pair.truth}: most values lie in many pieces, as classes do, and the prediction "
                "holds objects; say --classes objects if each value is one object"
            )
        return IDS
    if planes[0].kind == "probabilities":
        predicted, are_classes = set(range(max(2, *(len(plane.prediction) for plane in planes)))), True
    else:
        predicted = values_in(plane.prediction[plane.counted] for plane in planes)
        are_classes = all(kind_of(plane.pair.prediction) == "classes" for plane in planes)
    if classes == "objects":
        return object_ids(predicted)
    return infer_coding(true, predicted, classes, are_classes=are_classes)
