"""`ushape evaluate` on instance masks, stacks, Cell Tracking Challenge folders: table and files agree."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from terminal import on_a_terminal, plain

from files_to_score import cells, noisy, png, predicted, rows_of, squares, stack
from ushape import io


def instance_masks(root: Path) -> list[object]:
    for number, name in enumerate("abc"):
        true = squares((2, 2), (2, 12), (12, 2 + number))
        stack(root / "truth" / f"{name}.tif", true)
        stack(root / "out" / f"{name}_instances.tif", np.roll(true, number, axis=1))
    names = "ap_0.5,ap_0.50_per_image,ap_.75,ap_mean,f1_0.50,precision_0.50,recall_0.50,pq,aji,seg,det"
    return [root / "out", root / "truth", "--metrics", f"{names},op_csb,dice,dice_per_image,nsd,hd95"]


def isbi_stack(root: Path) -> list[object]:
    truth = cells(planes=3)
    p = noisy(truth)
    root.mkdir()
    io.write_probabilities(root / "a_probabilities.tif", np.stack([1 - p, p], axis=1))
    stack(root / "train-labels.tif", truth * np.uint8(255))
    names = "pixel_error,rand_error,warping_error,v_rand,v_info,dice,boundary_f1"
    return [root / "a_probabilities.tif", root / "train-labels.tif", "--metrics", names, "--tolerance", 1]


def ctc_folders(root: Path) -> list[object]:
    for name in ("01", "02"):
        for frame in range(3):
            true = squares((2, 2), (2, 12), (12, 2 + frame))
            stack(root / f"{name}_GT" / "TRA" / f"man_track{frame:03d}.tif", true)
            stack(root / f"{name}_RES" / f"mask{frame:03d}.tif", np.roll(true, int(name), axis=1))
        stack(root / f"{name}_GT" / "SEG" / "man_seg001.tif", squares((2, 2), (2, 12)))
    return [root, root]


def class_masks(root: Path) -> list[object]:
    for seed, name in enumerate("ab"):
        predicted(root / "out" / f"{name}_classes.png", cells(seed=seed)[0])
        png(root / "truth" / f"{name}.png", cells(seed=7)[0] * np.uint8(255))
    return [root / "out", root / "truth"]


def ome_zarr(root: Path) -> list[object]:
    for number, name in enumerate("ab"):
        true = squares((2, 2), (2, 12), (12, 2 + number))
        found = {f"truth/{name}": true, f"out/{name}_instances": np.roll(true, 1, axis=1)}
        for path, ids in found.items():
            store = io.create_store(
                root / f"{path}.ome.zarr", "YX", ids.shape, ids.dtype, (16, 16), version="0.4"
            )
            store[0][:] = ids
    return [root / "out", root / "truth"]


def grey_probabilities(root: Path) -> list[object]:
    truth = cells()
    png(root / "a_probabilities.png", np.round(255 * noisy(truth)[0]).astype(np.uint8))
    return [root / "a_probabilities.png", png(root / "a.png", truth[0] * np.uint8(255))]


PREPARED = [instance_masks, isbi_stack, ctc_folders, class_masks, ome_zarr, grey_probabilities]


@pytest.mark.parametrize("prepare", PREPARED)
def test_table_and_files_agree(ushape, tmp_path, prepare):
    words = [*prepare(tmp_path / "data"), "--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv"]
    done = ushape("evaluate", *words)
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads((tmp_path / "s.json").read_text())
    table = rows_of(done.stdout)
    whole = table[-len(content["counts"]) :]
    assert [row[0] for row in whole] == list(content["counts"])
    for name, value, over in whole:
        digits = len(value.partition(".")[2])
        assert float(value) == pytest.approx(content[name], abs=0.51 * 10**-digits)
        assert over.startswith(content["averages"][name])
        beside = over.removeprefix(content["averages"][name])
        for what, count in re.findall(r"(tp|fp|fn|matched|objects) (\d+)", beside):
            assert content["counts"][name][what] == int(count)
    for name, sequence in content.get("sequences", {}).items():
        shown = {row[0]: row[1] for row in table if row[2].startswith(f"sequence {name}")}
        assert shown == {key: f"{sequence[key]:.4f}" for key in ("seg", "det", "op_csb")}
    for line in content["conventions"]:
        assert line in done.stdout

    by_image = ushape("evaluate", *words, "--per-image")
    assert by_image.returncode == 0, by_image.stderr
    rows = {row[0]: row[1:] for row in rows_of(by_image.stdout)}
    with (tmp_path / "s.csv").open() as file:
        written = {row.pop("image"): row for row in csv.DictReader(file)}
    assert list(rows)[: len(written)] == list(written) == [image["name"] for image in content["images"]]
    for image in content["images"]:
        cells_of_image = dict(zip(written[image["name"]], rows[image["name"]], strict=True))
        for name, cell in cells_of_image.items():
            assert (name in image) == (cell != "-") == (written[image["name"]][name] != "")
            if name in image:
                assert float(written[image["name"]][name]) == image[name]
                digits = len(cell.partition(".")[2])
                assert float(cell) == pytest.approx(image[name], abs=0.51 * 10**-digits)
    last = dict(zip(next(iter(written.values())), rows["all"], strict=True))
    for name, cell in last.items():
        assert cell == "-" or float(cell) == pytest.approx(content[name], abs=0.51e-4)


def test_a_report_page_stands_by_itself(ushape, tmp_path):
    words = instance_masks(tmp_path / "data")[:2]
    done = ushape("evaluate", *words, "--report", tmp_path / "page.html", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "ap_0.50" in page
    assert "data:image/png;base64," in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


def test_lines_are_whole_where_they_are_piped_on(ushape, tmp_path):
    """Eighty columns, as a pipe has by default, would fold the table and the lines."""
    done = ushape("evaluate", *instance_masks(tmp_path / "data"), "--per-image")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("aji:")]
    assert line.endswith("1 without objects")
    assert max(map(len, done.stdout.splitlines())) > 150


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tolerance", "wide"], "--tolerance wide is no length"),
        (["--tolerance", "1um"], "needs a pixel size"),
        (["--pixel-size", "0.5"], "--pixel-size is used with a tolerance in micrometres"),
        (["--metrics", "ap50"], "'ap50' is not known: the IoU is part of the name, as in ap_0.50"),
        (["--metrics", "v_rand"], "'v_rand' does not fit object ids"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(ushape, tmp_path, words, message):
    done = ushape("evaluate", *instance_masks(tmp_path / "data")[:2], *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of that kind")
@pytest.mark.parametrize(
    "metrics", ["ap_0.50,pq,aji,f1_0.50", "ap_0.50,pq,aji,f1_0.50,seg,det,dice,nsd,hd95"]
)
def test_no_number_is_cut_on_a_narrow_terminal(tmp_path: Path, metrics: str) -> None:
    """Names of files are, as far as need be; a table that is too wide all the same is not folded."""
    name = "00ae65c1c6631ae6f2be1a449902976e6eb8483bf6b0740d00530220832c6d3e"
    true = squares((2, 2), (2, 12), (12, 2))
    stack(tmp_path / "truth" / f"{name}.tif", true)
    stack(tmp_path / "out" / f"{name}_instances.tif", np.roll(true, 1, axis=1))
    words = ["evaluate", tmp_path / "out", tmp_path / "truth", "--per-image", "--metrics", metrics]
    text = plain(on_a_terminal(*words, columns=80))
    row = next(line for line in text.splitlines() if re.search(r"\W 00ae", line))
    assert len(re.findall(r"\b\d\.\d{4}\b", row)) == len(metrics.split(",")), row
    assert (len(row) <= 80) == (metrics.count(",") == 3)


def test_files_are_written_even_if_nobody_reads_the_screen(tmp_path: Path) -> None:
    words = [*instance_masks(tmp_path / "masks"), "--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv"]
    command = [str(Path(sys.executable).with_name("ushape")), "evaluate", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.wait()
    assert "ap_0.50" in json.loads((tmp_path / "s.json").read_text())
    assert (tmp_path / "s.csv").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such names")
def test_folders_whose_names_are_no_unicode_are_scored(ushape, tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"M\xfcller")
    done = ushape("evaluate", *instance_masks(root), "--json", root / "s.json", "--report", root / "s.html")
    assert done.returncode == 0, done.stderr
    assert "ap_0.50" in json.loads((root / "s.json").read_text())
    assert "Traceback" not in done.stderr
