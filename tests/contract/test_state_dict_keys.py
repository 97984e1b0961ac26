"""Names and shapes of the weights are frozen: a model file of today must load in every later version.

The golden file may grow by new networks; an entry that changes breaks the files of users. To add one, print
`frozen(network)` as JSON.
"""

import json
from pathlib import Path

import pytest
import torch

from ushape import UNet
from ushape.models import Ensemble

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "state_dict_keys.json").read_text())

NETWORKS = {
    "paper": lambda: UNet(),
    "released": lambda: UNet.released(),
    "batch norm, depth 2, 3 channels, 5 classes": lambda: UNet(3, 5, width=8, depth=2, norm="batch"),
    "ensemble of 2, width 2, depth 1": lambda: Ensemble([UNet(width=2, depth=1), UNet(width=2, depth=1)]),
}


def frozen(network):
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_state_dict_keys_and_shapes_are_frozen(name):
    with torch.device("meta"):
        network = NETWORKS[name]()
    assert list(frozen(network).items()) == list(GOLDEN[name].items())


def test_every_frozen_network_is_built():
    assert GOLDEN.keys() == NETWORKS.keys()
