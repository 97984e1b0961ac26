"""Networks of padded convolutions: how far they look, and that tiles with that halo equal the whole image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ushape import EncoderUNet, certify
from ushape.backends import PyTorchBackend
from ushape.errors import TilingError
from ushape.geometry import PaddedGeometry
from ushape.models.reach import reach
from ushape.predict.certificate import _draw
from ushape.tiling import plan_axis, plan_for_memory, plan_tiles, run_tiled


class Small(nn.Module):
    """An encoder that looks a few pixels far: its tiles are cheap."""

    def __init__(self, kernel=5):
        super().__init__()
        self.channels, self.strides = (4, 6), (2, 4)
        self.first = nn.Conv2d(1, 4, kernel_size=kernel, stride=2, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 6, kernel_size=3, stride=2, padding=1)

    def forward(self, image):
        fine = self.norm(self.first(image)).relu()
        return [fine, self.second(fine).relu()]


class Mean(nn.Module):
    """Adds the mean of the whole map, as squeeze-and-excitation does."""

    def forward(self, x):
        return x + x.mean((2, 3), keepdim=True)


def small(**options):
    torch.manual_seed(0)
    network = EncoderUNet(Small(), width=3, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.running_mean, -1, 1)
    return network


class EveryOtherLine(nn.Module):
    """Looks ten pixels far, but on even lines and columns alone."""

    def __init__(self):
        super().__init__()
        self.far = nn.Conv2d(1, 1, kernel_size=3, padding=10, dilation=10)

    def forward(self, image):
        far, out = self.far(image), image.clone()
        out[..., ::2, ::2] = far[..., ::2, ::2]
        return out


def test_lines_that_see_less_do_not_make_the_halo_smaller():
    assert reach(EveryOtherLine(), 1, 2) == 10


def seen_from(network, size, period):
    """Furthest input, beyond a tile's border, that an output within it has a gradient from: an oracle."""
    image = torch.rand(1, 1, period, size, dtype=torch.float64, requires_grad=True)
    furthest = 0
    edge = size // 2 // period * period
    output = network.double().eval()(image)
    for x in range(edge):
        (gradient,) = torch.autograd.grad(output[..., x].sum(), image, retain_graph=True)
        seen = torch.nonzero(gradient.abs().sum((0, 1, 2)))
        if len(seen) and int(seen.max()) >= edge:
            furthest = max(furthest, edge - x)
    return furthest


@pytest.mark.parametrize("up", ["conv", "resize"])
def test_reach_is_not_below_that_of_the_gradients(up):
    network = small(up=up)
    found = reach(network, 1, 4)
    assert seen_from(network, 128, 4) <= found <= seen_from(network, 128, 4) + 8  # a ReLU may be shut


def test_reach_by_hand():
    """Three 3x3 convolutions look 3 px far; one at half the size 2 px, seen from an edge."""
    three = nn.Sequential(*(nn.Conv2d(1, 1, kernel_size=3, padding=1) for _ in range(3)))
    assert reach(three, 1, 1) == 3
    half = nn.Sequential(
        nn.MaxPool2d(2), nn.Conv2d(1, 1, kernel_size=3, padding=1), nn.Upsample(scale_factor=2)
    )
    assert reach(half, 1, 2) == 2
    wide = nn.Sequential(nn.Conv2d(1, 1, kernel_size=(1, 9), padding=(0, 4)))
    assert reach(wide, 1, 1) == 4


@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.GELU, nn.ELU]
)
def test_nan_passes_every_activation(activation):
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), activation(), nn.Conv2d(1, 1, 3, padding=1))
    assert reach(network, 1, 1) == 2


def test_a_layer_that_looks_at_all_is_named():
    network = nn.Sequential(nn.Conv2d(1, 1, kernel_size=3, padding=1), Mean(), nn.ReLU())
    assert reach(network, 1, 1) == "1"
    assert reach(EncoderUNet("mobilenetv3_small_100", width=2), 1, 32) == "encoder.model.blocks.0.0.se"
    assert reach(EncoderUNet("swin_tiny_patch4_window7_224", width=2), 1, 32).endswith("attn")


def test_reach_leaves_the_mode_of_the_network():
    network = small().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    reach(network, 1, 4)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_axis_by_hand():
    """A halo of 5 px is 8 px in periods of 4; tiles end where the image ends."""
    geometry = PaddedGeometry(4, lambda: 5)
    spans = plan_axis(30, 12, geometry)
    assert [(s.read_start, s.read_stop, s.keep_start, s.keep_stop) for s in spans] == [
        (0, 20, 0, 12),
        (4, 30, 12, 24),
        (16, 30, 24, 30),
    ]
    assert all(span.is_padded and span.output == span.read for span in spans)
    assert [span.kept for span in spans] == [slice(0, 12), slice(8, 20), slice(8, 14)]


def test_a_halo_is_not_looked_for_where_one_tile_does():
    def never():
        raise AssertionError

    geometry = PaddedGeometry(32, never)
    assert len(plan_for_memory(500, 300, geometry, 100, 1e9)) == 1
    assert (geometry.margin, geometry.smallest, geometry.output_size(7)) == (0, 1, 7)


def test_a_network_that_looks_at_all_gets_one_tile_or_a_reason():
    geometry = PaddedGeometry(32, lambda: "encoder.se")
    plan = plan_for_memory(3000, 2000, geometry, 100, 1e9)
    assert plan.input == (3000, 2000)
    with pytest.raises(
        TilingError, match=r"layer `encoder\.se` looks at the whole image .*--max-memory.*resnet34"
    ):
        plan_for_memory(3000, 2000, geometry, 100, 1e8)


def test_memory_plan_of_a_padded_network_is_within_the_budget():
    geometry = PaddedGeometry(32, lambda: 286)
    plan = plan_for_memory(4000, 3000, geometry, 1000, 2e9)
    assert len(plan) > 1
    for row, column in plan.tiles:
        assert row.read * column.read <= 2e6
        assert row.keep_start % 32 == column.keep_start % 32 == 0
    with pytest.raises(TilingError, match=r"smallest one takes 370 MB; raise the limit"):
        plan_for_memory(4000, 3000, geometry, 1000, 3e8)


def relative_difference(one, other):
    return float(np.abs(one - other).max() / np.abs(other).max())


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    keep=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    up=st.sampled_from(["conv", "resize"]),
    full_resolution=st.booleans(),
)
def test_tiled_equals_whole_in_float64(height, width, keep, up, full_resolution):
    backend = PyTorchBackend(small(up=up, full_resolution=full_resolution), "cpu", "fp64")
    image = np.random.default_rng(height * 1009 + width).standard_normal((1, height, width))
    plan = plan_tiles(height, width, (max(4 * keep[0], 16), max(4 * keep[1], 16)), backend.geometry)
    tiled = run_tiled(image, backend, plan, 2, np.empty((2, height, width)))
    assert relative_difference(tiled, backend(image)) < 1e-12


def trained(name):
    torch.manual_seed(1)
    network = EncoderUNet(name, width=2)
    for module in network.modules():  # as after training: the far parts of the halo must count
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
    return network


HALOS = {"resnet18": 286, "resnet34": 542, "tf_efficientnet_lite0": 510, "vgg11_bn": 126}
LONG_HALOS = {"convnext_tiny": 894, "densenet121": 1086}  # tiles of which take long


@pytest.mark.parametrize(("name", "halo"), (HALOS | LONG_HALOS).items())
def test_halos_are_those_of_the_page(name, halo):
    assert EncoderUNet(name, width=2).geometry.halo == halo
    page = (Path(__file__).parents[2] / "docs" / "encoders.md").read_text()
    assert f"{name} {halo}" in " ".join(page.split())


@pytest.mark.parametrize("name", HALOS)
def test_tiles_equal_the_whole_image(name):
    backend = PyTorchBackend(trained(name), "cpu", "fp64")
    kept = backend.geometry.whole_halo + 64  # none of the three tiles reads the whole image
    length = 3 * kept - 40
    image = np.random.default_rng(0).standard_normal((1, 45, length))
    plan = plan_tiles(45, length, (64, kept), backend.geometry)
    assert len(plan) == 3
    whole = backend(image)
    assert relative_difference(run_tiled(image, backend, plan, 2, np.empty(whole.shape)), whole) < 1e-12


def test_a_smaller_halo_of_resnet18_is_caught():
    """The comparison has teeth: 32 px less than the halo, or tiles off the period, are seen."""
    backend = PyTorchBackend(trained("resnet18"), "cpu", "fp64")
    image = np.random.default_rng(0).standard_normal((1, 45, 1000))
    whole = backend(image)
    for geometry in (PaddedGeometry(32, lambda: 192), PaddedGeometry(4, lambda: 322)):
        plan = plan_tiles(45, 1000, (64, 352 + geometry.period % 32), geometry)
        tiled = run_tiled(image, backend, plan, 2, np.empty(whole.shape))
        assert relative_difference(tiled, whole) > 1e-9


def test_tiles_of_a_certificate_lie_above_each_other_and_side_by_side():
    """An encoder of one's own may see farther in one direction."""
    rng, network = np.random.default_rng(0), small()
    counts = [(len(plan.rows), len(plan.columns)) for _, plan in (_draw(rng, network, n) for n in range(4))]
    assert counts == [(2, 1), (1, 2)] * 2


def test_a_padded_network_is_certified_with_tiles_that_do_not_see_all():
    found = certify(small(), images=3)
    assert found.tiles == 6
    assert (found.margin, found.halo) == (0, small().geometry.whole_halo)
    assert f"; padded, halo {found.halo} px, period 4 px\n" in found.render()
    assert found.differences["fp64"] < 1e-12
    assert found.misaligned > 1e-3
    with pytest.raises(
        TilingError, match=r"layer `encoder\.model\.blocks\.0\.0\.se` looks at the whole image"
    ):
        certify(EncoderUNet("mobilenetv3_small_100", width=2), images=1)
