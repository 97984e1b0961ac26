"""Scores with all that stands behind them: counts, averages, rows of images, conventions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ushape.evaluate.names import base, is_mean

Numbers = dict[str, Any]
Curve = tuple[Sequence[float], Sequence[float]]
Row = tuple[dict[str, float], dict[str, Numbers]]
"""Scores of one image or of all, and the counts behind each."""


@dataclass(frozen=True)
class Scored:
    """Scores by name, for the set and for each image.

    Attributes
    ----------
    scores : mapping of str to float
        Of the whole set.
    counts : mapping of str to mapping
        What each score was made from.
    averages : mapping of str to str
        What each score was taken over, in words.
    rows, row_counts : sequence of mappings
        Scores and counts of each image.
    conventions : tuple of str
        What the scores mean, in sentences.
    curves : mapping of str to (xs, ys)
        Scores of the set over the threshold that they depend on.
    groups : mapping of str to Scored
        Scores of parts of the set, such as its sequences.
    """

    scores: Mapping[str, float]
    counts: Mapping[str, Numbers]
    averages: Mapping[str, str]
    rows: Sequence[Mapping[str, float]] = ()
    row_counts: Sequence[Mapping[str, Numbers]] = ()
    conventions: tuple[str, ...] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    groups: Mapping[str, "Scored"] = field(default_factory=dict)


def over(what: str, images: int) -> str:
    """Words for counts that were put together before the score was taken."""
    return f"{what} of 1 image" if images == 1 else f"{what} of {images} images together"


def mean_over(images: int) -> str:
    """Words for a mean of the scores of images."""
    return "1 image" if images == 1 else f"mean over {images} images"


def together(
    what: str,
    total: Row,
    rows: Sequence[Row],
    conventions: tuple[str, ...],
    curves: Mapping[str, Curve] | None = None,
) -> Scored:
    """Scores of all `what` of the images put together, and of each image."""
    scores, counts = total
    return Scored(
        scores,
        counts,
        dict.fromkeys(scores, over(what, len(rows))),
        [row for row, _ in rows],
        [numbers for _, numbers in rows],
        conventions,
        curves or {},
    )


def merged(parts: Sequence[Scored], wanted: Sequence[str], conventions: Iterable[str] = ()) -> Scored:
    """Join scores of the same images, keep what is wanted, and take the means over the images."""
    bases = list(dict.fromkeys(map(base, wanted)))

    def joined(tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        found = {name: value for table in tables for name, value in table.items()}
        return {name: found[name] for name in bases if name in found}

    rows = [joined(images) for images in zip(*(part.rows for part in parts), strict=True)]
    means = {name: float(np.mean([row[base(name)] for row in rows])) for name in wanted if is_mean(name)}
    scores, counts, averages = (
        joined(getattr(part, table) for part in parts) for table in ("scores", "counts", "averages")
    )
    return Scored(
        {name: means.get(name, scores[base(name)]) for name in wanted},
        {name: {"images": len(rows)} if name in means else counts[base(name)] for name in wanted},
        {name: mean_over(len(rows)) if name in means else averages[base(name)] for name in wanted},
        rows,
        [joined(images) for images in zip(*(part.row_counts for part in parts), strict=True)],
        (*conventions, *(line for part in parts for line in part.conventions)),
        {name: curve for part in parts for name, curve in part.curves.items()},
    )
