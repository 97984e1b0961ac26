"""Every score of `evaluate` by name: what it is made of, its averages, and what is kept for a report."""

import json

import numpy as np
import pytest

from files_to_score import cells, noisy, png, predicted, rows_of, shown, squares, stack
from ushape import io, metrics
from ushape.config import IGNORE
from ushape.errors import ConfigError, DataError
from ushape.evaluate import evaluate
from ushape.evaluate.names import fitting

# Objects


@pytest.fixture
def counted(tmp_path):
    """Two images: 4 of 4 squares found, shifted by a column, and one invented; 1 of 2 found."""
    corners = [(2, 2), (2, 12), (12, 2), (12, 12)]
    stack(tmp_path / "truth" / "a.tif", squares(*corners))
    stack(tmp_path / "out" / "a_instances.tif", squares(*[(y, x + 1) for y, x in corners], (22, 30)))
    stack(tmp_path / "truth" / "b.tif", squares((2, 2), (12, 2)))
    stack(tmp_path / "out" / "b_instances.tif", squares((2, 2)))
    return tmp_path / "out", tmp_path / "truth"


def test_objects_of_the_set_and_of_each_image(counted):
    # Shifted by one of six columns: IoU 5/7 = 0.714.
    names = ["ap_0.50", "ap_0.50_per_image", "ap_0.75", "ap_0.75_per_image", "precision_0.50", "recall_0.50"]
    evaluation = evaluate(*counted, metrics=[*names, "f1_0.50", "f1_0.50_per_image"])
    assert evaluation.scores == pytest.approx(
        {
            "ap_0.50": 5 / 7,
            "ap_0.50_per_image": (4 / 5 + 1 / 2) / 2,
            "ap_0.75": 1 / 11,
            "ap_0.75_per_image": (0 + 1 / 2) / 2,
            "f1_0.50": 10 / 12,
            "f1_0.50_per_image": (8 / 9 + 2 / 3) / 2,
            "precision_0.50": 5 / 6,
            "recall_0.50": 5 / 6,
        }
    )
    iou_sum = pytest.approx(4 * 5 / 7 + 1)
    assert evaluation.scored.counts["ap_0.50"] == {"tp": 5, "fp": 1, "fn": 1, "iou_sum": iou_sum}
    assert evaluation.scored.counts["ap_0.50_per_image"] == {"images": 2}
    assert [row["ap_0.50"] for row in evaluation.scored.rows] == [4 / 5, 1 / 2]
    assert "ap_0.50_per_image" not in evaluation.scored.rows[0]


def test_other_scores_of_objects(counted):
    names = ["ap_mean", "pq", "pq_per_image", "aji", "mean_matched_score_0.50", "seg", "det", "op_csb"]
    evaluation = evaluate(*counted, metrics=names)
    # IoU 0.714 reaches 0.50 to 0.70: five of the ten thresholds.
    iou, of_a, of_b = 5 / 7, 5 / 10 * 4 / 5, 1 / 2
    seg = (4 * iou + 1) / 6
    assert evaluation.scores == pytest.approx(
        {
            "mean_matched_score_0.50": (4 * iou + 1) / 5,
            "ap_mean": (of_a + of_b) / 2,
            "pq": (4 * iou + 1) / (5 + 1 / 2 + 1 / 2),
            "pq_per_image": (4 * iou / 4.5 + 1 / 1.5) / 2,
            "aji": (4 * 30 + 36) / (4 * 42 + 36 + 36 + 36),
            "seg": seg,
            "det": 1 - (10 + 1) / 60,
            "op_csb": (seg + 1 - 11 / 60) / 2,
        }
    )
    assert evaluation.scored.rows[0]["ap_mean"] == pytest.approx(of_a)
    averages = evaluation.scored.averages
    assert averages["ap_mean"] == averages["pq_per_image"] == "mean over 2 images"
    assert averages["pq"] == "objects of 2 images together"


def test_an_image_without_objects_in_truth_and_prediction_is_perfect(tmp_path):
    for folder, ending in (("truth", ""), ("out", "_instances")):
        stack(tmp_path / folder / f"a{ending}.tif", np.zeros((8, 8), np.uint16))
        stack(tmp_path / folder / f"b{ending}.tif", squares((1, 1)))
    names = [name for name in fitting("instances", 2) if not name.startswith("mean_matched")]
    scored = evaluate(tmp_path / "out", tmp_path / "truth", metrics=names).scored
    errors = {name: value for row in scored.rows for name, value in row.items() if value != 1}
    assert errors == {"hd95": 0}
    assert {name: value for name, value in scored.scores.items() if value != 1} == {"hd95": 0}


def test_all_thresholds_come_from_one_table_of_overlaps(counted, monkeypatch):
    calls = []
    count = metrics.objects.count_overlaps
    monkeypatch.setattr(metrics.objects, "count_overlaps", lambda *ids: calls.append(ids) or count(*ids))
    evaluate(*counted, metrics=[f"{name}_0.{tau}" for name in ("ap", "f1") for tau in range(50, 100, 5)])
    assert len(calls) == 2  # images


def test_objects_of_class_masks_are_components(tmp_path):
    true = squares((2, 2), (12, 2))
    pred = squares((2, 2), (9, 2), (12, 2)) > 0  # the square at (9, 2) touches the one at (12, 2)
    predicted(tmp_path / "a_classes.png", pred)
    png(tmp_path / "ids.png", true)
    png(tmp_path / "mask.png", (true > 0) * np.uint8(255))
    for name, words in (("ids", "of the prediction: 4-"), ("mask", "of the prediction and the truth: 4-")):
        evaluation = evaluate(
            tmp_path / "a_classes.png", tmp_path / f"{name}.png", metrics=["ap_0.50", "recall_0.70"]
        )
        assert evaluation.scores == {"ap_0.50": 1, "recall_0.70": 1 / 2}  # 36 of 54 pixels: IoU 2/3
        assert words in shown(evaluation)
        pred_ids, true_ids = evaluation.objects(0)
        assert pred_ids.max() == true_ids.max() == 2
        np.testing.assert_array_equal(pred_ids > 0, pred)


def test_true_objects_that_touch_are_those_of_the_file(tmp_path):
    ids = squares((2, 2), (2, 8))
    stack(tmp_path / "a.tif", ids)
    stack(tmp_path / "a_instances.tif", ids)
    assert evaluate(tmp_path / "a_instances.tif", tmp_path / "a.tif").scored.counts["pq"]["tp"] == 2
    predicted(tmp_path / "a_classes.png", ids > 0)
    joined = evaluate(tmp_path / "a_classes.png", tmp_path / "a.tif", metrics=["op_csb"])
    # One predicted object covers both true ones: IoU 1/2 with each, and one split to be made.
    assert joined.scores == pytest.approx({"op_csb": (1 / 2 + 1 - 5 / 20) / 2})
    assert joined.objects(0)[1].max() == 2


def test_scores_of_objects_beside_those_of_membranes_are_taken_of_the_classes(tmp_path):
    ids = squares((2, 2), (12, 2))
    predicted(tmp_path / "out" / "a_classes.png", ids > 0)
    stack(tmp_path / "out" / "a_instances.tif", ids)
    png(tmp_path / "truth" / "a.png", ids > 0)
    both = evaluate(tmp_path / "out", tmp_path / "truth", metrics=["ap_0.50", "v_rand"])
    assert both.scores == {"v_rand": 1, "ap_0.50": 1}
    assert both.places[0].pair.prediction.name == "a_classes.png"


def test_object_ids_against_a_mask(tmp_path):
    """Of 0 and 255 the truth is a mask, in which each component is an object."""
    ids = squares((2, 2), (12, 2))
    stack(tmp_path / "a_instances.tif", ids)
    png(tmp_path / "a.png", (ids > 0) * np.uint8(255))
    assert evaluate(tmp_path / "a_instances.tif", tmp_path / "a.png").scores["ap_0.50"] == 1


def test_object_ids_have_a_class_too(counted):
    evaluation = evaluate(*counted, metrics=["dice", "dice_per_image", "accuracy"])
    overlap, area = np.array([4 * 30, 36]), np.array([9 * 36, 3 * 36])
    assert evaluation.scores["dice"] == pytest.approx(2 * overlap.sum() / area.sum())
    assert evaluation.scores["dice_per_image"] == pytest.approx((2 * overlap / area).mean())
    assert "as a class, all objects are class 1" in shown(evaluation)


# Classes


def test_classes_of_the_set_and_of_each_image(tmp_path):
    half, none = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    half[:, :4] = True
    for name, truth, pred in (("a", half, half), ("b", half, ~half), ("c", none, none)):
        predicted(tmp_path / "out" / f"{name}_classes.png", pred)
        png(tmp_path / "truth" / f"{name}.png", truth * np.uint8(255))
    evaluation = evaluate(tmp_path / "out", tmp_path / "truth")
    assert evaluation.scores == pytest.approx(
        {
            "dice": 1 / 2,
            "dice_per_image": 2 / 3,  # 1, 0, and 1 where nothing is and nothing was predicted
            "iou": 1 / 3,
            "iou_per_image": 2 / 3,
            "accuracy": 2 / 3,
            "accuracy_per_image": 2 / 3,
        }
    )
    text = shown(evaluation)
    assert ["dice", "0.5000", "pixels of 3 images together"] in rows_of(text)
    assert ["dice_per_image", "0.6667", "mean over 3 images"] in rows_of(text)
    assert "a class that is in neither truth nor prediction scores 1" in text


# Boundaries


@pytest.fixture
def shifted(tmp_path):
    """A square, and the same one 3 columns further right."""
    predicted(tmp_path / "a_classes.tif", squares((10, 13), size=12) > 0)
    stack(tmp_path / "a.tif", (squares((10, 10), size=12) > 0).astype(np.uint8))
    return tmp_path / "a_classes.tif", tmp_path / "a.tif"


def test_boundaries_within_a_tolerance(shifted):
    pred, true = squares((10, 13), size=12) > 0, squares((10, 10), size=12) > 0
    for tolerance in (2, "2", "2px", " 2 px"):
        evaluation = evaluate(*shifted, tolerance=tolerance, metrics=["boundary_f1", "nsd", "hd95"])
        assert evaluation.scores == {
            "boundary_f1": metrics.boundary_f1(pred, true, 2),
            "nsd": metrics.nsd(pred, true, 2),
            "hd95": metrics.hd95(pred, true),
        }
    assert evaluation.scores["boundary_f1"] < 1
    counts = evaluation.scored.counts["hd95"]
    assert (counts["tolerance"], counts["unit"], counts["images"]) == (2, "px", 1)
    assert "tolerance 2 px, hd95 in px" in shown(evaluation)
    assert evaluate(*shifted, tolerance=3, metrics=["boundary_f1"]).scores == {"boundary_f1": 1}


def test_a_tolerance_alone_asks_for_the_boundaries(shifted):
    names = ["dice", "iou", "accuracy", "boundary_f1", "nsd", "hd95"]
    assert list(evaluate(*shifted, tolerance=2).scores) == names


def test_boundaries_in_micrometres(shifted, tmp_path):
    options = {"metrics": ["boundary_f1", "hd95"]}
    with pytest.raises(DataError, match=r"needs a pixel size, but neither .*a_classes\.tif nor .*; give --"):
        evaluate(*shifted, tolerance="1um", **options)
    pred, true = squares((10, 13), size=12) > 0, squares((10, 10), size=12) > 0
    expected = {
        "boundary_f1": metrics.boundary_f1(pred, true, 1.4, (0.7, 0.5)),
        "hd95": metrics.hd95(pred, true, (0.7, 0.5)),
    }
    assert evaluate(*shifted, tolerance="1.4um", pixel_size="0.7,0.5", **options).scores == expected
    assert evaluate(*shifted, tolerance="1.4 um", pixel_size=(0.7, 0.5), **options).scores == expected
    io.write_classes(
        tmp_path / "b_classes.tif", pred.astype(np.uint8), colors=[(0, 0, 0)], pixel_size_um=(0.7, 0.5)
    )
    from_file = evaluate(tmp_path / "b_classes.tif", shifted[1], tolerance="1.4um", **options)
    assert from_file.scores == expected
    assert from_file.scored.counts["hd95"]["unit"] == "um"
    square = evaluate(*shifted, tolerance="1um", pixel_size=0.5, **options).scores
    assert square["hd95"] == metrics.hd95(pred, true) / 2


def test_boundaries_where_there_are_none(tmp_path):
    nothing, square = np.zeros((30, 40), bool), squares((10, 10), shape=(30, 40)) > 0
    for name, truth, pred in (("a", nothing, nothing), ("b", square, nothing), ("c", square, square)):
        predicted(tmp_path / "out" / f"{name}_classes.png", pred)
        png(tmp_path / "truth" / f"{name}.png", truth * np.uint8(255))
    names = ["boundary_f1", "nsd", "hd95"]
    evaluation = evaluate(tmp_path / "out", tmp_path / "truth", metrics=names)
    assert evaluation.scores == {"boundary_f1": 2 / 3, "nsd": 2 / 3, "hd95": pytest.approx(50 / 3)}  # 3-4-5
    assert evaluation.scored.counts["hd95"]["in_one_only"] == 1
    assert evaluation.scored.rows[1] == {"boundary_f1": 0, "nsd": 0, "hd95": 50}
    assert evaluation.worst_first() == [1, 0, 2]
    assert "in one only: boundary_f1 0, nsd 0, hd95 the diagonal of the image" in shown(evaluation)


def test_boundaries_of_more_classes_are_averaged(tmp_path):
    truth = np.repeat([[0, 0, 0, 1, 1, 1, 2, 2, 2]], 9, axis=0).astype(np.uint8)
    pred = truth.copy()
    pred[:, 5] = 2
    predicted(tmp_path / "a_classes.png", pred)
    png(tmp_path / "a.png", truth)
    evaluation = evaluate(tmp_path / "a_classes.png", tmp_path / "a.png", metrics=["nsd"], tolerance=0)
    each = [metrics.nsd(pred == index, truth == index, 0) for index in range(3)]
    assert each[0] == 1
    assert evaluation.scores["nsd"] == pytest.approx(np.mean(each))
    assert evaluation.scored.counts["nsd"]["per_class"] == each
    assert evaluation.objects(0) is None
    assert "mean over the 3 classes" in shown(evaluation)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": "wide"}, "--tolerance wide is no length; give pixels such as 2, or micrometres: 1um"),
        ({"tolerance": "-1"}, "--tolerance -1 is no length"),
        ({"tolerance": "1mm"}, "--tolerance 1mm is no length"),
        ({"tolerance": 2, "metrics": ["dice"]}, "--tolerance is for boundary_f1 and nsd, but --metrics"),
        ({"tolerance": 2, "pixel_size": 0.5}, "--pixel-size is used with a tolerance in micrometres"),
        ({"pixel_size": 0.5}, "--pixel-size is used with a tolerance in micrometres"),
        ({"tolerance": "1um", "pixel_size": "small"}, "--pixel-size small is not valid; give micrometres"),
        ({"tolerance": "1um", "pixel_size": "1,2,3"}, "--pixel-size 1,2,3 is not valid"),
        ({"tolerance": "1um", "pixel_size": 0}, "--pixel-size 0 is not valid"),
        ({"metrics": ["dice_per_images"]}, "'dice_per_images' is not known; choose from dice, iou"),
        ({"metrics": ["ap_0.51"]}, r"'ap_0\.51' is not known; .*ap_0\.50 \.\.\. 0\.95, .*with _per_image"),
        ({"metrics": ["ap_0.501"]}, r"'ap_0\.501' is not known; choose from dice, iou"),
        ({"metrics": ["ap"]}, r"'ap' is not known: the IoU is part of the name, as in ap_0\.50; choose"),
        ({"metrics": ["ap50"]}, r"'ap50' is not known: the IoU .* as in ap_0\.50; choose"),
        ({"metrics": ["f1_75_per_image"]}, r"the IoU is part of the name, as in f1_0\.75_per_image; choose"),
        ({"metrics": ["recall33"]}, r"the IoU is part of the name, as in recall_0\.50; choose"),
        ({"metrics": [""]}, "metric '' is not known"),
    ],
)
def test_options_that_cannot_be(shifted, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        evaluate(*shifted, **options)
    assert "\n" not in str(caught.value)


def test_an_iou_is_a_number_however_it_is_written(counted):
    names = ["ap_0.5", "ap_.500", " ap_0.50 ", "f1_0.7_per_image", "mean_matched_score_0.9"]
    scores = evaluate(*counted, metrics=names).scores
    assert list(scores) == ["ap_0.50", "f1_0.70_per_image", "mean_matched_score_0.90"]
    assert scores["ap_0.50"] == 5 / 7


def test_ids_against_a_mask_of_0_and_1_whose_components_are_objects(tmp_path):
    ids = squares((2, 2), (12, 12))
    stack(tmp_path / "a_instances.tif", ids)
    png(tmp_path / "mask.png", (ids > 0).astype(np.uint8))
    found = evaluate(tmp_path / "a_instances.tif", tmp_path / "mask.png")
    assert found.scores["ap_0.50"] == 1
    assert "truth is a mask" in found.scored.conventions[0]
    asked = evaluate(tmp_path / "a_instances.tif", tmp_path / "mask.png", classes="objects")
    assert asked.scored.counts["ap_0.50"]["fn"] + asked.scored.counts["ap_0.50"]["tp"] == 1


def test_two_truths_of_one_image_are_refused(tmp_path):
    stack(tmp_path / "out" / "a_instances.tif", squares((2, 2)))
    stack(tmp_path / "truth" / "a_instances.tif", squares((2, 2)))
    stack(tmp_path / "truth" / "a_classes.tif", (squares((2, 2)) > 0).astype(np.uint8))
    with pytest.raises(DataError, match=r"a_classes\.tif and .*a_instances\.tif are of the same image"):
        evaluate(tmp_path / "out", tmp_path / "truth")


# Membranes


def test_all_scores_of_membranes(tmp_path):
    truth = cells(planes=2, size=24)
    p = noisy(truth)
    p[:, :12] = 1 - p[:, :12]
    stack(tmp_path / "p.tif", p)
    stack(tmp_path / "t.tif", truth * np.uint8(255))
    names = ["pixel_error", "rand_error", "warping_error", "v_rand", "v_info"]
    evaluation = evaluate(tmp_path / "p.tif", tmp_path / "t.tif", metrics=names)
    rand, warping = metrics.rand_error(p, truth), metrics.warping_error(p, truth)
    assert evaluation.scores["rand_error"] == rand.score
    assert evaluation.scores["warping_error"] == warping.score
    assert list(evaluation.scores) == names
    tp, fp, fn = rand.by_slice[1]
    assert evaluation.scored.rows[1]["rand_error"] == 1 - 2 * tp / (2 * tp + fp + fn)
    found = warping.by_slice[1]
    assert evaluation.scored.rows[1]["warping_error"] == (found.splits + found.merges) / truth[1].size
    assert evaluation.scored.counts["warping_error"]["pixels"] == truth.size
    assert evaluation.scored.counts["rand_error"]["tp"] == rand.tp
    xs, ys = evaluation.scored.curves["v_rand"]
    of_slices = [row["v_rand"] for row in evaluation.scored.rows]
    assert of_slices[0] != of_slices[1]
    assert evaluation.worst_first() == sorted([0, 1], key=lambda plane: of_slices[plane])
    assert (xs, ys) == (metrics.THRESHOLDS, metrics.v_rand(p, truth).by_threshold)
    assert evaluation.scored.curves["warping_error"] == (metrics.WARPING_THRESHOLDS, warping.by_threshold)


def test_each_score_of_membranes_is_computed_only_if_asked_for(tmp_path, monkeypatch):
    truth = cells(size=24)
    stack(tmp_path / "p.tif", noisy(truth))
    stack(tmp_path / "t.tif", truth.astype(np.uint8))

    def refuse(*_, **__):
        raise AssertionError("not asked for")

    for name in ("warping_error", "v_scores", "rand_error"):
        monkeypatch.setattr(metrics, name, refuse)
    scores = evaluate(tmp_path / "p.tif", tmp_path / "t.tif", metrics=["pixel_error"]).scores
    assert set(scores) == {"pixel_error"}


def test_what_probabilities_are_worth(tmp_path):
    truth = np.random.default_rng(0).integers(0, 3, (2, 24, 30)).astype(np.uint8)
    p = np.random.default_rng(1).dirichlet([1, 1, 1], truth.shape).transpose(0, 3, 1, 2).astype(np.float32)
    io.write_probabilities(tmp_path / "a_probabilities.tif", p)
    labels = truth.copy()
    labels[1, :10] = 9
    stack(tmp_path / "a.tif", labels)
    paths = tmp_path / "a_probabilities.tif", tmp_path / "a.tif"
    assert list(evaluate(*paths, ignore=9).scores)[-1] == "ece"
    evaluation = evaluate(*paths, ignore=9, metrics=["ece", "nll", "brier"])
    parts = [
        metrics.calibration_error(p[0], truth[0]),
        metrics.calibration_error(p[1, :, 10:], truth[1, 10:]),
    ]
    both = metrics.total_calibration(parts)
    assert evaluation.scores == {"ece": both.error, "nll": both.nll, "brier": both.brier}
    assert [row["ece"] for row in evaluation.scored.rows] == [part.error for part in parts]
    assert evaluation.scored.counts["ece"]["bin_pixels"] == list(both.counts)
    assert evaluation.scored.curves == {"ece": both.curve}
    assert "|accuracy - confidence| over 15 bins" in shown(evaluation)


def test_a_class_that_was_never_predicted_had_no_probability(tmp_path):
    p = np.array([[[0.8, 0.6, 0.3]], [[0.2, 0.4, 0.7]], [[0, 0, 0]]], np.float32)
    io.write_probabilities(tmp_path / "a_probabilities.tif", p)
    stack(tmp_path / "a.tif", np.array([[0, 2, 3]], np.uint8))
    paths = tmp_path / "a_probabilities.tif", tmp_path / "a.tif"
    found = evaluate(*paths, metrics=["ece"], classes=4)
    assert found.scores["ece"] == pytest.approx((0.2 + 0.6 + 0.7) / 3)


def test_masks_are_not_calibrated(tmp_path):
    predicted(tmp_path / "a_classes.png", cells()[0])
    png(tmp_path / "a.png", cells()[0])
    with pytest.raises(ConfigError, match="metric 'ece' does not fit classes of 2 classes"):
        evaluate(tmp_path / "a_classes.png", tmp_path / "a.png", metrics=["ece"])


def test_a_mask_has_no_curve_over_thresholds(tmp_path):
    predicted(tmp_path / "a_classes.png", cells()[0])
    png(tmp_path / "a.png", cells()[0])
    assert evaluate(tmp_path / "a_classes.png", tmp_path / "a.png", metrics=["v_rand"]).scored.curves == {}


# What is kept for those who look at each image


def test_each_image_can_be_read_again(counted):
    evaluation = evaluate(*counted)
    assert [place.name for place in evaluation.places] == ["a", "b"]
    pred, true = evaluation.objects(1)
    np.testing.assert_array_equal(pred, squares((2, 2)))
    np.testing.assert_array_equal(true, squares((2, 2), (12, 2)))
    classes = evaluation.classes(1)
    np.testing.assert_array_equal(classes[0], pred > 0)
    assert evaluation.read(1).kind == "instances"
    assert evaluation.worst_first() == [1, 0]
    thresholds, values = evaluation.scored.curves["ap"]
    assert thresholds == metrics.IOU_THRESHOLDS
    assert values[0] == evaluation.scores["ap_0.50"] == 5 / 7
    assert values[-1] == 1 / 11


def test_planes_of_a_stack_can_be_read_again(tmp_path):
    truth = cells(planes=3).astype(np.uint8)
    truth[2, :5] = 7
    stack(tmp_path / "p.tif", noisy(truth > 0))
    stack(tmp_path / "t.tif", truth)
    evaluation = evaluate(tmp_path / "p.tif", tmp_path / "t.tif", ignore=7)
    pred, true = evaluation.classes(2)
    assert (pred[:5] == IGNORE).all()
    assert (true[:5] == IGNORE).all()
    np.testing.assert_array_equal(true[5:], truth[2, 5:])
    np.testing.assert_array_equal(pred[5:], noisy(truth > 0)[2, 5:] > 0.5)
    assert (evaluation.objects(2)[0][:5] == 0).all()


def test_the_image_behind_a_prediction_is_found(tmp_path, counted):
    out, truth = counted
    picture = np.arange(32 * 40, dtype=np.uint16).reshape(32, 40)
    assert evaluate(out, truth).image(0) is None
    stack(tmp_path / "somewhere" / "a.tif", picture)
    report = {"image": {"file": str(tmp_path / "somewhere" / "a.tif")}}
    (out / "a.json").write_text(json.dumps(report))
    np.testing.assert_array_equal(evaluate(out, truth).image(0), picture[np.newaxis])
    masks = truth.rename(truth.with_name("masks"))
    stack(tmp_path / "images" / "b.tif", picture + 1)
    np.testing.assert_array_equal(evaluate(out, masks).image(1), picture[np.newaxis] + 1)
    for broken in ("[]", '{"image": 3}', "no json", '{"image": {"file": "gone.tif"}}'):
        (out / "a.json").write_text(broken)
        assert evaluate(out, masks).image(0) is None
    stack(tmp_path / "images" / "b.tif", picture[1:])
    assert evaluate(out, masks).image(1) is None  # another size


def test_the_volume_beside_labels_is_found(tmp_path):
    truth = cells(planes=2)
    stack(tmp_path / "train-labels.tif", truth * np.uint8(255))
    stack(tmp_path / "p.tif", noisy(truth))
    stack(tmp_path / "train-volume.tif", noisy(truth) * 100)
    evaluation = evaluate(tmp_path / "p.tif", tmp_path / "train-labels.tif")
    np.testing.assert_array_equal(evaluation.image(1), noisy(truth)[1:] * 100)


# The table


def test_rows_of_images_on_request(counted):
    evaluation = evaluate(*counted)
    assert [row[0] for row in rows_of(shown(evaluation))] == list(evaluation.scores)
    rows = rows_of(shown(evaluation, per_image=True))
    assert [row[0] for row in rows] == ["a", "b", "all", "_per_image"]
    assert rows[0] == ["a", "0.8000", "0.8000", "0.8889", "0.6349"]
    assert rows[2] == ["all", "0.7143", "0.7143", "0.8333", "0.6429"]
    assert rows[3] == ["_per_image", "0.6500", "-", "-", "-"]


def test_counts_stand_beside_the_scores(counted):
    (row,) = rows_of(shown(evaluate(*counted, metrics=["ap_0.50"])))
    assert row == ["ap_0.50", "0.7143", "objects of 2 images together, tp 5, fp 1, fn 1"]


def test_small_errors_are_shown_with_more_digits(tmp_path):
    truth = np.ones((60, 60), bool)
    truth[30] = False
    pred = truth.copy()
    pred[30, 30] = True  # one pixel merges the two cells
    predicted(tmp_path / "p_classes.png", pred)
    png(tmp_path / "t.png", truth)
    evaluation = evaluate(tmp_path / "p_classes.png", tmp_path / "t.png", metrics=["warping_error"])
    assert evaluation.scored.rows[0]["warping_error"] == 1 / 3600
    (row,) = rows_of(shown(evaluation))
    assert row[:2] == ["warping_error", f"{1 / 3600:.6f}"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ids_are_told_from_classes_where_no_name_says_so(tmp_path, dtype):
    """Masks of another program, beside the truth: what `check` calls objects is scored as such."""
    for number, name in enumerate("abc"):
        true = squares(*[(2 + 8 * row, 2 + 9 * column) for row in range(3) for column in range(2 + number)])
        png(tmp_path / "truth" / f"{name}.png", true.astype(dtype))
        png(tmp_path / "out" / f"{name}.png", np.where(true == 3, 0, true).astype(dtype))
    evaluation = evaluate(tmp_path / "out", tmp_path / "truth")
    counts = evaluation.scored.counts["ap_0.50"]
    assert (counts["tp"], counts["fp"], counts["fn"]) == (6 + 9 + 12 - 3, 0, 3)


def test_what_may_be_classes_is_scored_as_objects_if_these_are_asked_for(tmp_path):
    for folder in ("out", "truth"):
        png(tmp_path / folder / "a.png", squares((2, 2), (12, 2)).astype(np.uint8))
    assert "dice" in evaluate(tmp_path / "out", tmp_path / "truth").scores
    assert evaluate(tmp_path / "out", tmp_path / "truth", metrics=["ap_0.50"]).scores == {"ap_0.50": 1}
    assert "ap_0.50" in evaluate(tmp_path / "out", tmp_path / "truth", classes="objects").scores
