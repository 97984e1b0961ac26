"""Gap, classes and weights made by PyTorch equal those of `weight_map`; run on CPU tensors."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from ushape import weight_map
from ushape.config import IGNORE
from ushape.weight_map import on_device

LABELS = st.tuples(st.integers(1, 30), st.integers(1, 30)).flatmap(
    lambda shape: arrays(np.int32, shape, elements=st.sampled_from([0, 0, 0, 1, 2, 3, 2**31 - 2]))
)


def on_torch(function, labels, **options):
    return function(torch.from_numpy(labels)[None], **options)[0].numpy()


@given(labels=LABELS)
def test_the_gap_is_the_same(labels):
    assert_array_equal(on_torch(on_device.cut_gap, labels), weight_map.cut_gap(labels))


@settings(max_examples=40)
@given(
    labels=LABELS,
    sigma_px=st.sampled_from([0.5, 1.5, 5.0]),
    w0=st.sampled_from([0.0, 1.0, 10.0]),
    crop=st.integers(0, 9),
)
def test_the_border_weights_are_the_same(labels, sigma_px, w0, crop):
    crop = min(crop, (min(labels.shape) - 1) // 2)
    options = {"sigma_px": sigma_px, "w0": w0, "crop": crop}
    expected = weight_map.border_weights(labels, **options)
    # Square roots are taken in float64 here: terms differ by rounding of float32.
    assert_allclose(on_torch(on_device.border_weights, labels, **options), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.data
@pytest.mark.parametrize("separate", [True, False])
def test_targets_of_a_batch_of_real_labels_are_the_same(data_dir: Path, separate):
    folder = data_dir / "DIC-C2DH-HeLa" / "01_ST" / "SEG"
    labels = np.stack([tifffile.imread(folder / f"man_seg{n:03}.tif")[200:440, 150:380] for n in (0, 40)])
    labels = labels.astype(np.int32)
    object_class = np.ones(labels.max() + 1, np.uint8)
    object_class[[0, *np.unique(labels)[-1:]]] = 0, IGNORE
    balance = np.array([0.7, 2.0], np.float32)
    weight_of_class = np.zeros(256, np.float32)
    weight_of_class[:2] = balance
    crop = weight_map.tail_px()
    classes, weights = on_device.targets(
        torch.from_numpy(labels),
        torch.from_numpy(object_class[labels]),
        torch.from_numpy(weight_of_class),
        separate=separate,
        crop=crop,
    )
    for plane, found, weight in zip(labels, classes, weights, strict=True):
        expected = weight_map.targets(plane, object_class, balance, separate=separate, crop=crop)
        assert_array_equal(found, expected[0])
        assert_allclose(weight, expected[1], rtol=2e-6, atol=1e-6)
    assert (weights > 5).any() == separate
