"""Which networks can be an encoder, and what is said of those that cannot."""

import pytest
import torch
from small_encoder import Pyramid
from torch import nn

from ushape import EncoderUNet
from ushape.errors import CheckpointError, ConfigError
from ushape.models.encoders import TimmEncoder, normalization_of, read_weights, require_maps, timm_names
from ushape.torchvision_operators import define_missing_operators

define_missing_operators()
import timm  # noqa: E402  # needs them


def test_a_wrong_tag_of_weights_gets_those_there_are():
    for wrong in ("resnet34.foo", "resnet34."):
        with pytest.raises(ConfigError, match=r"resnet34 .* no weights '(foo)?'; there are: a1_in1k"):
            EncoderUNet(wrong)


def test_a_tag_chooses_among_weights_and_fetches_none():
    network = EncoderUNet("resnet18.fb_swsl_ig1b_ft_in1k", width=2)
    assert network.encoder.model.pretrained_cfg["tag"] == "fb_swsl_ig1b_ft_in1k"
    assert not network.is_pretrained


def test_without_weights_in_timm_the_numbers_of_most_others_normalise():
    """A name on its way out of timm: known, but without a word about its weights."""
    name = next(old for old, new in timm.models.get_deprecated_models().items() if new)
    assert timm.get_pretrained_cfg(name) is None
    assert normalization_of(name, 3) == normalization_of("resnet34", 3)


@pytest.mark.parametrize(("attribute", "wrong"), [("channels", (5, 8)), ("strides", (2, 6))])
def test_maps_that_are_not_as_declared_are_refused(attribute, wrong):
    encoder = Pyramid()
    setattr(encoder, attribute, wrong)
    declared = r"Pyramid declares channels \(5, .\) and strides \(., 6\), .* 6 x 12 px"
    with pytest.raises(ConfigError, match=rf"{declared} becomes maps of 5 x 2 x 4, 7 x 1 x 2; declare what"):
        EncoderUNet(encoder, in_channels=3)


class Flat(nn.Conv2d):
    """One map, as large as the image: nothing to go down to."""

    channels, strides = (8,), (1,)

    def forward(self, image):
        return [super().forward(image)]


def test_an_encoder_of_one_map_at_full_size_is_refused():
    with pytest.raises(ConfigError, match="encoder Flat gives one map, as large as the image; it must give"):
        EncoderUNet(Flat(3, 8, kernel_size=1), in_channels=3)


def test_names_of_timm_are_found_by_a_part_of_them():
    found = timm_names("ResNet3")
    assert "resnet34" in found
    assert all("resnet3" in name and timm.is_model(name) for name in found)
    with pytest.raises(
        ConfigError, match=r"no network of timm has .resmet34. in its name; the nearest .*resnet34"
    ):
        timm_names("resmet34")


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Pyramid(), r"Pyramid does not take an image of shape \(1, 6, 12\) \(Given groups=1"),
        ("maxvit_rmlp_pico_rw_256", r"image of shape \(1, 32, 64\) \(height .* must be divisible by window"),
    ],
    ids=["of colours", "of one size"],
)
def test_an_encoder_of_other_images_is_refused(encoder, message):
    with pytest.raises(ConfigError, match=message):
        EncoderUNet(encoder)


class Noisy(Pyramid):
    """Draws random numbers whenever it computes, and keeps one of its batch norms in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.kept, self.trained = nn.BatchNorm2d(3).eval(), nn.BatchNorm2d(3)

    def forward(self, image):
        return super().forward(self.trained(self.kept(image)) + torch.rand(1))


def test_an_encoder_is_tried_without_a_trace():
    encoder = Noisy()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    random = torch.get_rng_state()
    require_maps(encoder, "Noisy", 3)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert (encoder.training, encoder.kept.training, encoder.trained.training) == (True, False, True)


def test_a_description_with_a_wrong_tag_is_refused_as_its_name_is():
    with pytest.raises(ConfigError, match="resnet18 of timm has no weights 'foo'; there are: "):
        normalization_of("resnet18.foo", 3)


def test_weights_from_a_file_are_held_once(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("resnet10t").state_dict(), path)
    encoder = TimmEncoder("resnet10t", weights=path)
    assert "state_dict" not in encoder.model.pretrained_cfg


@pytest.mark.parametrize(
    "content", [b"https://example.org/weights.pth", b"h\x00", b"\x80\x02.", b"", b"(lp0\n."]
)
def test_a_file_of_any_bytes_is_no_file_of_weights(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"weights\.pth: (not a file of weights alone|holds no tensors)"
    ):
        read_weights(path)


def test_tensors_by_number_are_no_weights(tmp_path):
    torch.save({0: torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="holds no tensors by name"):
        read_weights(tmp_path / "weights.pth")


def test_a_proxy_for_all_is_asked_in_place_of_the_hub(monkeypatch, tmp_path):
    for name in ("https_proxy", "http_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    asked = []

    def connect(place, timeout):
        asked.append(place)
        raise OSError("not today")

    monkeypatch.setattr("socket.create_connection", connect)
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
    with pytest.raises(ConfigError, match=r"proxy\.example is out of reach"):
        TimmEncoder("resnet18", weights=True)
    assert asked == [("proxy.example", 3128)]
