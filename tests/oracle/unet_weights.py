"""Hands the weights of our network to the oracles, under the layer names of the released network."""

import numpy as np
import torch
from numpy_unet import layer_names


def by_layer(network):
    """Weights and biases as `<layer>.weight`, `<layer>.bias`, in the order of `layer_names`."""
    arrays = {}
    for layer, name in zip(layer_names(network.depth), _state_names(network.depth), strict=True):
        arrays[f"{layer}.weight"] = network.state_dict()[f"{name}.weight"].numpy()
        arrays[f"{layer}.bias"] = network.state_dict()[f"{name}.bias"].numpy()
    return arrays


def randomized(network, seed=0):
    """Draw the biases too, which start at zero and would hide a bias that is never added."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            draw = rng.normal(scale=(2 / fan_in) ** 0.5, size=parameter.shape)
            parameter.copy_(torch.from_numpy(draw))
    return network


def _state_names(depth):
    down = [f"contracting.{level}.{step}" for level in range(depth + 1) for step in (0, 2)]
    up = []
    for level in reversed(range(depth)):
        up += [f"up.{level}.0", f"expanding.{level}.0", f"expanding.{level}.2"]
    return [*down, *up, "score"]
