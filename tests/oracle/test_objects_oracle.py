"""Scores of objects against stardist, python-elf, torchmetrics and slow references, on real images."""

import math
from pathlib import Path

import disturbed
import numpy as np
import object_reference
import pytest
import torch
from elf.evaluation import mean_segmentation_accuracy
from stardist.matching import matching as stardist_matching
from stardist.matching import matching_criteria, matching_dataset

from files_to_score import stack
from ushape import metrics
from ushape.evaluate import evaluate

pytestmark = pytest.mark.data

THRESHOLDS = (*metrics.IOU_THRESHOLDS, 0.1, 0.3, 1.0)
# Name at stardist: name here.
NAMES = {
    "precision": "precision",
    "recall": "recall",
    "accuracy": "average_precision",
    "f1": "f1",
    "mean_matched_score": "mean_matched_score",
}
Pairs = list[tuple[str, np.ndarray, np.ndarray]]


def iou_in_double_precision(shared: np.ndarray) -> np.ndarray:
    """IoU from the table of common pixels, for stardist, whose own one is rounded to float32."""
    union = shared.sum(0, keepdims=True) + shared.sum(1, keepdims=True) - shared
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


matching_criteria["iou64"] = iou_in_double_precision


@pytest.fixture(scope="module")
def pairs(data_dir: Path) -> Pairs:
    return list(disturbed.label_pairs(data_dir, 240))


def test_the_images_are_worth_comparing_on(pairs: Pairs) -> None:
    """All kinds of errors, in all amounts, must be among them: else equal scores would mean little."""
    matchings = [metrics.match(pred, true) for _, true, pred in pairs]
    scores = np.array([matching.average_precision for matching in matchings])
    counts = np.array([(matching.tp, matching.fp, matching.fn) for matching in matchings])
    assert len(pairs) >= 200
    assert (scores == 1).sum() >= 8
    assert (scores == 0).sum() >= 8
    assert ((scores > 0.1) & (scores < 0.9)).sum() >= 80
    assert (counts.sum(0) > 500).all()
    assert sum(not true.any() for _, true, _ in pairs) >= 4
    assert sum(len(np.unique(true)) > 40 for _, true, _ in pairs) >= 10


def test_images_do_not_change_from_run_to_run(data_dir: Path) -> None:
    first, second = (list(disturbed.label_pairs(data_dir, 12, seed=5)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])


def test_matching_equals_stardist(pairs: Pairs) -> None:
    for name, true, pred in pairs:
        theirs = stardist_matching(true, pred, thresh=THRESHOLDS, criterion="iou64")
        for their, our in zip(theirs, metrics.matchings(pred, true, THRESHOLDS), strict=True):
            assert (our.tp, our.fp, our.fn) == (their.tp, their.fp, their.fn), name
            for theirs_is, ours_is in NAMES.items():
                expected, found = getattr(their, theirs_is), getattr(our, ours_is)
                if not pred.any() and not true.any():
                    # Convention: nothing to find and nothing found is perfect here, 0 at stardist.
                    assert (expected, found) == (0, float(ours_is != "mean_matched_score")), name
                elif ours_is == "mean_matched_score" and our.threshold < 0.5:
                    # Convention: both take as many pairs as can be. Of these ways stardist takes the one with
                    # the largest IoU of all pairs, we that of the pairs that reach the threshold.
                    assert found >= expected - 1e-9, name
                else:
                    assert found == pytest.approx(expected, rel=1e-9), name


def test_matching_equals_stardist_as_it_is_but_for_its_rounding(pairs: Pairs) -> None:
    for name, true, pred in pairs:
        theirs = stardist_matching(true, pred, thresh=metrics.IOU_THRESHOLDS)
        for their, our in zip(theirs, metrics.matchings(pred, true), strict=True):
            assert (our.tp, our.fp, our.fn) == (their.tp, their.fp, their.fn), name
            # float32 has 24 bits: an IoU is wrong by up to 6e-8 of it.
            assert our.mean_matched_score == pytest.approx(their.mean_matched_score, rel=1e-6), name


def test_pairs_of_ids_equal_those_of_stardist(pairs: Pairs) -> None:
    for name, true, pred in pairs[:100]:
        their = stardist_matching(true, pred, thresh=0.55, criterion="iou64", report_matches=True)
        matched = sorted((their.matched_pairs[k][::-1], their.matched_scores[k]) for k in their.matched_tps)
        ours = metrics.match(pred, true, 0.55).pairs
        assert [(p, t) for p, t, _ in ours] == [ids for ids, _ in matched], name
        np.testing.assert_allclose([iou for *_, iou in ours], [iou for _, iou in matched], rtol=1e-9)


def test_scores_of_a_data_set_equal_stardist(pairs: Pairs) -> None:
    truths, preds = [true for _, true, _ in pairs], [pred for *_, pred in pairs]
    table = [metrics.matchings(pred, true) for _, true, pred in pairs]
    sums = [metrics.total(row) for row in zip(*table, strict=True)]
    options = {"thresh": metrics.IOU_THRESHOLDS, "criterion": "iou64", "show_progress": False}
    for their, our in zip(matching_dataset(truths, preds, **options), sums, strict=True):
        assert (our.tp, our.fp, our.fn) == (their.tp, their.fp, their.fn)
        for theirs_is, ours_is in NAMES.items():
            assert getattr(our, ours_is) == pytest.approx(getattr(their, theirs_is), rel=1e-9)
    # By image: the mean of the scores, which stardist takes to be 0 where there is no object at all.
    some = [bool(pred.any() or true.any()) for _, true, pred in pairs]
    by_image = matching_dataset(truths, preds, by_image=True, **options)
    for their, column in zip(by_image, zip(*table, strict=True), strict=True):
        for theirs_is, ours_is in NAMES.items():
            ours = [getattr(one, ours_is) * counts for one, counts in zip(column, some, strict=True)]
            assert np.mean(ours) == pytest.approx(getattr(their, theirs_is), rel=1e-9)


def test_mean_over_thresholds_and_images_equals_elf(pairs: Pairs, tmp_path: Path) -> None:
    expected = []
    for number, (_, true, pred) in enumerate(pairs):
        stack(tmp_path / "truth" / f"{number:03}.tif", true.astype(np.uint16))
        stack(tmp_path / "out" / f"{number:03}_instances.tif", pred.astype(np.uint16))
        theirs = mean_segmentation_accuracy(pred, true, metrics.IOU_THRESHOLDS)
        # Convention: nothing to find and nothing found is perfect here, 0 at elf.
        expected.append(theirs if pred.any() or true.any() else 1.0)
    evaluation = evaluate(tmp_path / "out", tmp_path / "truth", metrics=["ap_mean"])
    assert [row["ap_mean"] for row in evaluation.scored.rows] == pytest.approx(expected, rel=1e-9)
    assert evaluation.scores["ap_mean"] == pytest.approx(np.mean(expected), rel=1e-9)


def test_panoptic_quality_equals_stardist(pairs: Pairs) -> None:
    for name, true, pred in pairs:
        # Convention: a match has an IoU above 0.5 here (Kirillov et al.), of at least 0.5 at stardist.
        their = stardist_matching(true, pred, thresh=math.nextafter(0.5, 1), criterion="iou64")
        our = metrics.panoptic(pred, true)
        assert (our.tp, our.fp, our.fn) == (their.tp, their.fp, their.fn), name
        if pred.any() or true.any():
            assert our.score == pytest.approx(their.panoptic_quality, rel=1e-9), name
            assert our.sq == pytest.approx(their.mean_matched_score, rel=1e-9), name
            assert our.rq == pytest.approx(their.f1, rel=1e-9), name
        else:
            assert (our.score, their.panoptic_quality) == (1, 0), name


def test_exactly_half_is_a_match_at_stardist_and_none_for_panoptic_quality() -> None:
    true, pred = np.array([[1, 1, 2, 2]]), np.array([[1, 0, 2, 2]])
    assert stardist_matching(true, pred, thresh=0.5).panoptic_quality == 0.75
    assert metrics.match(pred, true, 0.5).tp == 2
    assert metrics.panoptic(pred, true).score == 0.5


def test_panoptic_quality_equals_torchmetrics(pairs: Pairs) -> None:
    from ushape.torchvision_operators import define_missing_operators

    define_missing_operators()
    from torchmetrics.functional.detection import panoptic_quality

    compared = 0
    for name, true, pred in pairs[::14]:
        # Background is their class 0, one segment without instances; objects are instances of class 1.
        planes = [torch.from_numpy(np.stack([ids > 0, ids], -1).astype(np.int64)) for ids in (pred, true)]
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # in which torchmetrics divides counts
        try:
            theirs = panoptic_quality(
                planes[0][None],
                planes[1][None],
                things={1},
                stuffs={0},
                return_sq_and_rq=True,
                return_per_class=True,
            )
        finally:
            torch.set_default_dtype(before)
        our = metrics.panoptic(pred, true)
        if pred.any() or true.any():
            expected = theirs.reshape(-1, 3)[0].tolist()
            assert (our.score, our.sq, our.rq) == pytest.approx(expected, rel=1e-9), name
            compared += 1
    assert compared >= 12


def test_aji_equals_the_literal_definitions(pairs: Pairs) -> None:
    for name, true, pred in pairs:
        for definition, reference in (
            ("cellpose", object_reference.aji_of_partners),
            ("kumar", object_reference.aji_of_best),
        ):
            our = metrics.aji(pred, true, definition=definition)
            assert (our.intersection, our.union) == reference(pred, true), f"{name}, {definition}"
