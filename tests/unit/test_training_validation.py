"""Which score selects the model, when validation is due, and that the best model is kept."""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ushape import Segmenter, UNet
from ushape.checkpoint import load_model
from ushape.config import IGNORE, ClassInfo, ModelHeader, Postprocessing, UNetConfig
from ushape.data import Sample
from ushape.training.calibration import to_take_back
from ushape.training.recipe import FAST
from ushape.training.scores import Kind, has_touching_objects, score
from ushape.training.until import Until
from ushape.training.validation import Validation, _middle


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


@pytest.mark.parametrize("known", [nuclei(), vessels()])
def test_probabilities_are_not_kept_while_many_images_are_scored(known: Sample) -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def predicted() -> Iterator[np.ndarray]:
        nonlocal most
        for _ in range(6):
            likely = certain(known)
            alive.append(weakref.ref(likely))
            most = max(most, sum(one() is not None for one in alive))
            yield likely

    together = score([known] * 6, predicted(), Postprocessing())
    assert together.row() == pytest.approx(score([known], [certain(known)], Postprocessing()).row())
    assert most == 2, "the one that is made, and the one before it"


@pytest.mark.parametrize("known", [membranes(), nuclei(), vessels()])
def test_where_no_pixel_counts_nothing_is_wrong(known: Sample) -> None:
    unknown = Sample("s", known.image, known.objects, np.full_like(known.object_class, IGNORE))
    scores = score([unknown], [certain(known)], Postprocessing())
    assert (scores.dice, scores.iou, scores.accuracy) == (1, 1, 1)


def test_an_object_beside_unknown_pixels_touches_nothing() -> None:
    assert not has_touching_objects(with_unknown_stripe(vessels()))
    assert has_touching_objects(nuclei())


@pytest.fixture
def watch(tmp_path: Path) -> Validation:
    header = ModelHeader(
        name="tiny",
        architecture=UNetConfig(width=1, depth=1),
        classes=tuple(ClassInfo(name=n, value=i, color=(i, i, i)) for i, n in enumerate("ab")),
    )
    return Validation([vessels()], [], header, tmp_path, device="cpu")


def test_images_are_predicted_in_the_precision_asked_for(
    watch: Validation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ushape.backends.pytorch.cpu_has_bf16", lambda: True)  # emulated where it is not
    torch.manual_seed(0)
    network, found = UNet.from_config(watch.header.architecture), {}
    sample = vessels()
    sample = replace(sample, image=np.random.default_rng(0).integers(0, 255, sample.image.shape, np.uint8))
    for precision in ("fp32", "bf16"):
        one = Validation([sample], [], watch.header, watch.output, device="cpu", precision=precision)
        (found[precision],) = one._predict(network, one.samples)
    assert 0 < np.abs(found["fp32"] - found["bf16"]).max() < 0.1


def report(watch: Validation, network: UNet, step: int, **scores: float) -> None:
    """Let a validation of `network` end with these scores."""
    trainer = SimpleNamespace(
        global_step=step,
        is_global_zero=True,
        loggers=[],
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.1}])],
        strategy=SimpleNamespace(broadcast=lambda row: row),
    )
    watch._scores = lambda network: SimpleNamespace(row=lambda: scores, reliability=None)
    watch.validate(trainer, SimpleNamespace(network_to_keep=network, mean_loss=lambda: 1.0))
    del watch._scores


def test_the_best_model_is_kept_and_the_last_one_too(watch: Validation) -> None:
    for step, value in [(1, 0.5), (2, 0.9), (3, 0.7)]:
        network = UNet(width=1, depth=1)
        torch.nn.init.constant_(network.score.bias, value)
        report(watch, network, step, score=value)
    best, header = load_model(watch.output / "model.safetensors")
    last, _ = load_model(watch.output / "last.safetensors")
    assert float(best.state_dict()["score.bias"][0]) == pytest.approx(0.9)
    assert float(last.state_dict()["score.bias"][0]) == pytest.approx(0.7)
    assert header.provenance["validation"]["step"] == 2


def everywhere(logit: float) -> UNet:
    """A network that sees the object everywhere, with this logit."""
    network = UNet(width=1, depth=1)
    torch.nn.init.zeros_(network.score.weight)
    network.score.bias.data = torch.tensor([0.0, logit])
    return network


@pytest.mark.parametrize("fits_last", [False, True])
def test_all_model_files_get_the_processing_and_the_temperature_that_were_fitted(
    watch: Validation, fits_last: bool
) -> None:
    changes = {"postprocessing": Postprocessing(threshold=0.995), "object_diameter_px": 30.0}
    watch.header = watch.header.model_copy(update=changes)
    report(watch, everywhere(2.0), 1, score=0.9, ece=0.1)
    report(watch, everywhere(1.0), 2, score=0.8, ece=0.2)
    cells = np.ones((40, 41), np.int32)
    cells[:, 40] = 0
    watch.samples = watch.scored = watch.tuned_on = [sample(cells)]
    watch.kind, watch.fits_last = "cells", fits_last
    watch.finish()
    assert watch.result["step"] == watch.best["step"] == 1
    assert watch.result["dice"] > 0.4, "scores are taken again"
    assert watch.curve is not None
    headers = [load_model(watch.output / f"{name}.safetensors")[1] for name in ("model", "last")]
    # 40 of 41 columns are cells: the likeliest temperature makes 40 / 41 of it, log(40) of its logit.
    likeliest = (1 if fits_last else 2) / np.log(40)
    assert headers[0].temperature == headers[1].temperature == pytest.approx(likeliest, abs=1e-3)
    assert headers[0].postprocessing.threshold == headers[1].postprocessing.threshold < 40 / 41
    assert [header.provenance["tuned_on"] for header in headers] == [[watch.tuned_on[0].name]] * 2
    assert watch.result["ece_at_temperature_1"] == 0.1
    ece = headers[0].provenance["validation"]["ece"]
    assert ece == watch.result["ece"]
    if not fits_last:
        assert ece == pytest.approx(0, abs=1e-4)


def test_a_run_that_is_gone_on_with_compares_models_as_they_were_chosen(watch: Validation) -> None:
    """What was fitted at an earlier end makes the old model no better than a new one."""
    report(watch, everywhere(2.0), 1, score=0.5, ece=0.1)
    cells = np.ones((40, 41), np.int32)
    cells[:, 40] = 0
    watch.samples = watch.scored = watch.tuned_on = [sample(cells)]
    watch.kind = "cells"
    watch.finish()
    assert watch.result["score"] > 0.9 > watch.best["score"]
    again = Validation([vessels()], [], watch.header, watch.output, device="cpu")
    again.samples = again.scored = watch.samples
    again.load_state_dict(watch.state_dict())
    assert again.result == watch.result
    report(again, everywhere(1.0), 2, score=0.6, ece=0.1)
    assert again.best["step"] == 2
    assert not again.result, "nothing is fitted to the new one"
    assert load_model(watch.output / "model.safetensors")[0].state_dict()["score.bias"][1] == 1.0


@pytest.mark.parametrize(
    ("kind", "classes", "changes", "expected"),
    [
        ("areas", 2, {}, True),
        ("cells", 2, {}, False),
        ("objects", 2, {}, False),
        ("areas", 3, {}, False),
        ("areas", 2, {"loss": "dice"}, False),
        ("areas", 2, {"loss": "cross_entropy+dice"}, True),
        ("areas", 2, {"border": "falk"}, False),
    ],
)
def test_class_weights_are_taken_back_where_the_loss_gave_them_to_areas_of_one_kind(
    kind: Kind, classes: int, changes: dict[str, str], expected: bool
) -> None:
    balance = np.ones(classes, np.float32)
    found = to_take_back(balance, classes, kind, FAST.model_copy(update=changes))
    assert (found is balance) == expected
    assert expected or found is None
    assert to_take_back(balance[:1], classes, kind, FAST) is None, "a class that no image has"


def test_areas_get_a_temperature_and_no_processing(watch: Validation) -> None:
    network = UNet(width=1, depth=1)
    network.score.bias.data = torch.tensor([1.0, 0.0])
    report(watch, network, 1, score=0.9, ece=0.1)
    watch.samples = watch.scored = watch.tuned_on = [vessels()]
    watch.finish()
    header = load_model(watch.output / "model.safetensors")[1]
    assert header.temperature != 1
    assert header.class_bias == ()
    assert header.postprocessing == Postprocessing()


def test_areas_are_as_large_as_they_are_likely(watch: Validation) -> None:
    """A network that class weights of 1 to 8 have made see vessels everywhere."""
    network = UNet(width=1, depth=1)
    torch.nn.init.zeros_(network.score.weight)
    network.score.bias.data = torch.tensor([0.0, 0.5])
    share = float((vessels().classes == 1).mean())
    assert 0 < share < 0.5
    balance = np.array([0.5 / (1 - share), 0.5 / share], np.float32)
    watch = Validation([vessels()], [vessels()], watch.header, watch.output, device="cpu", balance=balance)
    report(watch, network, 1, score=0.9, ece=0.1)
    report(watch, network, 2, score=0.8, ece=0.1)
    before = load_model(watch.output / "last.safetensors")[1]
    np.testing.assert_allclose(before.class_bias, -np.log(balance), atol=1e-3)
    chosen_by = watch._scores(network)
    assert chosen_by.accuracy == pytest.approx(1 - share), "models are chosen among with weights taken back"
    watch.finish()
    for name in ("model", "last"):
        segmenter = Segmenter.load(watch.output / f"{name}.safetensors", device="cpu")
        found = segmenter(vessels().image, axes="CYX")
        np.testing.assert_allclose(found.probabilities[1], share, atol=1e-3)  # three decimals of a logit
        assert not found.classes.any()


def several(watch: Validation, count: int) -> Validation:
    watch.samples = watch.scored = [replace(vessels(), name=f"s{number}") for number in range(count)]
    return watch


def test_a_short_run_scores_what_it_can_afford_spread_evenly(watch: Validation) -> None:
    several(watch, 16).limit(per_pixel=1 / 1600, per_picture=0.0, affordable=4.5)
    assert [sample.name for sample in watch.scored] == ["s0", "s4", "s8", "s12"]
    assert "4 of 16 validation images" in watch.limited
    assert {sample.name for sample in watch.shown} == {"s0", "s4", "s8", "s12"}
    again = several(Validation([vessels()], [], watch.header, watch.output, device="cpu"), 16)
    again.load_state_dict(watch.state_dict())
    assert [sample.name for sample in again.scored] == ["s0", "s4", "s8", "s12"]


def test_the_pictures_at_the_end_are_those_of_the_worst_images(watch: Validation) -> None:
    network = UNet(width=1, depth=1)
    torch.nn.init.zeros_(network.score.weight)
    network.score.bias.data = torch.tensor([0.0, 2.0])  # objects everywhere: wrong where there are few
    usual = {sample.name for sample in several(watch, 12).shown}
    report(watch, network, 1, score=0.9, ece=0.1)
    objects = {name: np.zeros((40, 40), int) for name in (sample.name for sample in watch.samples)}
    for name, ids in objects.items():
        ids[:, 5 : 25 if name in usual else 8] = 1
    watch.samples = watch.scored = [replace(sample(ids), name=name) for name, ids in objects.items()]
    watch.tuned_on = watch.samples[:1]
    watch.finish()
    assert len(watch.comparisons) == len(usual) == 8
    assert objects.keys() - usual <= watch.comparisons.keys()
    assert {path.stem for path in (watch.output / "validation").iterdir()} == watch.comparisons.keys()


def test_one_image_is_scored_though_nothing_can_be_afforded(watch: Validation) -> None:
    several(watch, 16).limit(per_pixel=1.0, per_picture=1.0, affordable=0.1)
    assert len(watch.scored) == 1


def test_all_images_are_scored_where_time_does_not_count(watch: Validation) -> None:
    several(watch, 16).limit(per_pixel=1.0, per_picture=1.0, affordable=float("inf"))
    assert watch.scored == watch.samples
    assert not watch.limited
    assert len(watch.shown) == 8


def test_between_validations_the_middle_of_large_images_is_drawn(watch: Validation) -> None:
    large = sample(np.pad(vessels().objects, ((0, 1200), (0, 10))))
    watch.samples = watch.scored = [large]
    network = UNet(width=1, depth=1).train()
    costs = watch.look(network)
    assert min(costs) > 0
    assert network.training
    assert _middle(large).objects.shape == _middle(large).image.shape[1:] == (1024, 50)
    assert (watch.output / "validation" / "s.png").exists()
    assert not list(watch.output.glob("*.safetensors"))


def test_the_model_is_chosen_by_the_score_to_reach(watch: Validation) -> None:
    watch.until = Until("pixel_error", 0.1)
    for step, (usual, error) in enumerate([(0.9, 0.3), (0.2, 0.2), (0.5, 0.4)]):
        report(watch, UNet(width=1, depth=1), step, score=usual, pixel_error=error)
    assert watch.best["step"] == 1
