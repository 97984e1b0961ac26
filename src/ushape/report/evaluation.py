"""The page of an evaluation: scores, curves, and the images on which the prediction is worst."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.evaluate import Evaluation
from ushape.evaluate.images import image_of
from ushape.evaluate.names import BOUNDARY_METRICS, CALIBRATION_METRICS, CLASS_METRICS, ERROR_METRICS, base
from ushape.evaluate.table import shown
from ushape.pictures import Comparison, Differences, class_colors, class_differences, compare, differences
from ushape.report.comparisons import comparison_rows
from ushape.report.page import Html, curves, key_numbers, section, table, text, write_report
from ushape.report.reliability import reliability

Array = NDArray[Any]

MOST_IMAGES = 12
"""Images that are shown."""

_MOST_NUMBERS, _MOST_SCORES, _MOST_ROWS, _MOST_NAMES = 6, 3, 500, 10

_OF_PIXELS = {*CLASS_METRICS, *BOUNDARY_METRICS, *CALIBRATION_METRICS, "pixel_error"}
"""Scores that know no objects: their differences are those of pixels."""

_AXES = (
    (("ap", "f1", "precision", "recall"), "smallest IoU of a match", "score"),
    (("v_rand", "v_info"), "threshold of the probability", "score"),
    (("pixel_error", "rand_error", "warping_error"), "threshold of the probability", "error"),
)
"""Curves that are drawn together, and their axes."""


def evaluation_report(path: Path | str, evaluation: Evaluation) -> None:
    """Write the page of an evaluation: scores, curves, the worst images with their mistakes, all images.

    Parameters
    ----------
    path : path
        `.html`.
    evaluation : Evaluation

    Raises
    ------
    OutputError
        If the page cannot be written.
    ImageFormatError
        If a file that was compared has gone since.
    """
    count = len(evaluation.places)
    images = "1 image" if count == 1 else f"{count:,} images"
    how = f", matched {evaluation.pairs.how}" if len(evaluation.pairs.pairs) > 1 else ""
    lead = f"{evaluation.prediction} against {evaluation.truth}: {images}{how}."
    sections = [
        section("Scores", *_scores(evaluation)),
        *_curves(evaluation.scored.curves),
        section("Worst images first", *_worst(evaluation)),
        section("All images", *_all_images(evaluation)),
    ]
    write_report(path, f"Evaluation of {evaluation.prediction.name}", sections, lead=lead)


def _scores(evaluation: Evaluation) -> Iterator[str]:
    scored = evaluation.scored
    yield key_numbers(dict(list(scored.scores.items())[:_MOST_NUMBERS]))
    groups = [group.scores for group in scored.groups.values()]
    rows = [
        [
            name,
            value,
            *(group.get(name) for group in groups),
            0 if name in ERROR_METRICS else 1,
            scored.averages.get(name, ""),
            _in_words(scored.counts.get(name, {})),
        ]
        for name, value in scored.scores.items()
    ]
    yield table(["score", "value", *scored.groups, "best", "average", "counts"], rows)
    yield text(*scored.conventions)


def _in_words(counts: Mapping[str, Any]) -> str:
    """Counts that are single numbers: "tp 412, fp 30, fn 21, threshold 0.4"."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:{',' if isinstance(value, int) else '.3g'}}"
        for name, value in counts.items()
        if isinstance(value, int | float)
    )


def _curves(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> list[Html]:
    """A section of drawings; none where no score is a curve of more than one point."""
    drawings = [
        curves({name: lines[name] for name in names if name in lines}, x=x, y=y)
        for names, x, y in _AXES
        if any(len(lines[name][0]) > 1 for name in names if name in lines)
    ]
    if "ece" in lines:
        drawings.append(reliability({"predictions": lines["ece"]}))
    return [section("Curves", *drawings)] if drawings else []


def _worst(evaluation: Evaluation) -> Iterator[str]:
    order = evaluation.worst_first()
    if len(order) > MOST_IMAGES:
        yield (
            f"The {MOST_IMAGES} worst of {len(order):,} images; {len(order) - MOST_IMAGES:,} better ones are "
            "left out here, the table below has their scores."
        )
    comparisons = [_comparison(evaluation, number) for number in order[:MOST_IMAGES]]
    if comparisons[0].of_objects and evaluation.views.connects_prediction:
        likely = " (probability above one half)" if evaluation.views.kind == "probabilities" else ""
        yield f"Predicted objects are the 4-connected components of class 1{likely}."
    if any(place.markers is not None for place in evaluation.places):
        yield (
            "A small marker stands for each cell that nobody outlined; it is found where an object covers "
            "more than half of it."
        )
    yield from comparison_rows(comparisons)


def _comparison(evaluation: Evaluation, number: int) -> Comparison:
    plane, views = evaluation.read(number), evaluation.views  # read once: a stack is decoded whole
    knows_objects = not {base(name) for name in evaluation.scores} <= _OF_PIXELS
    if knows_objects and views.coding.classes == 2:
        found = _of_objects(evaluation, number, *views.objects(plane), plane.counted)
    else:
        found = class_differences(*views.classes(plane))
    return compare(
        _titled(evaluation, number),
        found,
        image=image_of(plane.pair, plane.index, plane.truth.shape),
        probabilities=plane.prediction if plane.kind == "probabilities" else None,
        colors=class_colors(views.coding.classes),
    )


def _of_objects(evaluation: Evaluation, number: int, pred: Array, true: Array, counted: Array) -> Differences:
    markers = evaluation.markers(number)
    if markers is not None:
        true = np.where(markers > 0, true.max(initial=0) + markers.astype(np.int64), true)
    found = differences(pred, true, counted=counted, markers=None if markers is None else markers > 0)
    # SEG's truth may outline a part of the cells: it does not ask what was added.
    return found.without_added() if set(evaluation.scored.rows[number]) == {"seg"} else found


def _titled(evaluation: Evaluation, number: int) -> str:
    """Name and first scores of an image: "a, ap_0.50 0.712, ap_0.70 0.501"."""
    row = evaluation.scored.rows[number]
    scores = [f"{name} {shown(value)}" for name, value in row.items()][:_MOST_SCORES]
    return ", ".join([evaluation.places[number].name, *scores])


def _all_images(evaluation: Evaluation) -> Iterator[str]:
    scored, order = evaluation.scored, evaluation.worst_first()
    columns = list(dict.fromkeys(name for row in scored.rows for name in row))
    names_files = len(evaluation.pairs.pairs) > 1
    rows = []
    for number in order[:_MOST_ROWS]:
        place = evaluation.places[number]
        files = [place.pair.prediction.name, place.pair.truth.name] if names_files else []
        rows.append([place.name, *files, *(scored.rows[number].get(name) for name in columns)])
    yield table(["image", *(["prediction", "truth"] if names_files else []), *columns], rows)
    if len(order) > _MOST_ROWS:
        yield f"{len(order) - _MOST_ROWS:,} better images are left out; --csv writes all."
    yield from _alone(evaluation)


def _alone(evaluation: Evaluation) -> Iterator[str]:
    """Files that were not scored, having no partner."""
    for what, paths in (
        ("Predictions without truth", evaluation.pairs.lone_predictions),
        ("Truth without prediction", evaluation.pairs.lone_truths),
    ):
        if paths:
            names = ", ".join(path.name for path in paths[:_MOST_NAMES])
            more = f" and {len(paths) - _MOST_NAMES} more" if len(paths) > _MOST_NAMES else ""
            yield f"{what}, not scored: {names}{more}."
