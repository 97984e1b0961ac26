"""Scoring of files, folders and stacks: what is paired, what values mean, what is written and refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from files_to_score import cells, noisy, png, predicted, shown, stack
from ushape import io, metrics
from ushape.errors import ConfigError, DataError, ImageFormatError, ShapeError, UShapeError
from ushape.evaluate import evaluate
from ushape.weight_map import cut_gap

# What fits what was given


def test_probabilities_get_the_membrane_scores_and_their_calibration(tmp_path):
    truth = cells(planes=3)
    p = noisy(truth)
    io.write_probabilities(tmp_path / "a_probabilities.tif", np.stack([1 - p, p], axis=1))
    stack(tmp_path / "truth.tif", truth * np.uint8(255))
    evaluation = evaluate(tmp_path / "a_probabilities.tif", tmp_path / "truth.tif")
    v_rand, v_info = metrics.v_scores(p, truth)
    assert evaluation.scores == {
        "pixel_error": metrics.pixel_error(p, truth).score,
        "v_rand": v_rand.score,
        "v_info": v_info.score,
        "ece": metrics.calibration_error(np.stack([1 - p, p]), truth.astype(int)).error,
    }
    assert [row["v_rand"] for row in evaluation.scored.rows] == [s.score for s in v_rand.by_slice]
    assert 0.5 < evaluation.scores["v_rand"] <= 1


def test_probabilities_of_cell_alone_score_the_same(tmp_path):
    truth = cells(planes=3)
    p = noisy(truth)
    both = tmp_path / "both_probabilities.tif"
    io.write_probabilities(both, np.stack([1 - p, p], axis=1))
    alone, true = stack(tmp_path / "plain.tif", p), stack(tmp_path / "t.tif", truth.astype(np.uint8))
    assert evaluate(alone, true).scores == evaluate(both, true).scores


def test_probabilities_of_one_image(tmp_path):
    truth = cells()
    p = noisy(truth)
    io.write_probabilities(tmp_path / "a_probabilities.tif", np.concatenate([1 - p, p]))
    stack(tmp_path / "plain.tif", np.concatenate([1 - p, p]))  # planes without a name, against one image
    png(tmp_path / "a.png", truth[0] * np.uint8(255))
    scores = evaluate(tmp_path / "a_probabilities.tif", tmp_path / "a.png").scores
    assert scores["v_rand"] == metrics.v_rand(p, truth).score
    assert evaluate(tmp_path / "plain.tif", tmp_path / "a.png").scores == scores


def grey(size: int = 32) -> np.ndarray:
    """Probabilities as other programs export them: 0 to 255."""
    return np.round(255 * noisy(cells(size=size))[0]).astype(np.uint8)


def test_probabilities_of_8_bits_are_parts_of_255(tmp_path):
    png(tmp_path / "a_probabilities.png", grey())
    stack(tmp_path / "b_probabilities.tif", grey().astype(np.float32) / 255)
    truth = png(tmp_path / "t.png", cells()[0] * np.uint8(255))
    found = evaluate(tmp_path / "a_probabilities.png", truth)
    floats = evaluate(tmp_path / "b_probabilities.tif", truth)
    assert found.scores == floats.scores
    assert "v_rand" in found.scores
    assert "probabilities of 8 bits are value / 255" in shown(found)
    assert "8 bits" not in shown(floats)


def test_channels_of_8_bits_are_classes_if_they_add_up(tmp_path):
    truth = np.random.default_rng(0).integers(0, 3, (20, 20)).astype(np.uint8)
    png(tmp_path / "a_probabilities.png", 255 * np.eye(3, dtype=np.uint8)[truth])
    png(tmp_path / "a.png", truth)
    assert evaluate(tmp_path / "a_probabilities.png", tmp_path / "a.png").scores["accuracy"] == 1


def test_probabilities_of_8_bits_are_read_alike_in_all_files(tmp_path):
    """An image in which next to nothing is found has values of 0 and 1, too, and they are parts of 255."""
    png(tmp_path / "out" / "a_probabilities.png", grey())
    png(tmp_path / "out" / "b_probabilities.png", (grey() > 200).astype(np.uint8))
    for name in "ab":
        png(tmp_path / "truth" / f"{name}.png", cells()[0] * np.uint8(255))
    evaluation = evaluate(tmp_path / "out", tmp_path / "truth")
    assert not evaluation.classes(1)[0].any()
    np.testing.assert_array_equal(evaluation.classes(0)[0], grey() > 127)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            grey()[..., np.newaxis].repeat(3, 2),
            "3 channels of 8 bits that do not add up to 255, .*save one grey",
        ),
        (
            (grey() > 127).astype(np.uint8),
            "holds 0 and 1, but in 8 bits 255 stands for probability 1; end its",
        ),
        (
            grey().astype(np.uint16) * 257,
            "probabilities are 0 to 1: save them as floats, or as 0 to 255 in 8 bits",
        ),
    ],
    ids=["colours", "a mask", "16 bits"],
)
def test_whole_numbers_that_are_no_probabilities(tmp_path, array, message):
    path = png(tmp_path / "a_probabilities.png", array)
    truth = png(tmp_path / "t.png", cells()[0] * np.uint8(255))
    with pytest.raises(DataError, match=rf"a_probabilities\.png .*{message}"):
        evaluate(path, truth)


@pytest.mark.parametrize("largest", [255, 254])
@pytest.mark.parametrize("white", [1, 255])
def test_grey_values_whose_name_says_nothing_are_refused(tmp_path, largest, white):
    """With 255 among them they were scored as classes, else called class indices or objects."""
    png(tmp_path / "p.png", np.minimum(np.arange(32 * 32).reshape(32, 32) // 4, largest).astype(np.uint8))
    png(tmp_path / "t.png", cells()[0] * np.uint8(white))
    message = rf"truth has the 2 values 0, {white}, the prediction {largest + 1}: .* end its name in _probab"
    with pytest.raises(DataError, match=message):
        evaluate(tmp_path / "p.png", tmp_path / "t.png")


def test_class_masks_follow_from_probabilities_at_one_half(tmp_path):
    p = np.array([[0.5, 0.51, 0.7], [0.49, 0.3, 0.9]], np.float32)
    stack(tmp_path / "p.tif", p)
    png(tmp_path / "t.png", (p > 0.5).astype(np.uint8))
    assert evaluate(tmp_path / "p.tif", tmp_path / "t.png", metrics=["accuracy"]).scores == {"accuracy": 1}


def test_class_masks_get_dice_iou_and_accuracy_of_class_1(tmp_path):
    truth, pred = cells()[0], cells(seed=5)[0]
    predicted(tmp_path / "a_classes.png", pred)
    png(tmp_path / "a.png", truth * np.uint8(255))
    scores = evaluate(tmp_path / "a_classes.png", tmp_path / "a.png").scores
    matrix = metrics.confusion(pred.astype(int), truth.astype(int), 2)
    assert scores == {
        "dice": metrics.dice(matrix)[1],
        "iou": metrics.iou(matrix)[1],
        "accuracy": metrics.accuracy(matrix),
    }


def test_more_than_two_classes_are_averaged(tmp_path):
    truth = np.random.default_rng(0).integers(0, 4, (20, 20)).astype(np.uint8)
    pred = np.where(np.random.default_rng(1).random(truth.shape) < 0.3, 0, truth)
    predicted(tmp_path / "a_classes.png", pred)
    png(tmp_path / "a.png", truth)
    evaluation = evaluate(tmp_path / "a_classes.png", tmp_path / "a.png")
    matrix = metrics.confusion(pred, truth, 4)
    assert evaluation.scores["iou"] == metrics.iou(matrix).mean()
    assert evaluation.scored.counts["iou"]["confusion"] == matrix.tolist()
    assert "mean over the 4 classes" in shown(evaluation)
    by_class = ", ".join(f"{value:.4f}" for value in metrics.iou(matrix))
    assert f"iou of the classes 0 to 3: {by_class}" in " ".join(shown(evaluation).split())


def test_probabilities_of_more_classes_are_scored_by_the_most_probable(tmp_path):
    truth = np.random.default_rng(0).integers(0, 3, (12, 12)).astype(np.uint8)
    p = np.random.default_rng(1).dirichlet(np.ones(3), truth.shape).transpose(2, 0, 1).astype(np.float32)
    io.write_probabilities(tmp_path / "a_probabilities.tif", p)
    png(tmp_path / "a.png", truth)
    evaluation = evaluate(tmp_path / "a_probabilities.tif", tmp_path / "a.png")
    matrix = metrics.confusion(p.argmax(0), truth, 3)
    assert evaluation.scores["accuracy"] == metrics.accuracy(matrix)
    assert set(evaluation.scores) == {"dice", "iou", "accuracy", "ece"}


def test_object_ids_get_average_precision(tmp_path):
    true = metrics.label_components(cells()[0])
    pred = np.where(true == 3, 0, true)
    io.write_instances(tmp_path / "a_instances.tif", pred)
    io.write_instances(tmp_path / "a.tif", true)
    evaluation = evaluate(tmp_path / "a_instances.tif", tmp_path / "a.tif")
    n = true.max()
    assert evaluation.scores == {
        "ap_0.50": (n - 1) / n,
        "ap_0.70": (n - 1) / n,
        "f1_0.50": 2 * (n - 1) / (2 * n - 1),
        "pq": (n - 1) / (n - 0.5),
    }


def test_class_masks_against_object_ids(tmp_path):
    true = metrics.label_components(cells()[0]).astype(np.uint16)
    predicted(tmp_path / "a_classes.png", true > 0)
    stack(tmp_path / "a.tif", true)
    evaluation = evaluate(tmp_path / "a_classes.png", tmp_path / "a.tif")
    assert evaluation.scores["dice"] == 1
    assert "truth holds object ids: all are class 1" in shown(evaluation)


def test_metrics_can_be_chosen(tmp_path):
    truth = cells()
    p = noisy(truth)
    stack(tmp_path / "p.tif", p)
    predicted(tmp_path / "p_classes.tif", p > 0.5)
    stack(tmp_path / "t.tif", truth.astype(np.uint8))
    both = evaluate(tmp_path / "p.tif", tmp_path / "t.tif", metrics=["v_rand", "dice"]).scores
    assert list(both) == ["dice", "v_rand"]
    words = shown(evaluate(tmp_path / "p.tif", tmp_path / "t.tif", metrics=["v_rand", "dice"]))
    assert "v_rand, v_info: after border thinning" in words
    assert "Dice and IoU: of class 1" in words
    assert "pixel_error" not in words
    binary = evaluate(tmp_path / "p_classes.tif", tmp_path / "t.tif", metrics=["v_rand", "dice"]).scores
    assert binary["dice"] == both["dice"]
    assert binary["v_rand"] == metrics.v_rand((p > 0.5).astype(np.float32), truth).score


def test_ignored_pixels_do_not_count(tmp_path):
    truth, pred = cells()[0].astype(np.uint8), cells()[0]
    truth[:10] = 7
    pred[:10] = ~pred[:10]
    predicted(tmp_path / "a_classes.png", pred)
    png(tmp_path / "a.png", truth)
    evaluation = evaluate(tmp_path / "a_classes.png", tmp_path / "a.png", ignore=7)
    assert evaluation.scores == {"dice": 1, "iou": 1, "accuracy": 1}
    assert evaluation.scored.counts["accuracy"]["pixels"] == truth[10:].size
    with pytest.raises(
        DataError, match=r"truth has the 3 values 0, 1, 7, the prediction only 0, 1; say .*--ignore LABEL"
    ):
        evaluate(tmp_path / "a_classes.png", tmp_path / "a.png")


def test_a_label_to_ignore_may_be_a_string_or_a_colour(tmp_path):
    truth, pred = cells()[0].astype(np.uint8), cells()[0]
    truth[:10] = 7
    pred[:10] = ~pred[:10]
    predicted(tmp_path / "a_classes.png", pred)
    png(tmp_path / "a.png", truth)
    colors = np.array([[0, 0, 0], [0, 200, 0], *[[9, 9, 9]] * 5, [90, 60, 7]], np.uint8)
    png(tmp_path / "rgb.png", colors[truth])
    png(tmp_path / "grey.png", np.array([0, 1, 0, 0, 0, 0, 0, 7], np.uint8)[truth, np.newaxis].repeat(3, 2))
    for name, ignore in (("a", "7"), ("rgb", "90,60,7"), ("grey", 7)):  # as in training, 7 is (7,7,7), too
        scored = evaluate(tmp_path / "a_classes.png", tmp_path / f"{name}.png", ignore=ignore)
        assert scored.scores == {"dice": 1, "iou": 1, "accuracy": 1}
        assert scored.scored.counts["accuracy"]["pixels"] == truth[10:].size
    with pytest.raises(ConfigError, match="--ignore edge is no label; give a number such as 255, or a col"):
        evaluate(tmp_path / "a_classes.png", tmp_path / "a.png", ignore="edge")


def test_ignored_pixels_do_not_count_for_objects_and_membranes(tmp_path):
    truth = cells()
    ids = metrics.label_components(truth[0])
    io.write_instances(tmp_path / "a_instances.tif", ids)
    io.write_instances(tmp_path / "a.tif", ids)
    counts = evaluate(tmp_path / "a_instances.tif", tmp_path / "a.tif", ignore="3").scored.counts["ap_0.50"]
    assert (counts["tp"], counts["fp"], counts["fn"]) == (ids.max() - 1, 0, 0)
    p = noisy(truth)
    labels = truth[0].astype(np.uint8)
    labels[:9] = 7
    stack(tmp_path / "p.tif", p[0])
    png(tmp_path / "t.png", labels)
    found = evaluate(tmp_path / "p.tif", tmp_path / "t.png", ignore="7").scores
    assert found["v_rand"] == metrics.v_rand(p, truth, ignored=labels[np.newaxis] == 7).score


def test_classes_are_said_in_the_words_of_training(tmp_path):
    ids = metrics.label_components(cells()[0]).astype(np.uint8)
    predicted(tmp_path / "a_classes.png", ids > 0)
    png(tmp_path / "a.png", ids)
    with pytest.raises(DataError, match="say --classes objects if each value is one object, --ignore LABEL"):
        evaluate(tmp_path / "a_classes.png", tmp_path / "a.png")
    evaluation = evaluate(tmp_path / "a_classes.png", tmp_path / "a.png", classes="objects")
    assert evaluation.scores == {"dice": 1, "iou": 1, "accuracy": 1}
    assert "truth holds object ids: all are class 1" in shown(evaluation)
    declared = evaluate(tmp_path / "a_classes.png", tmp_path / "a.png", classes="20")
    assert declared.scores == evaluate(tmp_path / "a_classes.png", tmp_path / "a.png", classes=20).scores
    with pytest.raises(ConfigError, match="--classes two is not valid; give a number from 2 to 254, or obj"):
        evaluate(tmp_path / "a_classes.png", tmp_path / "a.png", classes="two")


def test_predictions_whose_names_say_nothing_may_hold_objects(tmp_path):
    true = metrics.label_components(cells()[0]).astype(np.uint8)
    png(tmp_path / "pred.png", np.where(true == 3, 0, true))
    png(tmp_path / "a.png", true)
    scores = evaluate(tmp_path / "pred.png", tmp_path / "a.png", classes="objects").scores
    assert scores["ap_0.50"] == (true.max() - 1) / true.max()


def test_names_of_metrics_may_have_spaces_around_them(tmp_path):
    predicted(tmp_path / "a_classes.png", np.eye(4))
    png(tmp_path / "a.png", np.eye(4) > 0)
    scores = evaluate(tmp_path / "a_classes.png", tmp_path / "a.png", metrics=["dice", " iou "]).scores
    assert list(scores) == ["dice", "iou"]


@pytest.mark.parametrize("white", [1, 255])
def test_ids_against_a_mask_are_objects_if_name_or_metrics_say_so(tmp_path, white):
    """More of them than there are class indices, the two values of the mask among them."""
    ids = np.kron(np.arange(400).reshape(20, 20), [[1, 1, 0], [1, 1, 0], [0, 0, 0]]).astype(np.uint16)
    stack(tmp_path / "p.tif", ids)
    stack(tmp_path / "p_classes.tif", ids)
    stack(tmp_path / "p_instances.tif", ids)
    truth = png(tmp_path / "t.png", (ids > 0) * np.uint8(white))
    with pytest.raises(
        DataError, match=rf"0, {white}, the prediction 400: .*_instances or .* --metrics ap_0.50"
    ):
        evaluate(tmp_path / "p.tif", truth)
    with pytest.raises(DataError, match=r"prediction has the 400 values .*, too many for classes"):
        evaluate(tmp_path / "p_classes.tif", truth)
    for name in ("p.tif", "p_instances.tif"):
        counts = evaluate(tmp_path / name, truth, metrics=["ap_0.50"]).scored.counts["ap_0.50"]
        assert (counts["tp"], counts["fp"], counts["fn"]) == (399, 0, 0)


# Pairs


def objects_predicted(folder: Path, ids: np.ndarray, name: str = "a") -> None:
    """What `predict --instances --overlay` writes."""
    predicted(folder / f"{name}_classes.png", ids > 0)
    io.write_instances(folder / f"{name}_instances.tif", ids)
    png(folder / f"{name}_overlay.png", np.zeros((*ids.shape, 3), np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_objects_are_scored_where_the_truth_holds_objects(tmp_path, dtype):
    """The four commands of the README, with masks of object numbers of 8 and of 16 bits."""
    for index, name in enumerate("abc"):
        true = metrics.label_components(cells(seed=index)[0, : 8 * (index + 2)])
        objects_predicted(tmp_path / "out", np.where(true == 3, 0, true), name)
        png(tmp_path / "truth" / f"{name}.png", true.astype(dtype))
    evaluation = evaluate(tmp_path / "out", tmp_path / "truth")
    counts = evaluation.scored.counts["ap_0.50"]
    assert (counts["fp"], counts["fn"]) == (0, 3)
    assert set(evaluation.scores) == {"ap_0.50", "ap_0.50_per_image", "ap_0.70", "f1_0.50", "pq"}
    files = [place.pair.prediction.name for place in evaluation.places]
    assert files == [f"{name}_instances.tif" for name in "abc"]
    assert list(evaluate(tmp_path / "out", tmp_path / "truth", metrics=["dice"]).scores) == ["dice"]
    assert "dice" in evaluate(tmp_path / "out", tmp_path / "truth", classes=99).scores


def test_one_mask_that_may_be_classes_is_asked_about(tmp_path):
    true = metrics.label_components(cells()[0]).astype(np.uint8)
    objects_predicted(tmp_path / "out", true)
    png(tmp_path / "truth" / "a.png", true)
    with pytest.raises(DataError, match="the prediction only 0, 1; say --classes objects if each value is"):
        evaluate(tmp_path / "out", tmp_path / "truth")
    assert evaluate(tmp_path / "out", tmp_path / "truth", classes="objects").scores["ap_0.50"] == 1


def test_class_masks_are_scored_where_not_every_image_has_objects(tmp_path):
    for name in "ab":
        true = metrics.label_components(cells(seed=ord(name))[0]).astype(np.uint16)
        objects_predicted(tmp_path / "out", true, name)
        png(tmp_path / "truth" / f"{name}.png", true)
    (tmp_path / "out" / "b_instances.tif").unlink()
    evaluation = evaluate(tmp_path / "out", tmp_path / "truth")
    assert evaluation.scores["dice"] == 1
    assert len(evaluation.places) == 2


def test_folders_pair_by_stem_and_what_is_alone_is_named(tmp_path):
    truth = cells(planes=4)
    for index, name in enumerate(["cell_1", "cell_2", "cell_3"]):
        predicted(tmp_path / "out" / f"{name}_classes.png", truth[index])
        png(tmp_path / "out" / f"{name}_overlay.png", np.zeros((32, 32, 3), np.uint8))
        (tmp_path / "out" / f"{name}.json").write_text("{}")
    for index, name in enumerate(["cell_1", "cell_2", "cell_4"]):
        png(tmp_path / "truth" / f"{name}.png", truth[index] * np.uint8(255))
    evaluation = evaluate(tmp_path / "out", tmp_path / "truth")
    assert [place.name for place in evaluation.places] == ["cell_1", "cell_2"]
    assert evaluation.scores["dice"] == 1
    text = shown(evaluation)
    assert (
        "matched (by equal stems): cell_1_classes.png with cell_1.png, cell_2_classes.png with cell_2.png"
        in text
    )
    assert "no truth for, so not scored: cell_3_classes.png" in text
    assert "no prediction for, so not scored: cell_4.png" in text
    assert evaluation.as_dict()["without_prediction"] == (tmp_path / "truth" / "cell_4.png",)


def test_overlays_are_not_predictions(tmp_path):
    png(tmp_path / "out" / "a.png", np.eye(4) > 0)
    png(tmp_path / "out" / "a_overlay.png", np.zeros((4, 4, 3), np.uint8))
    png(tmp_path / "truth" / "a.png", np.eye(4) > 0)
    assert evaluate(tmp_path / "out", tmp_path / "truth").pairs.lone_predictions == ()


def test_of_several_kinds_the_probabilities_are_taken_unless_objects_are_asked_for(tmp_path):
    truth = cells()
    p, ids = noisy(truth), metrics.label_components(truth[0])
    (tmp_path / "out").mkdir()
    predicted(tmp_path / "out" / "a_classes.tif", p[0] > 0.5)
    io.write_probabilities(tmp_path / "out" / "a_probabilities.tif", np.concatenate([1 - p, p]))
    io.write_instances(tmp_path / "out" / "a_instances.tif", ids)
    png(tmp_path / "truth" / "a.png", truth[0])
    assert "v_rand" in evaluate(tmp_path / "out", tmp_path / "truth").scores
    (tmp_path / "truth" / "a.png").unlink()
    io.write_instances(tmp_path / "truth" / "a.tif", ids)
    objects = evaluate(tmp_path / "out", tmp_path / "truth", metrics=["ap_0.50"])
    assert objects.scores == {"ap_0.50": 1}
    assert objects.places[0].pair.prediction.name == "a_instances.tif"


def test_images_of_different_sizes_are_scored_together(tmp_path):
    matrices = []
    for name, size in (("a", 20), ("b", 40)):
        truth, pred = cells(size=size)[0], cells(size=size, seed=3)[0]
        predicted(tmp_path / "out" / f"{name}_classes.png", pred)
        png(tmp_path / "truth" / f"{name}.png", truth.astype(np.uint8))
        matrices.append(metrics.confusion(pred.astype(int), truth.astype(int), 2))
    evaluation = evaluate(tmp_path / "out", tmp_path / "truth")
    assert evaluation.scores["dice"] == metrics.dice(sum(matrices))[1]
    each = [metrics.dice(matrix)[1] for matrix in matrices]
    assert [row["dice"] for row in evaluation.scored.rows] == each
    assert evaluation.scores["dice_per_image"] == pytest.approx(np.mean(each))


def test_colours_of_the_truth_are_classes_in_ascending_order(tmp_path):
    truth = np.zeros((6, 6, 3), np.uint8)
    truth[:, 2:4] = (0, 200, 0)
    truth[:, 4:] = (90, 0, 0)
    png(tmp_path / "a.png", truth)
    predicted(tmp_path / "a_classes.png", np.repeat([[0, 0, 1, 1, 2, 2]], 6, axis=0))
    assert evaluate(tmp_path / "a_classes.png", tmp_path / "a.png").scores["accuracy"] == 1


# What is written


def test_json_and_csv(tmp_path):
    truth = cells(planes=2)
    p = noisy(truth)
    stack(tmp_path / "p.tif", p)
    stack(tmp_path / "t.tif", truth.astype(np.uint8))
    evaluation = evaluate(
        tmp_path / "p.tif", tmp_path / "t.tif", metrics=["dice", "pixel_error", "v_rand", "v_info"]
    )
    evaluation.to_json(tmp_path / "scores.json")
    content = json.loads((tmp_path / "scores.json").read_text())
    for name, value in evaluation.scores.items():
        assert content[name] == value
        assert content["counts"][name]
    assert [image["name"] for image in content["images"]] == ["p[0]", "p[1]"]
    first = content["images"][0]
    assert first["v_rand"] == evaluation.scored.rows[0]["v_rand"]
    assert first["counts"]["v_rand"]["pixels"] == np.count_nonzero(truth[0])
    assert first["counts"]["pixel_error"]["tp"] + first["counts"]["pixel_error"]["fn"] == np.count_nonzero(
        truth[0]
    )
    assert content["counts"]["v_rand"]["pixels"] == np.count_nonzero(truth)
    assert content["counts"]["v_rand"]["threshold"] in metrics.THRESHOLDS
    evaluation.to_csv(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["p[0]", "p[1]"]
    assert float(rows[1]["dice"]) == evaluation.scored.rows[1]["dice"]


def test_the_screen_says_what_was_done(tmp_path):
    truth = cells()
    stack(tmp_path / "p.tif", noisy(truth)[0])
    stack(tmp_path / "t.tif", truth[0] * np.uint8(255))
    text = shown(evaluate(tmp_path / "p.tif", tmp_path / "t.tif"))
    assert "matched (two files): p.tif with t.tif" in text
    assert "class 1 is 255 in the truth and 1 in the prediction" in text
    assert "pixels of 1 image, threshold 0." in text


# What is refused, in one line


def test_wrong_paths(tmp_path):
    png(tmp_path / "some" / "a.png", np.zeros((4, 4), np.uint8))
    png(tmp_path / "other" / "b.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "empty").mkdir()
    cases = [
        ("none.tif", "some", ImageFormatError, r"no such file or folder: .*none\.tif"),
        (
            "some/a.png",
            "other",
            DataError,
            r"a\.png is a file but .*other a folder; give two files or two folders",
        ),
        ("some", "empty", DataError, "no image in .*empty"),
        (
            "some",
            "other",
            DataError,
            r"no file of .*some pairs with one of .*other by name .*: a\.png, b\.png",
        ),
    ]
    for prediction, truth, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            evaluate(tmp_path / prediction, tmp_path / truth)
        assert isinstance(caught.value, UShapeError)
        assert "\n" not in str(caught.value)


def test_sizes_that_differ(tmp_path):
    small, large = (
        predicted(tmp_path / "s_classes.png", np.zeros((4, 5))),
        png(tmp_path / "l.png", np.eye(6) > 0),
    )
    with pytest.raises(
        ShapeError, match=r"s_classes\.png has 4 x 5 px, .*l\.png has 6 x 6 px; they must be equal"
    ):
        evaluate(small, large)
    three, two = (
        stack(tmp_path / "3.tif", noisy(cells(3))),
        stack(tmp_path / "2.tif", cells(2).astype(np.uint8)),
    )
    with pytest.raises(ShapeError, match=r"3\.tif has 3 planes of 32 x 32 px, .*2\.tif has 2 planes of"):
        evaluate(three, two)


def test_metrics_that_do_not_fit(tmp_path):
    predicted(tmp_path / "a_classes.png", np.arange(9).reshape(3, 3) % 3)
    png(tmp_path / "a.png", (np.arange(9).reshape(3, 3) % 3).astype(np.uint8))
    files = tmp_path / "a_classes.png", tmp_path / "a.png"
    with pytest.raises(
        ConfigError, match="metric 'v_rand' does not fit classes of 3 classes; choose from dice, iou"
    ):
        evaluate(*files, metrics=["v_rand"])
    with pytest.raises(
        ConfigError, match="metric 'dyce' is not known; choose from dice, iou, accuracy, boundary"
    ):
        evaluate(*files, metrics=["dyce"])


def test_other_wrong_values(tmp_path):
    wrong = stack(tmp_path / "a_probabilities.tif", np.full((4, 4), 1.5, np.float32))
    truth = png(tmp_path / "a.png", np.eye(4) > 0)
    with pytest.raises(
        DataError, match=r"a_probabilities\.tif holds values 1\.5 to 1\.5; probabilities are 0 to 1"
    ):
        evaluate(wrong, truth)
    with pytest.raises(DataError, match="no pixel of the truth counts; choose another --ignore"):
        evaluate(
            predicted(tmp_path / "b_classes.png", np.zeros((4, 4))),
            png(tmp_path / "b.png", np.zeros((4, 4), np.uint8)),
            ignore=0,
        )
    (tmp_path / "out").mkdir()
    stack(tmp_path / "out" / "a.tif", np.full((4, 4), 0.5, np.float32))
    png(tmp_path / "out" / "b.png", np.eye(4) > 0)
    for name in "ab":
        png(tmp_path / "truth" / f"{name}.png", np.eye(4) > 0)
    with pytest.raises(
        DataError, match=r"a\.tif holds probabilities but .*b\.png holds classes; give predictions of"
    ):
        evaluate(tmp_path / "out", tmp_path / "truth")


# Truths of object ids


def quadrants(side: int = 40) -> np.ndarray:
    """Four objects that touch, and no background."""
    half = np.arange(side) >= side // 2
    return (1 + half[:, np.newaxis] + 2 * half).astype(np.uint16)


def test_true_objects_that_touch_are_cut_apart_for_the_scores_of_membranes(tmp_path):
    truth = quadrants()
    stack(tmp_path / "t.tif", truth)
    apart = cut_gap(truth) > 0
    for name, cells_found in (("merged", np.ones_like(apart)), ("apart", apart)):
        stack(tmp_path / f"{name}_probabilities.tif", np.where(cells_found, 0.9, 0.1).astype(np.float32))
    merged, found = (
        evaluate(
            tmp_path / f"{name}_probabilities.tif", tmp_path / "t.tif", metrics=["v_rand", "pixel_error"]
        )
        for name in ("merged", "apart")
    )
    assert found.scores == {"pixel_error": 0, "v_rand": 1}
    # One object of all: every pair is together, a quarter of them truly; 2 * 0.25 / (1 + 0.25).
    assert merged.scores["v_rand"] == pytest.approx(0.4)
    assert "true objects that touch are cut apart first" in shown(found)


def test_wide_numbers_in_many_pieces_are_no_objects(tmp_path):
    """Three classes, the last of which was never predicted."""
    classes = np.kron(np.random.default_rng(0).integers(0, 3, (12, 12)), np.ones((4, 4), int))
    predicted(tmp_path / "a_classes.png", classes == 1)
    for dtype in (np.uint16, np.int32, np.float32):
        stack(tmp_path / "a.tif", classes.astype(dtype))
        with pytest.raises(DataError, match="truth has the 3 values 0, 1, 2, the prediction only 0, 1; say"):
            evaluate(tmp_path / "a_classes.png", tmp_path / "a.tif")
    io.write_instances(tmp_path / "a_instances.tif", metrics.label_components(classes == 1))
    with pytest.raises(
        DataError, match=r"a.tif: most values lie in many pieces, as classes do, .* objects if"
    ):
        evaluate(tmp_path / "a_instances.tif", tmp_path / "a.tif", metrics=["ap_0.50"])
    scores = evaluate(
        tmp_path / "a_instances.tif", tmp_path / "a.tif", metrics=["ap_0.50"], classes="objects"
    )
    assert 0 <= scores.scores["ap_0.50"] < 1


def test_negative_ids_are_refused_with_file_and_fix(tmp_path):
    truth = quadrants().astype(np.int32)
    io.write_instances(tmp_path / "a_instances.tif", truth)
    truth[:5] = -1
    stack(tmp_path / "a.tif", truth)
    with pytest.raises(
        DataError, match=r"a.tif: object ids must not be negative, found -1; give --ignore=-1"
    ):
        evaluate(tmp_path / "a_instances.tif", tmp_path / "a.tif", metrics=["ap_0.50"])
