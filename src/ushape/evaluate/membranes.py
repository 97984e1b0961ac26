"""The scores of the ISBI 2012 challenge, of all planes together and of each at their best threshold."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ushape import metrics
from ushape.evaluate.planes import Plane
from ushape.evaluate.scored import Numbers, Scored, mean_over, over
from ushape.evaluate.views import Views

Array = NDArray[Any]
Score = metrics.PixelError | metrics.RandError | metrics.WarpingError | metrics.VScore

_PLAIN = ("threshold", "tp", "fp", "fn", "splits", "merges", "pixels", "precision", "recall")
_SUMMED = ("pixels", "unassigned", "truth_objects", "proposal_objects")

_WORDS = {
    ("pixel_error",): "pixel_error: 1 - F-score of the pixels of class 1 at the best threshold",
    ("rand_error",): "rand_error (2012): 1 - F-score of the pairs of pixels that lie in one 4-connected "
    "component of class 1, or both outside class 1, at the best threshold",
    ("warping_error",): "warping_error: share of pixels that stand for a split or a merger once the borders "
    "of the truth are warped to the prediction, at the best threshold",
    ("v_rand", "v_info"): "v_rand, v_info: after border thinning, on the truth's pixels of class 1, "
    "4-connected; best threshold of the mean over images; an image without class 1 scores 1",
}


class _Taken(NamedTuple):
    """A score of the stack, the score and counts of each plane, and what it was taken over."""

    name: str
    score: Score
    planes: list[tuple[float, Numbers]]
    average: str

    @property
    def counts(self) -> Numbers:
        counts = {name: getattr(self.score, name) for name in _PLAIN if hasattr(self.score, name)}
        if isinstance(self.score, metrics.VScore):
            counts |= {name: sum(getattr(a, name) for a in self.score.agreements) for name in _SUMMED}
        return counts | {"by_threshold": list(self.score.by_threshold)}


def membrane_scores(planes: Sequence[Plane], views: Views, wanted: Collection[str]) -> Scored:
    """The scores wanted, of the planes as one stack."""
    cells, truths = zip(*(views.cells(plane) for plane in planes), strict=True)
    taken = list(_take(cells, truths, [~plane.counted for plane in planes], set(wanted)))
    has_curves = views.kind == "probabilities"  # of a mask every threshold gives the same
    return Scored(
        {one.name: one.score.score for one in taken},
        {one.name: one.counts for one in taken},
        {one.name: one.average for one in taken},
        [{one.name: one.planes[place][0] for one in taken} for place in range(len(planes))],
        [{one.name: one.planes[place][1] for one in taken} for place in range(len(planes))],
        (*_cut_apart(views), *(words for names, words in _WORDS.items() if set(names) & set(wanted))),
        {one.name: _curve(one.score) for one in taken if has_curves},
    )


def _cut_apart(views: Views) -> tuple[str, ...]:
    """Say what was done to object ids."""
    return () if views.connects_truth else ("true objects that touch are cut apart first, by two pixels",)


def _take(
    cells: Sequence[Array], truths: Sequence[Array], ignored: Sequence[Array], wanted: set[str]
) -> Iterator[_Taken]:
    images = len(cells)
    if "pixel_error" in wanted:
        pixel = metrics.pixel_error(cells, truths, ignored=ignored)
        yield _Taken("pixel_error", pixel, _errors(pixel.by_slice), over("pixels", images))
    if "rand_error" in wanted:
        rand = metrics.rand_error(cells, truths, ignored=ignored)
        yield _Taken("rand_error", rand, _errors(rand.by_slice), over("pairs of pixels", images))
    if "warping_error" in wanted:
        warping = metrics.warping_error(cells, truths, ignored=ignored)
        yield _Taken("warping_error", warping, _warped(warping, ignored), over("pixels", images))
    if wanted & {"v_rand", "v_info"}:
        both = metrics.v_scores(cells, truths, ignored=ignored)
        for name, score in zip(("v_rand", "v_info"), both, strict=True):
            yield _Taken(name, score, _agreements(score), mean_over(images))


def _errors(by_slice: Sequence[tuple[int, int, int]]) -> list[tuple[float, Numbers]]:
    """1 - F-score of each plane from its counts; 0 if there was nothing to find."""
    errors = [1 - 2 * tp / (2 * tp + fp + fn) if tp or fp or fn else 0.0 for tp, fp, fn in by_slice]
    return [(e, dict(zip(("tp", "fp", "fn"), c, strict=True))) for e, c in zip(errors, by_slice, strict=True)]


def _warped(score: metrics.WarpingError, ignored: Sequence[Array]) -> list[tuple[float, Numbers]]:
    pixels = [int(np.count_nonzero(~mask)) for mask in ignored]
    return [
        ((found.splits + found.merges) / max(size, 1), {**found._asdict(), "pixels": size})
        for found, size in zip(score.by_slice, pixels, strict=True)
    ]


def _agreements(score: metrics.VScore) -> list[tuple[float, Numbers]]:
    return [
        (plane.score, {**plane._asdict(), **asdict(agreement)})
        for plane, agreement in zip(score.by_slice, score.agreements, strict=True)
    ]


def _curve(score: Score) -> tuple[tuple[float, ...], tuple[float, ...]]:
    # The warping error is not taken at the last threshold.
    return metrics.THRESHOLDS[: len(score.by_threshold)], score.by_threshold
