"""What the values of predicted and true label images mean: which value is which class."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ushape.config import IGNORE
from ushape.data.masks import MAX_CLASSES
from ushape.errors import ConfigError, DataError

_LARGEST_INDEX = 31
"""Values up to here may be class indices; larger ones are grey values or colours that stand for classes."""

_WHITE = 0xFFFFFF
"""Of a mask saved in colour."""


@dataclass(frozen=True)
class Coding:
    """Class index of each value.

    Attributes
    ----------
    classes : int
        Their number K; indices are 0..K - 1.
    truth, prediction : mapping of int to int, or None
        Class of each value found; None: of object ids, all but 0 are class 1.
    words : str
        The same in words.
    """

    classes: int
    truth: Mapping[int, int] | None
    prediction: Mapping[int, int] | None
    words: str


IDS = Coding(2, None, None, "truth and prediction hold object ids; as a class, all objects are class 1")
"""Coding of object ids on both sides."""


def ids_against_mask(value: int) -> Coding:
    """Coding of object ids against a mask of 0 and `value`, the objects of which are its components."""
    words = f"prediction holds object ids; truth is a mask, class 1 is {_foreground([value])}"
    return Coding(2, {0: 0, value: 1}, None, words)


def object_ids(prediction: Collection[int]) -> Coding:
    """Coding of a truth that holds object ids and a prediction that is a mask: every object is class 1.

    Raises
    ------
    DataError
        If the prediction holds more than background and foreground.
    """
    if not is_mask(prediction):
        raise DataError(
            f"truth holds objects, but the prediction the values {_listed(sorted(prediction))}; give the "
            "files that predict --instances writes"
        )
    return Coding(2, None, None, "truth holds object ids: all are class 1")


def infer_coding(
    truth: Collection[int],
    prediction: Collection[int],
    classes: int | None = None,
    *,
    are_classes: bool = False,
) -> Coding:
    """Find out which value is which class.

    Parameters
    ----------
    truth, prediction : collection of int
        Values found in all files, without those that do not count.
    classes : int, optional
        Says that values are class indices 0..classes - 1, or else that the truth has as many values, which
        are the classes in ascending order, as in training.
    are_classes : bool
        Whether it is known that the prediction holds classes: its name says so, or it is probabilities.

    Raises
    ------
    ConfigError
        If `classes` is below 2.
    DataError
        If the values do not fit together, or can be understood in two ways.
    """
    true, predicted = sorted(truth), sorted(prediction)
    if classes is not None:
        return _given(true, predicted, classes)
    if is_mask(true) and is_mask(predicted):
        return Coding(
            2,
            {v: int(v > 0) for v in true},
            {v: int(v > 0) for v in predicted},
            f"class 1 is {_foreground(true)} in the truth and {_foreground(predicted)} in the prediction",
        )
    if len(true) > 2 and len(predicted) <= 2:
        raise DataError(
            f"truth has the {len(true)} values {_listed(true)}, the prediction only {_listed(predicted)}; "
            "say --classes objects if each value is one object, --ignore LABEL if one does not count, "
            f"{_as_indices(true, predicted)}"
        )
    if _may_not_count(true, predicted):
        raise DataError(
            f"truth has the values {_listed(true)}, the prediction {_listed(predicted)}: is 255 a class? say "
            f"--ignore 255 if these pixels do not count, --classes {len(true)} if they are one"
        )
    _require_classes(true, predicted, are_classes=are_classes)
    _require_one_reading(true, predicted)
    for larger, smaller in ((true, predicted), (predicted, true)):
        if set(smaller) <= set(larger):
            same = {value: index for index, value in enumerate(larger)}
            return Coding(len(larger), same, same, f"classes are the values {_listed(larger)} of both")
    return _ascending(true, predicted)


def _given(true: list[int], predicted: list[int], classes: int) -> Coding:
    if classes < 2:
        raise ConfigError(f"--classes must be at least 2, got {classes}")
    indices = {value: value for value in range(classes)}
    words = f"values are the class indices 0 to {classes - 1}"
    of_true = indices
    if len(true) == classes and not set(true) <= set(indices):
        of_true = {value: index for index, value in enumerate(true)}
        words = _mapped(of_true)
    of_predicted = (
        of_true if set(predicted) <= set(of_true) and not set(predicted) <= set(indices) else indices
    )
    for what, values, known in (("truth", true, of_true), ("prediction", predicted, of_predicted)):
        unknown = [value for value in values if value not in known]
        if unknown:
            raise DataError(
                f"{what} has the value {unknown[-1]}, but --classes {classes} allows 0 to {classes - 1}"
            )
    return Coding(classes, of_true, of_predicted, words)


def _as_indices(true: list[int], predicted: list[int]) -> str:
    said = f"--classes {true[-1] + 1} if they are class indices"
    if true[0] == 0 or not set(predicted) <= set(range(len(true))):
        return said
    return f"{said}, --classes {len(true)} if those of the prediction alone are, in the order of the truth's"


def _may_not_count(true: list[int], predicted: list[int]) -> bool:
    """Whether 255 stands beside class indices of the truth alone: by custom it does not count."""
    others = [value for value in true if value != 255]
    return len(others) >= 2 and 255 in true and 255 not in predicted and others[-1] <= _LARGEST_INDEX


def _require_one_reading(true: list[int], predicted: list[int]) -> None:
    """Refuse what may be values of the truth as well as indices of its values in ascending order."""
    both = set(predicted) <= set(true) and set(predicted) <= set(range(len(true)))
    if both and any(true[value] != value for value in predicted):
        raise DataError(
            f"truth has the values {_listed(true)}, the prediction {_listed(predicted)}: are these values of "
            f"the truth, or class indices? say --classes {len(true)} if they are indices of its values in "
            f"ascending order, --classes {true[-1] + 1} if the values of both are class indices"
        )


def _require_classes(true: list[int], predicted: list[int], *, are_classes: bool) -> None:
    """Refuse values that may as well be objects or grey values."""
    if not are_classes and len(predicted) > (2 if is_mask(true) else 2 * len(true)):
        raise DataError(
            f"truth has the {len(true)} values {_listed(true)}, the prediction {len(predicted)}: "
            f"{_listed(predicted)}; {_ways_to_say(true, predicted)}"
        )
    most = IGNORE - 1 if are_classes else MAX_CLASSES
    for what, values, limit in (("truth", true, MAX_CLASSES), ("prediction", predicted, most)):
        if len(values) > limit:
            raise DataError(
                f"{what} has the {len(values)} values {_listed(values)}, too many for classes; say --classes "
                "N if they are N classes, --classes objects if each true value is one object, or end the "
                "names of predicted objects in _instances"
            )


def _ways_to_say(true: list[int], predicted: list[int]) -> str:
    """How to say what a prediction holds that has many more values than the truth."""
    # --classes objects is said of the truth, too: it would take a mask for one object.
    by_name = "end its name in _instances or ask for --metrics ap_0.50"
    objects = by_name if is_mask(true) else "say --classes objects"
    number = predicted[-1] + 1
    may_be_indices = min(true[0], predicted[0]) >= 0 and true[-1] < number <= MAX_CLASSES
    indices = f"; if they are class indices, say --classes {number}" if may_be_indices else ""
    return (
        f"if each value is one object, {objects}; if they are probabilities, end its name in _probabilities "
        f"(8 bits) or save floats from 0 to 1{indices}"
    )


def _ascending(true: list[int], predicted: list[int]) -> Coding:
    """The prediction holds class indices; those of the truth follow from the order of its values."""
    may_be_indices = true[0] == 0 and true[-1] <= _LARGEST_INDEX
    if predicted[-1] >= len(true) or predicted[0] < 0 or may_be_indices:
        raise DataError(
            f"truth has the values {_listed(true)}, the prediction {_listed(predicted)}: they do not tell "
            "which class is which; say --classes N if they are the class indices 0 to N-1, --classes objects "
            "if each value is one object"
        )
    order = {value: index for index, value in enumerate(true)}
    return Coding(len(true), order, {index: index for index in order.values()}, _mapped(order))


def _mapped(order: Mapping[int, int]) -> str:
    return "in the truth " + ", ".join(f"{value} is class {index}" for value, index in order.items())


def _foreground(values: list[int]) -> str:
    largest = max(values, default=0) or 1
    return "white" if largest == _WHITE else str(largest)


def is_mask(values: Collection[int]) -> bool:
    """Whether values are those of a mask of background and foreground: 0 and 1, or black and white."""
    return any(set(values) <= {0, foreground} for foreground in (1, 255, _WHITE))


def _listed(values: list[int]) -> str:
    few = ", ".join(map(str, values[:6]))
    return few if len(values) <= 6 else f"{few}, ... {values[-1]}"
