"""The network is the paper's, number by number."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import nn

from ushape import UNet
from ushape.errors import ConfigError, ShapeError
from ushape.models.unet import crop

# Height (= width) and channels after every step of figure 1, the input first. The step after each up-conv
# is the concatenation with the cropped skip, which doubles the channels.
FIGURE_1 = [
    *[(572, 1), (570, 64), (568, 64)],
    *[(284, 64), (282, 128), (280, 128)],
    *[(140, 128), (138, 256), (136, 256)],
    *[(68, 256), (66, 512), (64, 512)],
    *[(32, 512), (30, 1024), (28, 1024)],
    *[(56, 512), (56, 1024), (54, 512), (52, 512)],
    *[(104, 256), (104, 512), (102, 256), (100, 256)],
    *[(200, 128), (200, 256), (198, 128), (196, 128)],
    *[(392, 64), (392, 128), (390, 64), (388, 64)],
    (388, 2),
]


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def convolutions(network: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]


def shapes_seen(network: UNet, image: torch.Tensor) -> list[tuple[int, int]]:
    """(height, channels) of everything a layer takes or gives, in order, repetitions dropped."""
    seen: list[tuple[int, int]] = []

    def note(_module, inputs, output):
        for tensor in (*inputs, output):
            shape = (tensor.shape[2], tensor.shape[1])
            if seen[-1:] != [shape]:
                seen.append(shape)

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.MaxPool2d):
            module.register_forward_hook(note)
    network(image)
    return seen


def test_the_paper_has_23_layers_and_31_030_658_parameters():
    with torch.device("meta"):
        network = UNet()
    kernels = [(type(layer).__name__, layer.kernel_size) for layer in convolutions(network)]
    assert len(kernels) == 23
    assert kernels.count(("Conv2d", (3, 3))) == 18
    assert kernels.count(("ConvTranspose2d", (2, 2))) == 4
    assert kernels.count(("Conv2d", (1, 1))) == 1
    assert count(network) == 31_030_658


def test_the_release_has_31_100_354_parameters():
    with torch.device("meta"):
        assert count(UNet.released()) == 31_100_354


def test_every_shape_of_figure_1():
    with torch.device("meta"):
        network, image = UNet(), torch.zeros(1, 1, 572, 572)
    assert shapes_seen(network, image) == FIGURE_1


def test_height_and_width_are_independent():
    with torch.device("meta"):
        assert UNet()(torch.zeros(2, 1, 188, 572)).shape == (2, 2, 4, 388)


def test_the_release_keeps_128_channels_in_its_last_up_conv():
    with torch.device("meta"):
        network = UNet.released()
    assert [up[0].weight.shape[:2] for up in network.up] == [
        (128, 128),
        (256, 128),
        (512, 256),
        (1024, 512),
    ]
    assert all(isinstance(up[1], nn.ReLU) for up in network.up)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_weights_start_with_the_standard_deviation_of_the_paper(variant):
    torch.manual_seed(0)
    network = UNet(in_channels=3, width=32, variant=variant)
    for layer in convolutions(network):
        if isinstance(layer, nn.Conv2d):
            nodes = layer.weight[0].numel()
        else:  # each output pixel of a 2x2 up-conv of stride 2 sees one pixel of each input channel
            nodes = layer.in_channels if variant == "paper" else 4 * layer.out_channels
        expected = math.sqrt(2 / nodes)
        # Standard error of a standard deviation of n Gaussian draws: sigma / sqrt(2 n). Six of them.
        assert layer.weight.std().item() == pytest.approx(
            expected, rel=6 / math.sqrt(2 * layer.weight.numel())
        )
        assert abs(layer.weight.mean().item()) < 6 * expected / math.sqrt(layer.weight.numel())
        assert not layer.bias.any()


def test_classes_of_one_give_one_channel():
    with torch.device("meta"):
        assert UNet(classes=1, width=2)(torch.zeros(1, 1, 188, 188)).shape == (1, 1, 4, 4)


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (570, 572, "input height 570 is not valid; nearest valid sizes: 556 and 572"),
        (572, 573, "input width 573 is not valid; nearest valid sizes: 572 and 588"),
        (572, 187, "input width 187 is not valid; the smallest valid size is 188"),
    ],
)
def test_wrong_sizes_name_the_nearest_valid_ones(height, width, message):
    with torch.device("meta"), pytest.raises(ShapeError) as error:
        UNet()(torch.zeros(1, 1, height, width))
    assert str(error.value) == message


@pytest.mark.parametrize("shape", [(1, 2, 188, 188), (1, 188, 188), (188, 188)])
def test_wrong_channels_and_axes_are_named(shape):
    with torch.device("meta"), pytest.raises(ShapeError) as error:
        UNet()(torch.zeros(shape))
    assert str(error.value) == f"input shape {shape} is not valid; expected (N, 1, height, width)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"classes": 0}, "classes must be at least 1, got 0"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"norm": "group"}, "norm must be None or 'batch', got 'group'"),
        ({"variant": "relased"}, "variant must be 'paper' or 'released', got 'relased'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError) as error:
        UNet(**arguments)
    assert str(error.value) == message


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_dropout_falls_on_the_last_two_levels_on_pooling_and_skip_alike(variant):
    network = UNet(width=2, variant=variant).train()
    dropped, pooled, joined = [], [], []
    network.dropout.register_forward_hook(lambda _module, _inputs, output: dropped.append(output))
    network.pool.register_forward_hook(lambda _module, inputs, _output: pooled.append(inputs[0]))
    network.expanding[3].register_forward_hook(lambda _module, inputs, _output: joined.append(inputs[0]))
    torch.manual_seed(0)
    network(torch.rand(1, 1, 188, 188))

    assert [tuple(tensor.shape[1:]) for tensor in dropped] == [(16, 16, 16), (32, 4, 4)]
    assert (dropped[0] == 0).float().mean() > 0.4
    assert torch.equal(pooled[3], dropped[0])
    skip = joined[0][:, :16] if variant == "paper" else joined[0][:, 16:]
    assert torch.equal(skip, dropped[0][..., 4:12, 4:12])


def test_dropout_does_nothing_in_evaluation():
    network = UNet(width=2, depth=2).eval()
    image = torch.rand(1, 1, 44, 44)
    assert torch.equal(network(image), network(image))


def test_dropout_of_zero_does_nothing_in_training():
    network = UNet(width=2, depth=2, dropout=0).train()
    image = torch.rand(1, 1, 44, 44)
    assert torch.equal(network(image), network(image))


def test_batch_norm_stands_before_every_relu_of_the_3x3_convolutions():
    network = UNet(width=2, norm="batch")
    for block in (*network.contracting, *network.expanding):
        assert [type(step).__name__ for step in block] == ["Conv2d", "BatchNorm2d", "ReLU"] * 2
        assert block[0].bias is None
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 18
    assert network(torch.rand(2, 1, 188, 188)).shape == (2, 2, 4, 4)


def test_reset_draws_everything_anew():
    network = UNet(width=2, depth=1, norm="batch")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()(torch.rand(2, 1, 20, 20))  # moves the running statistics
    network.reset_parameters()
    for name, tensor in network.state_dict().items():
        is_drawn = name.endswith("weight") and tensor.ndim == 4
        assert torch.equal(tensor, before[name]) != is_drawn, name


def test_crop_cuts_the_centre_and_copies_nothing():
    skip = torch.arange(8 * 10).reshape(1, 1, 8, 10)
    centre = crop(skip, like=torch.zeros(1, 1, 4, 2))
    assert torch.equal(centre, skip[..., 2:6, 4:6])
    assert centre.data_ptr() == skip[..., 2:, 4:].data_ptr()


def test_logits_are_not_bounded_and_gradients_reach_every_weight():
    torch.manual_seed(0)
    network = UNet(width=4, depth=2)
    logits = network(torch.rand(1, 1, 60, 60) * 100)
    assert logits.min() < 0 < logits.max()
    logits.sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("shrink", [2, 4])
def test_a_network_at_half_the_size_sees_means_and_draws_straight_lines_between_its_pixels(shrink):
    torch.manual_seed(0)
    network = UNet(width=2, depth=1, shrink=shrink).double().eval()
    plain = UNet(width=2, depth=1).double().eval()
    plain.load_state_dict(network.state_dict())
    assert network.geometry.shrink == shrink
    image = torch.rand(1, 1, 24 * shrink, 22 * shrink, dtype=torch.float64)
    means = image.numpy()[0, 0].reshape(24, shrink, 22, shrink).mean((1, 3))
    coarse = plain(torch.from_numpy(means)[None, None]).detach().numpy()[0]
    # The centre of coarse pixel i lies at shrink * (i + 1 / 2) - 1 / 2; the output starts behind the first.
    at = [(np.arange(shrink * (n - 1)) + shrink // 2 + 0.5) / shrink - 0.5 for n in coarse.shape[1:]]
    expected = np.stack(
        [map_coordinates(plane, np.meshgrid(*at, indexing="ij"), order=1) for plane in coarse]
    )
    np.testing.assert_allclose(network(image).detach().numpy()[0], expected, rtol=0, atol=1e-12)


def test_a_size_that_is_no_half_or_quarter_is_refused():
    with pytest.raises(ConfigError, match="shrink must be 1, 2 or 4, got 3"):
        UNet(shrink=3)
