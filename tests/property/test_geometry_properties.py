"""Size arithmetic against networks that are really run."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ushape import UNet
from ushape.errors import ShapeError
from ushape.geometry import Layer, UnpaddedGeometry

UP_TO = 60  # sizes tried against every random network; the period of three poolings is 8


@st.composite
def u_shapes(draw):
    """Layers of a U with zero to three poolings and any number of convolutions of odd kernel anywhere."""

    def convolutions():
        return [Layer("conv", kernel) for kernel in draw(st.lists(st.sampled_from([1, 3, 5]), max_size=2))]

    depth = draw(st.integers(0, 3))
    layers = convolutions()
    for kind in ["pool"] * depth + ["up"] * depth:
        layers += [Layer(kind, 2), *convolutions()]
    return tuple(layers)


class CannotRunError(Exception):
    """A pooling would round, a kernel is larger than what it meets, or a skip has no centre."""


def run(layers, signal):
    """Run a one-dimensional network of ones; skips are cropped centrally and added."""
    x, skips = signal[None, None], []
    for layer in layers:
        if layer.kind == "pool":
            skips.append(x)
            if x.shape[-1] % 2:
                raise CannotRunError
            x = F.max_pool1d(x, 2)
        elif layer.kind == "up":
            x = F.conv_transpose1d(x, torch.ones(1, 1, 2, dtype=x.dtype), stride=2)
            surplus = skips[-1].shape[-1] - x.shape[-1]
            if surplus % 2:
                raise CannotRunError
            x = x + skips.pop()[..., surplus // 2 : surplus // 2 + x.shape[-1]]
        else:
            if x.shape[-1] < layer.factor:
                raise CannotRunError
            x = F.conv1d(x, torch.ones(1, 1, layer.factor, dtype=x.dtype))
    return x[0, 0]


@given(u_shapes())
@settings(deadline=None, max_examples=40)
def test_valid_sizes_are_exactly_those_that_run(layers):
    geometry = UnpaddedGeometry(layers)
    for size in range(1, UP_TO):
        try:
            output = len(run(layers, torch.zeros(size)))
        except CannotRunError:
            assert not geometry.is_valid(size)
            assert geometry.trace(size) is None
        else:
            assert geometry.is_valid(size)
            assert geometry.output_size(size) == output == geometry.trace(size)[-1]
            assert size - output == 2 * geometry.margin


@given(u_shapes(), st.integers(1, 300))
@settings(deadline=None)
def test_nearest_valid_sizes_enclose_without_another_between(layers, size):
    geometry = UnpaddedGeometry(layers)
    below, above = geometry.nearest_valid_sizes(size)
    assert geometry.is_valid(above)
    assert above >= size
    assert below is None or (geometry.is_valid(below) and below <= size)
    assert not any(
        geometry.is_valid(between) for between in range((below or 0) + 1, above) if between != size
    )


@given(u_shapes(), st.integers(1, 100))
@settings(deadline=None)
def test_input_size_is_the_smallest_that_suffices(layers, output):
    geometry = UnpaddedGeometry(layers)
    size = geometry.input_size(output)
    assert geometry.output_size(size) >= output
    smaller = size - geometry.period
    assert not geometry.is_valid(smaller) or geometry.output_size(smaller) < output


@given(u_shapes(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_shifts_by_the_period_and_no_smaller_ones_commute_with_the_network(layers, seed):
    geometry = UnpaddedGeometry(layers)
    size, generator = geometry.input_size(24), torch.Generator().manual_seed(seed)
    # Whole numbers, so that sums are exact in whatever order they are taken.
    signal = torch.randint(1000, (size + geometry.period,), generator=generator).double()
    whole = [run(layers, signal[start : start + size]) for start in range(geometry.period + 1)]
    for shift in range(1, geometry.period + 1):
        is_equal = torch.equal(whole[0][shift:], whole[shift][: len(whole[shift]) - shift])
        assert is_equal == (shift == geometry.period)


def gradient_spans(network, image, pixel):
    """First and last input row, and column, with any influence on output pixel (`pixel`, 0)."""
    (gradient,) = torch.autograd.grad(network(image)[0, 0, pixel, 0], image)
    return [tuple(gradient[0, 0].any(axis).nonzero().flatten()[[0, -1]].tolist()) for axis in (1, 0)]


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize(("depth", "shrink"), [(1, 1), (2, 1), (3, 1), (4, 1), (2, 2), (1, 4)])
def test_windows_equal_the_gradients_of_a_network(depth, shrink, variant):
    network = UNet(width=1, depth=depth, classes=1, variant=variant, shrink=shrink).double().eval()
    geometry = network.geometry
    # Positive weights let no ReLU close and nothing cancel, a mean lets every pixel of a pooling through.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_().add_(0.01)
    network.pool = nn.AvgPool2d(2)
    network.require_valid = lambda _image: None  # it would look for the max-pooling

    size = (geometry.input_size(geometry.period), geometry.smallest)
    image = torch.rand(1, 1, *size, dtype=torch.float64, requires_grad=True)
    lengths = set()
    for pixel in range(geometry.period):
        rows, columns = gradient_spans(network, image, pixel)
        assert rows == geometry.window(pixel)
        assert columns == geometry.window(0)
        lengths.add(rows[1] - rows[0] + 1)
    assert geometry.receptive_field == (min(lengths), max(lengths))


@given(st.integers(1, 3), st.integers(1, 90), st.integers(1, 90))
@settings(deadline=None, max_examples=60)
def test_the_network_runs_at_valid_sizes_and_refuses_all_others(depth, height, width):
    network = UNet(width=1, depth=depth)
    geometry, image = network.geometry, torch.zeros(1, 1, height, width)
    if geometry.is_valid(height) and geometry.is_valid(width):
        expected = (geometry.output_size(height), geometry.output_size(width))
        assert network(image).shape[2:] == expected
    else:
        with pytest.raises(ShapeError, match=r"is not valid"):
            network(image)
