"""Images of another magnification: resampled for the network and back, and warned of where it shows."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from small_model import make_model

from ushape.backends import resident_memory
from ushape.checkpoint import save_model
from ushape.config import Normalization, Postprocessing
from ushape.errors import ConfigError
from ushape.metrics import confusion, iou
from ushape.predict import Segmenter, predict_files
from ushape.predict.record import grey_value_mismatch, turning_mismatch
from ushape.predict.resampling import resampled
from ushape.predict.scaling import diameter_mismatch, find_scale, pixel_size_mismatch, scaled_size

Array = np.ndarray


def segmenter(**header: object) -> Segmenter:
    return Segmenter(*make_model(**header), device="cpu")


def grey(height: int, width: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


# Resampling


@pytest.mark.parametrize("factor", [2, 3])
def test_what_shrinks_is_averaged(factor: int) -> None:
    planes = np.random.default_rng(0).random((2, 12, 18)).astype(np.float32)
    blocks = planes.reshape(2, 12 // factor, factor, 18 // factor, factor)
    found = resampled(planes, (12 // factor, 18 // factor))
    np.testing.assert_allclose(found, blocks.mean((2, 4)), atol=1e-6)  # float32; measured: 6e-8
    stripes = np.tile(np.array([[0, 200]], np.uint8), (8, 8))[np.newaxis]
    np.testing.assert_array_equal(resampled(stripes, (8, 8), cubic=True), np.full((1, 8, 8), 100, np.float32))


def test_pixels_stay_where_they_are() -> None:
    """A ramp is the same ramp at every size: corners lie on corners, half a pixel from the centres."""
    ramp = (np.arange(40) + 0.5)[np.newaxis, np.newaxis].repeat(7, axis=1) / 40
    for width in (20, 80, 100):
        inside = slice(width // 10, -width // 10)  # at the border it is level: there is no pixel beyond
        expected = ((np.arange(width) + 0.5) / width)[inside]
        np.testing.assert_allclose(resampled(ramp, (7, width))[0, 3, inside], expected, atol=1e-5)
        # OpenCV's cubic kernel (a = -0.75) bends a ramp of 0.025 a pixel a little; measured: 0.0012.
        np.testing.assert_allclose(resampled(ramp, (7, width), cubic=True)[0, 3, inside], expected, atol=2e-3)


def test_one_axis_may_grow_where_the_other_shrinks() -> None:
    image = grey(20, 30)[np.newaxis]
    found = resampled(image, (40, 15))
    np.testing.assert_allclose(found, resampled(resampled(image, (40, 30)), (40, 15)), atol=1e-4)
    assert resampled(np.zeros((1, 2, 40_000), np.uint8), (3, 50_000)).shape == (1, 3, 50_000)


def test_nothing_is_touched_where_nothing_is_to_be_done() -> None:
    planes = grey(5, 6)[np.newaxis]
    assert resampled(planes, (5, 6)) is planes


# Segmentation

SIDES = st.integers(1, 40)


@settings(max_examples=25)
@given(SIDES, SIDES, st.floats(0.05, 4))
def test_a_result_has_the_size_of_its_image(height: int, width: int, scale: float) -> None:
    result = segmenter()(grey(height, width), "fp32", scale=scale)
    assert result.probabilities.shape == (2, height, width)
    assert result.classes.shape == result.instances().shape == (height, width)
    assert (result.plan.height, result.plan.width) == scaled_size(height, width, (scale, scale))
    np.testing.assert_allclose(result.probabilities.sum(0), 1, atol=1e-5)
    assert result.probabilities.min() >= 0
    assert result.probabilities.max() <= 1 + 1e-6


def test_scale_1_changes_no_bit() -> None:
    network = segmenter(
        pixel_size_um=(0.5, 0.25), postprocessing=Postprocessing(min_area=3, split="distance")
    )
    image = grey(70, 90)
    plain = network(image, "fp32")
    for options in ({"scale": 1}, {"scale": 1.0}, {"pixel_size": "0.5,0.25"}):
        same = network(image, "fp32", **options)
        np.testing.assert_array_equal(same.probabilities, plain.probabilities)
        np.testing.assert_array_equal(same.instances(), plain.instances())
        assert same.postprocessing == plain.postprocessing == network.header.postprocessing


def test_the_network_sees_the_image_at_its_scale() -> None:
    image = grey(60, 80)
    shrunk = resampled(image[np.newaxis], (30, 40))
    expected = segmenter()(shrunk, "fp32", axes="CYX").probabilities
    found = segmenter()(image, "fp32", scale=0.5).probabilities
    np.testing.assert_allclose(found, resampled(expected, (60, 80)), atol=1e-6)


def test_a_stack_is_scaled_plane_by_plane() -> None:
    stack = np.stack([grey(30, 40), grey(30, 40, 2)])
    result = segmenter()(stack, "fp32", scale=1.5)
    classes = result.classes  # before probabilities are kept
    assert result.probabilities.shape == (2, 2, 30, 40)
    for place, plane in enumerate(stack):
        alone = segmenter()(plane, "fp32", scale=1.5)
        np.testing.assert_array_equal(result.probabilities[place], alone.probabilities)
        np.testing.assert_array_equal(classes[place], alone.classes)


@pytest.mark.data
def test_nuclei_of_twice_the_size_are_found_at_half_the_scale(data_dir: Path) -> None:
    network, header = make_model()
    for name, weight in network.named_parameters():  # bright is nucleus, sharpened by a filter of 3 x 3
        weight.data.zero_()
        if name.endswith("weight") and weight.shape[-1] == 3:
            weight.data[0, :, 1, 1] = 1
            if name.startswith("expanding.1"):
                weight.data[0, :, 1, 1] = 1.4
                weight.data[0, :, 1, ::2] = -0.1
                weight.data[0, :, ::2, 1] = -0.1
    network.score.weight.data[1, 0], network.score.bias.data[1] = 4, -2
    finder, scores = Segmenter(network, header, device="cpu"), []
    for path in sorted((data_dir / "dsb2018" / "images").iterdir())[:48:4]:
        image = np.asarray(Pillow.open(path))
        height, width = image.shape
        large = resampled(image[np.newaxis], (2 * height, 2 * width), cubic=True)
        expected = finder(image, "fp32").classes.repeat(2, 0).repeat(2, 1)
        found = finder(large, "fp32", axes="CYX", scale=0.5).classes
        scores.append(float(iou(confusion(found, expected, 2))[1]))
        assert 0.01 < expected.mean() < 0.9
    assert min(scores) > 0.88, "measured: 0.907 to 0.985; nearest neighbours make the steps of the edges"


def test_sizes_of_objects_are_those_of_the_model_at_its_scale_unless_given() -> None:
    how = Postprocessing(min_area=12, split="distance", seed_depth_px=1.5, foi_px=4, threshold=0.4)
    network = segmenter(postprocessing=how)
    result = network(grey(60, 80), "fp32", scale=0.5)
    assert result.postprocessing == how.model_copy(update={"min_area": 48, "seed_depth_px": 3.0, "foi_px": 8})
    areas = np.bincount(result.instances().ravel())[1:]
    assert areas.min() >= 48
    given = network(grey(60, 80), "fp32", scale=0.5, postprocessing={"min_area": 7}).postprocessing
    assert (given.min_area, given.seed_depth_px) == (7, 3.0)
    assert network.header.postprocessing == how


def test_memory_for_both_sizes_is_taken_into_account() -> None:
    network = segmenter()
    image = np.zeros((600, 600), np.uint8)
    limit = resident_memory() + network.backend("fp32").fixed_bytes + 40_000_000
    assert len(network(image, "fp32", limit, scale=1.5).plan) > len(network(image, "fp32", limit).plan)
    with pytest.raises(
        ConfigError, match=r"scale 50 makes the image 30000 x 30000 px, which takes 1\d\.\d GB"
    ):
        network(image, "fp32", limit, scale=50)


# Which scale


def test_the_scale_follows_from_the_pixel_sizes() -> None:
    _, header = make_model(pixel_size_um=(0.5, 0.25))
    assert find_scale(header, None, None) == ((1, 1), None)
    assert find_scale(header, 0.5, None) == ((0.5, 0.5), None)
    assert find_scale(header, None, 0.5) == ((1, 2), (0.5, 0.5))
    assert find_scale(header, None, "1,0.25") == ((2, 1), (1, 0.25))
    result = segmenter(pixel_size_um=(0.5, 0.5))(grey(20, 30), pixel_size=0.25)
    assert (result.plan.height, result.plan.width) == (10, 15)
    assert result.image.pixel_size_um == (0.25, 0.25)
    assert result.objects()["area_um2"].tolist() == (result.objects()["area_px"] / 16).tolist()


@pytest.mark.parametrize(
    ("scale", "pixel_size", "known", "message"),
    [
        (0, None, None, "--scale 0 is not possible; give a scale from 0.01 to 100"),
        (-2, None, None, "--scale -2 is not possible"),
        (math.nan, None, None, "--scale nan is not possible"),
        (math.inf, None, None, "--scale inf is not possible"),
        (1000, None, None, "--scale 1000 is not possible"),
        (2, 0.5, (1, 1), "give --scale or --pixel-size, not both"),
        (None, 0.5, None, "--pixel-size 0.5 cannot be used: the training images did not tell"),
        (None, "wide", (1, 1), "--pixel-size wide is not valid; give micrometres"),
        (None, 500, (1, 1), "--pixel-size 500 means a scale of 500, which is not possible"),
    ],
)
def test_what_is_no_scale(scale: object, pixel_size: object, known: object, message: str) -> None:
    _, header = make_model(pixel_size_um=known)
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        find_scale(header, scale, pixel_size)


# Warnings


@pytest.mark.parametrize(
    ("pixel_size", "scale", "suggested"),
    [
        (None, 1, None),
        ((0.6, 0.6), 1, None),
        ((0.41, 0.41), 1, None),
        ((1.0, 1.0), 2, None),
        ((1.0, 1.0), 1, "try --scale 2 in place of 1"),
        ((0.25, 0.25), 1, "try --scale 0.5 in place of 1"),
        ((0.5, 1.0), 1, "try --scale 1 x 2 in place of 1"),
        ((0.5, 0.5), 2, "try --scale 1 in place of 2"),
    ],
)
def test_pixels_of_another_size_are_warned_of(
    pixel_size: object, scale: float, suggested: str | None
) -> None:
    _, header = make_model(pixel_size_um=(0.5, 0.5))
    line = pixel_size_mismatch(header, pixel_size, (scale, scale))
    assert (line is None) == (suggested is None)
    if suggested:
        assert suggested in line
    assert pixel_size_mismatch(make_model()[1], pixel_size, (scale, scale)) is None


def test_objects_of_another_size_are_warned_of() -> None:
    _, header = make_model(object_diameter_px=20.0)
    large = np.full(9, np.pi / 4 * 50**2)
    assert "try --scale 0.4" in diameter_mismatch(header, large, (1, 1))
    assert "try --scale 0.4" in diameter_mismatch(header, large, (2, 2))
    assert "typically 50 px across, at this scale 100 px" in diameter_mismatch(header, large, (2, 2))
    assert diameter_mismatch(header, large, (0.5, 0.5)) is None
    assert "try --scale 2.5" in diameter_mismatch(header, np.full(9, np.pi / 4 * 8**2), (1, 1))
    assert diameter_mismatch(header, large[:4], (1, 1)) is None, "too few to be typical"
    assert diameter_mismatch(make_model()[1], large, (1, 1)) is None


@pytest.mark.parametrize(
    ("mean", "dtype", "is_warned"),
    [(120.0, "uint16", True), (120.0, "float32", True), (120.0, "uint8", False), (3000.0, "uint16", False)],
)
def test_grey_values_that_cannot_be_of_8_bits_are_warned_of(mean: float, dtype: str, is_warned: bool) -> None:
    _, header = make_model(normalization=Normalization(kind="fixed", mean=(mean,), std=(50.0,)))
    line = grey_value_mismatch(header, dtype)
    assert (line is not None) == is_warned
    assert grey_value_mismatch(make_model()[1], dtype) is None, "each image is normalised by itself"
    if line is not None:
        assert (
            f"grey values of type {dtype} are normalised as those of 8 bits are, with means of 120;" in line
        )


@pytest.mark.parametrize("is_joined", [False, True])
@pytest.mark.parametrize("average", ["none", "paper", "d4"])
@pytest.mark.parametrize("upright", [False, True])
def test_turning_what_has_a_top_is_warned_of(is_joined: bool, average: str, upright: bool) -> None:
    origin = {"recipe": {"upright": upright}}
    _, header = make_model(provenance={"joined": [origin, origin]} if is_joined else origin)
    line = turning_mismatch(header, average)
    assert (line is not None) == (upright and average != "none")
    assert line is None or f"--average {average} turns the image" in line
    assert turning_mismatch(make_model()[1], average) is None, "nothing is known"


def test_a_file_tells_that_it_was_turned_though_it_has_a_top(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    save_model(model, *make_model(provenance={"recipe": {"upright": True}}))
    tifffile.imwrite(tmp_path / "a.tif", grey(60, 80))
    for average, count in (("none", 0), ("d4", 1)):
        (done,) = predict_files(
            model, [tmp_path / "a.tif"], tmp_path / average, average=average, device="cpu"
        )
        assert len(done.warnings) == count


def test_files_tell_their_scale_and_what_looks_wrong(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    save_model(model, *make_model(pixel_size_um=(0.5, 0.5), object_diameter_px=500.0))
    tifffile.imwrite(
        tmp_path / "a.tif", grey(60, 80), resolution=(1e4, 1e4), resolutionunit="CENTIMETER"
    )  # pixels of 1 um
    options = {"instances": True, "device": "cpu"}
    (plain,) = predict_files(model, [tmp_path / "a.tif"], tmp_path / "plain", **options)
    assert plain.report["scale"] == [1, 1]
    assert "scale" not in plain.summary
    assert len(plain.warnings) == 2
    assert plain.warnings[0].startswith("a.tif: warning: pixels of 1 um, as the file says,")
    assert plain.report["warnings"] == json.loads((tmp_path / "plain" / "a.json").read_text())["warnings"]
    (scaled,) = predict_files(model, [tmp_path / "a.tif"], tmp_path / "scaled", pixel_size=1, **options)
    assert scaled.report["scale"] == [2, 2]
    assert "60 x 80 px, scale 2, 1 tile, " in scaled.summary
    assert "try --scale" in scaled.warnings[0]
    assert tifffile.imread(tmp_path / "scaled" / "a_classes.tif").shape == (60, 80)
