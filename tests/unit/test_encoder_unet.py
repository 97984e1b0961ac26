"""Encoders of timm and one of our own: sizes, weights, gradients, what is frozen, the paper's U as one."""

import copy
import weakref
from collections import Counter

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_encoder import Pyramid
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ushape import EncoderUNet, UNet
from ushape.backends import PyTorchBackend
from ushape.checkpoint import load_model, save_model
from ushape.config import ClassInfo, EncoderUNetConfig, ModelHeader
from ushape.errors import CheckpointError, ConfigError, ShapeError
from ushape.models.decoder import Decoder
from ushape.models.encoders import TimmEncoder
from ushape.models.unet import DoubleConv
from ushape.torchvision_operators import define_missing_operators

define_missing_operators()
import timm  # noqa: E402  # needs them

SWIN = "swin_tiny_patch4_window7_224"
NAMES = ("resnet18", "resnet34", "tf_efficientnet_lite0", "convnext_tiny", "mobilenetv3_small_100", SWIN)
# Beside those that are sampled: both ends, fewer pixels than a period, primes above 500 on both axes.
SIZES = [(33, 129), (129, 33), (1, 1), (3, 509), (523, 2), (503, 521)]


def network_of(name, seed=0, **options):
    torch.manual_seed(seed)
    return EncoderUNet(Pyramid() if name == "own" else name, 3, 4, width=4, **options)


def name_of(network):
    is_own = isinstance(network.encoder, Pyramid)
    return "own" if is_own else network.encoder.model.pretrained_cfg["architecture"]


@pytest.fixture(scope="module", params=[*NAMES, "own"])
def network(request):
    return network_of(request.param)


def output_size(network, height, width):
    with torch.no_grad():
        return tuple(network.eval()(torch.zeros(1, 3, height, width)).shape)


def test_output_has_the_size_of_the_input(network):
    for size in SIZES:
        assert output_size(network, *size) == (1, 4, *size)


@settings(max_examples=10)
@given(height=st.integers(33, 129), width=st.integers(33, 129))
def test_output_has_the_size_of_any_input(network, height, width):
    assert output_size(network, height, width) == (1, 4, height, width)


def names_with_gradients(network):
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm starts the last one of a residual block at 0
            nn.init.ones_(module.weight)
    network(torch.randn(2, 3, 64, 96)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    return {name for name, parameter in network.named_parameters() if parameter.grad.any()}


def test_a_gradient_reaches_every_parameter(network):
    """In one of a few draws: in each a branch may be dropped, or the few ReLUs behind a bias all be shut."""
    waiting = {name for name, _ in network.named_parameters()}
    for seed in range(1, 5):
        waiting -= names_with_gradients(network_of(name_of(network), seed))
        if not waiting:
            break
    assert not waiting


def test_weights_come_back_from_a_state_dict(network):
    other = network_of(name_of(network), seed=5)
    network.train()(torch.randn(2, 3, 64, 64))  # running statistics that are not those of a fresh one
    other.load_state_dict(network.state_dict())
    image = torch.randn(1, 3, 40, 70)
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(image), network.eval()(image), rtol=0, atol=0)


@pytest.mark.parametrize(
    "options", [{"full_resolution": False}, {"up": "resize"}, {"norm": None, "dropout": 0.5}]
)
@pytest.mark.parametrize("name", ["resnet18", "own"])
def test_every_option_keeps_the_size(name, options):
    with torch.no_grad():
        assert network_of(name, **options).eval()(torch.zeros(1, 3, 37, 53)).shape == (1, 4, 37, 53)


def test_the_stem_fills_what_the_encoder_leaves_out():
    assert network_of("resnet18").stem.strides == (1,)
    assert network_of("convnext_tiny").stem.strides == (1, 2)
    assert network_of("vgg11_bn").stem is None
    assert network_of("own").stem.strides == (1,)


def test_without_the_stem_a_pixel_is_not_seen_by_itself():
    """The encoder's first maps are of half the size; only the stem tells one pixel from the one beside it."""
    image = torch.zeros(1, 3, 64, 64)
    image[..., ::2] = 1
    for full_resolution in (True, False):
        network = network_of("resnet18", full_resolution=full_resolution, up="resize").eval()
        with torch.no_grad():
            for parameter in network.encoder.parameters():
                parameter.zero_()
            logits = network(image)[0, :, 20:40, 20:40]
        assert (logits[..., ::2] != logits[..., 1::2]).any() == full_resolution


def test_deep_supervision_scores_every_level():
    network = network_of("resnet18", deep_supervision=True).eval()
    image = torch.randn(1, 3, 37, 53)
    with torch.no_grad():
        logits = network.supervise(image)
        assert torch.equal(logits[0], network(image))
    assert [tuple(one.shape) for one in logits] == [(1, 4, 37, 53)] * 5


def test_maps_go_as_soon_as_they_have_been_used():
    """When the finest level is scored, its own result is all that is left."""
    network, maps, alive = network_of("resnet18").eval(), [], []
    network.encoder.register_forward_hook(lambda m, i, output: maps.extend(map(weakref.ref, output)))
    for block in network.decoder.expanding:
        block.register_forward_hook(lambda m, i, output: maps.append(weakref.ref(output)))
    network.score.register_forward_pre_hook(lambda m, i: alive.extend(one() is not None for one in maps))
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
    assert alive == 5 * [False] + 4 * [False] + [True]


class Live(TorchDispatchMode):
    """Counts the bytes that tensors hold together, and the most they ever did."""

    def __init__(self):
        super().__init__()
        self.tensors, self.bytes, self.now, self.peak = Counter(), {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, torch.Tensor):
                self.note(one)
        return result

    def note(self, tensor):
        storage = tensor.untyped_storage()
        place = storage.data_ptr()  # of all views alike
        self.tensors[place] += 1
        if self.tensors[place] == 1:
            self.bytes[place] = storage.nbytes()
            self.now += self.bytes[place]
            self.peak = max(self.peak, self.now)
        weakref.finalize(tensor, self.gone, place)

    def gone(self, place):
        self.tensors[place] -= 1
        if not self.tensors[place]:
            self.now -= self.bytes.pop(place)


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "vgg11_bn", "convnext_tiny"])
def test_what_lives_at_once_takes_the_memory_that_is_planned_for_it(name):
    """An estimate: it has to cover all maps, and what convolutions lay out anew, twice as much at most."""
    backend = PyTorchBackend(EncoderUNet(name), "cpu", "fp32")
    side = 256
    with torch.no_grad(), Live() as live:
        backend.network(torch.zeros(1, 1, side, side))
    assert live.peak < backend.bytes_per_input_pixel * side**2 < 3 * live.peak


class PaperEncoder(nn.Module):
    """The contracting path of a UNet, as a plain encoder of five maps."""

    def __init__(self, network):
        super().__init__()
        self.blocks, self.pool = network.contracting, network.pool

    def forward(self, image):
        maps = []
        for block in self.blocks:
            maps.append(block(self.pool(maps[-1]) if maps else image))
        return maps


@pytest.mark.parametrize("norm", [None, "batch"])
def test_the_decoder_is_that_of_the_paper(norm):
    """With the weights of a UNet, unpadded and with cropped skips, it gives the same output bit for bit."""
    torch.manual_seed(2)
    paper = UNet(width=4, norm=norm).eval()
    channels = [block[0].out_channels for block in paper.contracting]
    assert isinstance(paper.contracting[0], DoubleConv)
    decoder = Decoder(
        channels, [1, 2, 4, 8, 16], channels[:-1], norm=norm, dropout=0.5, is_padded=False
    ).eval()
    weights = {name: t for name, t in paper.state_dict().items() if name.startswith(("up.", "expanding."))}
    decoder.load_state_dict(weights)
    image = torch.randn(2, 1, 188, 204)
    with torch.no_grad():
        maps = decoder(PaperEncoder(paper)(image))
        assert torch.equal(paper.score(maps[0]), paper(image))


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(3)
    return timm.create_model("resnet18").eval()


@pytest.fixture
def weights(original, tmp_path):
    safetensors.torch.save_file(original.state_dict(), tmp_path / "resnet18.safetensors")
    return tmp_path / "resnet18.safetensors"


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_equal_channels_give_what_three_gave_the_pretrained_network(original, weights, channels):
    encoder = TimmEncoder("resnet18", channels, weights).eval()
    grey = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        expected = original.forward_features(grey.expand(1, 3, 64, 64))
        found = encoder(grey.expand(1, channels, 64, 64))[-1]
    # The same products, added in another order.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [2, 5])
def test_filters_of_the_first_convolution_are_kept_for_any_channels(original, weights, channels):
    encoder = TimmEncoder("resnet18", channels, weights)
    for channel in range(channels):
        kept = original.conv1.weight[:, channel % 3] * 3 / channels
        torch.testing.assert_close(encoder.model.conv1.weight[:, channel], kept, rtol=1e-6, atol=0)


def test_weights_of_a_pth_file_are_those_of_a_safetensors(tmp_path):
    torch.manual_seed(3)
    weights = timm.create_model("mobilenetv3_small_100").state_dict()
    torch.save({"state_dict": {f"module.{name}": t for name, t in weights.items()}}, tmp_path / "a.pth")
    encoder = TimmEncoder("mobilenetv3_small_100", 3, tmp_path / "a.pth")
    assert torch.equal(encoder.model.conv_stem.weight, weights["conv_stem.weight"])


class Dangerous:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_files_that_hold_something_else_are_refused(tmp_path, capsys):
    with pytest.raises(CheckpointError, match=r"none\.pth: no such file of encoder weights"):
        TimmEncoder("resnet18", 3, tmp_path / "none.pth")
    torch.save(Dangerous(), tmp_path / "pickle.pth")
    with pytest.raises(CheckpointError, match=r"pickle\.pth: not a file of weights alone"):
        TimmEncoder("resnet18", 3, tmp_path / "pickle.pth")
    assert "never" not in capsys.readouterr().out
    (tmp_path / "damaged.safetensors").write_bytes(b"12345678901")
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors: not a file of weights alone"):
        TimmEncoder("resnet18", 3, tmp_path / "damaged.safetensors")
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors: not the weights of resnet18: `conv1"):
        TimmEncoder("resnet18", 3, tmp_path / "other.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"list\.pth: holds no tensors by name"):
        TimmEncoder("resnet18", 3, tmp_path / "list.pth")


def test_a_hub_out_of_reach_is_said_at_once_with_the_file(monkeypatch, tmp_path):
    for proxy in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ConfigError,
        match=r"out of reach .*download http\S+/timm/resnet18\S+/model\.safetensors .*--encoder-weights",
    ):
        EncoderUNet("resnet18", pretrained=True)


def test_unknown_names_get_the_nearest():
    with pytest.raises(ConfigError, match=r"no model 'resnet43'; the nearest names are resnet\d+"):
        EncoderUNet("resnet43")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"up": "linear"}, "up must be 'conv' or 'resize', got 'linear'"),
        ({"norm": "group"}, "norm must be None or 'batch', got 'group'"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"pretrained": "a.pth"}, "files are for networks of timm; load the weights of Pyramid yourself"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        EncoderUNet(Pyramid(), **{"in_channels": 3} | options)


def test_encoders_that_are_no_pyramid_are_refused():
    with pytest.raises(ConfigError, match=r"vit_tiny_patch16_224 gives maps of 1/16, 1/16, 1/16 of the size"):
        EncoderUNet("vit_tiny_patch16_224")
    with pytest.raises(ConfigError, match="encoder Identity does not say its `channels` and `strides`"):
        EncoderUNet(nn.Identity())
    odd = Pyramid()
    odd.channels = (5,)
    with pytest.raises(ConfigError, match=r"declares channels \(5,\) and strides \(3, 6\)"):
        EncoderUNet(odd)


def test_images_of_other_channels_are_refused(network):
    with pytest.raises(ShapeError, match=r"\(1, 1, 32, 32\) is not valid; expected \(N, 3, height, width\)"):
        network(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "own"])
def test_frozen_levels_stay_and_the_rest_learns(name):
    network = network_of(name)
    network.freeze_encoder(1)
    network.train()
    before = {key: tensor.clone() for key, tensor in network.encoder.state_dict().items()}
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1).step()
    changed = {
        key for key, tensor in network.encoder.state_dict().items() if not torch.equal(tensor, before[key])
    }
    stem = {
        "resnet18": ("conv1", "bn1"),
        "mobilenetv3_small_100": ("conv_stem", "bn1"),
        "own": ("first",),
    }
    assert changed
    assert not [key for key in changed if key.removeprefix("model.").startswith(stem[name])]
    frozen = [key for key, p in network.encoder.named_parameters() if not p.requires_grad]
    assert all(key.removeprefix("model.").startswith(stem[name]) for key in frozen)


def trained_weights(network):
    return {name for name, weight in network.encoder.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("before", [(), ("first",), ("first", "second")])
def test_an_encoder_that_is_frozen_already_is_frozen_further(before):
    """A user may have frozen some of it, or all, and freezes once more."""
    encoder = Pyramid()
    for name in before:
        getattr(encoder, name).requires_grad_(False)
    network = EncoderUNet(encoder, 3, 4, width=4)
    rest = set() if "second" in before else {"second.weight", "second.bias"}
    for _ in range(2):
        network.freeze_encoder(1)
        assert trained_weights(network) == rest
    network.freeze_encoder(2)
    assert trained_weights(network) == set()


def evaluating(network):
    """Names of the batch norms of the encoder that are in evaluation mode."""
    return {
        name
        for name, module in network.encoder.named_modules()
        if isinstance(module, nn.BatchNorm2d) and not module.training
    }


def test_a_constant_of_the_user_freezes_nothing_around_it():
    encoder = Pyramid()
    encoder.mean = nn.Parameter(torch.zeros(1), requires_grad=False)
    network = EncoderUNet(encoder, 3, 4, width=4).train()
    assert all(module.training for module in network.modules())


def test_frozen_batch_norms_stay_in_evaluation_mode_whatever_becomes_of_the_network():
    network = network_of("resnet18")
    network.freeze_encoder(1)
    first = evaluating(network)
    network.freeze_encoder(2)
    both = evaluating(network.train())
    assert {"model.bn1"} == first < both
    copied = copy.deepcopy(network)
    copied.encoder.model.bn1 = nn.BatchNorm2d(64).requires_grad_(False)  # another in its place
    assert evaluating(copied.train()) == both


class Averaged(nn.Module):
    """The first map is made by no weight."""

    def __init__(self):
        super().__init__()
        self.channels, self.strides = (3, 4), (2, 4)
        self.second = nn.Conv2d(3, 4, kernel_size=2, stride=2)

    def forward(self, image):
        first = nn.functional.avg_pool2d(image, 2)
        return [first, self.second(first)]


def test_a_map_without_weights_freezes_none():
    network = EncoderUNet(Averaged(), 3, 4, width=4)
    network.freeze_encoder(1)
    assert all(weight.requires_grad for weight in network.parameters())
    network.freeze_encoder(2)
    assert not any(weight.requires_grad for weight in network.encoder.parameters())


def test_freezing_more_levels_than_there_are_is_refused(network):
    most = len(network.encoder.channels)
    with pytest.raises(ConfigError, match=rf"cannot freeze 9 levels .* it has {most}; .* 1 to {most}"):
        network.freeze_encoder(9)


def test_a_compiled_network_computes_the_same():
    """Traced as for any compiler; code for a processor would take g++ a minute."""
    network, image = network_of("resnet18").eval(), torch.randn(1, 3, 50, 70)
    compiled = torch.compile(network.forward, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), network(image), rtol=0, atol=1e-5)


def test_a_model_file_needs_nothing_but_itself(tmp_path, monkeypatch):
    """No hub, no cache: the file says what to build, and holds every weight."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    torch.manual_seed(4)
    config = EncoderUNetConfig(encoder="resnet18", in_channels=2, classes=3, width=4, up="resize")
    network = EncoderUNet.from_config(config).eval()
    classes = tuple(ClassInfo(name=str(i), value=i, color=(i, i, i)) for i in range(3))
    save_model(
        tmp_path / "m.safetensors", network, ModelHeader(name="r", architecture=config, classes=classes)
    )
    loaded, header = load_model(tmp_path / "m.safetensors")
    assert header.architecture == config
    image = torch.randn(1, 2, 33, 45)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))


def test_a_model_with_an_encoder_of_ones_own_is_loaded_with_it(tmp_path):
    network = network_of("own").eval()
    config = EncoderUNetConfig(encoder="Pyramid", in_channels=3, classes=4, width=4)
    classes = tuple(ClassInfo(name=str(i), value=i, color=(i, i, i)) for i in range(4))
    path = tmp_path / "own.safetensors"
    save_model(path, network, ModelHeader(name="own", architecture=config, classes=classes))
    loaded, _ = load_model(path, encoder=Pyramid())
    image = torch.randn(1, 3, 33, 45)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))
    with pytest.raises(ConfigError, match="no model 'Pyramid'"):
        load_model(path)
