"""Images of another magnification, and frames of a challenge, predicted block by block: as in memory."""

import csv
import json

import numpy as np
import pytest
import tifffile
import zarr
from scipy.ndimage import gaussian_filter
from small_blocks import cut_small
from small_model import make_model
from test_io_large import write_ome_zarr

from ushape.checkpoint import read_header, save_model
from ushape.config import EncoderUNetConfig, ModelHeader, Postprocessing
from ushape.errors import ConfigError, DataError
from ushape.instances import instances
from ushape.io import LargeImage, read_labels
from ushape.models import EncoderUNet
from ushape.predict import block_planning, files, predict_files, scaled_image, targets
from ushape.predict.probabilities import most_probable_kinds
from ushape.predict.resampling import resampled
from ushape.predict.scaled_image import ScaledImage
from ushape.predict.scaling import scaled_size
from ushape.tiling import read_mirrored

FP32 = {"precision": "fp32", "device": "cpu"}
HOW = Postprocessing(min_area=3, fill_holes=True, split="distance", seed_depth_px=0.5)


@pytest.fixture
def small_blocks(monkeypatch):
    cut_small(monkeypatch, 80)
    monkeypatch.setattr(files, "_takes_blocks", lambda path, *_: "large" in path.parts)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, *make_model(classes=3, postprocessing=HOW, pixel_size_um=(0.5, 0.5)))
    return path


def blobs(*shape):
    """Grey values that are smooth, as an image that is resampled should be."""
    noise = np.random.default_rng(4).standard_normal(shape)
    smooth = gaussian_filter(noise, [0] * (len(shape) - 2) + [3, 3])
    return (4000 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint16)


def both_ways(model, image, tmp_path, name="a.tif", **options):
    """Results by blocks, and in memory."""
    results = []
    for folder in ("large", "whole"):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / name, image, photometric="minisblack")
        results += predict_files(
            model, [tmp_path / folder / name], tmp_path / f"{folder} out", **options, **FP32
        )
    return results


def table_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("scale", [0.35, 0.5, 1.7])
def test_an_image_at_a_scale_gives_what_it_gives_in_memory(scale, model, tmp_path, small_blocks):
    found, expected = both_ways(
        model, blobs(230, 310), tmp_path, scale=scale, instances=True, probabilities=True, outlines=True
    )
    assert found.report["blocks"]["number"] > 3
    assert found.report["scale"] == expected.report["scale"] == [scale, scale]
    assert f"scale {scale}" in found.summary
    probabilities, in_memory = (tifffile.imread(it.outputs["probabilities"]) for it in (found, expected))
    assert np.ptp(in_memory) > 0.1
    # Tiles lie elsewhere: float32, in another order of sums. A pixel between two classes may become either.
    np.testing.assert_allclose(probabilities, in_memory, rtol=0, atol=1e-5)
    assert found.report["postprocessing"] == expected.report["postprocessing"]
    how = Postprocessing(**found.report["postprocessing"])
    assert how.seed_depth_px == pytest.approx(0.5 / scale)
    np.testing.assert_array_equal(tifffile.imread(found.outputs["classes"]), probabilities.argmax(0))
    kinds = most_probable_kinds(probabilities)
    ids = instances(probabilities[1:].sum(0), how, classes=kinds)
    np.testing.assert_array_equal(tifffile.imread(found.outputs["instances"]), ids)
    rows = table_of(found.outputs["objects"])
    assert len(rows) > 20
    assert [int(row["area_px"]) for row in rows] == np.bincount(ids.ravel())[1:].tolist()


def test_the_size_of_pixels_gives_the_scale_and_the_areas(model, tmp_path, small_blocks):
    found, expected = both_ways(model, blobs(150, 200), tmp_path, pixel_size="0.3,0.8", instances=True)
    assert found.report["scale"] == expected.report["scale"] == [0.6, 1.6]
    assert found.report["image"]["pixel_size_um"] == [0.3, 0.8]
    rows = table_of(found.outputs["objects"])
    assert len(rows) == pytest.approx(len(table_of(expected.outputs["objects"])), abs=2)  # as above
    assert float(rows[0]["area_um2"]) == pytest.approx(float(rows[0]["area_px"]) * 0.24)


def test_planes_of_a_store_are_scaled_and_normalised_one_by_one(model, tmp_path, small_blocks):
    stack = blobs(2, 130, 170)
    stack[1] //= 5
    (tmp_path / "large").mkdir()
    path = write_ome_zarr(tmp_path / "large" / "a.zarr", stack, "ZYX", "0.5")
    (found,) = predict_files(model, [path], tmp_path / "out", scale=0.6, probabilities=True, **FP32)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    (expected,) = predict_files(
        model, [tmp_path / "a.tif"], tmp_path / "out2", scale=0.6, probabilities=True, **FP32
    )
    by_blocks = zarr.open_group(str(found.outputs["probabilities"]), mode="r")["s0"][:]
    in_memory = tifffile.imread(expected.outputs["probabilities"]).swapaxes(0, 1)
    np.testing.assert_allclose(by_blocks, in_memory, rtol=0, atol=1e-5)  # as above


def test_a_padded_network_at_a_scale(tmp_path, small_blocks, monkeypatch):
    config = EncoderUNetConfig(encoder="resnet18", in_channels=1, classes=2, width=4)
    network = EncoderUNet.from_config(config).eval()
    model = tmp_path / "model.safetensors"
    save_model(
        model, network, ModelHeader(name="padded", architecture=config, classes=make_model()[1].classes)
    )
    halo = network.geometry.whole_halo
    monkeypatch.setattr(block_planning, "LARGEST_BLOCK", halo)
    found, expected = both_ways(model, blobs(40, 10 * halo), tmp_path, scale=0.5, probabilities=True)
    assert found.report["blocks"]["number"] > 3
    probabilities, in_memory = (tifffile.imread(it.outputs["probabilities"]) for it in (found, expected))
    np.testing.assert_allclose(probabilities, in_memory, rtol=0, atol=1e-5)  # as above


@pytest.mark.parametrize("scale", [(0.21, 0.5), (3.3, 0.09), (1.0, 1.0), (0.013, 0.013)])
def test_a_window_of_an_image_at_a_scale_holds_the_bits_of_the_whole(scale, tmp_path, monkeypatch):
    monkeypatch.setattr(scaled_image, "READ_AT_ONCE", 50)
    image = blobs(220, 310)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack")
    whole = resampled(image[np.newaxis], scaled_size(220, 310, scale), cubic=True)
    with LargeImage(tmp_path / "a.tif") as file:
        seen = ScaledImage(file, scale)
        assert seen.size[1:3] == whole.shape[1:]
        height, width = whole.shape[1:]
        window = height // 3, height, width // 4, max(width // 2, width // 4 + 1)
        np.testing.assert_array_equal(
            seen.read(0, *window), whole[:, window[0] : window[1], window[2] : window[3]]
        )
        beyond = -30, height + 7, -2 * width, width + 1
        np.testing.assert_array_equal(seen.read_mirrored(0, *beyond), read_mirrored(whole, *beyond))


def test_a_run_at_another_scale_is_another_run(model, tmp_path, small_blocks, monkeypatch):
    (tmp_path / "large").mkdir()
    path = write_ome_zarr(tmp_path / "large" / "a.zarr", blobs(230, 310), "YX", "0.5")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ushape.predict.large._finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict_files(model, [path], tmp_path / "out", scale=0.5, **FP32)
    for other, name in (({}, "scale"), ({"scale": 0.6}, "scale"), ({"pixel_size": 0.25}, "pixel size")):
        with pytest.raises(ConfigError, match=f"unfinished run with another {name}"):
            predict_files(model, [path], tmp_path / "out", **other, **FP32)
    (result,) = predict_files(model, [path], tmp_path / "out", scale=0.5, **FP32)
    assert result.report["blocks"]["kept_of_an_interrupted_run"] == result.report["blocks"]["number"] > 3


# Frames


def test_a_frame_by_blocks_is_the_mask_in_memory(model, tmp_path, small_blocks, monkeypatch):
    monkeypatch.setattr(block_planning, "LARGEST_BLOCK", 260)
    image = blobs(700, 520)  # so large that results have lower resolutions
    masks = {}
    for folder in ("large", "whole"):
        frames = tmp_path / folder / "01"
        frames.mkdir(parents=True)
        tifffile.imwrite(frames / "t007.tif", image, photometric="minisblack")
        (result,) = predict_files(model, [frames], tmp_path / f"{folder} out", layout="ctc", **FP32)
        assert sorted(it.name for it in (tmp_path / f"{folder} out" / "01_RES").iterdir()) == [
            "mask007.json", "mask007.tif",
        ]  # fmt: skip
        masks[folder] = result.outputs["instances"]
        assert json.loads(result.outputs["json"].read_text())["objects"] > 20
    np.testing.assert_array_equal(*(tifffile.imread(path) for path in masks.values()))
    for path in masks.values():
        with tifffile.TiffFile(path) as file:
            assert file.pages.first.dtype == np.uint16
            assert not file.is_bigtiff
            assert [len(file.pages), len(file.series), len(file.series[0].levels)] == [1, 1, 1]
    monkeypatch.setattr(targets, "_LARGEST_CTC_ID", 20)
    for folder in ("large", "whole"):
        with pytest.raises(DataError, match=r"t007\.tif has \d+ objects, but a mask of --layout ctc holds"):
            predict_files(model, [tmp_path / folder / "01"], tmp_path / "more", layout="ctc", **FP32)


def test_a_frame_in_a_store_becomes_a_mask_too(model, tmp_path, small_blocks):
    frames = tmp_path / "large" / "02"
    frames.mkdir(parents=True)
    image = blobs(90, 120)
    path = write_ome_zarr(frames / "t000.ome.zarr", image, "YX", "0.5")
    (found,) = predict_files(model, [path], tmp_path / "out", layout="ctc", **FP32)
    assert found.outputs["instances"] == tmp_path / "out" / "02_RES" / "mask000.tif"
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack")
    (expected,) = predict_files(model, [tmp_path / "a.tif"], tmp_path / "plain", instances=True, **FP32)
    np.testing.assert_array_equal(
        read_labels(found.outputs["instances"]).array, read_labels(expected.outputs["instances"]).array
    )


def test_what_is_too_large_at_its_scale_takes_blocks(model, tmp_path):
    path, results = tmp_path / "a.tif", {"classes": tmp_path / "a_classes.tif", "json": tmp_path / "a.json"}
    tifffile.imwrite(path, blobs(64, 64), photometric="minisblack")
    header = read_header(model)
    assert not files._takes_blocks(path, results, header, (1.0, 1.0), HOW, 10**6)
    takes = files._takes_blocks(path, results, header, (10.0, 10.0), HOW, 10**6)
    assert takes, "640 x 640 px, 4 bytes, 4 channels: 6.6 MB"


@pytest.mark.parametrize(("kind", "planes"), [("instances", 1), ("outlines", 1), ("probabilities", 20)])
def test_what_would_be_too_large_with_all_that_is_asked_for_takes_blocks(
    kind, planes, model, tmp_path, monkeypatch
):
    """Of 2 MB a quarter may be taken. All but what is asked for: 0.1 MB of a plane, and 12 kB of each.

    A watershed takes 110 bytes of each of 4096 pixels, 0.45 MB; probabilities of 20 planes take 1 MB.
    """
    path = tmp_path / "a.tif"
    axes = {"axes": "ZYX" if planes > 1 else "YX"}
    stack = np.repeat(blobs(1, 64, 64), planes, 0) if planes > 1 else blobs(64, 64)
    tifffile.imwrite(path, stack, photometric="minisblack", metadata=axes)
    monkeypatch.setattr(files, "available_memory", lambda: 2 * 10**6)
    (plain,) = predict_files(model, [path], tmp_path / "plain", **FP32)
    assert "blocks" not in plain.report
    (asked,) = predict_files(model, [path], tmp_path / "asked", **{kind: True}, **FP32)
    assert "blocks" in asked.report
