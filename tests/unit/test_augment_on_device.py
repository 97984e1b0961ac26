"""Tiles made by PyTorch equal those made by OpenCV from the same draw; run on CPU tensors."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from ushape import augment
from ushape.augment import Deformation, GreyValues, generator, on_device

SIZE_IN, SIZE_OBJECTS = 92, 60


def both_tiles(image, objects, deformation, *, center, interpolation, size_in=SIZE_IN, size=SIZE_OBJECTS):
    """(image, ids) by OpenCV, (image, ids) by PyTorch, and the positions of the ids."""
    made = augment.random_tile(
        image,
        objects,
        size_in=size_in,
        size_objects=size,
        deformation=deformation,
        center=center,
        interpolation=interpolation,
    )
    rows, columns = on_device.describe_positions(deformation, center, size_in)
    (at,) = on_device.positions(rows[None], columns[None])
    edge = (size_in - size) // 2
    inner = at[:, edge : edge + size, edge : edge + size]
    on_torch = (
        on_device.resample(torch.from_numpy(image), at, interpolation).numpy(),
        on_device.look_up(torch.from_numpy(objects), inner).numpy(),
    )
    return made, on_torch, inner.numpy()


def off_edges(positions, margin):
    """Where either pixel of two neighbours is nearest beyond doubt."""
    return np.all(np.abs(positions - np.floor(positions) - 0.5) > margin, axis=0)


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    turns=st.integers(0, 3),
    mirror=st.booleans(),
    scale=st.sampled_from([0.5, 1.0, 2.0]),
    shift=st.tuples(st.integers(-2000, 2000), st.integers(-2000, 2000)),
    interpolation=st.sampled_from(["linear", "cubic"]),
)
def test_they_are_equal_where_opencv_rounds_no_coordinate(shape, turns, mirror, scale, shift, interpolation):
    """Positions in whole 32nds of a pixel, on images so small that they are mirrored many times over."""
    rng = np.random.default_rng(turns)
    image = rng.normal(size=(2, *shape)).astype(np.float32)
    objects = np.arange(image[0].size, dtype=np.int32).reshape(shape)
    deformation = Deformation(
        np.zeros((2, 3, 3)), turns * np.pi / 2, mirror, scale, (shift[0] / 32, shift[1] / 32)
    )
    (tile, ids), (tile_torch, ids_torch), at = both_tiles(
        image, objects, deformation, center=(shape[0] / 2, shape[1] / 2), interpolation=interpolation
    )
    # Normalised to -1 .. 1 in float32, a position of 100 px is off by 1e-5 px; slopes are up to 5 per pixel.
    assert_allclose(tile_torch, tile, rtol=0, atol=2e-4)
    clear = off_edges(at, 1e-6)
    assert_array_equal(ids_torch[clear], ids[clear])


@pytest.mark.data
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("center", [(256.5, 256.5), (3.5, 500.5)])
def test_they_are_equal_on_real_images_up_to_32nds_of_a_pixel(data_dir: Path, center, interpolation):
    slices = tifffile.imread(data_dir / "isbi2012" / "train-volume.tif")
    for sample in range(4):
        image = slices[7 * sample].astype(np.float32)[None]
        image = (image - image.mean()) / image.std()
        objects = np.arange(image[0].size, dtype=np.int32).reshape(image[0].shape)
        deformation = Deformation.draw(generator(3, sample), scale=(0.8, 1.25))
        (tile, ids), (tile_torch, ids_torch), at = both_tiles(
            image,
            objects,
            deformation,
            center=center,
            interpolation=interpolation,
            size_in=572,
            size=446,
        )
        # OpenCV is off by up to 1/64 pixel per axis. These images have standard deviation 1 and slopes of up
        # to 4 per pixel: measured 0.068 at most and 0.006 on average.
        assert np.abs(tile_torch - tile).max() < 0.1
        assert np.abs(tile_torch - tile).mean() < 0.01
        # Float32 coordinates of up to 600 pixels: ids differ up to 4.5e-5 px from an edge, 4 to 8 of 198,916.
        clear = off_edges(at, 1e-4)
        assert clear.mean() > 0.999
        assert_array_equal(ids_torch[clear], ids[clear])


@pytest.mark.parametrize("spline", ["interpolating", "approximating"])
def test_positions_are_the_coordinates_of_the_deformation(spline):
    deformation = Deformation.draw(generator(0, 1), grid=5, shift_px=(9, 9), spline=spline)
    rows, columns = on_device.describe_positions(deformation, (100.0, 50.0), 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (at,) = on_device.positions(rows[None], columns[None])
    expected = np.array(deformation.coordinates((64, 64))) + np.array([100, 50])[:, None, None]
    # The CPU's are float32 offsets of up to 100 pixels.
    assert_allclose(at, expected, rtol=0, atol=2e-5)


def grey_tiles(strengths, keys=(1, 2, 3)):
    """Three tiles of two channels, varied by NumPy without noise, and by PyTorch."""
    images = np.random.default_rng(0).normal(size=(3, 2, 50, 40)).astype(np.float32)
    draws = [strengths.draw(generator(5, n), 2) for n in range(3)]
    still = [
        augment.vary_grey_values(i, d, generator(6, n))
        for n, (i, d) in enumerate(zip(images, draws, strict=True))
    ]
    on_torch = on_device.vary_grey_values(
        torch.from_numpy(images),
        torch.stack([on_device.describe_variation(d) for d in draws]),
        torch.stack([on_device.describe_patches(d) for d in draws]),
        list(keys),
        strengths=strengths,
    )
    return np.stack(still), on_torch.numpy(), draws


@pytest.mark.parametrize("blur_px", [0.0, 0.5, 9.0])
@pytest.mark.parametrize("fade", [0.0, 1.0])
@pytest.mark.parametrize("patches", [0.5, 1.0])
def test_grey_values_are_those_of_the_cpu(blur_px, fade, patches):
    strengths = GreyValues(0.5, 0.5, 0.125, blur_px=blur_px, fade=fade, patches=patches)
    still, on_torch, _ = grey_tiles(strengths)
    # Polynomials of float32 values of up to 8, in two orders: measured 2e-6.
    assert_allclose(on_torch, still, rtol=0, atol=1e-5)


def test_noise_has_the_strength_that_was_drawn_and_depends_on_its_key_alone():
    strengths = GreyValues(0, 0, 0, noise=0.5)
    plain, _, draws = grey_tiles(GreyValues(0, 0, 0))
    _, noisy, draws = grey_tiles(strengths)
    _, others, _ = grey_tiles(strengths, keys=(7, 2, 9))
    noise = noisy - plain
    expected = np.array([draw.noise for draw in draws])
    # 2000 pixels per channel: the standard error is 1.6 %; five of them.
    assert_allclose(noise.std((2, 3)), expected, rtol=0.08)
    assert_array_equal(noisy[1], others[1])
    assert np.abs(noisy[0] - others[0]).max() > 0.1
    assert abs(np.corrcoef(noise[0, 0].ravel(), noise[0, 1].ravel())[0, 1]) < 0.1


def test_a_constant_channel_stays_finite():
    variation = GreyValues().draw(generator(0, 3), 1)
    flat = on_device.vary_grey_values(
        torch.zeros(1, 1, 8, 8),
        on_device.describe_variation(variation)[None],
        on_device.describe_patches(variation)[None],
        [0],
    )
    expected = augment.vary_grey_values(np.zeros((1, 8, 8), np.float32), variation, generator(0, 0))
    assert_allclose(flat[0], expected, rtol=0, atol=1e-6)
