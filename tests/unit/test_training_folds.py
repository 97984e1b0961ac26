"""Cross-validation: each image held out once, scored by a model that has not seen it; all models in one."""

import csv
import subprocess
import sys
from pathlib import Path
from shutil import copytree, rmtree
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ushape import Segmenter
from ushape.checkpoint import load_model, model_hash, read_header
from ushape.config import Calibration, Postprocessing
from ushape.data import Sample, open_folds
from ushape.errors import ConfigError, OutputError
from ushape.training import FAST, TrainResult, train_folds
from ushape.training import folds as training_folds
from ushape.training.calibration import calibrated
from ushape.training.fitting import fitted
from ushape.training.fold_table import Row, on_screen, write_page, write_table
from ushape.training.scores import kind_of, part_of, score, total
from ushape.training.tuning import object_diameter, untuned

OPTIONS = {
    "steps": 2,
    "width": 2,
    "device": "cpu",
    "precision": "fp32",
    "seed": 5,
    "pixel_size": "0.5,0.4",
}


@pytest.fixture(scope="module")
def run(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validation of five images in two folds."""
    output = tmp_path_factory.mktemp("folds") / "run"
    train_folds(discs, output, 2, **OPTIONS)
    return output


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_each_image_is_held_out_once_and_folds_are_spread(discs: Path, folds: int) -> None:
    groups, _ = open_folds(discs, folds, seed=1)
    names = [sample.name for group in groups for sample in group]
    assert sorted(names) == [f"d{number}" for number in range(5)]
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    part = {sample.name: place for place, group in enumerate(groups) for sample in group}
    for start in range(0, 5 - folds + 1, folds):
        assert {part[f"d{number}"] for number in range(start, start + folds)} == set(range(folds))


def test_the_seed_decides_the_folds(discs: Path) -> None:
    found = {
        tuple(tuple(sample.name for sample in group) for group in open_folds(discs, 2, seed=seed)[0])
        for seed in (0, 0, 1, 2, 3, 4)
    }
    assert 1 < len(found) < 6


def test_copies_of_an_image_cannot_be_on_both_sides(discs: Path, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for path in (discs / kind).iterdir():
            (tmp_path / kind / path.name).write_bytes(path.read_bytes())
        (tmp_path / kind / "copy-of-d0.png").write_bytes((discs / kind / "d0.png").read_bytes())
    groups, _ = open_folds(tmp_path, 3, classes="objects")
    names = {sample.name for group in groups for sample in group}
    assert len(names) == 5
    assert len({"d0", "copy-of-d0"} & names) == 1


def test_each_fold_is_a_run_that_has_not_seen_its_images(discs: Path, run: Path) -> None:
    groups, _ = open_folds(discs, 2, seed=5)
    for number, group in enumerate(groups, start=1):
        folder = run / f"fold-{number}"
        names = {path.name for path in folder.iterdir()}
        assert {"model.safetensors", "last.safetensors", "metrics.csv", "report.html", "checkpoint"} <= names
        provenance = read_header(folder / "last.safetensors").provenance
        held_out = {sample.name for sample in group}
        assert provenance["held_out"].keys() == held_out
        assert provenance["training"].keys() == {f"d{n}" for n in range(5)} - held_out
        assert provenance["seed"] == 5 + number - 1
        assert provenance["precision"] == "fp32"


def test_the_table_is_what_the_last_models_score_out_of_fold(discs: Path, run: Path) -> None:
    groups, _ = open_folds(discs, 2, seed=5)
    everything = [sample for group in groups for sample in group]
    kind = kind_of(everything, 2)
    found = {(row["fold"], row["image"]): row for row in rows_of(run / "folds.csv")}
    assert len(found) == len(rows_of(run / "folds.csv")) == 5 + 2 + 1
    probabilities, how = [], []
    for number, group in enumerate(groups, start=1):
        segmenter = Segmenter.load(run / f"fold-{number}" / "last.safetensors", device="cpu")
        for sample in group:
            probabilities.append(segmenter(sample.image, "fp32", axes="CYX").probabilities)
            how.append(segmenter.header.postprocessing)
            own = score([sample], probabilities[-1:], how[-1], kind)
            assert float(found[str(number), sample.name]["dice"]) == pytest.approx(own.dice, abs=1e-9)
    pairs = zip(everything, probabilities, how, strict=True)
    whole = total([part_of(*pair, kind) for pair in pairs], kind).row()
    for name in ("dice", "iou", "accuracy"):
        assert float(found["all", "all"][name]) == pytest.approx(whole[name], abs=1e-9)
    assert rows_of(run / "fold-2" / "out-of-fold.csv") == [
        row for row in rows_of(run / "folds.csv") if row["fold"] == "2"
    ]


def test_the_ensemble_holds_the_last_models_and_says_where_it_comes_from(run: Path) -> None:
    network, header = load_model(run / "model.safetensors")
    assert header.members == 2
    for number, member in enumerate(network.members, start=1):
        weights = load_model(run / f"fold-{number}" / "last.safetensors")[0].state_dict()
        assert all(torch.equal(tensor, member.state_dict()[name]) for name, tensor in weights.items())
    joined = [one["sha256"] for one in header.provenance["joined"]]
    assert joined == [model_hash(run / f"fold-{number}" / "last.safetensors") for number in (1, 2)]
    (whole,) = (row for row in rows_of(run / "folds.csv") if row["fold"] == "all")
    assert header.provenance["out_of_fold"]["dice"] == pytest.approx(float(whole["dice"]))
    page = (run / "report.html").read_text()
    assert "Cross-validation of 2 folds" in page
    assert "5 images, each scored once" in page


def test_the_ensemble_knows_the_objects_and_the_pixels_of_all_images(discs: Path, run: Path) -> None:
    groups, _ = open_folds(discs, 2, seed=5)
    header = read_header(run / "model.safetensors")
    assert header.pixel_size_um == (0.5, 0.4)
    assert header.object_diameter_px == object_diameter([one for group in groups for one in group])


def test_the_folds_are_of_one_network_though_their_images_ask_for_different_ones(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_the_first_image(samples: list[Sample], *_: object) -> int:
        return 2 if any(sample.name == "d0" for sample in samples) else 1

    for module in ("header", "folds"):
        monkeypatch.setattr(f"ushape.training.{module}.shrink_for", by_the_first_image)
    result = train_folds(discs, tmp_path, 2, steps=1, width=2, device="cpu")
    paths = [result.model, *(tmp_path / f"fold-{number}" / "last.safetensors" for number in (1, 2))]
    assert [read_header(path).architecture.shrink for path in paths] == [2, 2, 2]


def test_the_processing_of_the_ensemble_is_tuned_out_of_fold() -> None:
    objects = np.zeros((40, 60), np.int32)
    objects[10:30, 8:28], objects[10:30, 30:50] = 1, 2
    objects[2:8, 2:6], objects[2:8, 6:10] = 3, 4  # touch: objects matter one by one
    truth = Sample("s", np.zeros((1, 40, 60), np.uint8), objects, np.array([0, 1, 1, 1, 1], np.uint8))
    foreground = np.where(objects > 0, 0.95, 0.02).astype(np.float32)
    foreground[15:25, 28:30] = 0.55  # a bridge, above the usual threshold
    probability = np.stack([1 - foreground, foreground])
    balance = np.array([0.6, 3.0], np.float32)
    start = untuned([truth], "objects")
    of_objects = fitted([truth], [probability], "objects", start, balance)
    assert of_objects["class_bias"] == ()
    assert (
        calibrated(probability[:, 20, 29], Calibration(of_objects["temperature"]))[1]
        < of_objects["postprocessing"].threshold
    )
    of_areas = fitted([truth], [probability], "areas", untuned([truth], "areas"), balance)
    assert of_areas["postprocessing"] == Postprocessing()
    assert of_areas["class_bias"][0] > 0 > of_areas["class_bias"][1]


def test_a_finished_fold_is_not_trained_again(discs: Path, run: Path, tmp_path: Path) -> None:
    again = Path(copytree(run, tmp_path / "again"))
    (again / "model.safetensors").unlink()
    rmtree(again / "fold-2")
    of_first = [again / "fold-1" / name for name in ("last.safetensors", "metrics.csv", "report.html")]
    before = [path.stat().st_mtime_ns for path in of_first]
    result = train_folds(discs, again, 2, resume=True, **OPTIONS)
    assert [path.stat().st_mtime_ns for path in of_first] == before
    assert result.steps == 4
    assert model_hash(again / "model.safetensors") == model_hash(run / "model.safetensors")
    assert rows_of(again / "folds.csv") == rows_of(run / "folds.csv")


def test_a_fold_that_stalled_is_not_gone_on_with(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended before its budget: that it could take more steps is no reason to."""
    monkeypatch.setattr("ushape.training.until.PATIENCE", -1.0)
    options = OPTIONS | {"steps": 40, "until": "stalled"}
    result = train_folds(discs, tmp_path / "run", 2, **options)
    assert result.steps < 80
    hashes = [model_hash(tmp_path / "run" / f"fold-{number}" / "last.safetensors") for number in (1, 2)]
    (tmp_path / "run" / "model.safetensors").unlink()
    again = train_folds(discs, tmp_path / "run", 2, resume=True, **options)
    assert again.steps == result.steps
    assert hashes == [
        model_hash(tmp_path / "run" / f"fold-{number}" / "last.safetensors") for number in (1, 2)
    ]


def test_what_a_kill_left_of_a_fold_is_begun_anew(discs: Path, run: Path, tmp_path: Path) -> None:
    again = Path(copytree(run, tmp_path / "again"))
    rmtree(again / "fold-2" / "checkpoint")
    (again / "fold-2" / "out-of-fold.csv").unlink()
    train_folds(discs, again, 2, resume=True, **OPTIONS)
    assert model_hash(again / "model.safetensors") == model_hash(run / "model.safetensors")


CTRL_C_IN_THE_LAST_VALIDATION = """
import signal, sys
from ushape.training import train_folds
from ushape.training.validation import Validation

def finish_with_ctrl_c(self, *given, finish=Validation.finish):
    signal.raise_signal(signal.SIGINT)
    finish(self, *given)

Validation.finish = finish_with_ctrl_c
options = {"steps": 2, "width": 2, "device": "cpu", "precision": "fp32", "seed": 5, "pixel_size": "0.5,0.4"}
result = train_folds(sys.argv[1], sys.argv[2], 2, **options)
print("interrupted" if result.interrupted else "went on")
"""


def test_ctrl_c_after_the_last_step_of_a_fold_ends_the_folds(discs: Path, run: Path, tmp_path: Path) -> None:
    # In a process of its own: a signal is for a whole process, and this one holds every library of the tests.
    words = [sys.executable, "-c", CTRL_C_IN_THE_LAST_VALIDATION, discs, tmp_path / "run"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
    assert not (tmp_path / "run" / "fold-2").exists()
    train_folds(discs, tmp_path / "run", 2, resume=True, **OPTIONS)
    assert model_hash(tmp_path / "run" / "model.safetensors") == model_hash(run / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 3}, "fold-1 held out other images; give the --folds and --seed of that run"),
        ({"seed": 6}, "--resume: "),
        ({"recipe": "paper"}, "--resume: the run holds another network"),
        ({"recipe": FAST.model_copy(update={"loss": "dice"})}, "--resume: --recipe differs"),
        ({"width": 4}, "--resume: the run holds another network"),
        ({"resume": False}, "holds a run already; give another --output"),
        ({"validation": "0.3"}, "--folds holds every image out once; drop --validation 0.3"),
        ({"devices": 2, "nodes": 2}, "--folds trains on one device, not on 4; drop --devices and --nodes"),
        ({"folds": 1}, "--folds 1: nothing would be held out"),
        ({"folds": 6}, "--folds 6, but only 5 annotated images; give --folds 2 to 5"),
    ],
)
def test_what_cannot_be_gone_on_with_or_begun(
    discs: Path, run: Path, change: dict[str, object], message: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises((ConfigError, OutputError), match=message):
        train_folds(discs, run, **{"folds": 2, "resume": True, **OPTIONS, **change})
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_nothing_to_resume(discs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to resume, there is no fold-1/ in it; drop --resume"):
        train_folds(discs, tmp_path, 2, resume=True, **OPTIONS)


def test_each_fold_gets_its_share_of_the_time(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def stop(data: Path, output: Path, **options: object) -> TrainResult:
        given.append(options)
        return TrainResult(output, output, steps=1, scores={}, interrupted=True, stop_asked=True)

    monkeypatch.setattr(training_folds, "train", stop)
    assert train_folds(discs, tmp_path / "run", 4, time="2m", started=7.0).interrupted
    (options,) = given
    assert (options["time"], options["started"]) == (30.0, 7.0)
    assert options["kept"] > 0, "nothing is left for the scores of the whole"


def scored(value: float) -> SimpleNamespace:
    return SimpleNamespace(score=value, row=lambda: {"dice": value, "iou": value / 2})


def test_the_page_shows_the_worst_image_first(tmp_path: Path, run: Path) -> None:
    rows = [Row("1", "good", scored(0.9)), Row("1", "all", scored(0.9)), Row("2", "bad", scored(0.1))]
    rows += [Row("2", "all", scored(0.1)), Row("all", "all", scored(0.5))]
    write_page(tmp_path, read_header(run / "model.safetensors"), rows, "areas")
    page = (tmp_path / "report.html").read_text()
    assert page.index('<th scope="row">bad') < page.index('<th scope="row">good')
    assert "chosen by their mean Dice" in page
    write_table(tmp_path / "folds.csv", rows)
    assert [row["iou"] for row in rows_of(tmp_path / "folds.csv")] == ["0.45", "0.45", "0.05", "0.05", "0.25"]


@pytest.mark.parametrize(("images", "shown"), [(10, 11), (100, 1)])
def test_of_many_images_only_the_folds_are_on_the_screen(images: int, shown: int) -> None:
    rows = [Row("1", f"i{number}", scored(0.5)) for number in range(images)]
    assert on_screen([*rows, Row("1", "all", scored(0.5))]).row_count == shown
