"""SEG and DET against py-ctcmetrics, on disturbed real images and on a sequence in the challenge's layout."""

from pathlib import Path

import disturbed
import numpy as np
import object_reference
import pytest
import tifffile
from ctc_metrics.metrics import det as ctc_det
from ctc_metrics.metrics import seg as ctc_seg
from ctc_metrics.scripts.evaluate import load_data
from ctc_metrics.utils.representations import count_acyclic_graph_correction_operations
from ctc_metrics.utils.representations import match as ctc_match

from ushape import metrics

pytestmark = pytest.mark.data

Pairs = list[tuple[str, np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def pairs(data_dir: Path) -> Pairs:
    return list(disturbed.label_pairs(data_dir, 240))


def matched_by_ctc(folder: Path, pred: np.ndarray, true: np.ndarray) -> tuple[list, list, list, list, list]:
    """Ids of reference and result, of their matches, and IoU: py-ctcmetrics reads files."""
    # 32 bits, because it adds the ids of one image to those of the other.
    tifffile.imwrite(folder / "reference.tif", true.astype(np.uint32))
    tifffile.imwrite(folder / "result.tif", pred.astype(np.uint32))
    return ctc_match(folder / "reference.tif", folder / "result.tif")


def test_seg_equals_py_ctcmetrics(pairs: Pairs, tmp_path: Path) -> None:
    frames, matches = [], []
    for name, true, pred in pairs:
        reference, _, matched, _, ious = theirs = matched_by_ctc(tmp_path, pred, true)
        our = metrics.seg(pred, true)
        assert {j: score for j, score in our.scores if score} == pytest.approx(
            dict(zip(matched, ious, strict=True)), rel=1e-9
        ), name
        assert (our.matched, our.objects) == (len(matched), len(reference)), name
        expected = ctc_seg([reference], [ious])
        if our.objects:
            assert our.score == pytest.approx(expected, rel=1e-9), name
        else:
            # Convention: a frame that asks for nothing scores 0 there, 1 here.
            assert (expected, our.score) == (0, 1), name
        frames.append(our)
        matches.append(theirs)
    # All frames as one sequence; frames without reference objects change nothing in either.
    expected = ctc_seg([match[0] for match in matches], [match[4] for match in matches])
    assert metrics.total_seg(frames).score == pytest.approx(expected, rel=1e-9)


def test_det_equals_py_ctcmetrics(pairs: Pairs, tmp_path: Path) -> None:
    frames = []
    for name, true, pred in pairs:
        reference, result, matched, finders, _ = matched_by_ctc(tmp_path, pred, true)
        our = metrics.det(pred, true)
        counts = {
            "NS": len(finders) - len(set(finders)),
            "FN": len(reference) - len(matched),
            "FP": len(set(result) - set(finders)),
            "num_vertices": len(reference),
        }
        assert (our.splits, our.fn, our.fp, our.markers) == tuple(counts.values()), name
        if our.markers:  # else they divide by 0
            assert our.score == pytest.approx(ctc_det(**counts), rel=1e-9), name
        frames.append((our, counts))
    sums = {key: sum(counts[key] for _, counts in frames) for key in frames[0][1]}
    assert metrics.total_det(our for our, _ in frames).score == pytest.approx(ctc_det(**sums), rel=1e-9)


def test_an_image_without_background_loses_an_object_in_py_ctcmetrics(tmp_path: Path) -> None:
    """It takes the lowest value for background, whatever it is; here only 0 is background."""
    true = np.array([[3, 3, 4, 4]])
    theirs = matched_by_ctc(tmp_path, true, true)
    assert theirs[0] == [4]
    assert metrics.seg(true, true).objects == metrics.det(true, true).markers == 2


# It warns of tracks that do not belong to the frames; tracks are not scored here.
@pytest.mark.filterwarnings("ignore::UserWarning:ctc_metrics.metrics.validation.valid")
def test_a_sequence_equals_py_ctcmetrics(data_dir: Path, tmp_path: Path) -> None:
    """Gold frames and markers of DIC-C2DH-HeLa, disturbed silver frames as the result, from files."""
    cells = data_dir / "DIC-C2DH-HeLa"
    reference, result = tmp_path / "01_GT", tmp_path / "01_RES"
    for folder in (reference / "SEG", reference / "TRA", result):
        folder.mkdir(parents=True)
    segmentations, detections = [], []
    for frame in range(12):
        name = f"{frame:03}.tif"
        rng = np.random.default_rng([frame])
        ids = disturbed.disturb(
            tifffile.imread(cells / "01_ST" / "SEG" / f"man_seg{name}").astype(np.int32), rng
        )
        markers = tifffile.imread(cells / "01_GT" / "TRA" / f"man_track{name}")
        tifffile.imwrite(result / f"mask{name}", ids.astype(np.uint16))
        tifffile.imwrite(reference / "TRA" / f"man_track{name}", markers)
        detections.append(metrics.det(ids, markers))
        gold = cells / "01_GT" / "SEG" / f"man_seg{name}"
        if gold.exists():
            tifffile.imwrite(reference / "SEG" / gold.name, tifffile.imread(gold))
            segmentations.append(metrics.seg(ids, tifffile.imread(gold)))
    for tracks in (result / "res_track.txt", reference / "TRA" / "man_track.txt"):
        tracks.write_text("1 0 11 0\n")  # SEG and DET need the file, not what is in it
    found, asked, frames, gold_frames, *_ = load_data(str(result), str(reference), True, True, threads=1)
    matches = [frames[key] for key in ("labels_ref", "labels_comp", "mapped_ref", "mapped_comp")]
    expected_det = ctc_det(**count_acyclic_graph_correction_operations(asked, found, *matches))
    expected_seg = ctc_seg(gold_frames["labels_ref"], gold_frames["ious"])
    assert len(segmentations) >= 2
    assert metrics.total_seg(segmentations).score == pytest.approx(expected_seg, rel=1e-9)
    detection = metrics.total_det(detections)
    assert detection.score == pytest.approx(expected_det, rel=1e-9)
    assert detection.fp > 0
    assert detection.fn > 0
    assert detection.splits > 0


def test_seg_equals_the_literal_definition(pairs: Pairs) -> None:
    for name, true, pred in pairs:
        assert dict(metrics.seg(pred, true).scores) == object_reference.seg(pred, true), name
