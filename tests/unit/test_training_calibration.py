"""The calibration: found where it is known; a temperature changes no class, and weights are taken back."""

import numpy as np
import pytest
import torch

from ushape import metrics
from ushape.config import IGNORE, UNCALIBRATED, Calibration
from ushape.data import Sample
from ushape.predict import probabilities as of_predictions
from ushape.training import calibration
from ushape.training.calibration import calibrated, fit, in_words

Array = np.ndarray


def probabilities_of(logits: Array, calibration: Calibration = UNCALIBRATED) -> Array:
    return of_predictions.probabilities_of(torch.from_numpy(logits), calibration).numpy()


def temperature_of(samples: list[Sample], probabilities: list[Array]) -> float:
    found = fit(samples, probabilities)
    assert found.class_bias == ()
    return found.temperature


def drawn(
    classes: int, size: tuple[int, int], seed: int = 0, table: Array | None = None
) -> tuple[Sample, Array]:
    """An image whose classes are drawn from a softmax of known logits, and these logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (classes, *size)).astype(np.float32)
    likely = probabilities_of(logits.astype(np.float64))
    truth = (rng.random(size) > likely.cumsum(0)[:-1]).sum(0)
    table = np.arange(classes, dtype=np.uint8) if table is None else table
    return Sample("s", np.zeros((1, *size), np.uint8), truth.astype(np.int32), table), logits


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_of_logits_too_large_by_a_factor_is_that_factor(classes: int, factor: float) -> None:
    samples, logits = zip(*[drawn(classes, (200, 300), seed) for seed in range(2)], strict=True)
    probabilities = [probabilities_of(one * np.float32(factor)) for one in logits]
    found = temperature_of(samples, probabilities)
    # 120,000 draws: the standard error of the temperature is 0.4 %; measured: 0.5 %.
    assert found == pytest.approx(factor, rel=0.015)
    ece = [
        metrics.calibration_error(p, samples[0].classes).error
        for p in (probabilities[0], calibrated(probabilities[0], Calibration(found)))
    ]
    if factor != 1:
        assert ece[1] < ece[0] / 4


def test_a_few_pixels_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, logits = zip(*[drawn(3, (200, 300), seed) for seed in range(2)], strict=True)
    probabilities = [probabilities_of(2 * one) for one in logits]
    monkeypatch.setattr(calibration, "MOST_PIXELS", 30_000)
    seen = [calibration.sampled(*pair, 15_000)[1].size for pair in zip(samples, probabilities, strict=True)]
    assert seen == [15_000, 15_000]
    assert temperature_of(samples, iter(probabilities)) == pytest.approx(2, rel=0.03)


def test_pixels_that_do_not_count_have_no_say() -> None:
    sample, logits = drawn(3, (100, 200), table=np.array([0, 1, IGNORE], np.uint8))
    probabilities = probabilities_of(logits)
    other = np.where(sample.classes == IGNORE, probabilities[[1, 2, 0]], probabilities)
    assert not np.array_equal(probabilities, other)
    assert temperature_of([sample], [probabilities]) == temperature_of([sample], [other])
    unknown = Sample("s", sample.image, sample.objects, np.full(3, IGNORE, np.uint8))
    assert temperature_of([unknown], [probabilities]) == 1


def test_pixels_of_one_class_alone_say_nothing() -> None:
    """Of them no network would ever be sure enough: the temperature would fall to its lower end."""
    sample, logits = drawn(2, (30, 40))
    empty = Sample("s", sample.image, np.zeros_like(sample.objects), sample.object_class)
    likely = probabilities_of(logits)
    assert fit([empty], [likely]) == UNCALIBRATED
    balance = np.array([0.5, 4.0])
    assert fit([empty], [likely], balance) == calibration.expected(balance) != UNCALIBRATED
    assert fit([empty, sample], [likely, likely]) != UNCALIBRATED


def test_certainty_that_is_always_right_stays_certain() -> None:
    sample, _ = drawn(2, (20, 20))
    certain = np.stack([sample.classes == 0, sample.classes == 1]).astype(np.float32)
    assert 0.05 <= temperature_of([sample], [certain]) <= 20
    wrong = temperature_of([sample], [1 - certain])
    assert wrong > 19, "always wrong and certain: the less sure, the better"


def test_tempered_probabilities_are_those_of_the_logits_at_that_temperature() -> None:
    _, logits = drawn(4, (50, 60))
    for temperature in (0.5, 1.7):
        found = calibrated(probabilities_of(logits), Calibration(temperature))
        # float32: the logarithm of a probability near 1 keeps its last digit only; measured 1e-7.
        np.testing.assert_allclose(found, probabilities_of(logits, Calibration(temperature)), atol=1e-6)
        np.testing.assert_array_equal(found.argmax(0), logits.argmax(0))


BALANCE = np.array([0.4, 3.0, 8.0], np.float32)


@pytest.mark.parametrize(("share", "factor"), [(1.0, 1.0), (0.6, 1.0), (1.0, 2.0)])
def test_class_weights_are_taken_back_as_far_as_they_show(share: float, factor: float) -> None:
    sample, logits = drawn(3, (400, 400))
    weighted = probabilities_of(factor * (logits + share * np.log(BALANCE)[:, None, None]))
    found = fit([sample], [weighted], BALANCE)
    # 160,000 draws: the standard errors of both are below 1 %.
    assert found.temperature == pytest.approx(factor, rel=0.02)
    np.testing.assert_allclose(found.class_bias, -share * np.log(BALANCE), rtol=0.03)
    true, likely = probabilities_of(logits), calibrated(weighted, found)
    assert np.abs(likely - true).max() < 0.02 < np.abs(weighted - true).max()


def test_nothing_is_taken_back_that_was_not_given() -> None:
    sample, logits = drawn(3, (200, 300))
    rare = probabilities_of(logits - 0.5 * np.log(BALANCE)[:, None, None])
    found = fit([sample], [rare], BALANCE)
    assert not any(found.class_bias), "else classes would be made likelier than the loss made them"
    assert in_words(found) == f"temperature {found.temperature:g}"
    assert in_words(Calibration(1.5, (0.25, -0.25))) == "temperature 1.5, class weights taken back"


def test_a_class_that_never_occurs_keeps_its_logits() -> None:
    table = np.array([0, 1, 1], np.uint8)
    sample, logits = drawn(3, (200, 300), table=table)
    found = fit([sample], [probabilities_of(logits)], np.array([0.5, 2.0, 1.0], np.float32))
    assert found.class_bias[2] == 0
