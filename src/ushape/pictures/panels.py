"""The pictures of one comparison, side by side: image, truth, prediction, and where they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.config import IGNORE
from ushape.pictures.difference import Difference, Differences
from ushape.pictures.drawing import BACKGROUND, Color, color_objects, colorize, display, heat, reduced

Array = NDArray[Any]

LONGEST_PX = 640
"""Of a panel. Larger images are made smaller by up to a half, of still larger ones a part is shown."""

_TWO_CLASSES: Sequence[Color] = (BACKGROUND, (235, 235, 235))
_MORE_CLASSES: Sequence[Color] = [(r, g, b) for r, g, b in color_objects(np.arange(IGNORE)[None])[0].tolist()]


@dataclass(frozen=True)
class Comparison:
    """One image of a comparison, ready to be shown.

    Attributes
    ----------
    name : str
    panels : mapping of str to ndarray of uint8, shape (h, w, 3)
        Title -> picture, all of one size.
    words : str
        What differs, and which part of the image is shown if it is not the whole.
    agreement : float
        Of the whole image, see `Differences`.
    of_objects : bool
        Whether objects were compared, not class masks.
    codes : frozenset of int
        Each `Difference` that occurs in the image; IGNORE if there are pixels that do not count.
    classes : mapping of int to (red, green, blue)
        Each class that is shown, and its colour; empty where there are but two, or objects.
    """

    name: str
    panels: Mapping[str, Array]
    words: str
    agreement: float
    of_objects: bool
    codes: frozenset[int]
    classes: Mapping[int, Color]


def compare(
    name: str,
    differences: Differences,
    *,
    image: Array | None = None,
    probabilities: Array | None = None,
    colors: Sequence[Color] = (),
) -> Comparison:
    """Draw a comparison.

    Parameters
    ----------
    name : str
    differences : Differences
    image : ndarray, shape (C, H, W), optional
        Grey values, any real type.
    probabilities : ndarray of float, shape (K, H, W), optional
        Those of background and one class are shown instead of the predicted objects or classes.
    colors : sequence of (red, green, blue)
        Of the classes.

    Returns
    -------
    Comparison
    """
    if not colors:
        colors = class_colors(3 if Difference.OTHER_CLASS in differences.counts else 2)
    window, part = _window(differences.wrong)
    panels = {} if image is None else {"image": display(image[:, *window])}
    panels["truth"] = _labels(differences.true[window], differences.of_objects, colors)
    if probabilities is not None and len(probabilities) <= 2:
        panels["probability"] = heat(probabilities[-1][window])
    else:
        panels["prediction"] = _labels(differences.predicted[window], differences.of_objects, colors)
    panels["where they differ"] = differences.picture()[window]
    return Comparison(
        name,
        {title: reduced(panel, LONGEST_PX) for title, panel in panels.items()},
        "; ".join(filter(None, (differences.words(), part))),
        differences.agreement,
        differences.of_objects,
        frozenset(np.unique(differences.codes).tolist()),
        _shown_classes(differences, window, colors),
    )


def class_colors(classes: int) -> Sequence[Color]:
    """Colours of the classes of a data set that has so many and names no colours: white on black if two."""
    return _TWO_CLASSES if classes <= 2 else _MORE_CLASSES


def _shown_classes(
    differences: Differences, window: tuple[slice, slice], colors: Sequence[Color]
) -> dict[int, Color]:
    if differences.of_objects or len(colors) <= 2:
        return {}
    shown = np.union1d(differences.true[window], differences.predicted[window]).tolist()
    return {index: colors[index] for index in shown if index < len(colors)}


def _window(wrong: Array) -> tuple[tuple[slice, slice], str]:
    """Part of an image that is shown, the whole if it is small, and the part in words."""
    height, width = wrong.shape
    if max(height, width) <= 2 * LONGEST_PX:
        return (slice(None), slice(None)), ""
    rows, columns = (min(side, LONGEST_PX) for side in wrong.shape)
    tops, lefts = _starts(height, rows), _starts(width, columns)
    above_left = np.pad(wrong.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = (
        above_left[np.ix_(tops + rows, lefts + columns)]
        - above_left[np.ix_(tops, lefts + columns)]
        - above_left[np.ix_(tops + rows, lefts)]
        + above_left[np.ix_(tops, lefts)]
    )
    at_top, at_left = np.unravel_index(inside.argmax(), inside.shape)
    top, left = int(tops[at_top]), int(lefts[at_left])
    words = (
        f"shown: rows {top} to {top + rows - 1} and columns {left} to {left + columns - 1} "
        f"of {height} x {width}{', where most is wrong' if wrong.any() else ''}"
    )
    return (slice(top, top + rows), slice(left, left + columns)), words


def _starts(length: int, shown: int) -> Array:
    return np.unique([*range(0, length - shown, LONGEST_PX // 4), length - shown])


def _labels(plane: Array, are_objects: bool, colors: Sequence[Color]) -> Array:
    return color_objects(plane) if are_objects else colorize(plane, colors)
