"""SEG and DET of the Cell Tracking Challenge by hand, and on its own frames."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from ushape import metrics


def test_seg_by_hand():
    true = np.array([7, 7, 7, 7, 3, 3, 9, 0])
    pred = np.array([2, 2, 2, 0, 4, 0, 0, 5])
    segmentation = metrics.seg(pred, true)
    # 4 covers exactly half of 3, which is not more than half; 5 is in no reference object and costs nothing.
    assert segmentation.scores == ((3, 0.0), (7, 0.75), (9, 0.0))
    assert (segmentation.matched, segmentation.objects, segmentation.jaccard_sum) == (1, 3, 0.75)
    assert segmentation.score == 0.25


def test_seg_asks_for_half_of_the_reference_not_for_an_iou_of_half():
    true, pred = np.array([0, 0, 0, 1, 1]), np.array([5, 5, 5, 5, 5])
    assert metrics.seg(pred, true).score == 2 / 5
    # The other way round the reference is covered by less than half.
    assert metrics.seg(true, pred).score == 0


def test_a_merger_matches_both_references():
    true, pred = np.array([1, 1, 2, 2, 2]), np.array([5, 5, 5, 5, 5])
    assert metrics.seg(pred, true).scores == ((1, 2 / 5), (2, 3 / 5))
    assert metrics.det(pred, true) == metrics.Det(tp=2, fn=0, fp=0, splits=1)


def test_seg_of_a_sequence_is_the_mean_over_objects():
    frames = [metrics.Seg(1, 1, 0.5, ((1, 0.5),)), metrics.Seg(2, 3, 1.75, ((1, 0.9), (2, 0.85), (5, 0.0)))]
    assert metrics.total_seg(frames) == metrics.Seg(3, 4, 2.25)
    assert metrics.total_seg(frames).score == 2.25 / 4


def test_det_by_hand():
    markers = np.array([1, 0, 2, 0, 3, 0])
    pred = np.array([5, 5, 5, 0, 0, 8])
    detection = metrics.det(pred, markers)
    assert detection == metrics.Det(tp=2, fn=1, fp=1, splits=1)
    assert detection.markers == 3
    assert detection.cost == 5 + 10 + 1
    assert detection.score == pytest.approx(1 - 16 / 30, rel=1e-12)


def test_det_never_falls_below_that_of_an_empty_result():
    markers = np.array([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    pred = np.arange(14)
    assert metrics.det(pred, markers) == metrics.Det(0, 1, 13, 0)
    assert metrics.det(pred, markers).score == metrics.det(0 * pred, markers).score == 0


def test_det_of_a_sequence_is_the_ratio_of_the_sums():
    frames = [metrics.Det(1, 0, 0, 0), metrics.Det(0, 1, 3, 0), metrics.Det(2, 0, 0, 1)]
    assert metrics.total_det(frames) == metrics.Det(3, 1, 3, 1)
    assert metrics.total_det(frames).score == pytest.approx(1 - 18 / 40, rel=1e-12)


def test_frames_without_objects():
    empty, one = np.zeros((2, 2), int), np.ones((2, 2), int)
    assert metrics.seg(one, empty) == metrics.Seg(0, 0, 0.0)
    assert metrics.seg(one, empty).score == metrics.seg(empty, empty).score == 1
    assert metrics.seg(empty, one).score == 0
    assert metrics.det(empty, empty).score == 1
    assert metrics.det(one, empty).score == 0
    assert metrics.det(empty, one) == metrics.Det(0, 1, 0, 0)
    assert metrics.total_seg([]).score == metrics.total_det([]).score == 1
    # A frame without reference objects changes nothing in SEG, but what is added there counts in DET.
    assert metrics.total_seg([metrics.seg(one, one), metrics.seg(one, empty)]).score == 1
    assert metrics.total_det([metrics.det(one, one), metrics.det(one, empty)]).score == 1 - 1 / 10


@pytest.mark.data
def test_a_partly_annotated_frame_scores_only_what_it_annotates(data_dir: Path):
    cells = data_dir / "DIC-C2DH-HeLa"
    gold = tifffile.imread(cells / "01_GT" / "SEG" / "man_seg067.tif")
    silver = tifffile.imread(cells / "01_ST" / "SEG" / "man_seg067.tif")
    segmentation = metrics.seg(silver, gold)
    assert segmentation.objects == np.unique(gold[gold > 0]).size < np.unique(silver[silver > 0]).size
    assert segmentation.matched == segmentation.objects
    covered = np.where(np.isin(silver, np.unique(silver[gold > 0])), silver, 0)
    assert metrics.seg(covered, gold) == segmentation


def test_seg_and_det_give_the_numbers_of_py_ctcmetrics():
    """py-ctcmetrics 1.3.3, on discs that are moved, resized, missed, cut, merged and invented."""
    y, x = np.indices((96, 128))
    row, column = y // 16, x // 16
    ids = row * 8 + column + 1
    true = np.where((y % 16 - 8) ** 2 + (x % 16 - 8) ** 2 < 40, ids, 0)
    pred = np.where((y % 16 - 8 - row % 3) ** 2 + (x % 16 - 8 - column % 4) ** 2 < 25 + 3 * column, ids, 0)
    pred[pred == 10] = 0
    pred[pred == 20] = 21
    pred[(pred == 30) & (y % 16 < 8)] = 100
    true[true == 40] = 0
    assert metrics.seg(pred, true).score == pytest.approx(0.5930949265324174, rel=1e-12)
    assert metrics.det(pred, true).score == pytest.approx(0.9404255319148936, rel=1e-12)
