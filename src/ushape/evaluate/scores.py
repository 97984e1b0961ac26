"""Scores of many planes: what fits what was given, computed, with counts, for the set and for each plane."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ushape import metrics
from ushape.errors import ConfigError, DataError
from ushape.evaluate.pairs import Kind
from ushape.evaluate.planes import Plane
from ushape.evaluate.values import Coding, infer_coding, object_ids

Array = NDArray[Any]
Numbers = dict[str, Any]

CLASS_METRICS = ("dice", "iou", "accuracy")
MEMBRANE_METRICS = ("pixel_error", "v_rand", "v_info")
OBJECT_METRICS = ("ap_0.50", "f1_0.50")
METRICS = (*CLASS_METRICS, *MEMBRANE_METRICS, *OBJECT_METRICS)

_OBJECT_CONVENTION = (
    "AP = TP / (TP + FP + FN) and F1 at IoU >= 0.5, one to one, objects of all images together; "
    "1 without objects"
)


@dataclass(frozen=True)
class Scored:
    """Scores and their counts by name, for the set and for each plane, and the conventions they follow."""

    scores: Mapping[str, float]
    counts: Mapping[str, Numbers]
    rows: Sequence[Mapping[str, float]]
    row_counts: Sequence[Mapping[str, Numbers]]
    conventions: tuple[str, ...] = ()


def score(
    planes: Sequence[Plane], names: Sequence[str] | None, *, classes: int | Literal["objects"] | None
) -> Scored:
    """Score planes of one kind.

    Parameters
    ----------
    planes : sequence of Plane
    names : sequence of str, optional
        Scores wanted; default: those that fit.
    classes : int or "objects", optional
        See `infer_coding`; "objects" says that the truth holds object ids.

    Raises
    ------
    ConfigError
        If a score does not fit what was given.
    DataError
        If the values of prediction and truth do not fit together.
    """
    kind = _only_kind(planes)
    if kind == "instances":
        wanted = _wanted(names, OBJECT_METRICS, OBJECT_METRICS, "object ids")
        return _merged([_object_scores(planes)], wanted, [_OBJECT_CONVENTION])
    tables = [_value_table(plane) for plane in planes]
    coding = _coding(planes, tables, classes)
    fitting = (*MEMBRANE_METRICS, *CLASS_METRICS) if coding.classes == 2 else CLASS_METRICS
    usual = MEMBRANE_METRICS if kind == "probabilities" and coding.classes == 2 else CLASS_METRICS
    wanted = _wanted(names, fitting, usual, f"{kind} of {coding.classes} classes")
    parts = []
    if set(wanted) & set(CLASS_METRICS):
        parts.append(_class_scores(tables, coding))
    if set(wanted) & set(MEMBRANE_METRICS):
        parts.append(_membrane_scores(planes, coding))
    return _merged(parts, wanted, _conventions(wanted, coding))


def _only_kind(planes: Sequence[Plane]) -> Kind:
    kinds = {plane.kind: plane for plane in planes}
    if len(kinds) > 1:
        files = " but ".join(f"{plane.pair.prediction} holds {kind}" for kind, plane in kinds.items())
        raise DataError(f"{files}; give predictions of one kind")
    return planes[0].kind


def _wanted(
    names: Sequence[str] | None, fitting: Sequence[str], usual: Sequence[str], what: str
) -> Sequence[str]:
    for name in names or ():
        if name not in fitting:
            known = name in METRICS
            problem = f"does not fit {what}" if known else "is not known"
            raise ConfigError(
                f"metric {name!r} {problem}; choose from {', '.join(fitting if known else METRICS)}"
            )
    return [name for name in METRICS if name in (names or usual)]


def _merged(parts: Sequence[Scored], wanted: Sequence[str], conventions: Sequence[str]) -> Scored:
    """Join what was computed and keep what is wanted."""

    def joined(tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        found = {name: value for table in tables for name, value in table.items()}
        return {name: found[name] for name in wanted}

    return Scored(
        joined(part.scores for part in parts),
        joined(part.counts for part in parts),
        [joined(rows) for rows in zip(*(part.rows for part in parts), strict=True)],
        [joined(rows) for rows in zip(*(part.row_counts for part in parts), strict=True)],
        tuple(conventions),
    )


def _conventions(wanted: Sequence[str], coding: Coding) -> list[str]:
    """What the wanted scores mean, in words."""
    lines = [coding.words]
    if "dice" in wanted or "iou" in wanted:
        which = "of class 1" if coding.classes == 2 else f"mean over the {coding.classes} classes"
        lines.append(f"Dice and IoU: {which}, pixels of all images together; 1 for a class that is nowhere")
    if "pixel_error" in wanted:
        lines.append(
            "pixel_error: 1 - best F-score of class 1 over the thresholds 0, 0.1 ... 1, all planes together"
        )
    if "v_rand" in wanted or "v_info" in wanted:
        lines.append(
            "V_rand, V_info: after border thinning, on the truth's pixels of class 1, 4-connected; best "
            "threshold of the mean over planes; a plane without class 1 scores 1"
        )
    return lines


# Class masks


_HALF = 1 << 31

ValueTable = dict[tuple[int, int], int]
"""Number of pixels of each pair (value in the truth, value in the prediction)."""


def _value_table(plane: Plane) -> ValueTable:
    predicted = _as_labels(plane)[plane.counted].astype(np.int64)
    # One number for both values: the truth's above, the predicted one, made positive, in the lower half.
    keys, counts = np.unique(
        (plane.truth[plane.counted].astype(np.int64) << 32) + predicted + _HALF, return_counts=True
    )
    pairs = zip((keys >> 32).tolist(), ((keys & 0xFFFFFFFF) - _HALF).tolist(), counts.tolist(), strict=True)
    return {(true, value): pixels for true, value, pixels in pairs}


def _as_labels(plane: Plane) -> Array:
    """Predicted labels (H, W): as given, or the most probable class."""
    if plane.kind != "probabilities":
        return plane.prediction
    if len(plane.prediction) == 1:
        return np.asarray(plane.prediction[0] > 0.5)
    return np.asarray(plane.prediction.argmax(0))


def _coding(
    planes: Sequence[Plane], tables: Sequence[ValueTable], classes: int | Literal["objects"] | None
) -> Coding:
    pairs = {pair for table in tables for pair in table}
    if not pairs:
        raise DataError("no pixel of the truth counts; choose another --ignore")
    true, predicted = {t for t, _ in pairs}, {p for _, p in pairs}
    if planes[0].kind == "probabilities":
        predicted |= set(range(max(2, len(planes[0].prediction))))
    return object_ids(true, predicted) if classes == "objects" else infer_coding(true, predicted, classes)


_Row = tuple[dict[str, float], dict[str, Numbers]]
"""Scores of one image or of all, and the counts behind each."""


def _with_means(together: _Row, rows: list[_Row], names: Sequence[str]) -> Scored:
    scores, counts = together
    for name in names:
        counts[name]["mean_over_images"] = float(np.mean([row[name] for row, _ in rows]))
    return Scored(scores, counts, [row for row, _ in rows], [numbers for _, numbers in rows])


def _class_scores(tables: Sequence[ValueTable], coding: Coding) -> Scored:
    matrices = np.zeros((len(tables), coding.classes, coding.classes), np.int64)
    for matrix, table in zip(matrices, tables, strict=True):
        for (true, predicted), pixels in table.items():
            matrix[coding.truth[true], coding.prediction[predicted]] += pixels
    rows = [_class_row(matrix) for matrix in matrices]
    return _with_means(_class_row(matrices.sum(0)), rows, CLASS_METRICS)


def _class_row(matrix: NDArray[np.int64]) -> _Row:
    """Scores and counts of one confusion matrix."""
    scores, counts = {}, {}
    for name, function in (("dice", metrics.dice), ("iou", metrics.iou)):
        per_class = function(matrix)
        scores[name] = float(per_class[1] if len(matrix) == 2 else per_class.mean())
        counts[name] = {"per_class": per_class.tolist(), "confusion": matrix.tolist()}
    scores["accuracy"] = float(metrics.accuracy(matrix))
    counts["accuracy"] = {"correct": int(np.trace(matrix)), "pixels": int(matrix.sum())}
    return scores, counts


# Membranes


def _membrane_scores(planes: Sequence[Plane], coding: Coding) -> Scored:
    cells = [_cell_probability(plane, coding) for plane in planes]
    truths = [np.isin(plane.truth, [v for v, index in coding.truth.items() if index]) for plane in planes]
    ignored = [~plane.counted for plane in planes]
    pixel = metrics.pixel_error(cells, truths, ignored=ignored)
    v_rand, v_info = metrics.v_scores(cells, truths, ignored=ignored)
    rows, row_counts = [], []
    for place, (tp, fp, fn) in enumerate(pixel.by_slice):
        error = 1 - 2 * tp / (2 * tp + fp + fn) if tp or fp or fn else 0.0
        rand, info = v_rand.by_slice[place], v_info.by_slice[place]
        rows.append({"pixel_error": error, "v_rand": rand.score, "v_info": info.score})
        row_counts.append(
            {
                "pixel_error": {"tp": tp, "fp": fp, "fn": fn},
                "v_rand": {**rand._asdict(), **asdict(v_rand.agreements[place])},
                "v_info": {**info._asdict(), **asdict(v_info.agreements[place])},
            }
        )
    return Scored(
        {"pixel_error": pixel.score, "v_rand": v_rand.score, "v_info": v_info.score},
        {
            "pixel_error": {
                "threshold": pixel.threshold,
                "tp": pixel.tp,
                "fp": pixel.fp,
                "fn": pixel.fn,
                "by_threshold": list(pixel.by_threshold),
            },
            "v_rand": _v_counts(v_rand),
            "v_info": _v_counts(v_info),
        },
        rows,
        row_counts,
    )


def _cell_probability(plane: Plane, coding: Coding) -> Array:
    if plane.kind == "probabilities":
        return np.asarray(plane.prediction[-1])
    ones = [value for value, index in coding.prediction.items() if index]
    return np.isin(plane.prediction, ones).astype(np.float32)


def _v_counts(score: metrics.VScore) -> Numbers:
    return {
        "threshold": score.threshold,
        "precision": score.precision,
        "recall": score.recall,
        "by_threshold": list(score.by_threshold),
        **{
            name: sum(getattr(agreement, name) for agreement in score.agreements)
            for name in ("pixels", "unassigned", "truth_objects", "proposal_objects")
        },
    }


# Objects


def _object_scores(planes: Sequence[Plane]) -> Scored:
    matchings = [
        metrics.match(plane.prediction * plane.counted, plane.truth * plane.counted, 0.5) for plane in planes
    ]
    rows = [_object_row(matching) for matching in matchings]
    return _with_means(_object_row(metrics.total(matchings)), rows, OBJECT_METRICS)


def _object_row(matching: metrics.Matching) -> _Row:
    counts = {"tp": matching.tp, "fp": matching.fp, "fn": matching.fn}
    scores = {"ap_0.50": matching.average_precision, "f1_0.50": matching.f1}
    return scores, {name: dict(counts) for name in scores}
