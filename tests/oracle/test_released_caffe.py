"""`UNet.released` equals OpenCV's Caffe importer on the same weights, read from a Caffe model file."""

import cv2
import numpy as np
import pytest
import torch
from caffe_writer import caffemodel, prototxt
from unet_weights import by_layer, randomized

from ushape import UNet


@pytest.mark.parametrize(("height", "width"), [(572, 572), (188, 316)])
def test_released_network_equals_the_caffe_importer(tmp_path, height, width):
    network = randomized(UNet.released().eval())
    weights = by_layer(network)
    (tmp_path / "u.prototxt").write_text(prototxt(weights, height=height, width=width))
    (tmp_path / "u.caffemodel").write_bytes(caffemodel(weights))
    image = np.random.default_rng(2).uniform(size=(1, 1, height, width)).astype(np.float32)

    caffe = cv2.dnn.readNetFromCaffe(str(tmp_path / "u.prototxt"), str(tmp_path / "u.caffemodel"))
    caffe.setInput(image)
    expected = caffe.forward()
    with torch.inference_mode():
        got = network(torch.from_numpy(image)).numpy()

    assert got.shape == expected.shape == (1, 2, height - 184, width - 184)
    assert np.abs(expected).max() > 0.1  # else the tolerance would forgive everything
    # float32, 23 layers, another order of summation: measured 2e-5 at 572 x 572.
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
