"""The page of an evaluation: what was compared, its scores as they are, the worst images first."""

import re
from base64 import b64decode
from html import unescape
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from files_to_score import squares, stack
from ushape import io
from ushape.errors import OutputError
from ushape.evaluate import evaluate
from ushape.pictures import class_colors
from ushape.report import evaluation, evaluation_report


def text_of(page: str) -> str:
    return unescape(
        re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", page, flags=re.DOTALL))
    )


def rows_of(page: str, title: str) -> list[list[str]]:
    section = re.search(rf"<h2>{title}</h2>(.*?)</section>", page, re.DOTALL)[1]
    body = re.search(r"<thead>(.*?)</table>", section, re.DOTALL)[1]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("<tr>")[1:]]


def captions_of(page: str) -> list[str]:
    return [unescape(caption) for caption in re.findall("<figcaption>(.*?)</figcaption>", page)]


def written(prediction: Path, truth: Path, tmp_path: Path, **options: object) -> str:
    path = tmp_path / "report.html"
    evaluation_report(path, evaluate(prediction, truth, **options))
    return path.read_text(encoding="utf-8")


def discs(number: int, count: int) -> np.ndarray:
    ids = np.zeros((60, 80), np.uint16)
    for one in range(count):
        y, x = divmod(one, 4)
        ids[5 + 20 * y : 17 + 20 * y, 5 + 20 * x : 17 + 20 * x] = one + 1
    return np.roll(ids, number, axis=1)


@pytest.fixture
def nuclei(tmp_path: Path) -> tuple[Path, Path]:
    """Fifteen images of nine nuclei; of number n the first n are missed."""
    data, output = tmp_path / "data", tmp_path / "predicted"
    for folder in (data / "images", data / "masks", output):
        folder.mkdir(parents=True)
    for number in range(15):
        true = discs(number, 9)
        grey = (30 + 150 * (true > 0)).astype(np.uint8)
        Image.fromarray(grey).save(data / "images" / f"n{number:02}.png")
        Image.fromarray(true).save(data / "masks" / f"n{number:02}.png")
        io.write_instances(output / f"n{number:02}_instances.tif", np.where(true > number % 10, true, 0))
    return output, data / "masks"


def test_objects_worst_first_and_no_more_than_a_page_holds(nuclei, tmp_path: Path) -> None:
    page = written(*nuclei, tmp_path)
    captions = captions_of(page)
    captions = [caption for caption in captions if caption.startswith("n")]
    assert len(captions) == 12
    assert (
        captions[0] == "n09, ap_0.50 0.0000, ap_0.70 0.0000, f1_0.50 0.0000: "
        "0 found, 9 missed, 0 split, 0 merged, 0 added"
    )
    scores = [float(re.search(r"ap_0.50 ([\d.]+)", caption)[1]) for caption in captions]
    assert scores == sorted(scores)
    assert "The 12 worst of 15 images; 3 better ones are left out here" in text_of(page)
    assert page.count(">image<") >= 12, "the image is shown where it is found"
    assert page.count(">where they differ<") == 12
    assert "</i>merged</li>" in page
    assert "components" not in page, "the files hold the objects"


def test_the_table_says_what_the_json_says(nuclei, tmp_path: Path) -> None:
    found = evaluate(*nuclei)
    page = written(*nuclei, tmp_path)
    header, *rows = rows_of(page, "Scores")
    assert header == ["score", "value", "best", "average", "counts"]
    assert {name: value for name, value, *_ in rows} == {
        name: f"{value:.3f}" for name, value in found.scores.items()
    }
    counts = next(row[-1] for row in rows if row[0] == "ap_0.50")
    matched = found.scored.counts["ap_0.50"]
    for name in ("tp", "fp", "fn"):
        assert f"{name} {matched[name]}" in counts
    for line in found.scored.conventions:
        assert line in text_of(page)
    header, *rows = rows_of(page, "All images")
    assert header[:4] == ["image", "prediction", "truth", "ap_0.50"]
    assert len(rows) == 15
    assert rows[0][:3] == ["n09", "n09_instances.tif", "n09.png"]
    assert "15 images, matched by" in text_of(page)


def test_ap_is_drawn_over_its_threshold(nuclei, tmp_path: Path) -> None:
    page = written(*nuclei, tmp_path)
    assert re.search(r'<svg[^>]*aria-label="score over smallest IoU of a match: ap', page)


def test_files_without_a_partner_are_named(nuclei, tmp_path: Path) -> None:
    prediction, truth = nuclei
    (prediction / "n03_instances.tif").unlink()
    for number in range(5, 15):
        (truth / f"n{number:02}.png").unlink()
    page = text_of(written(prediction, truth, tmp_path))
    assert "Truth without prediction, not scored: n03.png." in page
    assert "Predictions without truth, not scored: n05_instances.tif, " in page


@pytest.fixture
def membranes(tmp_path: Path) -> tuple[Path, Path]:
    """A stack of cells between membranes beside its image, and probabilities with a gap in one membrane."""
    data = tmp_path / "isbi"
    data.mkdir()
    truth = np.full((2, 48, 64), 255, np.uint8)
    truth[:, ::16] = truth[:, :, ::16] = 0
    tifffile.imwrite(data / "train-labels.tif", truth, photometric="minisblack")
    tifffile.imwrite(data / "train-volume.tif", truth // 2 + 40, photometric="minisblack")
    cells = np.where(truth > 0, 0.9, 0.1).astype(np.float32)
    cells[1, 4:8, 16] = 0.8
    io.write_probabilities(data / "p_probabilities.tif", np.stack([1 - cells, cells], axis=1))
    return data / "p_probabilities.tif", data / "train-labels.tif"


def test_membranes_show_the_cells_that_were_merged_and_curves(membranes, tmp_path: Path) -> None:
    page = written(*membranes, tmp_path)
    captions = [caption for caption in captions_of(page) if "found" in caption]
    assert captions[0].startswith("p[1]")
    assert "10 found, 0 missed, 0 split, 2 merged, 0 added" in captions[0]
    assert "12 found, 0 missed, 0 split, 0 merged, 0 added" in captions[1]
    assert page.count(">image<") >= 2
    assert "Predicted objects are the 4-connected components of class 1 (probability above one half)" in page
    labels = re.findall(r'<svg[^>]*aria-label="([^"]*)"', page)
    assert "score over threshold of the probability: v_rand, v_info" in labels
    assert "error over threshold of the probability: pixel_error" in labels
    accuracy = "share of pixels that are right over confidence: probability of the predicted class"
    assert f"{accuracy}: predictions, perfectly calibrated" in labels
    best = {row[0]: row[2] for row in rows_of(page, "Scores")[1:]}
    assert (best["pixel_error"], best["v_rand"]) == ("0", "1")


def test_class_masks_differ_in_pixels_and_have_no_curves(tmp_path: Path) -> None:
    true = np.zeros((20, 30), np.uint8)
    true[5:10, 5:10] = 255
    pred = true // 255
    pred[5], pred[15, :3] = 0, 1
    Image.fromarray(true).save(tmp_path / "true.png")
    Image.fromarray(pred).save(tmp_path / "pred.png")
    page = written(tmp_path / "pred.png", tmp_path / "true.png", tmp_path)
    (caption,) = captions_of(page)
    assert caption.endswith("20 px found, 5 px missed, 3 px added")
    assert "Curves" not in page
    assert ">image<" not in re.sub(r"<th[^>]*>image</th>", "", page), "there is no image beside this truth"
    assert "true.png: 1 image." in text_of(page)
    assert "components" not in page


def tracked(root: Path) -> tuple[Path, Path]:
    """Two frames of three cells, all found. Markers of one pixel for all; frame 1 outlines two of them."""
    corners = (2, 2), (2, 12), (2, 22)
    for frame in range(2):
        stack(root / "01_RES" / f"mask{frame:03d}.tif", squares(*corners))
        markers = squares(*((y + 2, x + 2) for y, x in corners), size=1)
        stack(root / "01_GT" / "TRA" / f"man_track{frame:03d}.tif", markers)
    stack(root / "01_GT" / "SEG" / "man_seg001.tif", squares(*corners[:2]))
    return root / "01_RES", root / "01_GT"


def test_a_marker_stands_for_a_cell_that_nobody_outlined(tmp_path: Path) -> None:
    """Cells that were found were shown as missed and added where the truth is a marker or outlines others."""
    page = written(*tracked(tmp_path), tmp_path)
    nothing_wrong = "3 found, 0 missed, 0 split, 0 merged, 0 added"
    assert captions_of(page) == [
        f"01/001, seg 1.0000, det 1.0000, op_csb 1.0000: {nothing_wrong}",
        f"01/000, det 1.0000: {nothing_wrong}",
    ]
    assert "found where an object covers more than half of it" in text_of(page)


def test_what_is_found_besides_the_cells_of_seg_does_not_count(tmp_path: Path) -> None:
    result, reference = tracked(tmp_path)
    page = written(result, reference, tmp_path, metrics=["seg"])
    assert captions_of(page) == ["01/001, seg 1.0000: 2 found, 0 missed, 0 split, 0 merged"]
    assert "does not count" in text_of(page)
    assert "marker" not in text_of(page)
    (reference / "TRA" / "man_track001.tif").unlink()
    (caption, _) = captions_of(written(result, reference, tmp_path))
    assert caption == "01/001, seg 1.0000: 2 found, 0 missed, 0 split, 0 merged"
    outlined = reference / "SEG" / "man_seg001.tif"
    page = written(result / "mask001.tif", outlined, tmp_path, metrics=["seg", "pq"])
    assert captions_of(page)[-1].endswith("0 merged, 1 added"), "PQ asks for it"


def test_many_images_are_left_out_of_the_table(nuclei, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(evaluation, "_MOST_ROWS", 4)
    page = written(*nuclei, tmp_path)
    assert len(rows_of(page, "All images")) == 1 + 4
    assert "11 better images are left out; --csv writes all." in text_of(page)


def test_names_of_files_are_text(tmp_path: Path) -> None:
    mask = np.eye(20, dtype=np.uint8)
    for name in ("<b>pred.png", "<b>true.png"):
        Image.fromarray(mask).save(tmp_path / name)
    page = written(tmp_path / "<b>pred.png", tmp_path / "<b>true.png", tmp_path)
    assert "<b>" not in page
    assert "&lt;b&gt;pred" in page


def test_a_page_that_cannot_be_written_is_named(nuclei, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file.report\.html"):
        evaluation_report(tmp_path / "file" / "report.html", evaluate(*nuclei))


def test_all_images_of_many_classes_have_the_same_colours(tmp_path: Path) -> None:
    """Also one that shows two of them; and the page says which is which."""
    for folder in (tmp_path / "truth", tmp_path / "predicted"):
        folder.mkdir()
        for name, classes in (("a", 3), ("b", 2)):
            mask = np.arange(48 * 64).reshape(48, 64) // 300 % classes
            Image.fromarray(mask.astype(np.uint8)).save(folder / f"{name}.png")
    page = written(tmp_path / "predicted", tmp_path / "truth", tmp_path, classes=3)
    assert "Truth and prediction:" in text_of(page)
    colors = class_colors(3)[:3]
    for index, color in enumerate(colors):
        assert 'background:rgb({},{},{})"></i>class {}</li>'.format(*color, index) in page
    found = re.findall(r"data:image/png;base64,([^\"]+)", page)
    shown = [
        {*map(tuple, np.asarray(Image.open(BytesIO(b64decode(one))).convert("RGB")).reshape(-1, 3).tolist())}
        for one in found
    ]
    assert shown.count(set(colors)) == shown.count(set(colors[:2])) == 2, "truth and prediction of each"
