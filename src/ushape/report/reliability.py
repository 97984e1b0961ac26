"""The drawing that shows what probabilities are worth."""

from collections.abc import Mapping, Sequence

from ushape.report.page import Html, curves

PERFECT = "perfectly calibrated"


def reliability(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Html:
    """Draw accuracy over confidence beside the straight line on which both are equal.

    Parameters
    ----------
    lines : mapping of str to (confidences, accuracies)
        Name -> points, as `ushape.metrics.Calibration.curve` has them.

    Returns
    -------
    Html
    """
    lowest = min((x for xs, _ in lines.values() for x in xs), default=0.0)
    straight = (lowest, 1.0)
    return curves(
        {**lines, PERFECT: (straight, straight)},
        x="confidence: probability of the predicted class",
        y="share of pixels that are right",
    )
