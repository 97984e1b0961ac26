"""Averages over turned and mirrored inputs: of tiles what they are of the whole image, at any size."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_padded_tiles import small
from test_tiled_equals_whole import DEPTHS, image_of, network, relative_difference

from ushape.backends import PyTorchBackend
from ushape.config import UNCALIBRATED
from ushape.predict.averaging import AVERAGED, AVERAGES, D4, Average
from ushape.predict.probabilities import tile_probabilities
from ushape.tiling import plan_tiles, run_tiled

# The square's transforms in torch's words, none of which `averaging` uses, and how each is undone.
KEPT = (lambda x: x, lambda x: x)
MIRRORED = [(lambda x, axes=axes: x.flip(axes),) * 2 for axes in ([-1], [-2], [-2, -1])]
TRANSPOSED = [(lambda x: x.mT,) * 2, (lambda x: x.mT.flip([-2, -1]),) * 2]
QUARTERS = [
    (lambda x: x.mT.flip([-2]), lambda x: x.flip([-2]).mT),
    (lambda x: x.mT.flip([-1]), lambda x: x.flip([-1]).mT),
]
OTHERS = [*MIRRORED, *TRANSPOSED, *QUARTERS]
VERSIONS = {"none": [KEPT], "paper": OTHERS, "d4": [KEPT, *OTHERS]}


def softmax(logits):
    if len(logits) == 1:
        logits = torch.cat([torch.zeros_like(logits), logits])
    return logits.softmax(0)


def averaged_whole(net, image, name, of):
    """The definition: each version of the image, mirrored out to a valid input, passed; the mean cropped."""
    height, width = image.shape[1:]
    margin, padding = net.geometry.margin, [(0, 0)]
    for length in (height, width):
        padding.append((margin, net.geometry.input_size(length) - length - margin))
    padded = torch.from_numpy(np.pad(image, padding, mode="reflect"))
    post = softmax if of == "probabilities" else lambda x: x
    with torch.inference_mode():
        found = [undo(post(net(do(padded)[None])[0])) for do, undo in VERSIONS[name]]
        mean = torch.stack(found).mean(0)
        result = mean if of == "probabilities" else softmax(mean)
    return result[:, :height, :width].numpy()


def averaged_tiles(backend, image, name, of, keep):
    plan = plan_tiles(*image.shape[1:], keep, backend.geometry)
    average, out = Average(name, of), np.empty((2, *image.shape[1:]), image.dtype)
    return run_tiled(
        image, lambda tile: tile_probabilities(tile, backend, average, UNCALIBRATED), plan, 2, out
    )


@settings(max_examples=25, deadline=None)  # the time of an example is the size of its image
@example(height=1, width=1, depth=4, keep=(1, 1), name="d4", of="logits", members=1, shrink=1)
@example(height=20, width=53, depth=4, keep=(1, 2), name="paper", of="probabilities", members=2, shrink=1)
@example(height=77, width=90, depth=2, keep=(3, 2), name="d4", of="logits", members=1, shrink=4)
@given(
    height=st.integers(1, 100),
    width=st.integers(1, 100),
    depth=DEPTHS,
    keep=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    name=st.sampled_from(["paper", "d4"]),
    of=st.sampled_from(AVERAGED),
    members=st.sampled_from([1, 1, 2]),
    shrink=st.sampled_from([1, 1, 2]),
)
def test_averaged_tiles_equal_the_averaged_whole_in_float64(
    height, width, depth, keep, name, of, members, shrink
):
    net = network(depth, members=members, shrink=shrink).double()
    backend = PyTorchBackend(net, device="cpu", precision="fp64")
    period = net.geometry.period
    # At least 32 px, so that a network with a period of 2 px is not run a thousand times.
    multiples = max(keep[0] * period, 32), max(keep[1] * period, 48)
    image = image_of(height, width)
    tiled = averaged_tiles(backend, image, name, of, multiples)
    assert relative_difference(tiled, averaged_whole(net, image, name, of)) < 1e-12


@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 130), width=st.integers(1, 130), depth=DEPTHS, of=st.sampled_from(AVERAGED))
def test_averaged_tiles_equal_the_averaged_whole_in_float32(height, width, depth, of):
    # Measured: at most 4e-7 of the largest value.
    net = network(depth)
    backend = PyTorchBackend(net, device="cpu", precision="fp32")
    image = image_of(height, width).astype(np.float32)
    tiled = averaged_tiles(backend, image, "d4", of, (64, 48))
    assert relative_difference(tiled, averaged_whole(net, image, "d4", of)) < 1e-5


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(1, 50), width=st.integers(1, 70), keep=st.integers(3, 8), of=st.sampled_from(AVERAGED)
)
def test_averaged_tiles_of_a_padded_network_equal_the_averaged_whole(height, width, keep, of):
    net = small().double().eval()
    backend, period = PyTorchBackend(net, device="cpu", precision="fp64"), net.geometry.period
    image = image_of(height, width)
    padding = [(0, 0), *((0, -length % period) for length in image.shape[1:])]
    whole = averaged_whole(net, np.pad(image, padding, mode="reflect"), "d4", of)[:, :height, :width]
    tiled = averaged_tiles(backend, image, "d4", of, (keep * period, keep * period))
    assert relative_difference(tiled, whole) < 1e-12


@pytest.mark.parametrize(("width", "is_equal"), [(52, True), (48, False), (60, False)])
def test_where_the_mirrored_poolings_lie_matters(width, is_equal):
    """The comparison has teeth: the image mirrored by itself has other poolings, unless its size is valid."""
    net = network(4).double()
    backend = PyTorchBackend(net, device="cpu", precision="fp64")
    image = image_of(40, width)
    plan, out = plan_tiles(40, width, (48, 32), backend.geometry), np.empty((2, 40, width))
    ours = run_tiled(image, lambda tile: backend(tile[..., ::-1])[..., ::-1], plan, 2, out)
    by_itself = run_tiled(image[..., ::-1], backend, plan, 2, out.copy())[..., ::-1]
    difference = relative_difference(by_itself, ours)
    assert difference < 1e-12 if is_equal else difference > 0.1


@pytest.mark.parametrize("transform", D4)
def test_a_transform_is_undone(transform):
    image = torch.arange(2 * 3 * 5).reshape(2, 3, 5)
    assert transform(image).shape == ((2, 5, 3) if transform.quarters % 2 else (2, 3, 5))
    assert torch.equal(transform.undo(transform(image)), image)


def bits(image):
    return image.numpy().tobytes()


def test_there_are_eight_and_seven_transforms():
    image = torch.arange(4).reshape(1, 2, 2)
    seen = {name: {bits(one(image)) for one in AVERAGES[name]} for name in AVERAGES}
    assert {name: len(versions) for name, versions in seen.items()} == {"none": 1, "paper": 7, "d4": 8}
    assert seen["d4"] - seen["paper"] == seen["none"] == {bits(image)}
    expected = [bits(do(image)) for do, _ in VERSIONS["d4"]]
    assert seen["d4"] == set(expected)
