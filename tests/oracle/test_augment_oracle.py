"""Training tiles equal a second resampler written with SciPy, for every mix of what can be drawn."""

import brute_tile
import numpy as np
import pytest
from numpy.testing import assert_allclose

from ushape.augment import Deformation, generator, random_tile

SIZE_IN, SIZE_OBJECTS = 92, 60

DRAWS = [
    {"elastic_std_px": 0.0, "rotation": False, "mirror": False, "shift_px": (9.0, 30.0)},
    {"elastic_std_px": 0.0, "rotation": True, "mirror": False},
    {"elastic_std_px": 0.0, "rotation": True, "mirror": True, "scale": (0.5, 2.0)},
    {"elastic_std_px": 10.0, "rotation": False, "mirror": False},
    {"elastic_std_px": 4.0, "grid": 5, "shift_px": (40.0, 40.0), "scale": (0.8, 1.25)},
    {"elastic_std_px": 10.0, "grid": 7, "spline": "approximating"},
    {"elastic_std_px": 10.0, "shift_px": (50.0, 50.0)},
]


def smooth_image(height, width):
    """No two neighbours differ by more than 0.35: the 1/32 pixel grid of the fast path can be bounded."""
    y, x = np.mgrid[:height, :width]
    return np.sin(0.3 * y + 0.1 * x) + np.cos(0.25 * x)


def described(deformation):
    return {name: getattr(deformation, name) for name in deformation.__dataclass_fields__}


@pytest.mark.parametrize("sample", range(4))
@pytest.mark.parametrize("draw", DRAWS)
def test_coordinates(draw, sample):
    deformation = Deformation.draw(generator(5, sample), **draw)
    expected = brute_tile.coordinates(SIZE_IN, **described(deformation))
    # float32 offsets of up to 200 pixels, summed from five products: measured 1.4e-5.
    assert_allclose(deformation.coordinates((SIZE_IN, SIZE_IN)), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("sample", range(4))
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("center", [None, (3.0, 70.5)])
def test_image_and_objects(draw, sample, center):
    height, width = 81, 110
    image = smooth_image(height, width)
    objects = np.arange(height * width).reshape(height, width)  # an id of its own for every pixel
    deformation = Deformation.draw(generator(6, sample), **draw)
    image_tile, objects_tile = random_tile(
        image[None],
        objects,
        size_in=SIZE_IN,
        size_objects=SIZE_OBJECTS,
        deformation=deformation,
        center=center,
    )
    middle = center or ((height - 1) / 2, (width - 1) / 2)
    y, x = (
        m + offset
        for m, offset in zip(middle, brute_tile.coordinates(SIZE_IN, **described(deformation)), strict=True)
    )
    # Coordinates rounded to 1/32 pixel are off by 1/64 at most, per axis, times a slope of at most 0.35.
    assert_allclose(image_tile[0], brute_tile.sample(image, y, x, order=1), rtol=0, atol=2 * 0.35 / 64)

    inner = slice(16, 76)
    y, x = y[inner, inner], x[inner, inner]
    # Within 1e-3 of the middle between two pixels either of them is the nearest.
    clear = np.all([np.abs(c - np.floor(c) - 0.5) > 1e-3 for c in (y, x)], axis=0)
    expected = brute_tile.sample(objects, y, x, order=0)
    assert np.array_equal(objects_tile[clear], expected[clear])
    assert clear.mean() > 0.9 or not np.any(deformation.displacements)
