"""Images predicted block by block: the same as in memory, whatever interrupts it."""

import csv
import json
import shutil
from dataclasses import replace
from math import isqrt
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image as Pillow
from scipy.ndimage import gaussian_filter
from small_blocks import cut_small
from small_model import make_model
from test_io_large import attributes_of, moved, pyramid, say, write_ome_zarr

from ushape import pictures
from ushape.checkpoint import model_hash, save_model
from ushape.config import EncoderUNetConfig, ModelHeader, Normalization, Postprocessing
from ushape.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ImageFormatError,
    OutputError,
    ShapeError,
)
from ushape.io import LargeImage, create_store, read_image, read_labels
from ushape.models import EncoderUNet
from ushape.predict import (
    Segmenter,
    block_planning,
    block_task,
    blocks,
    budget,
    files,
    large,
    large_objects,
    large_pictures,
    predict_files,
    targets,
)
from ushape.predict import segmenter as segmenter_module
from ushape.predict.block_planning import normalizations_of, plan_blocks, require_readable
from ushape.predict.blocks import Asked, BlockPlan
from ushape.predict.budget import budget_of
from ushape.predict.plane_statistics import normalization_of
from ushape.predict.scaled_image import ScaledImage
from ushape.tiling import plan_tiles

FP32 = {"precision": "fp32", "device": "cpu"}
EVERYTHING = {"instances": True, "probabilities": True, "outlines": True, "overlay": True}
HOW = Postprocessing(min_area=3, fill_holes=True)
MADE = {"classes": 3, "postprocessing": HOW, "temperature": 1.5, "class_bias": (0.05, -0.05, 0.0)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, *make_model(**MADE))
    return path


@pytest.fixture
def grey():
    return np.random.default_rng(1).integers(0, 4000, (150, 210), dtype=np.uint16)


@pytest.fixture
def small_blocks(monkeypatch):
    cut_small(monkeypatch, 80)
    monkeypatch.setattr(files, "_takes_blocks", lambda path, *_: path.suffix in {".zarr", ".svs"})


def in_memory(model, image, tmp_path, monkeypatch, **options):
    """Results of the path for small images, with the same tiles."""
    monkeypatch.setattr(files, "_takes_blocks", lambda *_: False)
    path = tmp_path / "whole" / "a.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, image, photometric="minisblack", **options)
    (result,) = predict_files(model, [path], tmp_path / "expected", **EVERYTHING, **FP32)
    return replace(result, report=json.loads(result.outputs["json"].read_text()))


def same_outlines_and_overlay(result, expected):
    outlines = [json.loads(it.outputs["outlines"].read_text()) for it in (result, expected)]
    in_order = (sorted(one["features"], key=lambda it: it["id"]) for one in outlines)
    for mine, other in zip(*in_order, strict=True):
        for it in (mine, other):  # measurements are those of the tables, compared there
            assert it["properties"].pop("measurements")
        assert mine == other
    pixels = [np.asarray(Pillow.open(it.outputs["overlay"])) for it in (result, expected)]
    np.testing.assert_array_equal(*pixels)


def table_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def stop_after_blocks(monkeypatch, *words, **options):
    """Interrupt a prediction when all its blocks are done."""

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(large, "_finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict_files(*words, **options, **FP32)


def kill_while_clearing(monkeypatch, folder, *words, **options):
    """End a prediction in the middle of taking away a folder: chunks are gone, notes of blocks are not."""
    remove = shutil.rmtree

    def killed(path, **how):
        if Path(path) != folder or not folder.exists():
            return remove(path, **how)
        for chunk in [one for one in folder.glob("*/*/s0/c/**/*") if one.is_file()]:
            chunk.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            predict_files(*words, **options, **FP32)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ome_zarr_gives_what_the_same_image_gives_in_memory(
    model, grey, version, tmp_path, small_blocks, monkeypatch
):
    path = write_ome_zarr(
        tmp_path / "a.ome.zarr", grey, "YX", version,
        scale={"y": 0.5, "x": 0.5}, axes_units={"y": "micrometer", "x": "micrometer"},
    )  # fmt: skip
    (result,) = predict_files(model, [path], tmp_path / "out", **EVERYTHING, **FP32)
    assert sorted(it.name for it in (tmp_path / "out").iterdir()) == [
        "a.json", "a_classes.ome.zarr", "a_instances.ome.zarr", "a_objects.csv", "a_outlines.geojson",
        "a_overlay.png", "a_probabilities.ome.zarr",
    ]  # fmt: skip
    assert result.report["blocks"]["number"] > 4
    expected = in_memory(
        model, grey, tmp_path, monkeypatch, resolution=(20000, 20000), resolutionunit=3, metadata=None
    )
    assert result.report["tiles"] == expected.report["tiles"]
    for kind in ("classes", "instances", "probabilities"):
        group = zarr.open_group(str(result.outputs[kind]), mode="r")
        assert group.info._zarr_format == {"0.4": 2, "0.5": 3}[version]
        np.testing.assert_array_equal(group["s0"][:], tifffile.imread(expected.outputs[kind]))
    assert read_labels(result.outputs["instances"]).array.max() > 20
    assert table_of(result.outputs["objects"]) == table_of(expected.outputs["objects"])
    same_outlines_and_overlay(result, expected)
    same = ("classes", "objects", "postprocessing", "warnings", "precision", "scale")
    assert {name: result.report[name] for name in same} == {name: expected.report[name] for name in same}
    with LargeImage(result.outputs["classes"]) as image:
        assert image.pixel_size_um == (0.5, 0.5)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_results_of_an_ome_zarr_lie_on_it(version, model, grey, tmp_path, small_blocks):
    path, stack = tmp_path / "a.zarr", np.stack([grey, 4000 - grey])
    units = {"t": "second", "z": "micrometer", "y": "nanometer", "x": "nanometer"}
    write_ome_zarr(path, stack[None, None], "TCZYX", version, axes_units=units)
    where = moved([9.0, 1.0, 2.0, 1000.0, 500.0], [7.0, 0.0, 3.0, 100.0, 200.0])
    say(
        path,
        datasets=[{"path": "s0", "coordinateTransformations": where}],
        coordinateTransformations=[{"type": "scale", "scale": [1.0, 1.0, 1.0, 0.5, 0.5]}],
    )
    (result,) = predict_files(model, [path], tmp_path / "out", instances=True, probabilities=True, **FP32)
    assert result.report["image"]["pixel_size_um"] == [0.5, 0.25]
    row = table_of(result.outputs["objects"])[0]
    assert float(row["area_um2"]) == pytest.approx(float(row["area_px"]) * 0.125)
    for kind, channel in (("classes", {}), ("instances", {}), ("probabilities", {"c": (1.0, 0.0, None)})):
        told = attributes_of(result.outputs[kind])
        (multiscale,) = told["multiscales"]
        expected = channel | {
            "z": (2.0, 3.0, "micrometer"),
            "y": (500.0, 50.0, "nanometer"),
            "x": (250.0, 100.0, "nanometer"),
        }
        steps, offsets, units = map(list, zip(*expected.values(), strict=True))
        assert [axis["name"] for axis in multiscale["axes"]] == [*expected]
        assert [axis.get("unit") for axis in multiscale["axes"]] == units
        assert multiscale["datasets"][0]["coordinateTransformations"] == moved(steps, offsets)
        assert told.get("image-label", {}).get("colors") != []


def test_results_of_an_image_that_names_no_unit_have_its_scale(model, grey, tmp_path, small_blocks):
    path = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5", scale={"y": 0.65, "x": 0.325})
    (result,) = predict_files(model, [path], tmp_path / "out", **FP32)
    assert result.report["image"]["pixel_size_um"] is None
    (multiscale,) = attributes_of(result.outputs["classes"])["multiscales"]
    assert multiscale["axes"] == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    assert multiscale["datasets"][0]["coordinateTransformations"] == moved([0.65, 0.325], [0.0, 0.0])


def test_a_size_of_pixels_that_is_given_is_that_of_the_results(grey, tmp_path, small_blocks):
    model, units = tmp_path / "model.safetensors", {"z": "nanometer", "y": "nanometer", "x": "nanometer"}
    save_model(model, *make_model(pixel_size_um=(0.5, 0.5)))
    path = write_ome_zarr(
        tmp_path / "a.zarr", np.stack([grey, 4000 - grey]), "ZYX", "0.5",
        scale={"z": 900.0, "y": 250.0, "x": 250.0}, axes_units=units,
    )  # fmt: skip
    (result,) = predict_files(model, [path], tmp_path / "out", pixel_size=0.5, **FP32)
    (multiscale,) = attributes_of(result.outputs["classes"])["multiscales"]
    assert [axis["unit"] for axis in multiscale["axes"]] == ["nanometer", "micrometer", "micrometer"]
    told = multiscale["datasets"][0]["coordinateTransformations"]
    assert told == moved([900.0, 0.5, 0.5], [0.0, 0.0, 0.0])


def test_no_half_chunk_of_a_killed_run_is_in_its_results(model, grey, tmp_path, small_blocks, monkeypatch):
    path, out = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5"), tmp_path / "out"
    stop_after_blocks(monkeypatch, model, [path], out)
    (chunks,) = (out / ".a.unfinished").glob("*/classes/s0/c/0")
    (chunks / "0.0123456789abcdef.partial").write_bytes(b"half of a chunk")
    (result,) = predict_files(model, [path], out, **FP32)
    assert not list(result.outputs["classes"].rglob("*.partial"))


@pytest.mark.parametrize("split", [{"split": "distance"}, {"split": "probability", "seed_threshold": 0.8}])
def test_a_watershed_parts_what_it_parts_in_memory(split, grey, tmp_path, small_blocks, monkeypatch):
    how = HOW.model_copy(update=split | {"threshold": 0.4})
    parting = tmp_path / "parting.safetensors"
    save_model(parting, *make_model(classes=3, postprocessing=how, temperature=1.5))
    smooth = gaussian_filter(grey.astype(float), 2)
    image = (4000 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint16)
    path = write_ome_zarr(tmp_path / "a.ome.zarr", image, "YX", "0.5")
    (result,) = predict_files(parting, [path], tmp_path / "out", **EVERYTHING, **FP32)
    (plain,) = predict_files(
        parting, [path], tmp_path / "plain", instances=True, postprocessing={"split": "none"}, **FP32
    )
    expected = in_memory(parting, image, tmp_path, monkeypatch)
    for kind in ("classes", "instances", "probabilities"):
        group = zarr.open_group(str(result.outputs[kind]), mode="r")
        np.testing.assert_array_equal(group["s0"][:], tifffile.imread(expected.outputs[kind]))
    assert table_of(result.outputs["objects"]) == table_of(expected.outputs["objects"])
    numbered, unparted = (
        zarr.open_group(str(it.outputs["instances"]), mode="r")["s0"][:] for it in (result, plain)
    )
    assert not np.array_equal(numbered, unparted)
    assert sorted(it.name for it in (tmp_path / "out").iterdir() if it.name.startswith(".")) == []


def test_a_run_whose_parts_took_too_much_memory_goes_on(model, grey, tmp_path, small_blocks, monkeypatch):
    path = write_ome_zarr(tmp_path / "a.ome.zarr", grey, "YX", "0.5")
    words = {"instances": True, "postprocessing": {"split": "distance", "threshold": 0.05}}
    monkeypatch.setattr(budget, "free_memory", lambda *_: 0)
    with pytest.raises(ConfigError, match=r"--split distance takes 0\.0 GB; give --max-memory"):
        predict_files(model, [path], tmp_path / "out", **words, **FP32)
    monkeypatch.undo()
    monkeypatch.setattr(files, "_takes_blocks", lambda path, *_: path.suffix == ".zarr")
    (result,) = predict_files(model, [path], tmp_path / "out", **words, **FP32)
    blocks_of = result.report["blocks"]
    assert blocks_of["kept_of_an_interrupted_run"] == blocks_of["number"] > 4
    assert result.report["megapixels_per_s"] == 0, "none was computed in these seconds"


def test_a_stack_is_normalised_and_numbered_plane_by_plane(model, grey, tmp_path, small_blocks, monkeypatch):
    stack = np.stack([grey, grey // 3 + 100, 4000 - grey])
    path = write_ome_zarr(tmp_path / "a.zarr", stack, "ZYX", "0.5")
    (result,) = predict_files(model, [path], tmp_path / "out", **EVERYTHING, **FP32)
    expected = in_memory(model, stack, tmp_path, monkeypatch, metadata={"axes": "ZYX"})
    for kind in ("classes", "instances"):
        np.testing.assert_array_equal(
            read_labels(result.outputs[kind]).array, tifffile.imread(expected.outputs[kind])
        )
    found = zarr.open_group(str(result.outputs["probabilities"]), mode="r")["s0"][:]
    np.testing.assert_array_equal(found.swapaxes(0, 1), tifffile.imread(expected.outputs["probabilities"]))
    assert table_of(result.outputs["objects"]) == table_of(expected.outputs["objects"])
    same_outlines_and_overlay(result, expected)


def test_a_slide_gives_tiled_tiffs(tmp_path, small_blocks, monkeypatch):
    rgb = np.random.default_rng(1).integers(0, 256, (150, 210, 3), dtype=np.uint8)
    model = tmp_path / "model.safetensors"
    save_model(model, *make_model(in_channels=3, postprocessing=HOW))
    path = pyramid(tmp_path / "a.svs", rgb, photometric="rgb", compression="jpeg")
    (result,) = predict_files(model, [path], tmp_path / "out", instances=True, probabilities=True, **FP32)
    monkeypatch.setattr(files, "_takes_blocks", lambda *_: False)
    (expected,) = predict_files(
        model, [path], tmp_path / "memory", instances=True, probabilities=True, **FP32
    )
    for kind in ("classes", "instances", "probabilities"):
        assert result.outputs[kind].name == expected.outputs[kind].name
        found = tifffile.imread(result.outputs[kind])
        np.testing.assert_array_equal(found, tifffile.imread(expected.outputs[kind]))
    assert table_of(result.outputs["objects"]) == table_of(expected.outputs["objects"])
    with tifffile.TiffFile(result.outputs["classes"]) as file:
        assert file.is_bigtiff
        assert file.pages.first.is_tiled
    assert sorted(it.name for it in (tmp_path / "out").iterdir()) == sorted(
        it.name for it in (tmp_path / "memory").iterdir()
    )


def test_a_run_that_is_interrupted_goes_on_with_its_blocks(model, grey, tmp_path, small_blocks, monkeypatch):
    path, out = write_ome_zarr(tmp_path / "a.ome.zarr", grey, "YX", "0.5"), tmp_path / "out"
    (whole,) = predict_files(model, [path], tmp_path / "whole", instances=True, **FP32)
    computed, write = [], block_task._write_block

    def interrupted(probabilities, plan, number, folder):
        if len(computed) == 3:
            raise KeyboardInterrupt
        computed.append(number)
        write(probabilities, plan, number, folder)

    monkeypatch.setattr(block_task, "_write_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, [path], out, instances=True, **FP32)
    assert [it.name for it in out.iterdir()] == [".a.unfinished"]
    with pytest.raises(ConfigError, match=r"\.a\.unfinished holds an unfinished run with another results"):
        predict_files(model, [path], out, **FP32)
    monkeypatch.setattr(block_task, "_write_block", lambda *args: (computed.append(args[2]), write(*args)))
    (result,) = predict_files(model, [path], out, instances=True, **FP32)
    assert computed == [*range(whole.report["blocks"]["number"])]
    assert f"went on with 3 of {len(computed)} blocks" in result.summary
    for kind in ("classes", "instances"):
        np.testing.assert_array_equal(
            read_labels(result.outputs[kind]).array, read_labels(whole.outputs[kind]).array
        )
    assert not list(out.glob(".*"))
    with pytest.raises(OutputError, match="exists"):
        predict_files(model, [path], out, instances=True, **FP32)


@pytest.mark.parametrize("step", ["find_objects", "_finish", "replace"])
def test_a_run_interrupted_after_its_blocks_goes_on(step, model, grey, tmp_path, small_blocks, monkeypatch):
    path, out = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.4"), tmp_path / "out"
    module = targets if step == "replace" else large
    original, calls = getattr(module, step), []

    def second_fails(*args):
        calls.append(args)
        if len(calls) == {"find_objects": 1}.get(step, 2):
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(module, step, second_fails)
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, [path], out, instances=True, **FP32)
    (result,) = predict_files(model, [path], out, instances=True, **FP32)
    (whole,) = predict_files(model, [path], tmp_path / "whole", instances=True, **FP32)
    assert all(output.exists() for output in result.outputs.values())
    for kind in ("classes", "instances"):
        np.testing.assert_array_equal(
            read_labels(result.outputs[kind]).array, read_labels(whole.outputs[kind]).array
        )
    assert not list(out.glob(".*"))


def test_other_settings_start_anew_with_overwrite(model, grey, tmp_path, small_blocks, monkeypatch):
    path, out = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5"), tmp_path / "out"
    predict_files(model, [path], out, **FP32)
    (result,) = predict_files(model, [path], out, overwrite=True, probabilities=True, **FP32)
    assert result.outputs["probabilities"].exists()
    assert result.report["blocks"]["kept_of_an_interrupted_run"] == 0


def test_an_unfinished_run_of_another_engine_can_be_begun_anew(
    model, grey, tmp_path, small_blocks, monkeypatch
):
    path, out = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5"), tmp_path / "out"
    stop_after_blocks(monkeypatch, model, [path], out)
    stored = out / ".a.unfinished" / "plan.json"
    plan = json.loads(stored.read_text())
    assert plan["asked"]["engine"] == plan["engine"]
    plan["asked"]["engine"] = plan["engine"] = "abacus 1"  # as after an upgrade
    stored.write_text(json.dumps(plan))
    with pytest.raises(ConfigError, match="unfinished run with another engine"):
        predict_files(model, [path], out, **FP32)
    (result,) = predict_files(model, [path], out, overwrite=True, **FP32)
    assert result.report["blocks"]["kept_of_an_interrupted_run"] == 0


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_a_kill_while_a_whole_run_is_cleared_away_leaves_results_and_no_run(
    name, model, grey, tmp_path, small_blocks, monkeypatch
):
    path, out, words = tmp_path / name, tmp_path / "out", {"instances": True, **FP32}
    monkeypatch.setattr(files, "_takes_blocks", lambda *_: True)
    if name == "a.tif":
        tifffile.imwrite(path, grey)
    else:
        write_ome_zarr(path, grey, "YX", "0.5")
    (whole,) = predict_files(model, [path], tmp_path / "whole", **words)
    kill_while_clearing(monkeypatch, out / ".a.unfinished", model, [path], out, instances=True)
    assert (out / ".a.unfinished").exists()
    with pytest.raises(OutputError, match="exists"):
        predict_files(model, [path], out, **words)
    (kept,) = predict_files(model, [path], out, resume=True, **words)
    assert kept.is_kept
    (again,) = predict_files(model, [path], out, overwrite=True, **words)
    assert not list(out.glob(".*"))
    for result in (kept, again):
        for kind in ("classes", "instances"):
            np.testing.assert_array_equal(
                read_labels(result.outputs[kind]).array, read_labels(whole.outputs[kind]).array
            )


def test_a_kill_while_an_unfinished_run_is_replaced_leaves_none_to_go_on_with(
    model, grey, tmp_path, small_blocks, monkeypatch
):
    path, out = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5"), tmp_path / "out"
    (whole,) = predict_files(model, [path], tmp_path / "whole", **FP32)
    stop_after_blocks(monkeypatch, model, [path], out)
    kill_while_clearing(monkeypatch, out / ".a.unfinished", model, [path], out, overwrite=True)
    (result,) = predict_files(model, [path], out, **FP32)
    assert result.report["blocks"]["kept_of_an_interrupted_run"] == 0
    np.testing.assert_array_equal(*(read_labels(it.outputs["classes"]).array for it in (result, whole)))


def test_overwrite_starts_anew_with_the_same_settings(model, grey, tmp_path, small_blocks, monkeypatch):
    path, out = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5"), tmp_path / "out"
    stop_after_blocks(monkeypatch, model, [path], out)
    (result,) = predict_files(model, [path], out, overwrite=True, **FP32)
    assert result.report["blocks"]["kept_of_an_interrupted_run"] == 0


@pytest.mark.parametrize("later", ["8GB", "9GB", None])
def test_a_run_goes_on_with_as_much_memory_but_not_with_less(
    later, model, grey, tmp_path, small_blocks, monkeypatch
):
    path, out = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5"), tmp_path / "out"
    stop_after_blocks(monkeypatch, model, [path], out, max_memory="8GB")
    words = r"unfinished run planned for 8000 MB, more than --max-memory 7000MB; .* or --overwrite to start"
    with pytest.raises(ConfigError, match=words):
        predict_files(model, [path], out, max_memory="7GB", **FP32)
    (result,) = predict_files(model, [path], out, max_memory=later, **FP32)
    blocks_of = result.report["blocks"]
    assert blocks_of["kept_of_an_interrupted_run"] == blocks_of["number"] > 4


def test_a_run_without_a_limit_goes_on_with_more_than_it_took(
    model, grey, tmp_path, small_blocks, monkeypatch
):
    path, out = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5"), tmp_path / "out"
    stop_after_blocks(monkeypatch, model, [path], out)
    with pytest.raises(ConfigError, match=r"planned for \d+ MB, more than --max-memory 1MB"):
        predict_files(model, [path], out, max_memory="1MB", **FP32)
    (result,) = predict_files(model, [path], out, max_memory="1000TB", **FP32)
    blocks_of = result.report["blocks"]
    assert blocks_of["kept_of_an_interrupted_run"] == blocks_of["number"] > 4


def test_a_run_begun_by_blocks_goes_on_so_where_memory_would_do_by_now(model, grey, tmp_path, monkeypatch):
    cut_small(monkeypatch, 80)
    path, out = tmp_path / "a.tif", tmp_path / "out"
    tifffile.imwrite(path, grey)
    Pillow.fromarray((grey // 16).astype(np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(files, "available_memory", lambda: 0)
    stop_after_blocks(monkeypatch, model, [path], out)
    monkeypatch.setattr(files, "available_memory", lambda: 10**15)
    (other,) = predict_files(model, [tmp_path / "a.png"], out, **FP32)
    assert "blocks" not in other.report, "it has the name of that run, but cannot be read by windows"
    (result,) = predict_files(model, [path], out, **FP32)
    blocks_of = result.report["blocks"]
    assert blocks_of["kept_of_an_interrupted_run"] == blocks_of["number"] > 4
    assert not list(out.glob(".*"))


def asked_for(model, image, **more):
    return Asked(image=image.identity, model=model_hash(model), precision="fp32", **more)


def test_a_block_is_a_plain_function_of_words_and_a_plan(model, grey, tmp_path, small_blocks):
    """What a worker on another machine gets; computing a block twice changes no byte."""
    path = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5")
    segmenter, folder = Segmenter.load(model, device="cpu"), tmp_path / "blocks"
    folder.mkdir()
    with LargeImage(path) as image:
        seen = ScaledImage(image, (1.0, 1.0))
        plan = plan_blocks(
            seen, segmenter.backend("fp32"), segmenter.header, normalizations_of(seen, segmenter.header),
            asked_for(model, image, postprocessing=Postprocessing()), None, resident=0,
        )  # fmt: skip
    plan = BlockPlan.model_validate_json(json.dumps(plan.model_dump(mode="json")))
    blocks.create_results(plan, folder, segmenter.header)
    for number in reversed(range(len(plan))):
        block_task.compute_blocks(str(model), str(path), plan, [number], str(folder))
    written = {it: it.read_bytes() for it in folder.rglob("*") if it.is_file()}
    block_task.compute_blocks(str(model), str(path), plan, [1], str(folder))
    assert {it: it.read_bytes() for it in folder.rglob("*") if it.is_file()} == written
    assert set(blocks.done_blocks(folder)) == {*range(len(plan))}
    for keep, chunk, block in zip(plan.keep, plan.chunk, plan.block, strict=True):
        assert keep % segmenter.backend("fp32").geometry.period == chunk % keep == block % chunk == 0
    segmentation = segmenter(read_image(path), "fp32")
    segmentation.plan = plan_tiles(plan.height, plan.width, plan.keep, segmenter.backend("fp32").geometry)
    np.testing.assert_array_equal(read_labels(folder / "classes").array, segmentation.classes)
    save_model(model, *make_model(classes=3, postprocessing=HOW, temperature=1.0))  # where a worker looks
    segmenter_module._loaded.cache_clear()
    with pytest.raises(CheckpointError, match="but the run began with"):
        block_task.compute_blocks(str(model), str(path), plan, [1], str(folder))
    save_model(model, *make_model(**MADE))
    other = plan.model_copy(update={"engine": "abacus 1"})
    with pytest.raises(ConfigError, match=r"computes with .*, but the run began with abacus 1"):
        block_task.compute_blocks(str(model), str(path), other, [1], str(folder))
    with pytest.raises(ConfigError, match=r"plan\.json is not to be seen on "):
        block_task.compute_stored_block(str(model), str(path), str(folder), plan.run, 1)
    (folder / "plan.json").write_text(json.dumps(plan.model_dump(mode="json")))
    with pytest.raises(ConfigError, match="holds another run by now"):
        block_task.compute_stored_block(str(model), str(path), str(folder), "earlier", 1)
    write_ome_zarr(tmp_path / "a.zarr", grey[::-1], "YX", "0.5")
    with pytest.raises(ImageFormatError, match="is not the image that the run began with"):
        block_task.compute_blocks(str(model), str(path), plan, [1], str(folder))


def test_what_a_task_of_a_run_given_up_still_writes_is_lost(model, grey, tmp_path, small_blocks):
    path = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5")
    segmenter, folder = Segmenter.load(model, device="cpu"), tmp_path / "out" / ".a.unfinished"
    with LargeImage(path) as image:
        seen = ScaledImage(image, (1.0, 1.0))
        plan = plan_blocks(
            seen, segmenter.backend("fp32"), segmenter.header, normalizations_of(seen, segmenter.header),
            asked_for(model, image), None, resident=0,
        )  # fmt: skip
    large._start(folder, plan, segmenter.header)
    large._start(folder, plan.model_copy(update={"run": "later"}), segmenter.header)
    with pytest.raises(FileNotFoundError):
        block_task.compute_blocks(str(model), str(path), plan, [0], str(folder / plan.run))
    assert sorted(it.name for it in folder.iterdir()) == ["later", "plan.json"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"layout": "ctc"}, DataError, "a.ome.zarr is not named tNNN.tif, as --layout ctc wants it"),
        ({"pixel_size": 0.5}, ConfigError, "the training images did not tell the size of their pixels"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(options, error, words, model, grey, tmp_path):
    path = write_ome_zarr(tmp_path / "a.ome.zarr", grey, "YX", "0.5")
    with pytest.raises(error, match=words):
        predict_files(model, [path], tmp_path / "out", **options, **FP32)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        (3, r"a\.zarr has 3 channels \(RGB\) that differ, and 1 is wanted \(grey\); convert it to grey"),
        (2, r"a\.zarr has 2 channels, the model takes 1 channel \(grey\)"),
    ],
)
def test_channels_that_do_not_fit_are_named(channels, words, model, tmp_path):
    image = np.arange(channels * 1600, dtype=np.uint16).reshape(channels, 40, 40)
    path = write_ome_zarr(tmp_path / "a.zarr", image, "CYX", "0.5")
    with pytest.raises(ShapeError, match=words):
        predict_files(model, [path], tmp_path / "out", **FP32)
    assert not (tmp_path / "out").exists()


def test_grey_values_in_colour_are_those_of_the_grey_image(model, grey, tmp_path, small_blocks):
    """As where the image fits in memory."""
    paths = [
        write_ome_zarr(tmp_path / "grey" / "a.zarr", grey, "YX", "0.5"),
        write_ome_zarr(tmp_path / "colour" / "a.zarr", np.stack([grey] * 3), "CYX", "0.5"),
    ]
    plain, colour = (
        predict_files(model, [path], path.parent / "out", instances=True, **FP32)[0] for path in paths
    )
    assert colour.report["blocks"]["number"] > 4
    assert colour.report["notes"][0].startswith("the three colour channels are equal")
    for kind in ("classes", "instances"):
        found, expected = (
            zarr.open_group(str(it.outputs[kind]), mode="r")["s0"][:] for it in (colour, plain)
        )
        np.testing.assert_array_equal(found, expected)
    assert table_of(colour.outputs["objects"]) == table_of(plain.outputs["objects"])


def test_noise_in_more_pieces_than_memory_holds_is_refused(model, grey, tmp_path, small_blocks, monkeypatch):
    path = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5")
    monkeypatch.setattr(budget, "free_memory", lambda *_: 0)
    monkeypatch.setattr(large_objects, "_LITTLE", 0)
    with pytest.raises(ConfigError, match=r"there are \d+ pieces .*; give --max-memory [\d.]+GB, or, with"):
        predict_files(model, [path], tmp_path / "out", instances=True, **FP32)


def test_blocks_that_a_late_file_system_does_not_show_are_not_left_out(
    model, grey, tmp_path, small_blocks, monkeypatch
):
    path, shown = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5"), large.done_blocks
    monkeypatch.setattr(large, "done_blocks", lambda folder: dict([*shown(folder).items()][:-1]))
    with pytest.raises(OutputError, match=r"shows (\d+) of the \d+ blocks that are done: .* same command"):
        predict_files(model, [path], tmp_path / "out", **FP32)
    monkeypatch.setattr(large, "done_blocks", shown)
    (result,) = predict_files(model, [path], tmp_path / "out", **FP32)
    assert result.report["blocks"]["kept_of_an_interrupted_run"] == result.report["blocks"]["number"]


def test_a_damaged_chunk_is_named_and_nothing_is_left(model, grey, tmp_path, small_blocks):
    path = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5")
    (chunk,) = [it for it in (path / "s0").rglob("*") if it.is_file() and it.name != "zarr.json"][:1]
    chunk.write_bytes(b"no chunk")
    with pytest.raises(ImageFormatError, match=r"a\.zarr is damaged"):
        predict_files(model, [path], tmp_path / "out", **FP32)
    assert not (tmp_path / "out").exists()


def test_a_file_that_fails_in_the_middle_begins_anew_when_it_is_mended(
    model, grey, tmp_path, small_blocks, monkeypatch
):
    """Its blocks are of no use then; the other images of the batch are done, and stay."""
    paths, out = [tmp_path / "a.svs", tmp_path / "b.svs"], tmp_path / "out"
    for path in paths:
        tifffile.imwrite(path, grey, tile=(64, 64))
    write, told = block_task._write_block, []

    def damaged(probabilities, plan, number, folder):
        if number == 2 and plan.asked.image["path"].endswith("a.svs"):
            raise ImageFormatError("a.svs is damaged")
        write(probabilities, plan, number, folder)

    with monkeypatch.context() as patched:
        patched.setattr(block_task, "_write_block", damaged)
        (done,) = predict_files(model, paths, out, failed=lambda *it: told.append(it), **FP32)
    ((path, error),) = told
    assert (path, str(error), done.input) == (paths[0], "a.svs is damaged", paths[1])
    assert not list(out.glob(".*"))
    tifffile.imwrite(paths[0], grey[::-1], tile=(64, 64))
    results = predict_files(model, paths, out, resume=True, **FP32)
    assert [one.is_kept for one in results] == [False, True]


def test_a_limit_is_one_of_the_memory_in_which_the_network_computes(model, monkeypatch):
    backend = Segmenter.load(model, device="cpu").backend("fp32")
    assert budget_of(backend, 100, 30) == 70
    monkeypatch.setattr(type(backend), "has_own_memory", True)
    assert budget_of(backend, 100, 30) == 100, "what this process holds lies elsewhere"


def test_pieces_too_large_for_the_memory_are_refused_with_the_limit_to_give(model, tmp_path):
    path = tmp_path / "a.zarr"
    create_store(path, "YX", (60000, 60000), np.uint8, (60000, 60000), version="0.5")
    with pytest.raises(ConfigError, match=r"pieces of 3600 MB: .* 3600 MB; give --max-memory 1[1-4]\.\dGB"):
        predict_files(model, [path], tmp_path / "out", max_memory="3GB", **FP32)


def test_pieces_too_large_for_the_memory_are_refused_before_one_is_read(model, tmp_path):
    path = tmp_path / "a.zarr"
    create_store(path, "YX", (60000, 60000), np.uint8, (60000, 60000), version="0.5")
    (path / "s0" / "c" / "0").mkdir(parents=True, exist_ok=True)
    (path / "s0" / "c" / "0" / "0").write_bytes(b"no chunk")  # whoever reads it complains of that
    with pytest.raises(ConfigError, match="pieces of 3600 MB"):
        predict_files(model, [path], tmp_path / "out", max_memory="3GB", **FP32)


@pytest.mark.parametrize(
    ("chunk", "decoded"), [((4000, 4000), 16), ((2000, 4000), 16), ((100, 4000), 4), ((3000, 3000), 36)]
)
def test_no_more_pieces_are_decoded_at_once_than_the_file_has(chunk, decoded, tmp_path):
    """One of 16 MB; two of 8 MB; forty of 0.4 MB, of which ten are; four of 9 MB that reach beyond the image.

    They may take half of the memory.
    """
    create_store(tmp_path / "a.zarr", "YX", (4000, 4000), np.uint8, chunk, version="0.5")
    with LargeImage(tmp_path / "a.zarr") as image:
        require_readable(image, 2 * decoded * 10**6, 0)
        with pytest.raises(ConfigError, match=f"at once takes {decoded} MB"):
            require_readable(image, 2 * decoded * 10**6 - 1, 0)


def test_the_numbers_of_a_plane_come_from_its_parts():
    rng = np.random.default_rng(3)
    for values in (rng.integers(60000, 65536, (2, 45, 61), dtype=np.uint16), rng.normal(5e3, 1, (2, 45, 61))):
        plane = values.astype(np.uint16 if values.dtype == np.uint16 else np.float32)
        found = normalization_of(
            plane[:, y : y + 7, x : x + 20] for y in range(0, 45, 7) for x in range(0, 61, 20)
        )
        # Sums of 2745 numbers, each rounded: some 1e-14 of a mean that is 5000 times the deviation.
        np.testing.assert_allclose(found.mean, plane.mean((1, 2), dtype=np.float64), rtol=1e-13)
        np.testing.assert_allclose(found.std, plane.std((1, 2), dtype=np.float64), rtol=1e-12)
    flat = np.full((1, 3, 4), 7)
    assert not normalization_of([flat, flat]).apply(flat).any()
    assert isinstance(normalization_of([flat]), Normalization)


def test_one_by_one_pixel_and_a_line(model, tmp_path, small_blocks):
    for number, shape in enumerate([(1, 1), (1, 130), (130, 1)]):
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        path = tmp_path / f"a{number}.zarr"
        create_store(path, "YX", shape, np.uint8, (64, 64), version="0.5")[0][:] = image
        (result,) = predict_files(model, [path], tmp_path / "out", instances=True, **FP32)
        expected = Segmenter.load(model, device="cpu")(image, "fp32").classes
        np.testing.assert_array_equal(read_labels(result.outputs["classes"]).array.reshape(shape), expected)


def test_the_picture_of_a_large_image_shows_every_nth_pixel(model, grey, tmp_path, small_blocks, monkeypatch):
    path = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5")
    monkeypatch.setattr(large_pictures, "LARGEST_PICTURE", 40)
    (result,) = predict_files(model, [path], tmp_path / "out", overlay=True, **FP32)
    assert result.report["notes"] == ["the overlay shows one pixel in 6 along each axis"]
    classes = read_labels(result.outputs["classes"]).array
    colors = [info.color for info in make_model(classes=3)[1].classes]
    expected = pictures.blend(pictures.display(grey[None, ::6, ::6]), classes[::6, ::6], colors)
    np.testing.assert_array_equal(np.asarray(Pillow.open(result.outputs["overlay"])), expected)


def test_outlines_alone_leave_no_ids_behind(model, grey, tmp_path, small_blocks):
    path = write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5")
    predict_files(model, [path], tmp_path / "out", outlines=True, **FP32)
    assert sorted(it.name for it in (tmp_path / "out").iterdir()) == [
        "a.json", "a_classes.ome.zarr", "a_outlines.geojson",
    ]  # fmt: skip


def test_a_run_one_of_whose_outlines_took_too_much_memory_goes_on(grey, tmp_path, small_blocks, monkeypatch):
    model, path = tmp_path / "model.safetensors", write_ome_zarr(tmp_path / "a.zarr", grey, "YX", "0.5")
    save_model(model, *make_model(postprocessing=Postprocessing(threshold=0)))  # all is one object
    with monkeypatch.context() as patched:
        patched.setattr(budget, "free_memory", lambda *_: 0)
        words = r"row 0, column 0 reaches over 150 x 210 px: --outlines takes 0\.0 GB; give --max-memory"
        with pytest.raises(ConfigError, match=words):
            predict_files(model, [path], tmp_path / "out", outlines=True, **FP32)
    (result,) = predict_files(model, [path], tmp_path / "out", outlines=True, **FP32)
    blocks_of = result.report["blocks"]
    assert blocks_of["kept_of_an_interrupted_run"] == blocks_of["number"] > 4
    (outline,) = json.loads(result.outputs["outlines"].read_text())["features"]
    assert outline["geometry"]["coordinates"] == [[[0, 0], [210, 0], [210, 150], [0, 150], [0, 0]]]


def test_int8_is_made_for_the_image_by_blocks_too(tmp_path, small_blocks, monkeypatch):
    network, header = make_model()
    with torch.no_grad():  # an edge through the grey values, as a trained network would have it
        network.score.bias += 0.3
    save_model(tmp_path / "model.safetensors", network, header)
    monkeypatch.setattr("ushape.backends.quantization.ALLOWED_SHARE", 0.2)
    noise = np.random.default_rng(2).standard_normal((150, 170))
    image = (120 + 900 * gaussian_filter(noise, 6)).clip(0, 255).astype(np.uint8)
    path = write_ome_zarr(tmp_path / "a.zarr", image, "YX", "0.5")
    (result,) = predict_files(
        tmp_path / "model.safetensors", [path], tmp_path / "out", precision="int8", device="cpu"
    )
    assert result.report["precision"] == "int8"
    segmenter = Segmenter.load(tmp_path / "model.safetensors", device="cpu")
    expected, exact = segmenter(image, "int8").classes, segmenter(image, "fp32").classes
    found = read_labels(result.outputs["classes"]).array
    np.testing.assert_array_equal(found, expected)
    assert (found != exact).any()


def test_a_padded_network_by_blocks(tmp_path, small_blocks, monkeypatch):
    torch.manual_seed(1)
    config = EncoderUNetConfig(encoder="resnet18", in_channels=1, classes=2, width=4)
    network = EncoderUNet.from_config(config).eval()
    halo = network.geometry.whole_halo
    model = tmp_path / "model.safetensors"
    classes = make_model()[1].classes
    save_model(model, network, ModelHeader(name="padded", architecture=config, classes=classes))
    image = np.random.default_rng(1).integers(0, 256, (64, 5 * halo), dtype=np.uint8)
    path = write_ome_zarr(tmp_path / "a.zarr", image, "YX", "0.5")
    # Narrow tiles, so that a narrow image is cut; else an image of this many pixels is one tile.
    monkeypatch.setattr("ushape.tiling._largest_padded", lambda *_: isqrt(3 * 64 * halo))
    monkeypatch.setattr(block_planning, "LARGEST_BLOCK", halo)
    for average in ("none", "d4"):
        (result,) = predict_files(
            model, [path], tmp_path / average, probabilities=True, average=average, **FP32
        )
        assert result.report["blocks"]["number"] > 1
        expected = Segmenter.load(model, device="cpu")(image, "fp32", average=average)
        found = zarr.open_group(str(result.outputs["probabilities"]), mode="r")["s0"][:]
        # One pass over the whole image: float32, in another order of sums.
        np.testing.assert_allclose(found, expected.probabilities, rtol=0, atol=1e-5)
