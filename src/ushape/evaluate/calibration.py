"""What probabilities are worth: calibration error, likelihood and Brier score of all planes and of each."""

from collections.abc import Collection, Sequence

from ushape import metrics
from ushape.evaluate.planes import Plane
from ushape.evaluate.scored import Row, Scored, together
from ushape.evaluate.views import Views

_WORDS = {
    "ece": f"ece: mean of |accuracy - confidence| over {metrics.CALIBRATION_BINS} bins of the confidence, "
    "the probability of the predicted class",
    "nll": "nll: mean negative log likelihood of the true class, in nats",
    "brier": "brier: mean squared error of the probabilities, summed over the classes",
}


def calibration_scores(planes: Sequence[Plane], views: Views, wanted: Collection[str]) -> Scored:
    """Expected calibration error, negative log likelihood and Brier score."""
    parts = [metrics.calibration_error(*views.probabilities(plane)) for plane in planes]
    total = metrics.total_calibration(parts)
    words = tuple(words for name, words in _WORDS.items() if name in wanted)
    return together("pixels", _row(total), list(map(_row, parts)), words, {"ece": total.curve})


def _row(found: metrics.Calibration) -> Row:
    """Scores and counts of one image or of all."""
    bins = {
        "pixels": found.pixels,
        "bin_pixels": list(found.counts),
        "bin_correct": list(found.correct),
        "bin_confidence": [
            s / n if n else None for s, n in zip(found.confidences, found.counts, strict=True)
        ],
    }
    pixels = {"pixels": found.pixels}
    return {"ece": found.error, "nll": found.nll, "brier": found.brier}, {
        "ece": bins,
        "nll": pixels,
        "brier": pixels,
    }
