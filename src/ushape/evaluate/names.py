"""The scores by name: which there are, which fit what was given, and which are taken if nothing is asked for.

A name that ends in `_per_image` is the mean over the images of the score it is made from; without the ending,
counts of all images are put together first. The two can differ by a lot where images do.
"""

import re
from collections.abc import Collection, Iterable, Sequence

from ushape.errors import ConfigError
from ushape.evaluate.pairs import Kind
from ushape.metrics import IOU_THRESHOLDS

PER_IMAGE = "_per_image"

CLASS_METRICS = ("dice", "iou", "accuracy")
BOUNDARY_METRICS = ("boundary_f1", "nsd", "hd95")
MEMBRANE_METRICS = ("pixel_error", "rand_error", "warping_error", "v_rand", "v_info")

CALIBRATION_METRICS = ("ece", "nll", "brier")

MATCHING_METRICS = {
    "ap": "average_precision",
    "f1": "f1",
    "precision": "precision",
    "recall": "recall",
    "mean_matched_score": "mean_matched_score",
}
"""Scores of a `Matching`, by the name in front of the IoU threshold, and how they are called there."""

TRACKING_METRICS = ("seg", "det", "op_csb")

OBJECT_METRICS = (
    *(f"{name}_{threshold:.2f}" for name in MATCHING_METRICS for threshold in IOU_THRESHOLDS),
    "ap_mean",
    "pq",
    "aji",
    *TRACKING_METRICS,
)

_BY_IMAGE = (*CLASS_METRICS, *(name for name in OBJECT_METRICS if name not in ("ap_mean", *TRACKING_METRICS)))

METRICS = tuple(
    spelling
    for name in (*CLASS_METRICS, *BOUNDARY_METRICS, *MEMBRANE_METRICS, *CALIBRATION_METRICS, *OBJECT_METRICS)
    for spelling in ((name, name + PER_IMAGE) if name in _BY_IMAGE else (name,))
)

ERROR_METRICS = frozenset({"pixel_error", "rand_error", "warping_error", "hd95", *CALIBRATION_METRICS})
"""Scores of which less is better."""

_USUAL: dict[Kind, tuple[str, ...]] = {
    "classes": (*CLASS_METRICS, *(name + PER_IMAGE for name in CLASS_METRICS)),
    "probabilities": ("pixel_error", "v_rand", "v_info"),
    "instances": ("ap_0.50", "ap_0.50_per_image", "ap_0.70", "f1_0.50", "pq"),
}


def known(names: Iterable[str]) -> list[str]:
    """Names as a user gives them, without spaces and as in `METRICS`, each once.

    Raises
    ------
    ConfigError
        If one is not a score.
    """
    names = list(dict.fromkeys(_spelled(name.strip()) for name in names))
    for name in names:
        _refuse_others([name], METRICS, f"is not known{_remark(name)}")
    return names


def fitting(kind: Kind, classes: int) -> tuple[str, ...]:
    """Scores that can be taken of predictions of one kind."""
    if kind == "instances":
        families: tuple[str, ...] = (*CLASS_METRICS, *BOUNDARY_METRICS, *OBJECT_METRICS)
    elif classes == 2:
        families = (*CLASS_METRICS, *BOUNDARY_METRICS, *MEMBRANE_METRICS, *OBJECT_METRICS)
    else:
        families = (*CLASS_METRICS, *BOUNDARY_METRICS)
    if kind == "probabilities":
        families = (*families, *CALIBRATION_METRICS)
    return tuple(name for name in METRICS if base(name) in families)


def wanted(names: Sequence[str], kind: Kind, classes: int, images: int) -> list[str]:
    """Scores to take of predictions of one kind: those asked for, else the usual ones.

    Raises
    ------
    ConfigError
        If one that is asked for does not fit.
    """
    usual = _USUAL[kind] if classes == 2 else _USUAL["classes"]
    if kind == "probabilities":
        usual = (*usual, "ece")
    # Of a single image the two averages are the same number.
    told_apart = [name for name in usual if images > 1 or not name.endswith(PER_IMAGE)]
    what = "object ids" if kind == "instances" else f"{kind} of {classes} classes"
    return choose(names, fitting(kind, classes), told_apart, what)


def choose(names: Sequence[str], allowed: Sequence[str], usual: Collection[str], what: str) -> list[str]:
    """Names asked for, else the usual ones, in the order of `METRICS`.

    Raises
    ------
    ConfigError
        If one that is asked for is not among the allowed ones, because it does not fit `what` was given.
    """
    _refuse_others(names, allowed, f"does not fit {what}")
    return [name for name in METRICS if name in (names or usual)]


def base(name: str) -> str:
    """Name of the score of one image: `dice` of `dice_per_image`."""
    return name.removesuffix(PER_IMAGE)


def is_mean(name: str) -> bool:
    """Whether the score of a set is the mean over its images, whatever their sizes."""
    return name.endswith(PER_IMAGE) or name == "ap_mean"


def listed(names: Sequence[str]) -> str:
    """All names in few words: each tenfold as `ap_0.50 ... 0.95`, means over images as a remark."""
    few = dict.fromkeys(re.sub(r"_(0\.\d\d)$", "_0.50 ... 0.95", base(name)) for name in names)
    by_image = any(name.endswith(PER_IMAGE) for name in names)
    return ", ".join(few) + (f"; most also with {PER_IMAGE}" if by_image else "")


def _spelled(name: str) -> str:
    """Name as in `METRICS`, whichever way the IoU in it is written: `ap_0.50` of `ap_0.5` and `ap_.500`."""
    match = re.fullmatch(r"(\w+_)(\d*\.\d+)(\w*)", name, re.ASCII)
    if match is None or float(match[2]) not in IOU_THRESHOLDS:
        return name
    return f"{match[1]}{float(match[2]):.2f}{match[3]}"


def _remark(name: str) -> str:
    """How the score at an IoU is named that an unknown name such as `ap` or `f1_75` seems to mean."""
    match = re.fullmatch(rf"({'|'.join(MATCHING_METRICS)})_?(\d*)({PER_IMAGE})?", name)
    if match is None:
        return ""
    likely = f"{match[1]}_0.{match[2]:0<2}{match[3] or ''}"
    example = likely if likely in METRICS else f"{match[1]}_0.50"
    return f": the IoU is part of the name, as in {example}"


def _refuse_others(names: Iterable[str], allowed: Sequence[str], problem: str) -> None:
    for name in names:
        if name not in allowed:
            raise ConfigError(f"metric {name!r} {problem}; choose from {listed(allowed)}")
