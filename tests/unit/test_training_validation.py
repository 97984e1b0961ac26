"""Which score selects the model, when validation is due, and that the best model is kept."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ushape import UNet
from ushape.checkpoint import load_model
from ushape.config import IGNORE, ClassInfo, ModelHeader, Postprocessing, UNetConfig
from ushape.data import Sample
from ushape.errors import ConfigError
from ushape.training.budget import Budget
from ushape.training.module import TrainingModule
from ushape.training.recipe import FAST
from ushape.training.scores import has_touching_objects, score
from ushape.training.validation import Schedule, Validation


def sample(objects: np.ndarray, classes: int = 2) -> Sample:
    ids = int(objects.max()) + 1
    table = np.minimum(np.arange(ids), 1) if classes == 2 else np.arange(ids)
    return Sample(
        "s", np.zeros((1, *objects.shape), np.uint8), objects.astype(np.int32), table.astype(np.uint8)
    )


def certain(sample: Sample, classes: int = 2) -> np.ndarray:
    return np.stack([sample.classes == number for number in range(classes)]).astype(np.float32)


def membranes() -> Sample:
    objects = np.zeros((40, 40), int)
    for number, (row, column) in enumerate(np.ndindex(2, 2), start=1):
        objects[20 * row : 20 * row + 19, 20 * column : 20 * column + 19] = number
    return sample(objects)


def nuclei() -> Sample:
    objects = np.zeros((40, 40), int)
    for number in range(3):
        objects[5:10, 5 + 5 * number : 10 + 5 * number] = number + 1
    objects[25:35, 25:30] = 4
    return sample(objects)


def vessels() -> Sample:
    objects = np.zeros((40, 40), int)
    objects[:, 12:15] = 1
    return sample(objects)


def test_dense_cells_are_selected_by_v_rand() -> None:
    found = score([membranes()], [certain(membranes())], Postprocessing())
    assert found.score == found.v_rand == pytest.approx(1.0)
    assert found.pixel_error == pytest.approx(0.0)


def test_touching_objects_are_selected_by_their_count() -> None:
    # The three touching nuclei come out as one object: one found, one invented, three missed.
    found = score([nuclei()], [certain(nuclei())], Postprocessing())
    assert found.score == found.ap == pytest.approx(1 / 5)


def test_areas_are_selected_by_dice() -> None:
    found = score([vessels()], [certain(vessels())], Postprocessing())
    assert found.score == found.dice == pytest.approx(1.0)
    assert found.v_rand is None
    assert found.ap is None


def test_many_classes_are_selected_by_the_mean_dice_of_those_present() -> None:
    truth = sample(np.arange(40 * 40).reshape(40, 40) % 3, classes=3)
    wrong = certain(truth, 4)[[1, 0, 2, 3]]
    found = score([truth], [wrong], Postprocessing())
    assert found.score == found.dice == pytest.approx(1 / 3)


def with_unknown_stripe(known: Sample) -> Sample:
    objects = known.objects.copy()
    objects[:, 15:20] = objects.max() + 1
    return Sample("s", known.image, objects, np.append(known.object_class, IGNORE).astype(np.uint8))


@pytest.mark.parametrize("known", [membranes(), nuclei(), vessels()])
def test_pixels_that_do_not_count_change_no_score(known: Sample) -> None:
    truth = with_unknown_stripe(known)
    right, wrong = certain(known), certain(known)
    wrong[:, :, 15:20] = np.array([1, 0])[:, None, None]
    assert score([truth], [right], Postprocessing()).dice == 1.0
    assert score([truth], [wrong], Postprocessing()) == score([truth], [right], Postprocessing())


def test_an_object_beside_unknown_pixels_touches_nothing() -> None:
    assert not has_touching_objects(with_unknown_stripe(vessels()))
    assert has_touching_objects(nuclei())


def test_a_loss_that_is_no_number_ends_the_run_in_words() -> None:
    module = TrainingModule(UNet(width=1, depth=1), FAST, Budget(5, None), seed=0)
    size = module.network.geometry.smallest
    batch = {
        "number": torch.tensor([0]),
        "image": torch.full((1, 1, size, size), float("nan")),
        "classes": torch.zeros((1, 2, 2), dtype=torch.long),
        "weights": torch.ones((1, 2, 2)),
    }
    with pytest.raises(ConfigError, match="training diverged: the loss is nan at step 1"):
        module.training_step(batch, 0)


def test_a_budget_of_steps_is_validated_at_fixed_steps() -> None:
    schedule = Schedule(Budget(40, None))
    assert [step for step in range(1, 41) if schedule.is_due(step)] == list(range(4, 41, 4))
    long = Schedule(Budget(40_000, None))
    assert [step for step in range(1, 5000) if long.is_due(step)] == [16, 64, 256, 1024, 4000]


def test_a_budget_of_time_has_a_picture_within_a_minute_and_keeps_time_for_the_last() -> None:
    clock = SimpleNamespace(now=0.0)
    schedule = Schedule(Budget(None, 600.0, started=0.0, clock=lambda: clock.now))
    due = next(second for second in range(600) if (setattr(clock, "now", second), schedule.is_due(1))[1])
    assert due < 60
    clock.now = due + 8.0
    schedule.measured(float(due))
    assert schedule.budget.reserve > 8.0
    again = next(second for second in range(600) if (setattr(clock, "now", second), schedule.is_due(1))[1])
    assert 60 <= again - due <= 90
    clock.now = 300.0
    schedule.measured(270.0)
    clock.now += 30.0 * 8
    assert not schedule.is_due(1), "validation takes more than a tenth of the time"


def test_a_short_run_validates_early_and_not_once_more_just_before_its_end() -> None:
    clock = SimpleNamespace(now=0.0)
    schedule = Schedule(Budget(None, 24.0, started=0.0, clock=lambda: clock.now))
    due = next(second for second in range(24) if (setattr(clock, "now", second), schedule.is_due(1))[1])
    assert due < 10, "else the last validation would start before its cost is known"
    long = Schedule(Budget(None, 100.0, started=0.0, clock=lambda: clock.now), last=20.0, cost=4.0)
    clock.now = 85.0
    assert not long.is_due(1)
    long.budget.seconds = 200.0
    assert long.is_due(1)


@pytest.fixture
def watch(tmp_path: Path) -> Validation:
    header = ModelHeader(
        name="tiny",
        architecture=UNetConfig(width=1, depth=1),
        classes=tuple(ClassInfo(name=n, value=i, color=(i, i, i)) for i, n in enumerate("ab")),
    )
    return Validation([], [], header, tmp_path, Schedule(Budget(10, None)), device="cpu")


def test_the_best_model_is_kept_and_the_last_one_too(watch: Validation) -> None:
    for step, value in [(1, 0.5), (2, 0.9), (3, 0.7)]:
        network = UNet(width=1, depth=1)
        torch.nn.init.constant_(network.score.bias, value)
        watch._keep(SimpleNamespace(best_weights=network), {"step": step, "score": value})
    best, header = load_model(watch.output / "model.safetensors")
    last, _ = load_model(watch.output / "last.safetensors")
    assert float(best.state_dict()["score.bias"][0]) == pytest.approx(0.9)
    assert float(last.state_dict()["score.bias"][0]) == pytest.approx(0.7)
    assert header.provenance["validation"]["step"] == 2


def test_all_model_files_get_the_processing_and_the_temperature_that_were_fitted(watch: Validation) -> None:
    network = UNet(width=1, depth=1)
    torch.nn.init.zeros_(network.score.weight)
    network.score.bias.data = torch.tensor([0.0, 2.0])  # the object with a probability of 0.88, everywhere
    changes = {"postprocessing": Postprocessing(threshold=0.995), "object_diameter_px": 30.0}
    watch.header = watch.header.model_copy(update=changes)
    watch._keep(SimpleNamespace(best_weights=network), {"step": 1, "score": 0.9, "ece": 0.1})
    watch._keep(SimpleNamespace(best_weights=network), {"step": 2, "score": 0.8, "ece": 0.2})
    cells = np.ones((40, 41), np.int32)
    cells[:, 40] = 0
    watch.samples = watch.tuned_on = [sample(cells)]
    watch.finish()
    assert watch.best["step"] == 1
    assert watch.best["dice"] > 0.4, "scores are taken again"
    assert watch.curve is not None
    headers = [load_model(watch.output / f"{name}.safetensors")[1] for name in ("model", "last")]
    # 40 of 41 columns are cells: the likeliest temperature makes 40 / 41 of the probability, log(40) of 2.
    assert headers[0].temperature == headers[1].temperature == pytest.approx(2 / np.log(40), abs=1e-3)
    assert headers[0].postprocessing.threshold == headers[1].postprocessing.threshold < 40 / 41
    assert watch.best["ece_at_temperature_1"] == 0.1
    assert headers[0].provenance["validation"]["ece"] == watch.best["ece"] == pytest.approx(0, abs=1e-4)


def test_areas_get_a_temperature_and_no_processing(watch: Validation) -> None:
    network = UNet(width=1, depth=1)
    watch._keep(SimpleNamespace(best_weights=network), {"step": 1, "score": 0.9, "ece": 0.1})
    watch.samples = watch.tuned_on = [vessels()]
    watch.finish()
    header = load_model(watch.output / "model.safetensors")[1]
    assert header.temperature != 1
    assert header.postprocessing == Postprocessing()
