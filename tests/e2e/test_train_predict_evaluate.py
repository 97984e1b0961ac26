"""Annotated images in, a model, segmentations and scores out: the commands one after the other."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from terminal import on_a_terminal, plain

from ushape.checkpoint import load_model, model_hash, read_header, save_model

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


def test_int8_is_written_or_refused_with_the_figure(
    discs: Path, trained: Path, ushape, tmp_path: Path
) -> None:
    words = "predict", trained / "model.safetensors", discs / "images" / "d0.png", "--precision", "int8"
    done = ushape(*words, "--device", "cpu", "--output", tmp_path / "out")
    if done.returncode == 2:  # eight steps of training leave many pixels at the brink
        assert re.search(r"int8 changes the label of [\d.]+% of the pixels .*; use bf16 or fp32", done.stderr)
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
        return
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "d0.json").read_text())
    assert record["precision"] == "int8"
    assert record["engine"].startswith("openvino ")
    assert done.stdout.count("\n") == 1, "NNCF reports nothing of its own"


def test_an_average_is_written_and_named(discs: Path, trained: Path, ushape, tmp_path: Path) -> None:
    words = "predict", trained / "model.safetensors", discs / "images" / "d0.png", "--probabilities"
    found = {}
    for average in ("none", "paper", "d4"):
        done = ushape(*words, "--output", tmp_path / average, "--average", average)
        assert done.returncode == 0, done.stderr
        assert (f"average {average}" in done.stdout) == (average != "none")
        record = json.loads((tmp_path / average / "d0.json").read_text())
        assert record["average"] == average
        assert record["average_of"] == (None if average == "none" else "logits")
        found[average] = tifffile.imread(tmp_path / average / "d0_probabilities.tif")
    logits = {name: np.log(values[1] / values[0]) for name, values in found.items()}
    # All eight are the seven and the image itself; in float32, over a softmax and back; measured: 5e-6.
    np.testing.assert_allclose(8 * logits["d4"] - 7 * logits["paper"], logits["none"], atol=1e-4)
    assert np.abs(logits["d4"] - logits["none"]).max() > 1e-3


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


@pytest.fixture(scope="module")
def straight(discs: Path, ushape, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of forty steps from start to end."""
    run = tmp_path_factory.mktemp("straight") / "run"
    done = ushape("train", discs, "--output", run, "--steps", 40, *SMALL)
    assert done.returncode == 0, done.stderr
    return run


def assert_same_models(left: Path, right: Path) -> None:
    for name in ("model.safetensors", "last.safetensors"):
        assert model_hash(left / name) == model_hash(right / name)


def test_same_seed_same_bits_whatever_the_workers(discs: Path, ushape, tmp_path: Path) -> None:
    hashes = {trained_hash(ushape, discs, tmp_path / str(n), "--workers", n) for n in (0, 2)}
    assert len(hashes) == 1
    spawned = f"import multiprocessing, sys; multiprocessing.set_start_method('spawn'); {RUN_COMMAND}"
    words = [discs, "--output", tmp_path / "spawned", "--steps", 6, *SMALL, "--workers", 2]
    subprocess.run([sys.executable, "-c", spawned, "train", *map(str, words)], check=True)
    assert {model_hash(tmp_path / "spawned" / "model.safetensors")} == hashes
    other = ushape("train", discs, "--output", tmp_path / "other", "--steps", 6, *SMALL[:-1], 4)
    assert other.returncode == 0
    assert model_hash(tmp_path / "other" / "model.safetensors") not in hashes


RUN_COMMAND = "from ushape.cli.entry import main; main()"


def test_a_killed_run_resumes_to_the_same_bits(discs: Path, straight: Path, ushape, tmp_path: Path) -> None:
    words = ["train", discs, "--steps", 40, *SMALL]
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
    assert_same_models(tmp_path / "killed", straight)


def wait_for(path: Path, process: "subprocess.Popen[Any]") -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


@contextmanager
def training(*words: object, start_new_session: bool = False) -> Iterator["subprocess.Popen[str]"]:
    """`ushape train`, running."""
    command = [Path(sys.executable).with_name("ushape"), "train", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, start_new_session=start_new_session, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.usefixtures("ctrl_c_at_its_default")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["validation", "model.safetensors"])
def test_an_interrupted_run_keeps_a_model_and_goes_on_to_the_same_bits(
    discs: Path, straight: Path, ushape, tmp_path: Path, when: str, number: signal.Signals
) -> None:
    words = [discs, "--output", tmp_path / "run", "--steps", 40, *SMALL]
    with training(*words) as process:
        wait_for(tmp_path / "run" / when, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    read_header(tmp_path / "run" / "model.safetensors")
    assert (tmp_path / "run" / "report.html").exists()
    (line,) = (line for line in out.splitlines() if "to go on" in line)
    assert re.search(r"stopped .*after [0-9]+ steps; to go on: ushape train .* --resume$", line)
    resumed = ushape(*shlex.split(line.partition("ushape ")[2]))
    assert resumed.returncode == 0, resumed.stderr
    assert_same_models(tmp_path / "run", straight)


@pytest.mark.usefixtures("ctrl_c_at_its_default")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_of_a_run_ends_it_as_one_to_the_first_does(
    discs: Path, straight: Path, ushape, tmp_path: Path, number: signal.Signals
) -> None:
    words = [discs, "--output", tmp_path / "run", "--steps", 40, *SMALL, "--workers", 2]
    with training(*words, start_new_session=True) as process:
        wait_for(tmp_path / "run" / "validation", process)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert re.search(r"stopped .*after [0-9]+ steps; to go on: ushape train .* --resume\n", out)
    with pytest.raises(ProcessLookupError):  # no worker is left
        os.killpg(process.pid, 0)
    assert ushape("train", *words, "--resume").returncode == 0
    assert_same_models(tmp_path / "run", straight)


@pytest.mark.usefixtures("ctrl_c_at_its_default")
def test_a_second_ctrl_c_ends_at_once_and_says_how_to_go_on(discs: Path, tmp_path: Path) -> None:
    words = [discs, "--output", tmp_path / "run", "--steps", 1000, *SMALL]
    with training(*words) as process:
        state = tmp_path / "run" / "checkpoint" / "state.json"
        wait_for(state, process)
        saved = state.stat().st_mtime_ns
        time.sleep(0.3)  # until the steps go on: asked to stop while it saves, a run does not save again
        process.send_signal(signal.SIGINT)
        # Heard when a checkpoint is written; what comes after that takes a second at least.
        while process.poll() is None:
            with suppress(FileNotFoundError):  # between the renames of two folders
                if state.stat().st_mtime_ns != saved:
                    break
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    (line,) = err.splitlines()
    assert re.fullmatch(r"ushape: stopped by Ctrl-C; .*; to go on: ushape train .* --resume", line)
    read_header(tmp_path / "run" / "model.safetensors")


def test_a_run_ends_as_soon_as_the_score_is_reached(discs: Path, ushape, tmp_path: Path) -> None:
    words = ["train", discs, "--output", tmp_path / "run", "--steps", 40, *SMALL, "--until", "accuracy=0.05"]
    done = ushape(*words)
    assert done.returncode == 0, done.stderr
    assert "--until accuracy=0.05: reached at step 4" in done.stdout
    model = tmp_path / "run" / "model.safetensors"
    assert read_header(model).provenance["validation"]["step"] == 4
    before = model_hash(model)
    (tmp_path / "run" / "report.html").unlink()  # as if the run had been killed before it was written
    again = ushape(*words, "--resume")
    assert again.returncode == 0, again.stderr
    assert model_hash(model) == before, "it was there already"
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.usefixtures("ctrl_c_at_its_default")
@pytest.mark.parametrize("goal", ["fewer steps", "a score that is reached"])
def test_a_stopped_run_that_is_to_end_where_it_stands_is_finished(
    discs: Path, ushape, tmp_path: Path, goal: str
) -> None:
    words = [discs, "--output", tmp_path / "run", "--steps", 1000, *SMALL]
    with training(*words) as process:
        wait_for(tmp_path / "run" / "checkpoint" / "state.json", process)
        process.send_signal(signal.SIGKILL)
    page = tmp_path / "run" / "report.html"
    assert not page.exists()
    if goal == "fewer steps":
        words[words.index(1000)] = 1
    else:
        words += ["--until", "accuracy=0.05"]
    done = ushape("train", *words, "--resume")
    assert done.returncode == 0, done.stderr
    assert "probabilities, calibrated on" in done.stdout
    assert read_header(tmp_path / "run" / "model.safetensors").temperature != 1
    before = page.read_bytes()
    assert b"What probabilities are worth" in before
    again = ushape("train", *words, "--resume")
    assert again.returncode == 0, again.stderr
    assert page.read_bytes() == before, "nothing was computed that could be shown"


@pytest.mark.usefixtures("ctrl_c_at_its_default")
def test_two_processes_stop_at_one_ctrl_c_and_go_on(discs: Path, ushape, tmp_path: Path) -> None:
    words = [discs, "--output", tmp_path / "run", "--steps", 1000, "--devices", 2, *SMALL]
    with training(*words) as process:
        wait_for(tmp_path / "run" / "model.safetensors", process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    steps = int(re.search(r"after ([0-9]+) steps; to go on", out)[1])
    words[words.index(1000)] = steps + 2
    done = ushape("train", *words, "--resume")
    assert done.returncode == 0, done.stderr
    assert read_header(tmp_path / "run" / "last.safetensors").provenance["validation"]["step"] == steps + 2


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
    assert re.search(r"at last d0\.png; to go on: ushape predict .* --resume$", line)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"d0_classes.png", "d0.json"}
    again = ushape(*words)
    assert again.returncode == 2
    assert (
        "add --overwrite to replace it, --resume to go on with the 1 of 2 inputs without results (large.png)"
        in again.stderr
    )
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(large)
    done = ushape(*words, "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("d0.png: kept\nlarge.png: 50 x 50 px, ")


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


def test_train_says_how_objects_are_found_and_predict_finds_them_so(
    discs: Path, ushape, tmp_path: Path
) -> None:
    done = ushape("train", discs, "--output", tmp_path / "run", "--steps", 6, "--validation", 0.4, *SMALL)
    assert done.returncode == 0, done.stderr
    tuned = tmp_path / "run" / "model.safetensors"
    network, header = load_model(tuned)
    stored = header.postprocessing
    assert f"objects, tuned on 2 training images: {stored.in_words()}\n" in done.stdout
    changes = {"threshold": 0.35, "split": "distance", "seed_depth_px": 2.5, "min_area": 7}
    changed, another = tmp_path / "changed.safetensors", stored.changed(changes)
    save_model(changed, network, header.model_copy(update={"postprocessing": another}))
    for model, how in ((tuned, stored), (changed, another)):
        words = [discs / "images" / "d0.png", "--output", tmp_path / model.stem, "--instances"]
        done = ushape("predict", model, *words, "--device", "cpu")
        assert done.returncode == 0, done.stderr
        record = json.loads((tmp_path / model.stem / "d0.json").read_text())
        assert record["postprocessing"] == how.model_dump()


def test_train_says_that_areas_are_not_tuned(ushape, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for number in range(3):
        mask = np.zeros((96, 96), np.uint8)
        mask[:, 20 + 20 * number : 30 + 20 * number] = 255
        image = mask // 2 + rng.integers(0, 60, mask.shape, np.uint8)
        for kind, array in (("images", image), ("masks", mask)):
            Image.fromarray(array).save(tmp_path / "data" / kind / f"v{number}.png")
    done = ushape("train", tmp_path / "data", "--output", tmp_path / "run", "--steps", 2, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "objects, not tuned (in the annotations none touch): above 0.5, 4-connected; " in done.stdout


def test_a_pixel_size_that_is_stated_gives_the_scale_of_a_prediction(
    discs: Path, ushape, tmp_path: Path
) -> None:
    model, out = tmp_path / "run" / "model.safetensors", tmp_path / "out"
    done = ushape("train", discs, "-o", model.parent, "--steps", 2, "--pixel-size", "0.5,0.4", *SMALL)
    assert done.returncode == 0, done.stderr
    assert read_header(model).pixel_size_um == (0.5, 0.4)
    done = ushape("predict", model, discs / "images" / "d0.png", "-o", out, "--pixel-size", "1,0.8")
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "d0.json").read_text())["scale"] == [2.0, 2.0]
    words = ["train", discs, "-o", tmp_path / "tuned", "--from", model, "--pixel-size", 0.25, "--steps", 1]
    refused = ushape(*words)
    assert refused.returncode == 2
    assert "--pixel-size 0.25: " in refused.stderr
    assert "knows pixels of 0.5 x 0.4 um" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "tuned").exists()


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


def test_images_of_another_magnification(discs: Path, trained: Path, ushape, tmp_path: Path) -> None:
    large, out = tmp_path / "large.png", tmp_path / "out"
    Image.open(discs / "images" / "d0.png").resize((240, 192)).save(large)
    done = ushape("predict", trained / "model.safetensors", large, "--output", out, "--scale", 0.5)
    assert done.returncode == 0, done.stderr
    assert "large.png: 192 x 240 px, scale 0.5, 1 tile" in done.stdout
    assert np.asarray(Image.open(out / "large_classes.png")).shape == (192, 240)
    assert json.loads((out / "large.json").read_text())["scale"] == [0.5, 0.5]
