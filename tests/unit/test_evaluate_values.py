"""What the values of predicted and true label images mean."""

import re

import pytest

from ushape.errors import ConfigError, DataError
from ushape.evaluate.values import infer_coding


@pytest.mark.parametrize(
    ("truth", "prediction", "true_classes", "predicted_classes"),
    [
        ({0, 255}, {0, 1}, {0: 0, 255: 1}, {0: 0, 1: 1}),
        ({0, 1}, {0, 255}, {0: 0, 1: 1}, {0: 0, 255: 1}),
        ({255}, {0, 1}, {255: 1}, {0: 0, 1: 1}),
        ({0}, {0, 1}, {0: 0}, {0: 0, 1: 1}),
        ({0, 0xFFFFFF}, {0, 255}, {0: 0, 0xFFFFFF: 1}, {0: 0, 255: 1}),
        ({0, 1}, {0, 0xFFFFFF}, {0: 0, 1: 1}, {0: 0, 0xFFFFFF: 1}),
        ({0, 1, 255}, {0, 1, 255}, {0: 0, 1: 1, 255: 2}, {0: 0, 1: 1, 255: 2}),
        ({0, 255}, {0}, {0: 0, 255: 1}, {0: 0}),
        ({0, 1, 3}, {0, 1, 2, 3}, {0: 0, 1: 1, 3: 3}, {0: 0, 1: 1, 2: 2, 3: 3}),
        ({0, 85, 170}, {0, 1, 2}, {0: 0, 85: 1, 170: 2}, {0: 0, 1: 1, 2: 2}),
        ({1, 2, 3}, {0, 1, 2}, {1: 0, 2: 1, 3: 2}, {0: 0, 1: 1, 2: 2}),
        ({1, 2, 3}, {1, 2, 3}, {1: 0, 2: 1, 3: 2}, {1: 0, 2: 1, 3: 2}),
        ({0, 1, 4}, {0, 1, 4}, {0: 0, 1: 1, 4: 2}, {0: 0, 1: 1, 4: 2}),
        ({0, 0xFF0000, 0x00FF00}, {0, 1, 2}, {0: 0, 0x00FF00: 1, 0xFF0000: 2}, {0: 0, 1: 1, 2: 2}),
    ],
)
def test_values_and_their_classes(truth, prediction, true_classes, predicted_classes):
    coding = infer_coding(truth, prediction)
    assert {value: coding.truth[value] for value in truth} == true_classes
    assert {value: coding.prediction[value] for value in prediction} == predicted_classes
    assert coding.classes == max([1, *true_classes.values(), *predicted_classes.values()]) + 1


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (
            {0, 1, 2},
            {0, 1},
            "truth has the 3 values 0, 1, 2, .* only 0, 1; say --classes objects if .* --classes 3 if",
        ),
        ({0, 1, 3}, {0, 1, 2}, "they do not tell which class is which; say --classes N"),
        ({0, 2}, {0, 1}, "they do not tell which class is which"),
        ({0, 1, 7}, {0, 1, 4000000000}, "--classes N if .*, --classes objects if each value is one object"),
        (
            {0, 1, 2, 255},
            {0, 1, 2},
            "the values 0, 1, 2, 255, .* 0, 1, 2: is 255 a class.* --ignore 255 if .*, --classes 4 if",
        ),
        ({0, 1, 255}, {0, 1, 2}, "is 255 a class"),
        ({0, 1, 2, 5, 8, 255}, {0, 1, 2, 5}, "is 255 a class.* --ignore 255 if"),
        ({0, 1, 2, 5, 8, 255}, {0, 1, 2, 3}, "is 255 a class.* --ignore 255 if"),
        ({1, 2, 3, 4}, {1, 2, 3}, "are these values of the truth, or .* --classes 4 if .* --classes 5 if"),
        (
            {1, 2, 3},
            {1, 2},
            "--classes 4 if they are class indices, --classes 3 if those of the prediction alone are",
        ),
        ({0, 255}, {0, 1, 2}, "the 2 values 0, 255, the prediction 3: 0, 1, 2; if each value is one object"),
        (set(range(100)), {0, 1}, r"truth has the 100 values 0, 1, 2, 3, 4, 5, \.\.\. 99"),
    ],
)
def test_values_that_do_not_fit_are_refused(truth, prediction, message):
    with pytest.raises(DataError, match=message):
        infer_coding(truth, prediction)


@pytest.mark.parametrize(
    ("truth", "prediction", "fixes", "has_number"),
    [
        ({0, 255}, range(256), ("its name in _instances", "in _probabilities .8 bits"), False),
        ({0, 255}, range(255), ("its name in _instances", "in _probabilities .8 bits"), False),
        ({0, 255}, range(300), ("--metrics ap_0.50", "in _probabilities .8 bits"), False),
        ({0, 1}, range(41), ("its name in _instances", "--classes 41"), True),
        ({0, 1}, range(3), ("its name in _instances", "--classes 3"), True),
        ({0}, range(3), ("its name in _instances", "--classes 3"), True),
        ({0, 1, 2}, range(7), ("say --classes objects", "--classes 7"), True),
    ],
)
def test_many_more_values_than_the_truth_has_are_refused(truth, prediction, fixes, has_number):
    """They were scored as that many classes: as 256, grey values of probabilities with 255 left out."""
    with pytest.raises(DataError, match=rf"the prediction {len(prediction)}: 0, 1, 2") as caught:
        infer_coding(truth, set(prediction))
    for fix in fixes:
        assert re.search(fix, str(caught.value))
    assert bool(re.search(r"--classes \d", str(caught.value))) == has_number
    assert "\n" not in str(caught.value)


def test_a_few_more_values_are_classes_that_the_truth_lacks():
    assert infer_coding({0, 1, 2}, set(range(6))).classes == 6
    named = infer_coding({0, 1}, set(range(41)), are_classes=True)
    assert (named.classes, named.truth[1], named.prediction[40]) == (41, 1, 40)


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (range(65), range(3), "truth has the 65 values 0, 1, .*too many for classes; say --classes N"),
        (range(2), range(255), "prediction has the 255 values 0, 1, .*too many for classes"),
        (range(2), range(300), "prediction has the 300 values .*predicted objects in _instances"),
    ],
)
def test_more_values_than_classes_can_be(truth, prediction, message):
    """Index 255 means that a pixel does not count, and 256 is none of 8 bits."""
    with pytest.raises(DataError, match=message):
        infer_coding(set(truth), set(prediction), are_classes=True)
    assert infer_coding(set(range(65)), {0, 1, 2}, classes=65).classes == 65


def test_class_indices_can_be_declared():
    coding = infer_coding({0, 1, 3}, {0, 1}, classes=5)
    assert (coding.classes, coding.truth[3], coding.prediction[1]) == (5, 3, 1)
    with pytest.raises(DataError, match="truth has the value 3, but --classes 3 allows 0 to 2"):
        infer_coding({0, 3}, {0}, classes=3)
    with pytest.raises(ConfigError, match="--classes must be at least 2, got 1"):
        infer_coding({0}, {0}, classes=1)


def test_a_number_of_classes_means_what_it_means_in_training():
    """As many values as classes are these in ascending order; predictions hold indices or the same."""
    for prediction in ({0, 1, 2}, {0, 1, 255}, {0, 255}):
        coding = infer_coding({0, 1, 255}, prediction, classes=3)
        assert coding.truth == {0: 0, 1: 1, 255: 2}
        assert {coding.prediction[value] for value in prediction} <= {0, 1, 2}
    assert coding.prediction[255] == 2
    with pytest.raises(DataError, match="prediction has the value 7, but --classes 3 allows 0 to 2"):
        infer_coding({0, 1, 255}, {0, 7}, classes=3)
