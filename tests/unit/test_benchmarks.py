"""The scripts of benchmarks/: they say where figures were taken, and judge rightly what they print."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from small_model import make_model

from ushape.checkpoint import save_model
from ushape.io import create_store

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*.py") if "def main(" in path.read_text())


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The scripts import each other by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_says_where_its_figures_were_taken(path):
    """README says so of all of them; of six it was not so."""
    _, _, main = path.read_text().partition("def main(")
    assert re.search(r"\b(circumstances|places|told)\(", main)


def test_circumstances_are_equal_but_for_the_load():
    from machine import circumstances

    full, short = circumstances(("torch", "nowhere"), "one core"), circumstances((), "one core", load=False)
    assert re.match(r"\d{4}-\d\d-\d\d; .*, one core of \d+; load before \d+\.\d; python 3", full)
    assert f"torch {torch.__version__}, nowhere not installed; commit " in full
    assert "load" not in short


def test_a_run_is_made_once_in_an_empty_folder_and_says_where(tmp_path):
    from records import places, recorded

    run, calls = tmp_path / "runs" / "a-seed0", []

    def make(folder):
        assert not list(folder.iterdir())
        calls.append(folder)
        return {"score": 0.5}

    run.mkdir(parents=True)
    (run / "half").write_text("of a killed run")
    first = recorded(run, ("torch",), make)
    assert recorded(run, ("torch",), make) == first
    assert calls == [run]
    assert first["score"] == 0.5
    assert f"torch {torch.__version__}; commit " in first["where"]
    assert places([first, first, {"score": 1}]) == [first["where"], "date and machine were not recorded"]


def test_a_run_that_fails_leaves_no_record(tmp_path):
    from records import recorded

    def fail(folder):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        recorded(tmp_path / "a", (), fail)
    assert not list(tmp_path.glob("*.json"))


@pytest.fixture
def record_of_paper():
    import em

    scores = {name: 0.5 for _, name in em.COLUMNS if name != "rand_error"}  # as records were made before
    return {
        "who": "paper",
        "seed": 3,
        "scores": {"ushape paper, last model, --average paper": dict.fromkeys(em.SUBSETS, scores)},
        "where": {"cpu": "of old", "cores": 2},
        "training": {
            "steps": 90,
            "seconds": 60.0,
            "validations": [{"loss": loss} for loss in ("0.7", "0.4", "0.5", "0.3")],
        },
    }


def test_the_recipe_of_the_paper_stands_beside_the_papers_figures(record_of_paper):
    import em

    head, _, run, _, published = em.table([record_of_paper])
    cells = ([cell.strip() for cell in row.split("|")] for row in (head, published))
    figures = dict(zip(*cells, strict=True))
    assert figures["v_rand, all"] == "0.9728"
    assert figures["pixel_error, all"] == "0.0611"
    assert figures["rand_error, all"] == "0.0382"
    assert figures["warping_error, all"] == "0.000353"
    assert figures["v_rand, clean"] == "-"
    assert run.endswith(" | nan | 0.500000 |")
    assert not any("published" in row for row in em.table([record_of_paper | {"who": "ushape"}]))
    (where,) = em.places([record_of_paper] * 2)
    assert "of old" in where


def test_whether_the_loss_fell_throughout_is_told(record_of_paper):
    import em

    source, loss = em.notes([record_of_paper])
    assert "the paper's table 1" in source
    assert "0.7000 at the first of 4 validations, 0.3000 at the last; it rose 1 times" in loss
    assert not list(em.notes([record_of_paper | {"who": "ushape"}]))


def test_memory_is_judged():
    from out_of_core import verdict

    assert verdict([90, 110], 100).endswith("kept; largest / smallest 1.22")
    assert "allowed: NOT KEPT" in verdict([111, 90], 100)


def test_labels_that_differ_are_counted_over_all_bands(tmp_path):
    from out_of_core import CHUNK, differing

    labels = np.random.default_rng(0).integers(0, 2, (CHUNK + 70, 30), dtype=np.uint8)
    for name in ("one", "other"):
        store = create_store(
            tmp_path / name / "a_classes.ome.zarr", "YX", labels.shape, np.uint8, (64, 64), version="0.5"
        )
        store[0][:] = labels
        labels = labels.copy()
        labels[[0, CHUNK - 1, CHUNK, -1], [3, 0, 29, 7]] ^= 1
    assert differing(tmp_path / "one", tmp_path / "one") == 0
    assert differing(tmp_path / "one", tmp_path / "other") == 4


@pytest.mark.parametrize(("width", "depth"), [(4, 2), (4, 4), (8, 4)])
def test_a_synthetic_network_finds_both_classes(width, depth, tmp_path):
    """Else equal labels say nothing."""
    from out_of_core import waves, write_model

    network = write_model(tmp_path / "model.safetensors", width, depth)
    size = network.geometry.input_size(200)
    image = waves(np.arange(4096, 4096 + size), size)  # elsewhere than where the median was taken
    tile = torch.from_numpy(((image - image.mean()) / image.std()).astype(np.float32))[None, None]
    with torch.inference_mode():
        share = float(network(tile)[0].argmax(0).float().mean())
    assert 0.25 < share < 0.75


def test_labels_of_each_precision_or_why_there_are_none(tmp_path):
    from labels import label_table

    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "train-volume.tif", rng.integers(0, 256, (24, 60, 70), dtype=np.uint8))
    cells = np.full((24, 60, 70), 255, np.uint8)
    cells[:, ::20] = cells[:, :, ::20] = 0
    tifffile.imwrite(tmp_path / "train-labels.tif", cells)
    save_model(tmp_path / "model.safetensors", *make_model())
    _, _, exact, *others, limits = label_table(tmp_path / "model.safetensors", tmp_path)
    assert re.fullmatch(r"\| fp32 \| \| 0\.\d{4} \| \| \|", exact)
    for precision, row in zip(("bf16", "int8"), others, strict=True):
        told = r"\d+\.\d{3}% \| 0\.\d{4} \| [+-]0\.\d{4} \| (yes|NO) \|"
        assert re.fullmatch(rf"\| {precision} \| ({told}|precision {precision}.* \| \| \| \|)", row)
    assert "99.8% (bf16), 99.5% (int8)" in limits


def test_margins_are_of_medians_beside_the_larger_spread():
    from encoders import margins

    records = [
        {"name": name, "scores": {"F1": score}}
        for name, scores in {"ours": (0.8, 0.7, 0.81), "theirs": (0.5, 0.9, 0.75)}.items()
        for score in scores
    ]
    assert list(margins(records)) == ["F1: ours - theirs: +0.0500 (spread over seeds 0.4000)"]
    assert list(margins(records[:3])) == [], "nothing to compare with"


@pytest.mark.parametrize(
    ("what", "theirs", "verdict"),
    [
        ("drive", 0.7, ", kept"),
        ("drive", 0.75, ", NOT KEPT"),
        ("camvid", 0.8, ", kept"),
        ("camvid", 0.81, ", NOT KEPT"),
    ],
)
def test_margins_say_whether_what_is_demanded_is_kept(what, theirs, verdict):
    from encoders import NETWORKS, margins

    of = dict(zip(NETWORKS, [(0.76, 0.8, 0.84), (0.6, 0.6, 0.6), (theirs,) * 3], strict=True))
    records = [{"name": name, "scores": {"F1": score}} for name in NETWORKS for score in of[name]]
    first, _, last = margins(records, what)
    assert first == f"F1: ushape - smp: {0.8 - theirs:+.4f} (spread over seeds 0.0800){verdict}"
    assert last == "F1: ushape - ushape, no full-resolution skip: +0.2000 (spread over seeds 0.0800)"
