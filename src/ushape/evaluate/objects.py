"""Scores of objects: which predicted one is which true one, in each image and in all together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from ushape import metrics
from ushape.evaluate.names import MATCHING_METRICS, OBJECT_METRICS
from ushape.evaluate.planes import Plane
from ushape.evaluate.scored import Curve, Row, Scored, together
from ushape.evaluate.views import Views

Array = NDArray[Any]
Matchings = tuple[metrics.Matching, ...]
"""The objects of one image, or of several, matched at each of the IoU thresholds."""


@dataclass(frozen=True)
class Family:
    """Scores that follow from one comparison of two label images.

    Attributes
    ----------
    names : tuple of str
    measure : callable
        (predicted ids, true ids) -> counts.
    total : callable
        Counts of several images -> counts of all.
    row : callable
        Counts -> scores, and the counts as plain numbers.
    words : str
        What the scores mean.
    """

    names: tuple[str, ...]
    measure: Callable[[Array, Array], Any]
    total: Callable[[Iterable[Any]], Any]
    row: Callable[[Any], Row]
    words: str


def object_scores(planes: Sequence[Plane], views: Views, wanted: Sequence[str]) -> Scored:
    """The scores wanted, of each image and of the objects of all images together."""
    asked = {"seg", "det", *wanted} if "op_csb" in wanted else set(wanted)
    families = [family for family in _FAMILIES if asked & set(family.names)]
    images = [_measured(plane, views, families) for plane in planes]
    of_families = zip(*images, strict=True)
    totals = [family.total(found) for family, found in zip(families, of_families, strict=True)]
    return together(
        "objects",
        row_of(families, totals),
        [row_of(families, counts) for counts in images],
        (*_sources(views), *(family.words for family in families)),
        _curves(totals[0]) if families[0] is _FAMILIES[0] else {},
    )


def row_of(families: Sequence[Family], counts: Sequence[Any]) -> Row:
    """Scores of one image, or of several, and the counts behind them; OP_CSB if both parts are there."""
    scores: dict[str, float] = {}
    numbers: dict[str, Any] = {}
    for family, found in zip(families, counts, strict=True):
        more_scores, more_numbers = family.row(found)
        scores |= more_scores
        numbers |= more_numbers
    if "seg" in scores and "det" in scores:
        scores["op_csb"] = (scores["seg"] + scores["det"]) / 2
        numbers["op_csb"] = {**numbers["seg"], **numbers["det"]}
    return scores, numbers


def _measured(plane: Plane, views: Views, families: Sequence[Family]) -> list[Any]:
    pred, true = views.objects(plane)
    return [family.measure(pred, true) for family in families]


def _sources(views: Views) -> tuple[str, ...]:
    """Where the objects come from, if they are not in the files."""
    connected = {"prediction": views.connects_prediction, "truth": views.connects_truth}
    which = [name for name, is_connected in connected.items() if is_connected]
    return (f"objects of the {' and the '.join(which)}: 4-connected components of class 1",) if which else ()


def _total_of_each(images: Iterable[Matchings]) -> Matchings:
    return tuple(metrics.total(of_one_threshold) for of_one_threshold in zip(*images, strict=True))


def _matching_row(matchings: Matchings) -> Row:
    scores: dict[str, float] = {}
    counts: dict[str, Any] = {}
    for name, attribute in MATCHING_METRICS.items():
        for one in matchings:
            key = f"{name}_{one.threshold:.2f}"
            scores[key] = float(getattr(one, attribute))
            counts[key] = {"tp": one.tp, "fp": one.fp, "fn": one.fn, "iou_sum": one.iou_sum}
    scores["ap_mean"] = sum(one.average_precision for one in matchings) / len(matchings)
    counts["ap_mean"] = {"thresholds": [one.threshold for one in matchings]}
    return scores, counts


def _panoptic_row(found: metrics.Panoptic) -> Row:
    return {"pq": found.score}, {"pq": {**asdict(found), "sq": found.sq, "rq": found.rq}}


def _jaccard_row(found: metrics.Jaccard) -> Row:
    return {"aji": found.score}, {"aji": asdict(found)}


def _seg_row(found: metrics.Seg) -> Row:
    return {"seg": found.score}, {"seg": {"matched": found.matched, "objects": found.objects}}


def _det_row(found: metrics.Det) -> Row:
    return {"det": found.score}, {"det": {**asdict(found), "markers": found.markers}}


def _curves(matchings: Matchings) -> dict[str, Curve]:
    thresholds = tuple(one.threshold for one in matchings)
    return {
        name: (thresholds, tuple(float(getattr(one, attribute)) for one in matchings))
        for name, attribute in MATCHING_METRICS.items()
        if name != "mean_matched_score"
    }


SEG = Family(
    ("seg",),
    metrics.seg,
    metrics.total_seg,
    _seg_row,
    "seg: mean IoU of each true object with the predicted one that covers more than half of it, 0 if there "
    "is none; inventions cost nothing; 1 without true objects",
)
DET = Family(
    ("det",),
    metrics.det,
    metrics.total_det,
    _det_row,
    "det: 1 - AOGM-D / AOGM-D of an empty prediction (a miss costs 10, a split 5, an invention 1)",
)

_FAMILIES = (
    Family(
        tuple(name for name in OBJECT_METRICS if name not in ("pq", "aji", "seg", "det", "op_csb")),
        metrics.matchings,
        _total_of_each,
        _matching_row,
        "objects are matched one to one at the IoU in the name or above; AP = TP / (TP + FP + FN), not "
        "COCO's; 1 without objects; ap_mean: of each image over the IoU 0.50 to 0.95, then over the images",
    ),
    Family(
        ("pq",),
        metrics.panoptic,
        metrics.total_panoptic,
        _panoptic_row,
        "pq: sum of the IoU above 0.5 / (TP + FP/2 + FN/2); 1 without objects",
    ),
    Family(
        ("aji",),
        metrics.aji,
        metrics.total_aji,
        _jaccard_row,
        "aji: pixels that partners share / pixels of objects in either, as in Cellpose; 1 without objects",
    ),
    SEG,
    DET,
)
