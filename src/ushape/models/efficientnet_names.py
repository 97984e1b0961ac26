"""Weights of EfficientNets as `efficientnet_pytorch` and `efficientnet_lite_pytorch` name them, for timm."""

from collections.abc import Iterable, Mapping

from torch import Tensor

_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""Layers of a block whose first convolution makes more channels, in the order in which they compute."""
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Layers of a block that does not: those of the first stage."""
_EVERYWHERE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}


def is_so_named(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the weights are named as in these packages."""
    return "_conv_stem.weight" in tensors


def as_in_timm(tensors: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Rename the weights of a whole network.

    Parameters
    ----------
    tensors : mapping of Tensor
        Blocks are counted through: ``_blocks.3._expand_conv.weight``.
    names : iterable of str
        All that the network has in timm, which counts blocks in each stage: ``blocks.2.0.conv_pw.weight``.

    Returns
    -------
    dict of Tensor
        Names that have no counterpart stay as they are.
    """
    places = [*dict.fromkeys(name.rpartition(".conv")[0] for name in names if _is_in_a_block(name))]
    return {_renamed(name, tensors, places): tensor for name, tensor in tensors.items()}


def _is_in_a_block(name: str) -> bool:
    return name.startswith("blocks.") and name.endswith(".conv_dw.weight")


def _renamed(name: str, tensors: Mapping[str, Tensor], places: list[str]) -> str:
    first, _, rest = name.partition(".")
    if first != "_blocks":
        return f"{_OUTSIDE.get(first, first)}.{rest}"
    number, layer, what = (*rest.split(".", 2), "", "")[:3]
    expands = f"_blocks.{number}._expand_conv.weight" in tensors
    layers = (_EXPANDING if expands else _PLAIN) | _EVERYWHERE
    if not number.isdecimal() or int(number) >= len(places) or layer not in layers or not what:
        return name
    return f"{places[int(number)]}.{layers[layer]}.{what}"
