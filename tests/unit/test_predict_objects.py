"""Objects that `predict` writes: by the settings given, as outlines, as frames of a tracking challenge."""

import csv
import json
import re
import sys

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image as Pillow
from small_model import make_model

from ushape import cli
from ushape.backends import resident_memory
from ushape.checkpoint import save_model
from ushape.config import Postprocessing
from ushape.errors import ConfigError, DataError, OutputError
from ushape.instances import instances
from ushape.predict import Segmenter, predict_files, targets, whole

FP32 = {"precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, *make_model(postprocessing=Postprocessing(min_area=3)))
    return path


@pytest.fixture(scope="module")
def grey():
    return np.random.default_rng(1).integers(0, 256, (70, 90), dtype=np.uint8)


@pytest.fixture
def image(tmp_path, grey):
    path = tmp_path / "a.png"
    Pillow.fromarray(grey).save(path)
    return path


@pytest.fixture
def stack(tmp_path, grey):
    path = tmp_path / "b.tif"
    planes = np.stack([grey, 255 - grey, grey // 2])
    tifffile.imwrite(path, planes, metadata={"axes": "ZYX"}, photometric="minisblack")
    return path


def table_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# Settings


SETTINGS = {"threshold": 0.45, "min_area": 6, "split": "distance", "fill_holes": True, "border": "remove"}


def test_settings_replace_those_of_the_model(model, image, tmp_path, grey):
    (result,) = predict_files(model, [image], tmp_path, instances=True, postprocessing=SETTINGS, **FP32)
    segmentation = Segmenter.load(model, device="cpu")(grey, "fp32")
    ids = tifffile.imread(tmp_path / "a_instances.tif")
    expected = instances(segmentation.probabilities[1], Postprocessing(**SETTINGS))
    np.testing.assert_array_equal(ids, expected)
    assert not np.array_equal(ids, segmentation.instances())
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["postprocessing"] == Postprocessing(**SETTINGS).model_dump()
    assert record["objects"] == ids.max() == len(table_of(tmp_path / "a_objects.csv"))
    assert result.objects_in_words == (
        "objects: above 0.45, 4-connected, split between peaks of the distance 1 px deep, holes filled, "
        "at least 6 px, none at the border"
    )


def test_other_settings_stay_those_of_the_model(model, image, tmp_path):
    (result,) = predict_files(
        model, [image], tmp_path, instances=True, postprocessing={"border": "remove"}, **FP32
    )
    assert result.report["postprocessing"] == Postprocessing(min_area=3, border="remove").model_dump()


def test_without_objects_nothing_is_said_of_them(model, image, tmp_path):
    (result,) = predict_files(model, [image], tmp_path, overlay=True, **FP32)
    assert (result.report["postprocessing"], result.report["objects"]) == (None, None)
    assert result.objects_in_words is None


@pytest.mark.parametrize("axes", ["YX", "ZYX"])
def test_instances_by_other_settings(model, grey, axes):
    image = grey if axes == "YX" else np.stack([grey, 255 - grey])
    segmentation = Segmenter.load(model, device="cpu")(image, "fp32")
    settings = Postprocessing(threshold=0.45, min_area=10)
    ids = segmentation.instances(settings)
    probabilities = segmentation.probabilities.reshape(-1, 2, 70, 90)
    planes = [instances(plane[1], settings) for plane in probabilities]
    for plane, expected in zip(ids.reshape(-1, 70, 90), planes, strict=True):
        np.testing.assert_array_equal(plane > 0, expected > 0)
    assert np.unique(ids[ids > 0]).tolist() == list(range(1, sum(int(plane.max()) for plane in planes) + 1))
    same = segmentation.instances(Postprocessing(min_area=3))
    np.testing.assert_array_equal(segmentation.instances(), same)
    assert len(segmentation.objects()["id"]) == segmentation.instances().max() != ids.max()


def test_instances_by_other_settings_cost_no_pass_where_probabilities_are_kept(model, grey):
    for image, passes in ((grey, 1), (np.stack([grey, grey]), 2)):
        tiles = []
        segmentation = Segmenter.load(model, device="cpu")(
            image, "fp32", progress=lambda *count, tiles=tiles: tiles.append(count)
        )
        segmentation.compute(probabilities=True)
        segmentation.instances(Postprocessing(threshold=0.4))
        segmentation.instances(Postprocessing(threshold=0.6))
        assert len(tiles) == passes


def test_micrometres_without_a_pixel_size_are_refused_before_anything_is_computed(model, image, tmp_path):
    tiles = []
    with pytest.raises(ConfigError, match=r"7.5 um2, but .*a\.png does not tell the size of its pixels"):
        predict_files(
            model,
            [image],
            tmp_path / "out",
            instances=True,
            postprocessing={"min_area": 0, "min_area_um2": 7.5},
            progress=lambda *call: tiles.append(call),
            **FP32,
        )
    assert not tiles
    assert not (tmp_path / "out").exists()


def test_grey_values_in_the_table_are_those_of_the_file(model, tmp_path, grey):
    values = grey.astype(np.uint16) * 100 + 7
    tifffile.imwrite(tmp_path / "deep.tif", values)
    predict_files(model, [tmp_path / "deep.tif"], tmp_path, instances=True, **FP32)
    ids = tifffile.imread(tmp_path / "deep_instances.tif")
    for row in table_of(tmp_path / "deep_objects.csv"):
        inside = values[ids == int(row["id"])]
        assert (int(row["intensity_min"]), int(row["intensity_max"])) == (inside.min(), inside.max())
        assert float(row["intensity_mean"]) == pytest.approx(inside.mean(), rel=1e-9)
        assert row["class"] == "cell"


# Outlines


def test_outlines_of_an_image(model, image, tmp_path):
    (result,) = predict_files(model, [image], tmp_path, instances=True, outlines=True, **FP32)
    assert result.outputs["outlines"] == tmp_path / "a_outlines.geojson"
    collection = json.loads((tmp_path / "a_outlines.geojson").read_text())
    table = table_of(tmp_path / "a_objects.csv")
    ids = tifffile.imread(tmp_path / "a_instances.tif")
    assert len(collection["features"]) == len(table) == ids.max() > 3
    y, x = np.indices(ids.shape) + 0.5
    for feature, row in zip(collection["features"], table, strict=True):
        outline = shapely.geometry.shape(feature["geometry"])
        assert feature["id"] == int(row["id"])
        assert outline.area == int(row["area_px"])
        np.testing.assert_array_equal(shapely.contains_xy(outline, x, y), ids == feature["id"])
        assert "plane" not in feature["geometry"]
        assert feature["properties"]["classification"] == {"name": "cell", "color": [255, 80, 0]}


def test_outlines_of_a_stack_tell_their_plane(model, stack, tmp_path):
    predict_files(model, [stack], tmp_path, instances=True, outlines=True, **FP32)
    collection = json.loads((tmp_path / "b_outlines.geojson").read_text())
    table = table_of(tmp_path / "b_objects.csv")
    planes = [feature["geometry"]["plane"] for feature in collection["features"]]
    assert planes == [{"c": -1, "z": int(row["plane"]), "t": 0} for row in table]
    assert {place["z"] for place in planes} == {0, 1, 2}
    areas = [shapely.geometry.shape(feature["geometry"]).area for feature in collection["features"]]
    assert areas == [int(row["area_px"]) for row in table]


def test_outlines_alone_bring_no_ids_and_are_drawn(model, image, tmp_path):
    (result,) = predict_files(model, [image], tmp_path, outlines=True, overlay=True, **FP32)
    assert set(result.outputs) == {"classes", "outlines", "overlay", "json"}
    assert result.report["objects"] > 0
    expected = Segmenter.load(model, device="cpu")(image, "fp32").overlay(objects=True)
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "a_overlay.png")), expected)


# The Cell Tracking Challenge


@pytest.fixture
def sequences(tmp_path, grey):
    """Folders 01 and 02 of frames with three and four digits."""
    rng = np.random.default_rng(0)
    for folder, names in (("01", ("t000", "t001", "t012")), ("02", ("t0000", "t0001"))):
        (tmp_path / folder).mkdir()
        for name in names:
            frame = grey if name != "t001" else rng.permutation(grey)
            tifffile.imwrite(tmp_path / folder / f"{name}.tif", frame)
    return tmp_path


def test_frames_become_masks_of_the_same_number(model, sequences):
    out = sequences / "out"
    results = predict_files(model, [sequences / "01", sequences / "02"], out, layout="ctc", **FP32)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == [
        *(f"01_RES/mask{digits}.{end}" for digits in ("000", "001", "012") for end in ("json", "tif")),
        *(f"02_RES/mask{digits}.{end}" for digits in ("0000", "0001") for end in ("json", "tif")),
    ]
    segmenter = Segmenter.load(model, device="cpu")
    for result in results:
        mask = tifffile.imread(result.outputs["instances"])
        assert mask.dtype == np.uint16
        np.testing.assert_array_equal(mask, segmenter(result.input, "fp32").instances())
        assert json.loads(result.outputs["json"].read_text())["objects"] == mask.max()
    assert tifffile.imread(out / "01_RES" / "mask001.tif").max() > 3, "numbered anew in each frame"


def test_a_frame_without_objects_has_a_mask(model, sequences):
    settings = {"min_area": 70 * 90}
    predict_files(model, [sequences / "01"], sequences / "out", layout="ctc", postprocessing=settings, **FP32)
    masks = [tifffile.imread(path) for path in sorted((sequences / "out" / "01_RES").glob("*.tif"))]
    assert [(mask.dtype, mask.max()) for mask in masks] == [(np.uint16, 0)] * 3


def test_the_folder_names_the_sequence_from_within(model, sequences, monkeypatch):
    monkeypatch.chdir(sequences / "01")
    (result,) = predict_files(model, ["t000.tif"], "..", layout="ctc", **FP32)
    assert result.outputs["instances"].resolve() == sequences / "01_RES" / "mask000.tif"


@pytest.mark.parametrize("name", ["frame000.tif", "t00.tif", "t003_classes.tif"])
def test_other_names_are_refused(model, sequences, grey, name):
    tifffile.imwrite(sequences / "01" / name, grey)
    with pytest.raises(DataError, match=rf"01/{name} is not named tNNN\.tif, .*, or drop --layout ctc$"):
        predict_files(model, [sequences / "01"], sequences / "out", layout="ctc", **FP32)
    assert not (sequences / "out").exists()


def test_a_frame_of_several_planes_is_refused(model, sequences, stack):
    stack.rename(sequences / "01" / "t002.tif")
    with pytest.raises(DataError, match=r"t002\.tif has 3 planes; --layout ctc takes frames of one"):
        predict_files(model, [sequences / "01"], sequences / "out", layout="ctc", **FP32)


def test_more_objects_than_16_bits_can_name_are_refused(model, sequences, monkeypatch):
    monkeypatch.setattr(targets, "_LARGEST_CTC_ID", 3)
    with pytest.raises(DataError, match=r"t000\.tif has \d+ objects, but a mask of .* at most 3; drop small"):
        predict_files(model, [sequences / "01"], sequences / "out", layout="ctc", **FP32)
    assert not (sequences / "out").exists(), "no empty folder is left"


def test_a_frame_that_is_interrupted_leaves_no_folder(model, sequences, monkeypatch):
    seen = []

    def interrupt(path, _):
        seen.extend(path.parent.parent.rglob("*"))
        raise KeyboardInterrupt

    monkeypatch.setattr(whole, "write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, [sequences / "01"], sequences / "out", layout="ctc", **FP32)
    folder, file = seen
    assert folder.name.startswith(".mask000.in-hand-"), "no result has its name yet"
    assert file.name == "mask000.tif"
    assert not (sequences / "out").exists()


def test_a_record_never_stands_beside_results_that_are_not_its_own(model, sequences, monkeypatch):
    options = {"layout": "ctc", "overwrite": True, **FP32}
    predict_files(model, [sequences / "01" / "t000.tif"], sequences / "out", **options)

    def interrupt(made, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(whole, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, [sequences / "01" / "t000.tif"], sequences / "out", **options)
    assert [path.name for path in (sequences / "out" / "01_RES").iterdir()] == ["mask000.tif"]


def test_two_sequences_of_one_name_are_refused(model, sequences):
    other = sequences / "other" / "01"
    other.mkdir(parents=True)
    (sequences / "01" / "t001.tif").rename(other / "t000.tif")
    with pytest.raises(DataError, match=r"01/t000\.tif and .*other/01/t000\.tif would both be .* mask000; "):
        predict_files(model, [sequences / "01", other], sequences / "out", layout="ctc", **FP32)


def test_existing_masks_are_kept(model, sequences):
    mask = sequences / "out" / "01_RES" / "mask001.tif"
    mask.parent.mkdir(parents=True)
    mask.write_text("mine")
    with pytest.raises(OutputError, match=r"mask001\.tif exists; .* 2 of 3 inputs without results \(t000"):
        predict_files(model, [sequences / "01"], sequences / "out", layout="ctc", **FP32)
    assert mask.read_text() == "mine"


# The command line


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `ushape predict` here; return status, output and errors."""

    def predict(*words):
        monkeypatch.setattr(sys, "argv", ["ushape", "predict", *map(str, words), "--device", "cpu"])
        try:
            status = cli.main()
        except SystemExit as ended:
            status = ended.code
        shown = capsys.readouterr()
        return status or 0, shown.out, shown.err

    return predict


def test_the_command_prints_how_objects_are_found_and_does_so(run, model, image, tmp_path):
    options = "--threshold 0.4 --min-area 5px --split distance:1.5 --fill-holes --border remove --foi 2"
    status, shown, errors = run(
        model, image, "-o", tmp_path / "out", "--instances", "--outlines", *options.split()
    )
    assert (status, errors) == (0, "")
    settings = Postprocessing(
        threshold=0.4,
        min_area=5,
        split="distance",
        seed_depth_px=1.5,
        fill_holes=True,
        border="remove",
        foi_px=2,
    )
    first, second = shown.splitlines()
    assert first == f"objects: {settings.in_words()}"
    assert re.fullmatch(r"a.png: 70 x 90 px, 1 tile, \w+, \d+ objects, \d+\.\d s", second)
    record = json.loads((tmp_path / "out" / "a.json").read_text())
    assert Postprocessing(**record["postprocessing"]) == settings


def test_the_command_says_it_once_and_keeps_quiet(run, model, image, stack, tmp_path):
    _, shown, _ = run(model, image, stack, "-o", tmp_path / "out", "--instances")
    assert [line.split(":")[0] for line in shown.splitlines()] == ["objects", "a.png", "b.tif"]
    assert shown.startswith("objects: above 0.5, 4-connected, at least 3 px\n")
    assert run(model, image, "-o", tmp_path / "other", "--instances", "--quiet") == (0, "", "")


def test_holes_can_be_kept_where_the_model_fills_them(run, image, tmp_path):
    save_model(tmp_path / "fills.safetensors", *make_model(postprocessing=Postprocessing(fill_holes=True)))
    _, shown, _ = run(tmp_path / "fills.safetensors", image, "-o", tmp_path / "out", "--instances")
    assert "holes filled" in shown
    words = tmp_path / "fills.safetensors", image, "-o", tmp_path / "kept", "--instances", "--keep-holes"
    assert "holes filled" not in run(*words)[1]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ("--threshold 0.4", ("--threshold", "add --instances or --outlines")),
        ("--overlay --min-area 30", ("--min-area", "add --instances or --outlines")),
        ("--split distance", ("--split", "add --instances or --outlines")),
        ("--keep-holes", ("--fill-holes", "add --instances or --outlines")),
        ("--foi 5", ("--foi", "add --instances or --outlines")),
        ("--instances --threshold 1.5", ("'--threshold'", "less than or equal to 1")),
        ("--instances --threshold nan", ("'--threshold'", "less than or equal to 1")),
        ("--instances --min-area few", ("not an area: 'few'", "30", "30um2")),
        ("--instances --min-area 2.5", ("not an area: '2.5'", "whole pixels")),
        ("--instances --min-area -1", ("not an area: '-1'",)),
        ("--instances --min-area 30um2", ("a.png does not tell the size of its pixels", "--min-area 30")),
        ("--instances --split watershed", ("'watershed'", "none, probability or distance")),
        ("--instances --split distance:deep", ("'distance:deep'", "distance:1.5")),
        ("--instances --split none:1", ("'none:1'", "none, probability or distance")),
        ("--instances --split probability:1.5", ("seed_threshold 1.5", "less than or equal to 1")),
        ("--instances --split probability --threshold 0.9", ("peaks above 0.8", "--split probability:0.9")),
        ("--instances --border throw", ("border 'throw'", "'keep' or 'remove'")),
        ("--instances --foi -1", ("'--foi'", "greater than or equal to 0")),
        ("--instances --foi 50", ("frame of 50 px (--foi) covers all of", "a.png, 70 x 90 px", "at most 34")),
        ("--layout table", ("'table'", "use plain or ctc")),
        ("--layout ctc", ("a.png is not named tNNN.tif", "drop --layout ctc")),
        ("--layout ctc --overlay", ("--layout ctc writes masks of objects only", "drop --overlay")),
        ("--layout ctc --outlines", ("drop --outlines",)),
        ("--layout ctc --probabilities", ("drop --probabilities",)),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(run, model, image, tmp_path, options, parts):
    status, shown, errors = run(model, image, "-o", tmp_path / "out", *options.split())
    assert (status, shown) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith("ushape: ")
    assert [part for part in parts if part not in line] == [], line
    assert not (tmp_path / "out").exists()


def test_objects_that_take_more_memory_than_is_allowed_are_refused_before_anything_is_computed():
    """The network's tiles and the probabilities would fit."""
    segmenter, steps = Segmenter(*make_model(), device="cpu"), []
    image = np.zeros((20_000, 20_000), np.uint8)  # whose memory nobody touches
    result = segmenter(
        image, "fp32", resident_memory() + 7 * 10**9, progress=lambda *done: steps.append(done)
    )
    message = r"^the image: finding objects takes 24 GB, and [\d.]+ GB are allowed by --max-memory; give more"
    with pytest.raises(ConfigError, match=message):
        result.instances()
    with pytest.raises(ConfigError, match="finding objects takes 44 GB"):
        result.instances(Postprocessing(split="distance"))
    assert steps == []


def test_a_part_that_begins_in_a_filled_hole_has_the_class_of_its_object():
    """In a hole the most probable foreground class says nothing; by blocks it is the component's as well."""
    foreground = np.array([[0.9, 0.7, 0.7], [0.7, 0.1, 0.7], [0.7, 0.9, 0.7]], np.float32)
    second = np.array([[0, 0, 0], [0, 0.6, 0], [0, 0, 0]], np.float32)
    plane = np.stack([1 - foreground, foreground * (1 - second), foreground * second])
    how = Postprocessing(fill_holes=True, split="probability", seed_threshold=0.8)
    network, header = make_model(classes=3, postprocessing=how)
    result = Segmenter(network, header, device="cpu")(np.zeros((3, 3), np.uint8), "fp32")
    ids = instances(plane[1:].sum(0), how, classes=plane[1:].argmax(0).astype(np.uint8) + 1)
    assert (ids > 0).all()
    assert len(np.unique(ids)) == 2
    assert ids[1, 1] == 2, "the hole is the first pixel of its part"
    assert result._measured(ids, 0, plane)["class"].tolist() == [1, 1]


def test_a_large_image_is_not_hours_of_silence_where_nobody_sees_a_bar(
    run, model, image, tmp_path, monkeypatch
):
    monkeypatch.setattr("ushape.cli.predict.EVERY_S", -1.0)
    status, shown, _ = run(model, image, "-o", tmp_path / "out")
    assert status == 0
    assert re.search(r"^\S.*: 1 of 1$", shown, re.MULTILINE)
    status, shown, _ = run(model, image, "-o", tmp_path / "quiet", "--quiet")
    assert (status, shown) == (0, "")
