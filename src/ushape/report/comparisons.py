"""Picture rows of a comparison: image, truth, prediction, where they differ; and what the colours mean."""

from collections.abc import Sequence

from ushape.config import IGNORE
from ushape.pictures import DIFFERENCE_COLORS, Comparison, Difference, reduced
from ushape.pictures.drawing import UNNAMED
from ushape.report.page import Html, legend, picture_row, text

MOST_BYTES = 8_000_000
"""Of the rows of a page: it has to pass through mail. Pictures are made smaller until they fit."""

_SIDES_PX = (640, 512, 384, 288, 192)

_OBJECTS = {
    Difference.FOUND: "found",
    Difference.LACKING: "found, but this part is not covered",
    Difference.EXCESS: "found, but this is too much",
    Difference.MISSED: "missed",
    Difference.ADDED: "added",
    Difference.SPLIT: "split",
    Difference.MERGED: "merged",
}
_CLASSES = {
    Difference.FOUND: "the same class in both",
    Difference.MISSED: "missed: background is predicted",
    Difference.ADDED: "added: the truth is background",
    Difference.OTHER_CLASS: "another class than the true one",
}

_RULE = (
    "A predicted and a true object belong together if they share more than half of the smaller one. A true "
    "object without a partner is missed, one with several is split; a predicted object without a partner is "
    "added, one with several has merged these. What is less than a tenth of the rest does not count as a "
    "partner. A found object has one partner, however well they agree; AP(0.5) asks for an IoU of 0.5."
)
_SAME_COLOR = " Found objects have the same colour in truth and prediction."


def comparison_rows(comparisons: Sequence[Comparison], names: Sequence[str] = ()) -> list[Html]:
    """Rows of pictures in the order given, below a legend.

    Parameters
    ----------
    comparisons : sequence of Comparison
        All of objects, or all of classes.
    names : sequence of str, optional
        Of the classes; their numbers are shown if not given.

    Returns
    -------
    list of Html
        At most `MOST_BYTES` together, if pictures of 192 px can do that.
    """
    if not comparisons:
        return []
    rows: list[Html] = []
    for longest_px in _SIDES_PX:
        rows = [_row(one, longest_px) for one in comparisons]
        if sum(map(len, rows)) <= MOST_BYTES:
            break
    return [_legend(comparisons), *_classes(comparisons, names), *_rule(comparisons), *rows]


def _classes(comparisons: Sequence[Comparison], names: Sequence[str]) -> list[Html]:
    """Which class is which colour in truth and prediction, where there are more than two."""
    shown = {index: color for one in comparisons for index, color in one.classes.items()}
    words = dict(enumerate(names))
    colors = {words.get(index, f"class {index}"): shown[index] for index in sorted(shown)}
    return [text("Truth and prediction:"), legend(colors)] if colors else []


def _rule(comparisons: Sequence[Comparison]) -> list[Html]:
    if not comparisons[0].of_objects:
        return []
    return [text(_RULE + _SAME_COLOR if "prediction" in comparisons[0].panels else _RULE)]


def _row(one: Comparison, longest_px: int) -> Html:
    pictures = {title: reduced(panel, longest_px) for title, panel in one.panels.items()}
    return picture_row(pictures, caption=f"{one.name}: {one.words}")


def _legend(comparisons: Sequence[Comparison]) -> Html:
    codes = {code for one in comparisons for code in one.codes}
    words = _OBJECTS if comparisons[0].of_objects else _CLASSES
    colors = {word: DIFFERENCE_COLORS[kind] for kind, word in words.items()}
    if Difference.OTHER_CLASS not in codes:
        colors.pop(_CLASSES[Difference.OTHER_CLASS], None)
    return legend(colors | ({"does not count": UNNAMED} if IGNORE in codes else {}))
