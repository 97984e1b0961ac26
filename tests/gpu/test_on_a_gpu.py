"""What a GPU computes is what the CPU does. Skipped where there is none; see CONTRIBUTING."""

import numpy as np
import pytest
import torch

from ushape import Segmenter, train
from ushape.augment import on_device
from ushape.backends import PyTorchBackend
from ushape.config import Calibration
from ushape.models import UNet
from ushape.predict.averaging import Average
from ushape.predict.probabilities import tile_probabilities
from ushape.tiling import plan_tiles, run_tiled
from ushape.weight_map.on_device import targets

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def unet(width=16, **options):
    torch.manual_seed(5)
    return UNet(width=width, **options).eval()


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.fixture
def exact():
    """The same network in float64 on the CPU, on a tile."""
    tile = values(1, 316, 252)
    return tile, PyTorchBackend(unet(), "cpu", "fp64")(tile.astype(np.float64))


def test_float32_is_float32_and_not_tf32(exact):
    tile, expected = exact
    convolution = torch.backends.cudnn.conv
    before = convolution.fp32_precision
    assert relative(PyTorchBackend(unet(), "cuda", "fp32")(tile), expected) < 1e-5
    assert convolution.fp32_precision == before
    with torch.inference_mode():  # the comparison has teeth
        by_default = unet().cuda()(torch.from_numpy(tile).cuda()[None])[0].cpu().numpy()
    assert relative(by_default, expected) > 1e-4


def test_bfloat16_is_chosen_and_within_its_rounding(exact):
    tile, expected = exact
    backend = PyTorchBackend(unet(), "cuda")
    assert backend.precision == "bf16"
    assert relative(backend(tile), expected) < 0.02  # as documented


@pytest.mark.parametrize("network", [unet(), unet(norm="batch", shrink=2)], ids=["paper", "batch norm, half"])
def test_tiles_equal_the_whole(network):
    backend = PyTorchBackend(network, "cuda", "fp32")
    image = values(1, 300, 420)
    whole, tiled = (
        run_tiled(image, backend, plan_tiles(300, 420, keep, backend.geometry), 2)
        for keep in ((320, 448), (96, 160))
    )
    assert relative(tiled, whole) < 1e-5


@pytest.mark.parametrize("of", ["logits", "probabilities"])
def test_averages_are_those_of_the_cpu(of):
    tile, average = values(1, 252, 316), Average("d4", of)
    found, expected = (
        tile_probabilities(
            tile, PyTorchBackend(unet(), device, "fp32"), average, Calibration(1.3, (0.2, -0.2))
        )
        for device in ("cuda", "cpu")
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_tile_takes_the_memory_that_is_planned_for_it():
    for precision in ("fp32", "bf16"):
        backend = PyTorchBackend(unet(64), "cuda", precision)
        side = backend.largest_tile
        tile = torch.from_numpy(values(1, side, side)).cuda()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        backend.logits(tile)
        taken = torch.cuda.max_memory_allocated() - before
        assert taken < backend.fixed_bytes + backend.bytes_per_input_pixel * side**2


def test_memory_that_pytorch_keeps_counts_as_free():
    backend = PyTorchBackend(unet(), "cuda", "fp32")
    torch.cuda.empty_cache()
    before = backend.available_memory()
    block = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    del block  # PyTorch keeps it
    assert abs(backend.available_memory() - before) < 2**26


def test_tiles_are_resampled_as_on_the_cpu():
    image, ids = values(1, 200, 220), np.arange(200 * 220, dtype=np.int32).reshape(200, 220)
    y, x = np.mgrid[:150, :150]
    at = torch.from_numpy(np.stack([y * 1.1 + 0.2 * x - 30, x * 0.9 + 20.3]))

    def on(device):
        here = at.to(device)
        tile = on_device.resample(torch.from_numpy(image).to(device), here, "cubic")
        return tile.cpu().numpy(), on_device.look_up(torch.from_numpy(ids).to(device), here).cpu().numpy()

    (tile, found), (expected_tile, expected) = on("cuda"), on("cpu")
    np.testing.assert_allclose(tile, expected_tile, rtol=0, atol=1e-3)  # coordinates of 200 px in float32
    assert (found == expected).mean() > 0.9999


def test_weights_are_those_of_the_cpu():
    ids = np.zeros((2, 120, 140), np.int32)
    for number, (y, x) in enumerate([(5, 5), (5, 44), (50, 20), (48, 70)], 1):
        ids[:, y : y + 40, x : x + 36] = number
    classes, weight_of_class = (ids > 0).astype(np.uint8), np.zeros(256, np.float32)
    weight_of_class[:2] = 0.7, 2
    options = {"separate": True, "w0": 10.0, "sigma_px": 5.0, "crop": 4}

    def on(device):
        arrays = (torch.from_numpy(array).to(device) for array in (ids, classes, weight_of_class))
        return [result.cpu().numpy() for result in targets(*arrays, **options)]

    (found, weights), (expected, expected_weights) = on("cuda"), on("cpu")
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5)


@pytest.mark.parametrize("augment_on", ["device", "cpu"])
def test_a_model_trained_there_predicts_the_same_here(discs, tmp_path, augment_on):
    done = train(discs, tmp_path / "run", steps=12, width=8, device="cuda", augment_on=augment_on)
    found, expected = (
        Segmenter.load(done.model, device=device)(values(64, 90), "fp32").probabilities
        for device in ("cuda", "cpu")
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_a_run_on_a_gpu_is_resumed(discs, tmp_path):
    train(discs, tmp_path / "run", steps=4, width=8, device="cuda")
    assert train(discs, tmp_path / "run", steps=9, width=8, device="cuda", resume=True).steps == 9
