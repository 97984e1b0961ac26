"""The fact the engine stands on: tile by tile gives the numbers of one pass over the whole image."""

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ushape.backends import Backend, OpenVINOBackend, PyTorchBackend
from ushape.models import Ensemble, Network, UNet
from ushape.tiling import Span, TilePlan, plan_tiles, run_tiled

DEPTHS = st.integers(1, 4)


def network(
    depth: int,
    *,
    channels: int = 1,
    norm: str | None = None,
    variant: str = "paper",
    members: int = 1,
    shrink: int = 1,
) -> Network:
    torch.manual_seed(depth)
    options = {"width": 2, "depth": depth, "norm": norm, "variant": variant, "shrink": shrink}
    networks = [UNet(channels, 2, **options) for _ in range(members)]
    network = Ensemble(networks).eval() if members > 1 else networks[0].eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):  # at 0, two channels can die in a ReLU, and zeros are always equal
            torch.nn.init.uniform_(parameter, 0.1, 0.5)
    return network


def image_of(height: int, width: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(height * 1009 + width).standard_normal((channels, height, width))


def whole(backend: Backend, image: np.ndarray) -> np.ndarray:
    """One pass over the image, mirrored by numpy and cropped here: nothing of `tiling` is used."""
    geometry = backend.geometry
    padding = [(0, 0)]
    for length in image.shape[1:]:
        size = geometry.input_size(length)
        padding.append((geometry.margin, size - length - geometry.margin))
    return backend(np.pad(image, padding, mode="reflect"))[:, : image.shape[1], : image.shape[2]]


def relative_difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


@settings(max_examples=30, deadline=None)  # the time of an example is the size of its image
@example(height=1, width=1, depth=4, keep=(1, 1), channels=1, norm=None, variant="paper", members=2, shrink=1)
@example(
    height=77, width=90, depth=2, keep=(1, 1), channels=1, norm=None, variant="paper", members=1, shrink=4
)
@given(
    height=st.integers(1, 130),
    width=st.integers(1, 130),
    depth=DEPTHS,
    keep=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    channels=st.sampled_from([1, 3]),
    norm=st.sampled_from([None, "batch"]),
    variant=st.sampled_from(["paper", "released"]),
    members=st.sampled_from([1, 1, 3]),
    shrink=st.sampled_from([1, 1, 2]),
)
def test_tiled_equals_whole_in_float64(height, width, depth, keep, channels, norm, variant, members, shrink):
    one_or_more = network(
        depth, channels=channels, norm=norm, variant=variant, members=members, shrink=shrink
    )
    backend = PyTorchBackend(one_or_more, device="cpu", precision="fp64")
    geometry = backend.network.geometry
    image = image_of(height, width, channels)
    # At least 32 px, so that a network with a period of 2 px is not run a thousand times.
    multiples = [max(k * geometry.period, 32) for k in keep]
    plan = plan_tiles(height, width, (multiples[0], multiples[1]), geometry)
    tiled = run_tiled(image, backend, plan, 2, np.empty((2, height, width)))
    assert relative_difference(tiled, whole(backend, image)) < 1e-12


def test_tiles_four_pixels_off_are_caught():
    """The comparison has teeth: the paper's stride of 388, 4 off the period of 16, fails it by far."""
    backend = PyTorchBackend(network(4), device="cpu", precision="fp64")
    geometry = backend.network.geometry
    image = image_of(40, 420)
    stride = 388
    columns = tuple(
        Span(start - 92, start - 92 + geometry.input_size(stop - start), start, stop)
        for start, stop in ((0, stride), (stride, 420))
    )
    plan = TilePlan(plan_tiles(40, 420, (48, 432), geometry).rows, columns)
    tiled = run_tiled(image, backend, plan, 2, np.empty((2, 40, 420)))
    reference = whole(backend, image)
    assert relative_difference(tiled[:, :, :stride], reference[:, :, :stride]) < 1e-12
    assert relative_difference(tiled, reference) > 0.1


@settings(max_examples=10, deadline=None)
@given(height=st.integers(1, 170), width=st.integers(1, 170), depth=DEPTHS)
def test_tiled_equals_whole_in_float32(height, width, depth):
    # Measured: at most 2e-6 of the largest value; sums of another tile size are added in another order.
    backend = PyTorchBackend(network(depth), device="cpu", precision="fp32")
    geometry = backend.network.geometry
    image = image_of(height, width).astype(np.float32)
    tiled = run_tiled(image, backend, plan_tiles(height, width, (64, 48), geometry), 2)
    assert relative_difference(tiled, whole(backend, image)) < 1e-5


@settings(max_examples=8, deadline=None)
@given(
    height=st.integers(1, 170),
    width=st.integers(1, 170),
    depth=st.sampled_from([1, 4]),
    shrink=st.sampled_from([1, 2]),
)
def test_tiled_equals_whole_in_openvino(height, width, depth, shrink):
    # Measured: at most 1.3e-6 of the largest value.
    backend = OpenVINOBackend(network(depth, shrink=shrink), "fp32")
    geometry = backend.geometry
    image = image_of(height, width).astype(np.float32)
    tiled = run_tiled(image, backend, plan_tiles(height, width, (64, 96), geometry), 2)
    assert relative_difference(tiled, whole(backend, image)) < 1e-5
