"""The U in numbers: every shape on the path, weights and work of each step, and a drawing after figure 1.

The shapes come from the network itself, run on torch's `meta` device, which computes shapes and nothing else.
"""

import copy
from dataclasses import dataclass
from itertools import groupby, islice

import torch
from torch import Tensor, nn

from ushape.config import UNetConfig
from ushape.geometry import UnpaddedGeometry
from ushape.models.unet import Enlarge, UNet

FIGURE_1_SIZE = 572
"""Height and width, in pixels, of the tile in the paper's figure 1."""

_LEGEND = """\
Each box: channels above, size below. To the right: conv 3x3 + ReLU; the last: conv 1x1.
v max-pool 2x2   ^ up-conv 2x2   -> skip, cropped to its centre and concatenated"""

_SHRUNK = "\nAbove, without a skip: the image, and the logits enlarged to its pixels. There, v is a mean."

_STEPS = nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, nn.BatchNorm2d, Enlarge


@dataclass(frozen=True)
class Step:
    """One step of the path through the network, and the shape that comes out of it.

    Attributes
    ----------
    name : str
        "input", "conv 3x3", "max-pool 2x2", "up-conv 2x2", "crop + concat", "batch norm" or "conv 1x1";
        "mean-pool 2x2" and "enlarge 2x" where the network works at half the size.
    level : int
        Poolings above this step: 0 at full resolution.
    is_expanding : bool
        Whether the step lies on the expanding path.
    channels, height, width : int
        Shape after the step, sizes in pixels.
    parameters : int
        Trained numbers in the step.
    multiply_accumulates : int
        Multiplications of the step's convolution for one tile; biases, ReLUs and poolings are not counted.
    """

    name: str
    level: int
    is_expanding: bool
    channels: int
    height: int
    width: int
    parameters: int
    multiply_accumulates: int


def summarize(network: UNet | UNetConfig, height: int, width: int) -> tuple[Step, ...]:
    """List the steps of the path through a network for one tile.

    Parameters
    ----------
    network : UNet or UNetConfig
        Not modified, and no weight of it is computed with.
    height, width : int
        Valid sizes of the tile in pixels.

    Returns
    -------
    tuple of Step
        From the input to the logits.

    Raises
    ------
    ShapeError
        If a size is not valid; names the nearest valid sizes.

    Examples
    --------
    >>> steps = summarize(UNetConfig(), 572, 572)
    >>> sum(step.parameters for step in steps)
    31030658
    >>> round(sum(step.multiply_accumulates for step in steps) / 1e9, 2)
    150.43
    """
    bare = _without_numbers(network)
    steps = [Step("input", 0, False, bare.in_channels, height, width, 0, 0)]

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if inputs[0].shape[1] != steps[-1].channels:
            steps.append(_step("crop + concat", inputs[0], before=steps[-1]))
        steps.append(_step_of(module, inputs[0], output, before=steps[-1]))

    for module in bare.modules():
        if isinstance(module, _STEPS):
            module.register_forward_hook(note)
    bare(torch.zeros(1, bare.in_channels, height, width, device="meta"))
    return tuple(steps)


def draw(network: UNet | UNetConfig, height: int | None = None, width: int | None = None) -> str:
    """Draw the U as text, and say below it what it costs and what it needs.

    Parameters
    ----------
    network : UNet or UNetConfig
        Not modified.
    height, width : int, optional
        Valid sizes of the tile in pixels; by default the 572 of figure 1, or the next valid size above.

    Returns
    -------
    str
        ASCII lines, at most 100 columns for the paper's network. Each box of figure 1 has its channels
        above and its size below (height, then width where the two differ); the first box after an
        up-convolution is the concatenation with the skip.

    Raises
    ------
    ShapeError
        If a size is not valid; names the nearest valid sizes.
    """
    geometry = _without_numbers(network).geometry
    default = geometry.nearest_valid_sizes(FIGURE_1_SIZE)[1]
    steps = summarize(network, *(default if size is None else size for size in (height, width)))
    table = "\n".join(f"{name:<22}{value}" for name, value in _facts(geometry, steps).items())
    legend = _LEGEND + (_SHRUNK if geometry.shrink > 1 else "")
    return f"{_draw_u(steps)}\n\n{legend}\n\n{table}"


def _without_numbers(network: UNet | UNetConfig) -> UNet:
    """Copy a network to the meta device, where tensors have shapes only."""
    if isinstance(network, UNetConfig):
        with torch.device("meta"):
            return UNet.from_config(network).eval()
    return copy.deepcopy(network).to("meta").eval()


def _step_of(module: nn.Module, given: Tensor, output: Tensor, *, before: Step) -> Step:
    parameters = sum(parameter.numel() for parameter in module.parameters())
    match module:
        case nn.Conv2d(kernel_size=(kernel, _), weight=weight):
            # Every output pixel meets every weight once; in an up-convolution every input pixel does.
            work = weight.numel() * output.shape[-2:].numel()
            return _step(f"conv {kernel}x{kernel}", output, before, parameters, work)
        case nn.ConvTranspose2d(kernel_size=(kernel, _), weight=weight):
            work = weight.numel() * given.shape[-2:].numel()
            return _step(f"up-conv {kernel}x{kernel}", output, before, parameters, work)
        case nn.MaxPool2d(kernel_size=size):
            return _step(f"max-pool {size}x{size}", output, before)
        case nn.AvgPool2d(kernel_size=size):
            return _step(f"mean-pool {size}x{size}", output, before)
        case Enlarge(factor=factor):
            return _step(f"enlarge {factor}x", output, before)
        case _:
            return _step("batch norm", output, before, parameters)


def _step(name: str, output: Tensor, before: Step, parameters: int = 0, work: int = 0) -> Step:
    is_up = name.startswith(("up-conv", "enlarge"))
    level = before.level + name.startswith(("max-pool", "mean-pool")) - is_up
    channels, height, width = output.shape[1:]
    return Step(name, level, before.is_expanding or is_up, channels, height, width, parameters, work)


def _facts(geometry: UnpaddedGeometry, steps: tuple[Step, ...]) -> dict[str, str]:
    first, last = steps[0], steps[-1]
    layers = sum("conv" in step.name for step in steps)
    work = sum(step.multiply_accumulates for step in steps) / 1e9
    sizes = ", ".join(str(size) for size in islice(geometry.valid_sizes(), 3))
    field = " to ".join(str(pixels) for pixels in sorted(set(geometry.receptive_field)))
    return {
        "parameters": f"{sum(step.parameters for step in steps):,} in {layers} convolutional layers",
        "multiply-accumulates": f"{work:.2f} G per tile ({2 * work:.2f} GFLOP)",
        "tile": f"{first.height} x {first.width} px -> {last.height} x {last.width} px",
        "margin": f"{geometry.margin} px lost on each side",
        "valid sizes": f"{sizes}, ... px; height and width independently",
        "period": f"{geometry.period} px: an image moved by this gives the same output, moved",
        "receptive field": f"{field} px seen by one pixel of the output",
    }


def _draw_u(steps: tuple[Step, ...]) -> str:
    cell = 1 + max(len(str(number)) for s in steps for number in (s.channels, s.height, s.width))
    depth = max(step.level for step in steps)
    # Batch norm keeps the shape, and figure 1 draws the up-sampled map as a part of the concatenation.
    boxes = [step for step in steps if step.name != "batch norm" and not step.name.startswith("up-conv")]
    rows = {key: list(row) for key, row in groupby(boxes, key=lambda s: (s.level, s.is_expanding))}
    lines = []
    for level in range(depth + 1):
        # Two cells to the side per level: a pooling goes straight down, an up-convolution straight up.
        left, right = 2 * level, 4 * depth - 2 * level
        lines += _draw_level(
            rows[level, False], rows.get((level, True), []), cell=cell, left=left, right=right
        )
        if level < depth:
            lines.append(_place({left + 2: "v", right: "^"}, cell, from_right=cell // 2 - 1))
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return "\n".join(line[margin:] for line in lines)


def _draw_level(down: list[Step], up: list[Step], *, cell: int, left: int, right: int) -> list[str]:
    """Lines of one level: channels, heights, widths where they differ; the skip between its two blocks."""
    boxes = dict(enumerate(down, left)) | dict(enumerate(up, right))
    lines = [
        _place({place: str(step.channels) for place, step in boxes.items()}, cell),
        _place({place: str(step.height) for place, step in boxes.items()}, cell),
    ]
    if any(step.height != step.width for step in down):
        lines.append(_place({place: str(step.width) for place, step in boxes.items()}, cell))
    if up and up[0].name == "crop + concat":
        start, stop = (left + len(down)) * cell + 1, right * cell
        lines[1] = f"{lines[1][:start]}{'>':->{stop - start}}{lines[1][stop:]}"
    return lines


def _place(texts: dict[int, str], cell: int, from_right: int = 0) -> str:
    """Line with each text so many columns from the right end of its cell."""
    line = ""
    for place, text in texts.items():
        line += text.rjust((place + 1) * cell - from_right - len(line))
    return line
