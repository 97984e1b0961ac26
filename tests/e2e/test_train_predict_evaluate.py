"""Annotated images in, a model, segmentations and scores out: the commands one after the other."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from terminal import on_a_terminal, plain

from ushape.checkpoint import model_hash, read_header

SMALL = ("--width", 4, "--device", "cpu", "--seed", 3)


def test_a_run_leaves_everything_the_design_names(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {
        "model.safetensors",
        "last.safetensors",
        "metrics.csv",
        "report.html",
        "validation",
        "checkpoint",
    } <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert list((trained / "validation").glob("*.png"))


def test_the_model_file_tells_where_it_comes_from(trained: Path) -> None:
    header = read_header(trained / "model.safetensors")
    assert header.architecture.width == 4
    assert header.provenance["seed"] == 0
    assert header.provenance["budget"]["steps"] == 8
    assert len(header.provenance["training"]) + len(header.provenance["held_out"]) == 5
    assert [info.name for info in header.classes]
    assert header.temperature != 1
    assert header.object_diameter_px is None or 10 < header.object_diameter_px < 30
    scores = header.provenance["validation"]
    assert 0 <= scores["ece"] <= 1
    assert scores["ece"] != scores["ece_at_temperature_1"]


def test_predict_and_evaluate(discs: Path, trained: Path, ushape, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = ushape(
        "predict", trained / "model.safetensors", discs / "images", "--output", out,
        "--probabilities", "--instances", "--overlay",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.asarray(Image.open(out / "d0_classes.png")).shape == (96, 120)
    probabilities = tifffile.imread(out / "d0_probabilities.tif")
    assert probabilities.shape == (2, 96, 120)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    assert {"d0_instances.tif", "d0_objects.csv", "d0_overlay.png", "d0.json"} <= {
        p.name for p in out.iterdir()
    }
    scored = ushape("evaluate", out, discs / "masks", "--json", tmp_path / "scores.json")
    assert scored.returncode == 0, scored.stderr
    assert json.loads((tmp_path / "scores.json").read_text())


def test_a_tracking_result_is_written_and_scored(discs: Path, trained: Path, ushape, tmp_path: Path) -> None:
    frames, reference = tmp_path / "01", tmp_path / "01_GT"
    for folder in (frames, reference / "SEG", reference / "TRA"):
        folder.mkdir(parents=True)
    for number in range(3):
        tifffile.imwrite(
            frames / f"t00{number}.tif", np.asarray(Image.open(discs / "images" / f"d{number}.png"))
        )
        ids = np.asarray(Image.open(discs / "masks" / f"d{number}.png")).astype(np.uint16)
        tifffile.imwrite(reference / "TRA" / f"man_track00{number}.tif", ids)
    tifffile.imwrite(reference / "SEG" / "man_seg002.tif", ids)
    model, results = trained / "model.safetensors", tmp_path / "results"
    done = ushape("predict", model, frames, "--output", results, "--layout", "ctc", "--threshold", 0.3)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (results / "01_RES").glob("*.tif")) == [
        f"mask00{n}.tif" for n in range(3)
    ]
    scored = ushape("evaluate", results / "01_RES", reference, "--json", tmp_path / "scores.json")
    assert scored.returncode == 0, scored.stderr
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["counts"]["seg"]["objects"] == len(np.unique(ids)) - 1
    assert 0 <= found["seg"] <= 1
    assert 0 <= found["det"] <= 1


def trained_hash(ushape, data: Path, output: Path, *options: object) -> str:
    done = ushape("train", data, "--output", output, "--steps", 6, *SMALL, *options)
    assert done.returncode == 0, done.stderr
    return model_hash(output / "model.safetensors")


def test_same_seed_same_bits_whatever_the_workers(discs: Path, ushape, tmp_path: Path) -> None:
    hashes = {trained_hash(ushape, discs, tmp_path / str(n), "--workers", n) for n in (0, 2)}
    assert len(hashes) == 1
    other = ushape("train", discs, "--output", tmp_path / "other", "--steps", 6, *SMALL[:-1], 4)
    assert other.returncode == 0
    assert model_hash(tmp_path / "other" / "model.safetensors") not in hashes


def test_a_killed_run_resumes_to_the_same_bits(discs: Path, ushape, tmp_path: Path) -> None:
    words = ["train", discs, "--steps", 40, *SMALL]
    whole = ushape(*words, "--output", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    command = [
        Path(sys.executable).with_name("ushape"),
        *map(str, words),
        "--output",
        str(tmp_path / "killed"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(tmp_path / "killed" / "checkpoint" / "state.json", process)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed" / "report.html").exists(), "the run ended before it was killed"
    resumed = ushape(*words, "--output", tmp_path / "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    for name in ("model.safetensors", "last.safetensors"):
        assert model_hash(tmp_path / "killed" / name) == model_hash(tmp_path / "whole" / name)


def wait_for(path: Path, process: "subprocess.Popen[Any]") -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


@pytest.mark.usefixtures("ctrl_c_at_its_default")
def test_ctrl_c_keeps_a_model_and_says_how_to_go_on(discs: Path, tmp_path: Path) -> None:
    words = ["train", str(discs), "--output", str(tmp_path / "run"), "--steps", "1000", *map(str, SMALL)]
    command = [str(Path(sys.executable).with_name("ushape")), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(tmp_path / "run" / "model.safetensors", process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert "--resume" in out


@pytest.mark.usefixtures("ctrl_c_at_its_default")
def test_ctrl_c_in_predict_keeps_what_is_done_and_says_how_to_go_on(
    discs: Path, trained: Path, ushape, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"  # takes many seconds, the small one a fraction
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (5000, 5000), np.uint8)).save(large)
    words = ["predict", trained / "model.safetensors", discs / "images" / "d0.png", large]
    words += ["--output", tmp_path / "out", "--device", "cpu"]
    command = [Path(sys.executable).with_name("ushape"), *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("d0.png: ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    (line,) = err.splitlines()
    assert "1 file is done and whole, at last d0.png" in line
    assert "give the inputs after it, or the same command with --overwrite" in line
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"d0_classes.png", "d0.json"}
    again = ushape(*words)
    assert again.returncode == 2
    assert (
        "add --overwrite to replace it, give only the 1 of 2 inputs without results (large.png)"
        in again.stderr
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of that kind")
def test_predict_shows_a_bar_on_a_terminal(discs: Path, trained: Path, tmp_path: Path) -> None:
    words = ["predict", trained / "model.safetensors", discs / "images"]
    shown = on_a_terminal(*words, "--output", tmp_path / "out", "--device", "cpu", columns=100)
    assert "loading the model" in shown
    assert re.search(r"d[0-4]\.png \([1-5] of 5\)", shown)
    lines = [line for line in plain(shown).splitlines() if " px, " in line]
    assert [line.strip()[:7] for line in lines] == [f"d{number}.png:"[:7] for number in range(5)]


def test_a_time_budget_is_kept(discs: Path, ushape, tmp_path: Path) -> None:
    started = time.monotonic()
    done = ushape("train", discs, "--output", tmp_path / "run", "--time", "25s", *SMALL)
    assert done.returncode == 0, done.stderr
    # Not a measure of speed: a run that ignores its budget goes on for two thousand steps.
    assert 15 < time.monotonic() - started < 60
    assert read_header(tmp_path / "run" / "model.safetensors").provenance["budget"]["seconds"] == 25.0


def test_fine_tuning_starts_from_the_weights_given(
    discs: Path, trained: Path, ushape, tmp_path: Path
) -> None:
    done = ushape(
        "train", discs, "--output", tmp_path / "tuned", "--from", trained / "model.safetensors", "--steps", 1,
        "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_header(tmp_path / "tuned" / "model.safetensors").architecture.width == 4


@pytest.mark.parametrize("option", [("--time", "10m", "--steps", 5), ("--steps", 0), ("--time", "soon")])
def test_a_budget_that_cannot_be(discs: Path, ushape, tmp_path: Path, option: tuple[object, ...]) -> None:
    done = ushape("train", discs, "--output", tmp_path / "run", *option)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
