"""Which networks can be an encoder, and what is said of those that cannot."""

import pytest
import torch
from small_encoder import Pyramid
from torch import nn

from ushape import EncoderUNet
from ushape.errors import ConfigError
from ushape.models.encoders import normalization_of, require_maps, timm_names
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
