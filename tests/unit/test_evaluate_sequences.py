"""Results in the folders of the Cell Tracking Challenge against their reference."""

import json
from pathlib import Path

import numpy as np
import pytest

from files_to_score import rows_of, shown, squares, stack
from ushape import io, metrics
from ushape.errors import ConfigError, DataError, ShapeError
from ushape.evaluate import evaluate

LEFT, MIDDLE, RIGHT = (2, 2), (2, 12), (2, 22)


def sequence(root: Path, name: str = "01") -> tuple[Path, Path]:
    """Three frames. SEG annotates two of three cells of frame 1, TRA all cells of all frames."""
    for frame in range(3):
        cells = squares(LEFT, MIDDLE, RIGHT)
        stack(root / f"{name}_RES" / f"mask{frame:03d}.tif", cells)
        stack(root / f"{name}_GT" / "TRA" / f"man_track{frame:03d}.tif", squares(LEFT, MIDDLE, RIGHT, size=2))
    stack(root / f"{name}_GT" / "SEG" / "man_seg001.tif", squares(LEFT, MIDDLE))
    return root / f"{name}_RES", root / f"{name}_GT"


def test_a_perfect_result(tmp_path):
    evaluation = evaluate(*sequence(tmp_path))
    assert evaluation.scores == {"seg": 1, "det": 1, "op_csb": 1}
    assert evaluation.scored.counts["seg"] == {"sequences": 1, "matched": 2, "objects": 2}
    assert evaluation.scored.counts["det"]["markers"] == 9


def test_seg_sees_the_annotated_frames_and_cells_only(tmp_path):
    """The cell that frame 1 does not annotate is found, which must not cost anything."""
    result, reference = sequence(tmp_path)
    stack(result / "mask001.tif", squares(LEFT, MIDDLE, RIGHT) * (squares(LEFT) == 0))
    stack(result / "mask000.tif", squares(RIGHT))
    evaluation = evaluate(result, reference)
    det = 1 - 3 * 10 / 90  # a cell missed in frame 1, two in frame 0
    assert evaluation.scores == {"seg": 1 / 2, "det": det, "op_csb": (1 / 2 + det) / 2}
    assert [dict(row) for row in evaluation.scored.rows] == [
        {"det": pytest.approx(1 / 3)},
        {"seg": 1 / 2, "det": pytest.approx(2 / 3), "op_csb": pytest.approx((1 / 2 + 2 / 3) / 2)},
        {"det": 1},
    ]
    text = shown(evaluation)
    assert "sequence 01: seg of the 1 frames with a reference in SEG; the other 2 of 3 are not scored" in text
    assert "sequence 01: det of all 3 frames" in text
    assert "matched (by the numbers of the frames): mask000.tif with man_track000.tif, mask001.tif" in text
    assert "mask001.tif with man_seg001.tif" in text
    assert ["seg", "0.5000", "sequence 01, matched 1, objects 2"] in rows_of(text)
    images = rows_of(shown(evaluation, per_image=True))
    assert images[0] == ["01/000", "-", "0.3333", "-"]
    assert [row[0] for row in images] == ["01/000", "01/001", "01/002", "all"]
    assert evaluation.worst_first()[0] == 1


def test_more_than_half_of_the_reference_must_be_covered(tmp_path):
    """By half of a reference object nothing is matched, however much the IoU is."""
    result, reference = sequence(tmp_path)
    half = squares(LEFT, MIDDLE)
    half[:5] *= half[:5] == 2  # rows 5 to 7 of the left cell are left: 18 of 36 pixels
    stack(result / "mask001.tif", half)
    assert evaluate(result, reference, metrics=["seg"]).scores == {"seg": 1 / 2}


def test_a_data_set_is_the_mean_of_its_sequences(tmp_path):
    sequence(tmp_path / "gt", "01")
    sequence(tmp_path / "gt", "02")
    results = tmp_path / "results"
    for name in ("01_RES", "02_RES"):
        results.mkdir(exist_ok=True)
        (tmp_path / "gt" / name).rename(results / name)
    stack(results / "02_RES" / "mask001.tif", squares(MIDDLE))
    evaluation = evaluate(results, tmp_path / "gt")
    det = 1 - 20 / 90
    mean = {"seg": 3 / 4, "det": (1 + det) / 2, "op_csb": (3 / 4 + (1 + det) / 2) / 2}
    assert evaluation.scores == pytest.approx(mean)
    of_02 = {"seg": 1 / 2, "det": det, "op_csb": (1 / 2 + det) / 2}
    assert dict(evaluation.scored.groups["02"].scores) == of_02
    assert evaluation.scored.counts["seg"] == {"sequences": 2, "matched": 3, "objects": 4}
    rows = rows_of(shown(evaluation))
    assert [row[0] for row in rows] == ["seg", "det", "op_csb"] * 3
    assert ["seg", "0.5000", "sequence 02, matched 1, objects 2"] in rows
    assert ["seg", "0.7500", "mean of the sequences 01, 02, matched 3, objects 4"] in rows
    content = evaluation.as_dict()
    assert content["sequences"]["02"]["seg"] == 1 / 2
    assert content["sequences"]["02"]["counts"]["seg"] == {"matched": 1, "objects": 2}
    assert [entry["name"] for entry in content["images"]][2:4] == ["01/002", "02/000"]
    totals = rows_of(shown(evaluation, per_image=True))[-3:]
    assert [row[0] for row in totals] == ["sequence 01", "sequence 02", "all"]
    evaluation.to_json(tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text())["op_csb"] == evaluation.scores["op_csb"]


def test_sequences_without_a_partner_are_named(tmp_path):
    for name in ("01", "02", "03"):
        sequence(tmp_path, name)
    (tmp_path / "02_RES").rename(tmp_path / "other")
    (tmp_path / "03_GT").rename(tmp_path / "another")
    evaluation = evaluate(tmp_path, tmp_path)
    assert list(evaluation.scored.groups) == ["01"]
    text = shown(evaluation)
    assert "no prediction for, so not scored: 02_GT" in text
    assert "no truth for, so not scored: 03_RES" in text


def test_every_way_to_name_the_folders(tmp_path):
    result, reference = sequence(tmp_path)
    scores = evaluate(result, reference).scores
    for prediction, truth in ((tmp_path, tmp_path), (result, tmp_path), (tmp_path, reference)):
        assert evaluate(prediction, truth).scores == scores
    result.rename(tmp_path / "mine")
    assert evaluate(tmp_path / "mine", reference).scores == scores
    sequence(tmp_path, "02")
    with pytest.raises(DataError, match=r"02_RES holds no result for .*01_GT; give a folder of maskNNN\.tif"):
        evaluate(tmp_path / "02_RES", reference)


def test_without_markers_there_is_no_det(tmp_path):
    result, reference = sequence(tmp_path)
    (reference / "TRA").rename(reference / "elsewhere")
    evaluation = evaluate(result, reference)
    assert evaluation.scores == {"seg": 1}
    assert "no truth for, so not scored: mask000.tif, mask002.tif" in shown(evaluation)
    with pytest.raises(DataError, match=r"01_GT/TRA holds no reference, so that det cannot be scored; leave"):
        evaluate(result, reference, metrics=["det"])


def test_a_frame_without_result_is_refused(tmp_path):
    """Left out, it would make the score better than it is."""
    result, reference = sequence(tmp_path)
    (result / "mask002.tif").unlink()
    with pytest.raises(
        DataError, match=r"01_RES has no result for 1 of the 3 frames in .*TRA, the first mask002\.tif; .*seg"
    ):
        evaluate(result, reference)
    assert evaluate(result, reference, metrics=["seg"]).scores == {"seg": 1}
    (result / "mask001.tif").unlink()
    with pytest.raises(DataError, match=r"no result for 1 of the 1 frames in .*SEG.*or give --metrics det"):
        evaluate(result, reference, metrics=["seg"])


def test_what_does_not_fit(tmp_path):
    result, reference = sequence(tmp_path)
    with pytest.raises(ConfigError, match="'dice' does not fit Cell Tracking Challenge folders; choose from"):
        evaluate(result, reference, metrics=["dice"])
    for options in ({"ignore": 3}, {"classes": 2}, {"tolerance": 2}):
        (option,) = options
        with pytest.raises(ConfigError, match=f"--{option} . does not fit Cell Tracking Challenge"):
            evaluate(result, reference, **options)
    stack(result / "mask001.tif", squares(LEFT)[:20])
    with pytest.raises(ShapeError, match=r"mask001\.tif has 20 x 40 px, .*man_seg001\.tif has 32 x 40 px"):
        evaluate(result, reference)
    (result / "mask001.tif").rename(tmp_path / "mask001.tif")
    for path in result.iterdir():
        path.rename(path.with_name(path.name.replace("mask", "frame")))
    with pytest.raises(DataError, match=r"01_RES holds no result for .*01_GT; give a folder of maskNNN\.tif"):
        evaluate(result, reference)


def test_a_volume_is_one_image(tmp_path):
    """An object goes through the planes; SEG may also annotate single slices of a frame."""
    volume = np.stack([squares(LEFT), squares(LEFT, MIDDLE), squares(LEFT, MIDDLE)])
    without_first = volume * (np.arange(3) > 0)[:, np.newaxis, np.newaxis]
    io.write_instances(tmp_path / "01_RES" / "mask000.tif", without_first)
    io.write_instances(tmp_path / "01_GT" / "SEG" / "man_seg000.tif", volume)
    evaluation = evaluate(tmp_path / "01_RES", tmp_path / "01_GT")
    assert evaluation.scores == {"seg": (2 / 3 + 1) / 2}
    np.testing.assert_array_equal(evaluation.objects(0)[1], volume[1])  # the middle plane is shown
    (tmp_path / "01_GT" / "SEG" / "man_seg000.tif").unlink()
    stack(tmp_path / "01_GT" / "SEG" / "man_seg_000_002.tif", volume[2])
    evaluation = evaluate(tmp_path / "01_RES", tmp_path / "01_GT")
    assert [place.name for place in evaluation.places] == ["01/000[2]"]
    assert evaluation.scores == {"seg": 1}
    np.testing.assert_array_equal(evaluation.objects(0)[0], volume[2])


def test_each_frame_can_be_read_again(tmp_path):
    result, reference = sequence(tmp_path)
    picture = np.arange(32 * 40, dtype=np.uint16).reshape(32, 40)
    for frame in range(3):
        stack(tmp_path / "01" / f"t{frame:03d}.tif", picture + frame)
    evaluation = evaluate(result, reference)
    pred, true = evaluation.objects(1)
    np.testing.assert_array_equal(pred, squares(LEFT, MIDDLE, RIGHT))
    np.testing.assert_array_equal(true, squares(LEFT, MIDDLE))
    np.testing.assert_array_equal(evaluation.objects(2)[1], squares(LEFT, MIDDLE, RIGHT, size=2))
    np.testing.assert_array_equal(evaluation.image(2), picture[np.newaxis] + 2)
    np.testing.assert_array_equal(evaluation.image(1), picture[np.newaxis] + 1)


@pytest.mark.data
def test_silver_truth_against_gold(data_dir, tmp_path):
    """The silver truth of DIC-C2DH-HeLa in the place of a result: 9 gold frames, markers in all 84."""
    root = data_dir / "DIC-C2DH-HeLa"
    (tmp_path / "01_RES").mkdir()
    for path in (root / "01_ST" / "SEG").glob("man_seg*.tif"):
        (tmp_path / "01_RES" / path.name.replace("man_seg", "mask")).symlink_to(path)
    evaluation = evaluate(tmp_path / "01_RES", root / "01_GT")

    def frames(folder, prefix):
        for path in sorted((root / "01_GT" / folder).glob(f"{prefix}*.tif")):
            result = tmp_path / "01_RES" / path.name.replace(prefix, "mask")
            yield io.read_labels(result).array, io.read_labels(path).array

    seg = metrics.total_seg(metrics.seg(*ids) for ids in frames("SEG", "man_seg"))
    det = metrics.total_det(metrics.det(*ids) for ids in frames("TRA", "man_track"))
    assert evaluation.scores == {"seg": seg.score, "det": det.score, "op_csb": (seg.score + det.score) / 2}
    assert evaluation.scored.counts["seg"]["objects"] == seg.objects
    assert len(evaluation.places) == 84
    assert "seg of the 9 frames with a reference in SEG; the other 75 of 84 are not" in shown(evaluation)
    assert evaluation.image(0).shape == (1, 512, 512)
