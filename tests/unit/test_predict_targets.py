"""Which files are images, and which are results, of which run: by names, links and the records of runs."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from small_model import make_model

from ushape.checkpoint import save_model
from ushape.errors import DataError, ImageFormatError, OutputError
from ushape.predict import predict_files, record
from ushape.predict.targets import aside, find_inputs, replace, require_one_image_each, targets_of
from ushape.predict.whole import take

FP32 = {"precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, *make_model())
    return path


@pytest.fixture(scope="module")
def retrained(tmp_path_factory):
    path = tmp_path_factory.mktemp("retrained") / "model.safetensors"
    save_model(path, *make_model(temperature=3.0))
    return path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.png"
    Pillow.fromarray(np.random.default_rng(1).integers(0, 256, (70, 90), dtype=np.uint8)).save(path)
    return path


def names(found):
    """Of the entries of a folder, or of paths."""
    return [path.name for path in (sorted(found.iterdir()) if isinstance(found, Path) else found)]


def change(path, **results):
    """Let a record tell other results, or none, as those of older versions do."""
    told = json.loads(path.read_text())
    del told["results"]
    path.write_text(json.dumps(told | results))


# Inputs


@pytest.mark.parametrize("records", [["a.json"], []], ids=["with record", "without"])
def test_results_beside_their_image_are_no_inputs_of_folders_and_globs(records, tmp_path):
    for name in ("a.tif", "a_classes.tif", "a_instances.tif", "a_overlay.png", "b.tif", *records):
        (tmp_path / name).touch()
    for one in (tmp_path, str(tmp_path / "*"), str(tmp_path / "*.tif")):
        assert names(find_inputs([one])) == ["a.tif", "b.tif"]


def test_results_whose_images_lie_elsewhere_are_no_inputs_of_a_glob(tmp_path):
    for name in ("a_classes.tif", "a.json", "b_classes.tif"):
        (tmp_path / name).touch()
    assert names(find_inputs([str(tmp_path / "*.tif")])) == ["b_classes.tif"], "nothing says that it is ours"
    (tmp_path / "b.json").touch()
    with pytest.raises(ImageFormatError, match=r"\*\.tif: no image matches, results of ours aside; check"):
        find_inputs([str(tmp_path / "*.tif")])


def test_results_among_names_that_a_shell_expanded_are_no_inputs(tmp_path):
    for name in ("a.tif", "a_classes.tif", "b.tif", "a.json"):
        (tmp_path / name).touch()
    expanded = sorted(tmp_path.glob("*.tif"))
    assert names(find_inputs(expanded)) == ["a.tif", "b.tif"]
    assert names(find_inputs(expanded[1:])) == ["a_classes.tif", "b.tif"], "who names it alone means it"
    (tmp_path / "a.json").unlink()
    assert find_inputs(expanded) == expanded, "nothing says that it is ours"


def test_a_glob_goes_on_where_images_and_results_share_a_folder(model, image):
    shutil.copy(image, image.with_name("b.png"))
    predict_files(model, [image], image.parent, overlay=True, **FP32)
    results = predict_files(
        model, [str(image.with_name("*.png"))], image.parent, overlay=True, resume=True, **FP32
    )
    assert [(one.input.name, one.is_kept) for one in results] == [("a.png", True), ("b.png", False)]


# Names of results


@pytest.mark.parametrize(("one", "other"), [("A.png", "a.tif"), ("\u00e9.png", "e\u0301.tif")])
def test_names_that_many_disks_take_for_the_same_are_refused(one, other):
    stems = {Path(name): Path("out", Path(name).stem) for name in (one, other)}
    targets = {
        path: {"classes": stem.with_name(f"{stem.name}_x.tif"), "json": stem.with_name(f"{stem.name}.json")}
        for path, stem in stems.items()
    }
    with pytest.raises(DataError, match=rf"{one} and {other} would .*_x where capitals do not count; rename"):
        require_one_image_each(targets)


def test_classes_of_a_tiff_are_a_tiff_whatever_it_is_called(tmp_path):
    """It may be too large for a PNG."""
    (tmp_path / "tiff").mkdir()
    for path, suffix in ((tmp_path / "a.png", ".png"), (tmp_path / "tiff" / "a.png", ".tif")):
        write = Pillow.fromarray(np.zeros((5, 5), np.uint8)).save
        write(path, format="PNG" if suffix == ".png" else "TIFF")
        assert targets_of(path, tmp_path, ["classes"], "plain")["classes"].suffix == suffix


def test_a_sequence_has_the_name_of_the_link_to_it(tmp_path, monkeypatch):
    for folder in ("scratch", "02/more"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("scratch", "02"):
        tifffile.imwrite(tmp_path / folder / "t000.tif", np.zeros((8, 8), np.uint8))
    (tmp_path / "01").symlink_to(tmp_path / "scratch")
    linked = targets_of(tmp_path / "01" / "t000.tif", Path("out"), ["json"], "ctc")
    assert linked["json"] == Path("out", "01_RES", "mask000.json")
    monkeypatch.chdir(tmp_path / "02" / "more")
    above = targets_of(Path("..", "t000.tif"), Path("out"), ["json"], "ctc")
    assert above["json"] == Path("out", "02_RES", "mask000.json")


# Results get their names


def test_a_link_to_a_folder_is_replaced_and_the_folder_stays(tmp_path):
    elsewhere, made, target = (tmp_path / name for name in ("elsewhere", "made", "a_classes.ome.zarr"))
    for folder in (elsewhere, made):
        folder.mkdir()
        (folder / "zarr.json").write_text(folder.name)
    target.symlink_to(elsewhere)
    replace(made, target)
    assert not target.is_symlink()
    assert (target / "zarr.json").read_text() == "made"
    assert (elsewhere / "zarr.json").read_text() == "elsewhere"


def test_what_a_worker_thought_dead_still_writes_does_not_spoil_the_results(tmp_path):
    results = {"classes": tmp_path / "a_classes.tif", "json": tmp_path / "a.json"}
    hidden = aside(results, "now")
    hidden["json"].parent.mkdir()
    for path in (*hidden.values(), hidden["json"].with_name(".nfs0001")):
        path.write_text("new")
    take(tmp_path / "a.tif", results, "now")
    assert names(tmp_path) == ["a.json", "a_classes.tif"]


# Records of earlier runs


@pytest.mark.parametrize("kind", ["probabilities", "overlay"])
def test_resume_keeps_no_result_beside_the_record_of_another_run(kind, model, retrained, image, tmp_path):
    (old,) = predict_files(model, [image], tmp_path / "out", **{kind: True}, **FP32)
    left = old.outputs[kind].read_bytes()
    predict_files(retrained, [image], tmp_path / "out", overwrite=True, **FP32)
    old.outputs[kind].write_bytes(left)  # somebody put it back; older versions left it there
    message = rf"a\.json is of a run without {re.escape(old.outputs[kind].name)}; give .*, --overwrite to"
    with pytest.raises(OutputError, match=message):
        predict_files(retrained, [image], tmp_path / "out", resume=True, **{kind: True}, **FP32)
    (kept,) = predict_files(retrained, [image], tmp_path / "out", resume=True, **FP32)
    assert kept.is_kept


def test_resume_misses_a_result_that_the_record_lists(model, image, tmp_path):
    (made,) = predict_files(model, [image], tmp_path / "out", **FP32)
    made.outputs["classes"].unlink()
    with pytest.raises(OutputError, match=r"a\.json is there, but .*a_classes\.png is not; give the options"):
        predict_files(model, [image], tmp_path / "out", resume=True, **FP32)


def test_resume_keeps_results_of_which_more_kinds_are_there_than_asked_for(model, image, tmp_path):
    predict_files(model, [image], tmp_path / "out", overlay=True, probabilities=True, **FP32)
    (kept,) = predict_files(model, [image], tmp_path / "out", resume=True, overlay=True, **FP32)
    assert kept.is_kept


def test_overwrite_takes_away_the_other_results_of_the_run_it_replaces(model, retrained, image, tmp_path):
    out, everything = tmp_path / "out", ("instances", "probabilities", "outlines", "overlay")
    predict_files(model, [image], out, **dict.fromkeys(everything, True), **FP32)
    (out / "a_notes.txt").write_text("mine")
    (result,) = predict_files(retrained, [image], out, probabilities=True, overwrite=True, **FP32)
    assert names(out) == ["a.json", "a_classes.png", "a_notes.txt", "a_probabilities.tif"]
    assert result.report["results"] == {"classes": "a_classes.png", "probabilities": "a_probabilities.tif"}


def test_overwrite_takes_away_nothing_that_may_be_somebody_elses(model, image, tmp_path):
    out = tmp_path / "out"
    (result,) = predict_files(model, [image], out, **FP32)
    others = [tmp_path / "precious.txt", out / "b_classes.png", out / "a_overlay.png"]
    for path in others:
        path.write_text("mine")
    (out / "a_outlines.geojson").mkdir()
    told = {"overlay": "../precious.txt", "objects": "b_classes.png", "outlines": "a_outlines.geojson"}
    change(out / "a.json", results=result.report["results"] | told)
    predict_files(model, [image], out, overwrite=True, **FP32)
    assert [path.read_text() for path in others] == ["mine"] * 3
    assert (out / "a_outlines.geojson").is_dir()


def test_overwrite_takes_no_image_away_that_is_predicted(model, image, tmp_path):
    (result,) = predict_files(model, [image], tmp_path / "out", instances=True, **FP32)
    ids = result.outputs["instances"]
    predict_files(model, [image, ids], tmp_path / "out", overwrite=True, **FP32)
    assert names(tmp_path / "out") == [
        "a.json", "a_classes.png", "a_instances.json", "a_instances.tif", "a_instances_classes.tif",
    ]  # fmt: skip


def test_a_record_of_an_older_version_proves_nothing(model, image, tmp_path):
    out = tmp_path / "out"
    predict_files(model, [image], out, overlay=True, **FP32)
    change(out / "a.json")
    message = r"a\.json does not say which results are its own, .*; --overwrite replaces them, or choose"
    with pytest.raises(OutputError, match=message):
        predict_files(model, [image], out, overlay=True, resume=True, **FP32)
    predict_files(model, [image], out, overwrite=True, **FP32)
    assert names(out) == ["a.json", "a_classes.png", "a_overlay.png"], "it may be somebody else's"


@pytest.mark.parametrize("words", [{}, {"overwrite": True}, {"resume": True}], ids=str)
@pytest.mark.parametrize(
    "content",
    ['{"shapes": [], "imagePath": "a.png"}', '{"model": "m", "image": "a.png", "tiles": 3}', "[]", "no json"],
)
def test_what_is_no_record_of_ours_is_not_replaced(content, words, model, image, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(OutputError, match=r"a\.json is no record of a prediction; move it away, or choose"):
        predict_files(model, [image], tmp_path, **words, **FP32)
    assert names(tmp_path) == ["a.json", "a.png"]
    assert (tmp_path / "a.json").read_text() == content


def test_results_are_known_again_from_another_folder(model, image, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (made,) = predict_files(model, ["a.png"], "out", **FP32)
    assert made.report["image"]["file"] == str(image)
    monkeypatch.chdir(tmp_path / "out")
    (kept,) = predict_files(model, [image], tmp_path / "out", resume=True, **FP32)
    assert kept.is_kept


# Tables


def test_rows_of_a_table_become_words_some_at_a_time(monkeypatch):
    sizes, in_words = [], record._written
    monkeypatch.setattr(record, "_ROWS_AT_ONCE", 3)
    monkeypatch.setattr(record, "_written", lambda values: sizes.append(len(values)) or in_words(values))
    table = {"id": np.arange(1, 8), "class": np.array([1, 2, 1, 1, 1, 2, 1]), "area": np.full(7, 0.25)}
    header, rows = record.object_rows(table, make_model(classes=3)[1].classes)
    assert (header, sizes) == (["id", "class", "area"], [])
    kinds = ("cell", "debris", "cell", "cell", "cell", "debris", "cell")
    assert [*rows] == [(number, kind, "0.25") for number, kind in enumerate(kinds, start=1)]
    assert sizes == [3] * 6 + [1] * 3
    assert [*record.object_rows({name: values[:0] for name, values in table.items()}, ())[1]] == []
