"""What `train --model` can be told: the paper's networks, and encoders in common use, with what they cost."""

import importlib.util

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ushape.config import EncoderUNetConfig, UNetConfig
from ushape.errors import to_install
from ushape.models.encoder_summary import cost, without_numbers
from ushape.models.encoders import SUGGESTED
from ushape.models.summary import summarize
from ushape.training.recipe import FAST, architecture

_OWN = {"paper": "paper", "released": "released", "auto (recipe fast)": "auto"}
"""What a row is called, and what `--model` says."""


def render() -> Group:
    """Write a row for each network: name, parameters, operations per megapixel of the image, of 1 channel."""
    words = "most other names of timm work, too; `ushape models PATTERN` lists those with PATTERN in them"
    if importlib.util.find_spec("timm") is None:
        words = f"encoders need timm: {to_install('encoders')}"
    table = Table(title="networks for train --model", box=None)
    for heading in ("name", "million parameters", "GFLOP per megapixel"):
        table.add_column(heading, justify="left" if heading == "name" else "right")
    for name, model in _OWN.items():
        config = architecture(FAST, model, None, in_channels=1, classes=2)
        assert isinstance(config, UNetConfig)
        table.add_row(name, *_numbers(*_of_unet(config)))
    if importlib.util.find_spec("timm") is not None:
        for name in SUGGESTED:
            found = cost(without_numbers(EncoderUNetConfig(encoder=name)))
            table.add_row(name, *_numbers(found.parameters, found.gflop_per_megapixel))
    return Group(table, Text(words, style="table.caption"))  # as markup, [encoders] would be a style


def _of_unet(config: UNetConfig) -> tuple[int, float]:
    """Parameters, and operations per megapixel of the output of a tile of figure 1."""
    steps = summarize(config, 572, 572)
    work = sum(step.multiply_accumulates for step in steps)
    return sum(step.parameters for step in steps), 2 * work / (steps[-1].height * steps[-1].width) / 1e3


def _numbers(parameters: int, gflop: float) -> tuple[str, str]:
    return f"{parameters / 1e6:.1f}", f"{gflop:.0f}"
