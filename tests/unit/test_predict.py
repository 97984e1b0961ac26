"""Segmenter and files: results against a direct pass through the network; every refusal with its message."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow
from small_model import CLASSES, make_model

from ushape.backends import PyTorchBackend, pytorch, resident_memory
from ushape.backends.openvino import openvino_pays
from ushape.checkpoint import save_model
from ushape.config import ModelHeader, Postprocessing, UNetConfig
from ushape.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ImageFormatError,
    OutputError,
    ShapeError,
    TilingError,
)
from ushape.models import UNet
from ushape.predict import Segmenter, predict_files


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, *make_model())
    return path


@pytest.fixture(scope="module")
def grey():
    return np.random.default_rng(1).integers(0, 256, (70, 90), dtype=np.uint8)


@pytest.fixture
def images(tmp_path, grey):
    """Folder with a PNG, a TIFF stack and a text file."""
    folder = tmp_path / "images"
    folder.mkdir()
    Pillow.fromarray(grey).save(folder / "a.png")
    stack = np.stack([grey, 255 - grey, grey // 2])
    tifffile.imwrite(folder / "b.tif", stack, metadata={"axes": "ZYX"}, photometric="minisblack")
    (folder / "notes.txt").write_text("not an image")
    return folder


def direct(network, image):
    """Probabilities of one plane (C, H, W) by one pass, with nothing of ours but the network."""
    values = image.astype(np.float64)
    values -= values.mean((1, 2), keepdims=True)
    values /= values.std((1, 2), keepdims=True)
    geometry = network.geometry
    sizes = [geometry.input_size(length) for length in image.shape[1:]]
    padding = [
        (geometry.margin, size - n - geometry.margin) for size, n in zip(sizes, image.shape[1:], strict=True)
    ]
    padded = torch.from_numpy(np.pad(values, [(0, 0), *padding], mode="reflect")).float()[None]
    with torch.inference_mode():
        logits = network(padded)[0, :, : image.shape[1], : image.shape[2]]
    if len(logits) == 1:
        return torch.cat([1 - logits.sigmoid(), logits.sigmoid()]).numpy()
    return logits.softmax(0).numpy()


@pytest.mark.parametrize("max_memory", [None, "tiles"])
@pytest.mark.parametrize(("in_channels", "classes"), [(1, 2), (3, 2), (1, 3), (1, 1)])
def test_probabilities_are_those_of_a_direct_pass(monkeypatch, in_channels, classes, max_memory):
    network, header = make_model(in_channels=in_channels, classes=classes)
    image = np.random.default_rng(0).integers(0, 4000, (in_channels, 150, 131), dtype=np.uint16)
    segmenter = Segmenter(network, header, device="cpu")
    if max_memory:
        monkeypatch.setattr(segmenter.backend("fp32"), "largest_tile", 100)
    result = segmenter(image, "fp32", axes="CYX")
    assert len(result.plan) == (6 if max_memory else 1)
    expected = direct(network, image)
    assert result.probabilities.shape == expected.shape
    assert result.probabilities.dtype == np.float32
    # The documented bound for float32; measured: 2e-7.
    np.testing.assert_allclose(result.probabilities, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(result.classes, result.probabilities.argmax(0))
    assert result.classes.dtype == np.uint8


@pytest.mark.parametrize("classes", [1, 3])
def test_an_average_is_taken_before_or_after_the_softmax(grey, classes):
    network, header = make_model(classes=classes, temperature=1.5)
    segmenter = Segmenter(network, header, device="cpu")
    geometry = network.geometry
    fitting = grey[: 2 * geometry.period + 4, : 4 * geometry.period + 4]  # an image that is a valid output
    assert all(geometry.is_valid(size + 2 * geometry.margin) for size in fitting.shape)
    versions = [(turns, flip) for flip in (False, True) for turns in range(4)]
    single = []
    for turns, flip in versions:
        image = np.rot90(np.fliplr(fitting) if flip else fitting, turns)
        turned = np.rot90(segmenter(image, "fp64").probabilities, -turns, axes=(1, 2))
        single.append(turned[..., ::-1] if flip else turned)
    probabilities = np.stack(single).astype(np.float64)
    rooted = np.exp(np.log(probabilities).mean(0))  # the mean of logits, up to a constant per pixel
    expected = {"probabilities": probabilities.mean(0), "logits": rooted / rooted.sum(0)}
    for kind, values in expected.items():
        result = segmenter(fitting, "fp64", average="d4", average_of=kind)
        # Probabilities are rounded to float32, by 6e-8 at most; those expected are made of rounded ones.
        np.testing.assert_allclose(result.probabilities, values, rtol=0, atol=1e-6)
    assert np.abs(expected["probabilities"] - expected["logits"]).max() > 1e-4


def test_an_unknown_average_is_refused(grey):
    segmenter = Segmenter(*make_model(), device="cpu")
    with pytest.raises(ConfigError, match=r"--average 'all' is not known; use none, paper, d4"):
        segmenter(grey, average="all")
    with pytest.raises(ConfigError, match="--average-of 'classes' is not known; use logits or probabilities"):
        segmenter(grey, average="d4", average_of="classes")


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_logits_are_divided_by_the_temperature_of_the_model(grey, classes):
    network, header = make_model(classes=classes, temperature=2.5)
    plain = Segmenter(network, header.model_copy(update={"temperature": 1.0}), device="cpu")(grey, "fp32")
    result = Segmenter(network, header, device="cpu")(grey, "fp32")
    rooted = plain.probabilities.astype(np.float64) ** (1 / 2.5)
    # float32 on the way; measured: 2e-7.
    np.testing.assert_allclose(result.probabilities, rooted / rooted.sum(0), atol=1e-6)
    np.testing.assert_array_equal(result.classes, plain.classes)
    assert np.ptp(result.probabilities) < np.ptp(plain.probabilities)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_each_class_has_the_bias_of_the_model(grey, classes):
    bias = (-0.5, 1.0, 0.25)[: max(classes, 2)]
    network, header = make_model(classes=classes, temperature=2.5, class_bias=bias)
    plain = Segmenter(network, header.model_copy(update={"class_bias": ()}), device="cpu")(grey, "fp32")
    result = Segmenter(network, header, device="cpu")(grey, "fp32")
    shifted = plain.probabilities * np.exp(bias)[:, None, None]
    # float32 on the way, as for the temperature.
    np.testing.assert_allclose(result.probabilities, shifted / shifted.sum(0), atol=1e-6)
    np.testing.assert_array_equal(result.classes, shifted.argmax(0))
    assert (result.classes != plain.classes).any()


def test_a_stack_is_segmented_plane_by_plane(grey):
    segmenter = Segmenter(*make_model(), device="cpu")
    stack = np.stack([grey, grey[::-1], grey // 3])
    result = segmenter(stack, "fp32")
    assert result.probabilities.shape == (3, 2, 70, 90)
    assert result.classes.shape == result.instances().shape == (3, 70, 90)
    for place, plane in enumerate(stack):
        np.testing.assert_array_equal(result.probabilities[place], segmenter(plane, "fp32").probabilities)


def test_a_stack_of_one_plane_stays_a_stack(grey):
    result = Segmenter(*make_model(), device="cpu")(grey[None], axes="ZYX")
    assert result.probabilities.shape == (1, 2, 70, 90)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (2, 3)])
def test_tiny_images(shape):
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    result = Segmenter(*make_model(), device="cpu")(image, "fp32")
    assert result.classes.shape == shape
    np.testing.assert_allclose(result.probabilities.sum(0), 1, atol=1e-6)


def test_nothing_is_computed_before_it_is_asked_for_and_nothing_twice(grey):
    tiles = []
    segmenter = Segmenter(*make_model(), device="cpu")
    result = segmenter(grey, progress=lambda done, total: tiles.append((done, total)))
    assert tiles == []
    result.classes, result.probabilities, result.instances(), result.overlay(objects=True)
    assert tiles == [(1, 1)]


def test_a_stack_is_passed_once_where_all_is_announced(grey):
    tiles = []
    stack = np.stack([grey, grey])
    result = Segmenter(*make_model(), device="cpu")(stack, progress=lambda *count: tiles.append(count))
    result.compute(probabilities=True, instances=True)
    result.classes, result.probabilities, result.instances(), result.objects()
    assert tiles == [(1, 2), (2, 2)]


def test_asking_in_any_order_gives_the_same(grey):
    segmenter = Segmenter(*make_model(), device="cpu")
    stack = np.stack([grey, 255 - grey])
    one, other = segmenter(stack, "fp32"), segmenter(stack, "fp32")
    first = one.classes, one.instances(), one.probabilities
    second = other.probabilities, other.instances(), other.classes
    for left, right in zip(first, reversed(second), strict=True):
        np.testing.assert_array_equal(left, right)


def test_objects_of_a_stack_are_numbered_on(grey):
    network, header = make_model(postprocessing=Postprocessing(min_area=3))
    result = Segmenter(network, header, device="cpu")(np.stack([grey, grey]), "fp32")
    ids = result.instances()
    count = int(ids[0].max())
    assert count > 2
    np.testing.assert_array_equal(ids[1], np.where(ids[0] > 0, ids[0] + count, 0))
    assert result.objects()["id"].tolist() == list(range(1, 2 * count + 1))
    assert result.objects()["plane"].tolist() == [0] * count + [1] * count
    areas = np.bincount(ids[0].ravel())[1:].tolist()
    assert result.objects()["area_px"].tolist() == areas + areas


def test_objects_use_the_threshold_of_the_model(grey):
    network, header = make_model(postprocessing=Postprocessing(threshold=0.3, min_area=2))
    result = Segmenter(network, header, device="cpu")(grey)
    areas = np.bincount(result.instances().ravel())[1:]
    assert areas.min() >= 2
    assert (result.probabilities[1][result.instances() > 0] > 0.3).all()
    assert set(result.objects()["class"]) == {1}


def test_objects_of_several_classes_have_their_class(grey):
    result = Segmenter(*make_model(classes=3), device="cpu")(grey)
    found = result.objects()
    assert set(found["class"]) == {1, 2}
    likely = result.probabilities[1:].argmax(0) + 1
    for number, kind in zip(found["id"], found["class"], strict=True):
        assert set(likely[result.instances() == number]) == {kind}


def test_overlay_shows_classes_or_outlines(grey):
    result = Segmenter(*make_model(), device="cpu")(grey)
    colours, lines = result.overlay(), result.overlay(objects=True)
    assert colours.shape == lines.shape == (70, 90, 3)
    changed = (colours != colours[..., :1]).any(-1)
    np.testing.assert_array_equal(changed, result.classes == 1)
    assert not np.array_equal(colours, lines)


def test_grey_values_in_three_channels_are_used_as_grey(grey):
    segmenter = Segmenter(*make_model(), device="cpu")
    result = segmenter(np.stack([grey] * 3, axis=-1), "fp32")
    assert result.notes == ("the three colour channels are equal; used as one grey channel",)
    np.testing.assert_array_equal(result.probabilities, segmenter(grey, "fp32").probabilities)


@pytest.mark.parametrize(
    ("wanted", "shape", "message"),
    [
        (1, (8, 8, 3), "3 channels (RGB), the model takes 1 channel (grey); convert it to grey values, or"),
        (3, (8, 8), "1 channel (grey), the model takes 3 channels (RGB); convert it to RGB, or"),
        (2, (8, 8), "1 channel (grey), the model takes 2 channels; give an image with 2, or"),
    ],
)
def test_other_channels_are_refused(wanted, shape, message):
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    with pytest.raises(ShapeError, match="^the image has " + re.escape(message) + " "):
        Segmenter(*make_model(in_channels=wanted), device="cpu")(image)


def test_too_little_memory_is_refused(grey):
    with pytest.raises(
        TilingError, match=r"^0 MB are left for a tile, .* raise the limit \(--max-memory\) by \d+ MB$"
    ):
        Segmenter(*make_model(), device="cpu")(grey, max_memory="1MB")


def test_probabilities_of_a_stack_beyond_the_memory_allowed_are_refused():
    segmenter = Segmenter(*make_model(), device="cpu")
    limit = resident_memory() + 600_000_000
    planes = limit // (8 * 512 * 512) + 1  # of two classes in float32
    result = segmenter(np.zeros((planes, 512, 512), np.uint8), "fp32", limit)  # whose memory nobody touches
    with pytest.raises(
        ConfigError,
        match=rf"^the image: probabilities of {planes} planes take [\d.]+ GB, and --max-memory is [\d.]+ GB; "
        "raise it, do without them, or save the image as OME-Zarr",
    ):
        result.compute(probabilities=True)


def test_more_memory_gives_larger_tiles():
    image = np.zeros((900, 900), np.uint8)
    segmenter = Segmenter(*make_model(), device="cpu")
    before = resident_memory() + segmenter.backend("fp32").fixed_bytes + 20 * 900 * 900
    small = segmenter(image, "fp32", before + 5_000_000).plan
    large = segmenter(image, "fp32", before + 50_000_000).plan
    assert len(small) > len(large) >= 1


def test_auto_and_what_it_is_are_one_backend():
    segmenter = Segmenter(*make_model(), device="cpu")
    backend = segmenter.backend("auto")
    assert segmenter.backend(backend.precision) is backend
    assert segmenter.backend("fp64") is not backend


def test_unknown_device_and_precision_are_refused(grey):
    with pytest.raises(ConfigError, match=r"device 'gpu' cannot be used here; use auto or cpu"):
        Segmenter(*make_model(), device="gpu")(grey)
    with pytest.raises(ConfigError, match=r"precision 'int4' is not known"):
        Segmenter(*make_model(), device="cpu")(grey, "int4")


def test_bf16_only_where_the_processor_has_it(monkeypatch):
    network, _ = make_model()
    for has, chosen in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(pytorch, "cpu_has_bf16", lambda has=has: has)
        assert PyTorchBackend(network, "cpu").precision == chosen
    with pytest.raises(ConfigError, match="precision bf16: cpu has no instructions for bfloat16"):
        PyTorchBackend(network, "cpu", "bf16")


@pytest.mark.skipif(not pytorch.cpu_has_bf16(), reason="the processor does not multiply bfloat16")
def test_bf16_is_close_to_fp32(grey):
    segmenter = Segmenter(*make_model(), device="cpu")
    one, other = segmenter(grey, "bf16"), segmenter(grey, "fp32")
    difference = np.abs(one.probabilities - other.probabilities).max()
    # bfloat16 has 8 bits of mantissa; measured on this network: 0.02.
    assert 0 < difference < 0.08


def test_statistics_per_tile_are_refused():
    network, _ = make_model()
    network.contracting[0].append(torch.nn.GroupNorm(2, 4))
    with pytest.raises(TilingError, match=r"GroupNorm `contracting.0.4` computes its statistics per tile"):
        PyTorchBackend(network, "cpu")


def test_dropout_is_off_whatever_state_the_network_comes_in(grey):
    network, header = make_model()
    expected = Segmenter(network, header, device="cpu")(grey, "fp32").probabilities
    found = Segmenter(network.train(), header, device="cpu")(grey, "fp32").probabilities
    np.testing.assert_array_equal(found, expected)


MEMORY = """
import numpy as np
from ushape import Segmenter
from ushape.backends import peak_memory, resident_memory
segmenter = Segmenter.load({model!r}, device="cpu")
image = np.random.default_rng(0).integers(0, 256, (500, 500), dtype=np.uint8)
backend = segmenter.backend("fp32")
limit = resident_memory() + backend.fixed_bytes + 80_000_000
result = segmenter(image, "fp32", limit)
result.classes
print(len(result.plan), limit, peak_memory())
"""


@pytest.fixture(scope="module")
def wider(tmp_path_factory):
    torch.manual_seed(0)
    header = ModelHeader(name="wider", architecture=UNetConfig(width=16), classes=CLASSES[:2])
    path = tmp_path_factory.mktemp("wider") / "model.safetensors"
    save_model(path, UNet(width=16), header)
    return path


def test_a_process_stays_within_its_memory(wider):
    script = MEMORY.format(model=str(wider))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    tiles, limit, peak = map(int, done.stdout.split())
    assert tiles > 1
    assert peak <= limit, "measured: 40 to 60 MB below"


MAPS = """
import numpy as np
from ushape import Segmenter
from ushape.backends import resident_memory
segmenter = Segmenter.load({model!r}, device="cpu")
segmenter(np.arange(81, dtype=np.uint8).reshape(9, 9), "fp32").instances()  # imports what finds objects
image = np.random.default_rng(0).integers(0, 256, (1000, 1000), dtype=np.uint8)
result = segmenter(image, "fp32")
result.classes
before = resident_memory()
result.instances()
print(before - resident_memory())
"""


@pytest.mark.skipif(not openvino_pays(), reason="PyTorch keeps no feature maps")
def test_feature_maps_make_room_for_objects(wider):
    done = subprocess.run(
        [sys.executable, "-c", MAPS.format(model=str(wider))], capture_output=True, text=True, check=True
    )
    # 190 bytes per pixel of a tile of 1184 px, less the ids and what the finding of objects leaves behind.
    assert int(done.stdout) > 50_000_000


AGAIN = """
import numpy as np
from ushape import Segmenter
from ushape.backends import resident_memory
segmenter = Segmenter.load({model!r}, device="cpu")
image = np.random.default_rng(0).integers(0, 256, (1000, 1000), dtype=np.uint8)
backend = segmenter.backend("fp32")
limit = resident_memory() + backend.fixed_bytes + 150_000_000
for _ in range(3):
    result = segmenter(image, "fp32", limit)
    result.classes
    print(result.plan.input[0] * result.plan.input[1])
    del result
"""


@pytest.mark.skipif(not openvino_pays(), reason="PyTorch keeps no feature maps")
def test_maps_of_an_image_take_no_memory_from_the_next(wider):
    script = AGAIN.format(model=str(wider))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, *others = map(int, done.stdout.split())
    assert 500**2 < first < 1000**2, "the memory decides"
    # Pixels of a tile; what one image leaves behind beside maps takes some megabytes.
    assert all(0.8 * first <= pixels <= 1.2 * first for pixels in others)


def test_fp64_leaves_the_network_alone(grey):
    network, header = make_model()
    Segmenter(network, header, device="cpu")(grey, "fp64").compute()
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_files_of_a_folder(model, images, tmp_path, grey):
    calls = []
    results = predict_files(
        model,
        [images],
        tmp_path / "new" / "out",
        precision="fp32",
        device="cpu",
        instances=True,
        probabilities=True,
        overlay=True,
        progress=lambda *call: calls.append(call),
    )
    out = tmp_path / "new" / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "a.json",
        "a_classes.png",
        "a_instances.tif",
        "a_objects.csv",
        "a_overlay.png",
        "a_probabilities.tif",
        "b.json",
        "b_classes.tif",
        "b_instances.tif",
        "b_objects.csv",
        "b_overlay.png",
        "b_probabilities.tif",
    ]
    assert calls == [
        (1, 1, "tiles of a.png (1 of 2)"),
        *((n, 3, "tiles of b.tif (2 of 2)") for n in (1, 2, 3)),
    ]
    segmenter = Segmenter.load(model, device="cpu")
    for name, image in (("a", grey), ("b", tifffile.imread(images / "b.tif"))):
        expected = segmenter(image, "fp32")
        np.testing.assert_array_equal(
            tifffile.imread(out / f"{name}_probabilities.tif"), expected.probabilities
        )
        np.testing.assert_array_equal(tifffile.imread(out / f"{name}_instances.tif"), expected.instances())
    with Pillow.open(out / "a_classes.png") as png:
        np.testing.assert_array_equal(np.asarray(png), segmenter(grey, "fp32").classes)
        assert png.mode == "P"
    assert re.fullmatch(r"b.tif: 3 x 70 x 90 px, 1 tile, exact, \d+ objects, \d+\.\d s", results[1].summary)


def test_report_tells_how_the_result_came_about(model, images, tmp_path):
    predict_files(model, [images / "b.tif"], tmp_path, instances=True, precision="fp32", device="cpu")
    report = json.loads((tmp_path / "b.json").read_text())
    assert report["model"]["name"] == "small"
    assert re.fullmatch("[0-9a-f]{64}", report["model"]["sha256"])
    # Depth 2: 90 + 2 * 20 = 130 pixels are read, valid sizes are 44, 48, 52, ...
    assert report["tiles"] == {
        "number": 1,
        "keep": [70, 90],
        "input": [112, 132],
        "margin": 20,
        "halo": 20,
        "period": 4,
        "reason": "the whole image fits in one tile",
    }
    classes = tifffile.imread(tmp_path / "b_classes.tif")
    assert [one["area_px"] for one in report["classes"]] == np.bincount(classes.ravel()).tolist()
    assert report["objects"] == tifffile.imread(tmp_path / "b_instances.tif").max()
    assert (report["precision"], report["average"]) == ("fp32", "none")
    assert report["seconds"] > 0
    assert report["megapixels_per_s"] == pytest.approx(3 * 70 * 90 / 1e6 / report["seconds"], rel=0.01)
    assert report["peak_memory_bytes"] > 1e7
    assert "area_um2" not in str(report["classes"])
    table = (tmp_path / "b_objects.csv").read_text().splitlines()
    assert table[0] == (
        "id,class,centroid_y,centroid_x,top,left,bottom,right,area_px,perimeter_px,eccentricity,"
        "intensity_mean,intensity_min,intensity_max,plane"
    )
    assert len(table) == report["objects"] + 1


def test_areas_in_micrometres_where_the_pixel_size_is_known(model, tmp_path, grey):
    tifffile.imwrite(
        tmp_path / "a.tif", grey, imagej=True, resolution=(2, 4), metadata={"unit": "um", "axes": "YX"}
    )
    predict_files(model, [tmp_path / "a.tif"], tmp_path / "out", instances=True, device="cpu")
    report = json.loads((tmp_path / "out" / "a.json").read_text())
    assert report["image"]["pixel_size_um"] == [0.25, 0.5]
    for one in report["classes"]:
        assert one["area_um2"] == one["area_px"] * 0.125
    with (tmp_path / "out" / "a_objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == report["objects"]
    for row in rows:
        assert float(row["area_um2"]) == int(row["area_px"]) * 0.125
        assert float(row["bottom_um"]) == int(row["bottom"]) * 0.25
        assert float(row["centroid_x_um"]) == pytest.approx((float(row["centroid_x"]) + 0.5) * 0.5, rel=1e-8)
    assert "perimeter_um" not in rows[0]
    assert report["notes"] == [
        "pixels of 0.25 x 0.5 um are not square: objects have no perimeter in um",
    ]


def test_a_stack_is_written_as_tiff_whatever_its_name(model, tmp_path, grey):
    tifffile.imwrite(tmp_path / "a.png", np.stack([grey, grey]), photometric="minisblack")
    predict_files(model, [tmp_path / "a.png"], tmp_path / "out", device="cpu")
    assert tifffile.imread(tmp_path / "out" / "a_classes.tif").shape == (2, 70, 90)


def test_globs_and_repeated_names(model, images, tmp_path):
    results = predict_files(
        model, [str(images / "*"), images / "a.png"], tmp_path / "out", precision="fp32", device="cpu"
    )
    assert [result.input.name for result in results] == ["a.png", "b.tif"]


def test_results_in_the_folder_of_the_images_are_no_inputs(model, images):
    for _ in range(2):
        results = predict_files(model, [images], images, overlay=True, overwrite=True, device="cpu")
        assert [result.input.name for result in results] == ["a.png", "b.tif"]


def test_existing_results_are_kept_unless_told_otherwise(model, images, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b_classes.tif").write_text("mine")
    with pytest.raises(OutputError, match=r"b_classes\.tif exists; add --overwrite to replace it"):
        predict_files(model, [images], out, device="cpu")
    assert [*out.iterdir()] == [out / "b_classes.tif"], "nothing may be computed before the check"
    assert (out / "b_classes.tif").read_text() == "mine"
    predict_files(model, [images / "b.tif"], out, overwrite=True, device="cpu")
    assert json.loads((out / "b.json").read_text())["model"]["name"] == "small"


def test_resume_keeps_what_is_whole_and_makes_the_rest(model, images, tmp_path):
    out, told = tmp_path / "out", []
    words = {"device": "cpu", "instances": True, "resume": True}
    (first,) = predict_files(model, [images / "a.png"], out, device="cpu", instances=True)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "b_classes.tif").write_text("half of it")  # a kill left it: there is no record
    kept, made = predict_files(model, [images], out, finished=lambda it: told.append(it.summary), **words)
    assert (kept.is_kept, made.is_kept) == (True, False)
    assert kept.report == json.loads(first.outputs["json"].read_text())
    assert told[0] == "a.png: kept"
    assert told[1].startswith("b.tif: 3 x 70 x 90 px")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (alone,) = predict_files(model, [images / "b.tif"], tmp_path / "alone", device="cpu", instances=True)
    np.testing.assert_array_equal(*(tifffile.imread(result.outputs["classes"]) for result in (made, alone)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"scale": 0.5}, r"a\.json was made with another scale"),
        ({"average": "d4"}, r"a\.json was made with another average"),
        ({"precision": "int8"}, r"a\.json was made with another precision"),
        ({"instances": True}, r"a\.json was made with another postprocessing"),
        ({"probabilities": True}, r"a\.json is of a run without a_probabilities\.tif"),
        ({"overwrite": True}, "--resume keeps results, --overwrite replaces them"),
    ],
)
def test_resume_refuses_results_of_another_run(words, message, model, images, tmp_path):
    predict_files(model, [images / "a.png"], tmp_path / "out", device="cpu")
    with pytest.raises((OutputError, ConfigError), match=message):
        predict_files(model, [images], tmp_path / "out", device="cpu", resume=True, **words)
    assert not (tmp_path / "out" / "b.json").exists()


def test_resume_refuses_results_of_another_model_and_foreign_records(model, images, tmp_path):
    predict_files(model, [images / "a.png"], tmp_path / "out", device="cpu")
    other = tmp_path / "other.safetensors"
    save_model(other, *make_model(temperature=3.0))
    with pytest.raises(OutputError, match=r"a\.json is of another model"):
        predict_files(other, [images], tmp_path / "out", device="cpu", resume=True)
    other = tmp_path / "elsewhere" / "a.png"
    other.parent.mkdir()
    shutil.copy(images / "a.png", other)
    with pytest.raises(OutputError, match=r"a\.json is of another image than .*elsewhere/a\.png"):
        predict_files(model, [other], tmp_path / "out", device="cpu", resume=True)
    Pillow.fromarray(np.zeros((70, 91), np.uint8)).save(images / "a.png")
    with pytest.raises(OutputError, match=r"a\.json is of another image than .*images/a\.png"):
        predict_files(model, [images], tmp_path / "out", device="cpu", resume=True)
    Pillow.fromarray(np.zeros((70, 90), np.uint8)).save(images / "a.png")
    later = (tmp_path / "out" / "a.json").stat().st_mtime + 3600
    os.utime(images / "a.png", (later, later))
    with pytest.raises(OutputError, match=r"a\.json is older than .*images/a\.png"):
        predict_files(model, [images], tmp_path / "out", device="cpu", resume=True)
    (tmp_path / "out" / "a.json").write_text("mine")
    with pytest.raises(OutputError, match=r"a\.json is no record of a prediction"):
        predict_files(model, [images], tmp_path / "out", device="cpu", resume=True)


def test_what_an_interrupted_run_lacks_is_named(model, images, tmp_path):
    (tmp_path / "a_classes.png").write_text("mine")
    with pytest.raises(
        OutputError, match=r"a_classes\.png exists; add --overwrite to replace it, or choose another"
    ):
        predict_files(model, [images / "a.png"], tmp_path, device="cpu")
    with pytest.raises(
        OutputError,
        match=r"it, --resume to go on with the 1 of 2 inputs without results \(b\.tif\), or choose",
    ):
        predict_files(model, [images], tmp_path, device="cpu")
    for name in "cdefg":
        shutil.copy(images / "a.png", images / f"{name}.png")
    with pytest.raises(
        OutputError, match=r"the 6 of 7 inputs without results \(b\.tif, c\.png, d\.png, \.\.\.\)"
    ):
        predict_files(model, [images], tmp_path, device="cpu")


def test_each_file_is_told_when_it_is_whole(model, images, tmp_path):
    told, out = [], tmp_path / "out"

    def tell(result):
        assert all(path.exists() for path in result.outputs.values())
        told.append((result.input.name, sorted(path.name for path in out.glob("*.json"))))

    results = predict_files(model, [images], out, device="cpu", finished=tell)
    assert told == [("a.png", ["a.json"]), ("b.tif", ["a.json", "b.json"])]
    assert [result.input.name for result in results] == ["a.png", "b.tif"]


def test_results_of_an_input_are_there_all_or_not_at_all(model, images, tmp_path):
    """So that an input that was interrupted can be given again."""
    out = tmp_path / "out"
    (out / "b_overlay.png").mkdir(parents=True)  # in the way of the last picture; an error as Ctrl-C is one
    options = {"overlay": True, "overwrite": True, "device": "cpu"}
    (out / "b_classes.tif").write_text("old")
    with pytest.raises(OutputError, match="b_overlay"):
        predict_files(model, [images], out, instances=True, **options)
    assert {path.name for path in out.glob("a*")} == {
        *("a.json", "a_classes.png", "a_instances.tif", "a_objects.csv", "a_overlay.png")
    }
    assert {path.name for path in out.glob("b*")} == {"b_classes.tif", "b_overlay.png"}


def test_equal_stems_are_refused_by_name(model, images, tmp_path, grey):
    other = tmp_path / "more"
    other.mkdir()
    tifffile.imwrite(other / "a.tif", grey)
    with pytest.raises(DataError, match=r"images/a\.png and .*more/a\.tif would both be written as a_"):
        predict_files(model, [images, other], tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "no such file"),
        ("*.bmp", r"no image matches"),
        ("empty", "no image in this folder"),
        ("notes.txt", "cannot be read"),
    ],
)
def test_inputs_that_are_none(model, images, tmp_path, name, message):
    (images / "empty").mkdir()
    with pytest.raises(ImageFormatError, match=message):
        predict_files(model, [images / "a.png", str(images / name)], tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_none(images, tmp_path):
    with pytest.raises(CheckpointError, match="no such model file"):
        predict_files(tmp_path / "model.safetensors", [images], tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(model, images, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match=r"cannot write to .*file.*; choose another folder"):
            predict_files(model, [images / "a.png"], output, device="cpu")


def test_a_colour_image_for_a_grey_model_is_named(model, tmp_path):
    Pillow.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(tmp_path / "colour.png")
    with pytest.raises(ShapeError, match=r"colour\.png has 3 channels"):
        predict_files(model, [tmp_path / "colour.png"], tmp_path / "out", device="cpu")
    assert not list(tmp_path.glob("out/*"))
