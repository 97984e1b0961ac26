"""Seams: how far tiles are from one pass over the whole image, ours and as they are usually laid.

    python benchmarks/seams.py --cases 200

The paper's network, narrow, with random weights, in float64, on images of random values. A case is a random
image size, tile size and transform of the square. The whole image, mirrored at its border, goes through the
network at once; every way to cut it is compared with that. No time is taken: a busy machine changes nothing.

`ushape` reads, cuts and turns its tiles by the functions that `predict` uses. The others get the turned
image, and are compared with a pass over that:

- the stride of the output: what comes out of a tile is kept whole, as figure 2 of the paper draws it (388 of
  572 px), and tiles lie side by side;
- the last tile pulled back: tiles at multiples of the period, but the last one ends at the border;
- MONAI's `sliding_window_inference` blends overlapping windows of a network whose output is as large as its
  input. "mirrored": each window is mirrored out by the margin. "in context": the image is mirrored out once,
  and a weight map leaves out the frame that a window loses; windows overlap by that frame.
"""

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from machine import circumstances
from ushape.backends import PyTorchBackend
from ushape.models import UNet
from ushape.predict.averaging import D4, Transform
from ushape.tiling import plan_tiles, read_mirrored, run_tiled

Array = np.ndarray[Any, Any]
Cut = Callable[[PyTorchBackend, Array, int], Array]

EXACT = 1e-12
SIDES, TILES = (40, 240), (3, 8)
"""Sides of the images in pixels, and what a tile keeps at least, in periods."""


def network(width: int) -> PyTorchBackend:
    """The paper's network; its biases are not 0, or channels could die, and zeros are always equal."""
    torch.manual_seed(0)
    net = UNet(width=width)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.uniform_(parameter, 0.1, 0.5)
    return PyTorchBackend(net, "cpu", "fp64")


def mirrored_out(backend: PyTorchBackend, image: Array) -> Array:
    """The smallest valid input that gives all pixels of an image, by numpy's own mirroring."""
    geometry, padding = backend.geometry, [(0, 0)]
    for length in image.shape[1:]:
        padding.append((geometry.margin, geometry.input_size(length) - length - geometry.margin))
    return np.pad(image, padding, mode="reflect")


def whole(backend: PyTorchBackend, image: Array, transform: Transform = D4[0]) -> Array:
    """One pass over the image, mirrored out, then transformed."""
    turned = turned_pass(backend, mirrored_out(backend, image), transform)
    return turned[:, : image.shape[1], : image.shape[2]]


def turned_pass(backend: PyTorchBackend, image: Array, transform: Transform) -> Array:
    """One pass over the transformed input, the result transformed back."""
    found: Array = transform.undo(backend.logits(transform(torch.from_numpy(image.copy())))).numpy()
    return found


def ours(backend: PyTorchBackend, image: Array, keep: int, transform: Transform) -> Array:
    """Tiles as `predict` cuts and turns them."""
    plan = plan_tiles(*image.shape[1:], (keep, keep), backend.geometry)
    out = np.empty((2, *image.shape[1:]))
    return run_tiled(image, lambda tile: turned_pass(backend, tile, transform), plan, 2, out)


def stride_of_the_output(backend: PyTorchBackend, image: Array, keep: int) -> Array:
    """Outputs side by side, each kept whole: 388 of 572 px."""
    size = backend.geometry.input_size(keep)
    stride = backend.geometry.output_size(size)
    return laid(backend, image, size, [list(range(0, length, stride)) for length in image.shape[1:]])


def last_pulled_back(backend: PyTorchBackend, image: Array, keep: int) -> Array:
    """Tiles at multiples of the period, but the last one ends with the image."""
    size = backend.geometry.input_size(keep)
    output = backend.geometry.output_size(size)
    starts = []
    for length in image.shape[1:]:
        last = max(length - output, 0)
        starts.append([*range(0, last, keep), last])
    return laid(backend, image, size, starts)


def laid(backend: PyTorchBackend, image: Array, size: int, starts: list[list[int]]) -> Array:
    """Tiles of a size, kept from these rows and columns on; what a later one gives replaces what is there."""
    out, margin = np.empty((2, *image.shape[1:])), backend.geometry.margin
    for top in starts[0]:
        for left in starts[1]:
            window = top - margin, top - margin + size, left - margin, left - margin + size
            output = backend(read_mirrored(image, *window))
            place = out[:, top : top + output.shape[1], left : left + output.shape[2]]
            place[:] = output[:, : place.shape[1], : place.shape[2]]
    return out


def monai_mirrored(mode: str) -> Cut:
    """Windows of `keep` pixels, each mirrored out by itself; MONAI's overlap of a quarter."""

    def cut(backend: PyTorchBackend, image: Array, keep: int) -> Array:
        def predict(windows: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.from_numpy(whole(backend, window.numpy())) for window in windows])

        return sliding_window(image, keep, predict, mode=mode)

    return cut


def monai_in_context(backend: PyTorchBackend, image: Array, keep: int) -> Array:
    """Windows of the mirrored-out image, which overlap by what a tile loses."""
    margin, size = backend.geometry.margin, backend.geometry.input_size(keep)
    surround = (margin, size)  # so that every pixel of the image is inside some window's output
    extended = np.pad(image, ((0, 0), surround, surround), mode="reflect")

    def predict(windows: torch.Tensor) -> torch.Tensor:
        outputs = torch.stack([torch.from_numpy(backend(window.numpy())) for window in windows])
        return torch.nn.functional.pad(outputs, [margin] * 4)

    weights = torch.nn.functional.pad(torch.ones([size - 2 * margin] * 2, dtype=torch.float64), [margin] * 4)
    found = sliding_window(extended, size, predict, overlap=2 * margin / size, roi_weight_map=weights)
    return found[:, margin : margin + image.shape[1], margin : margin + image.shape[2]]


def sliding_window(image: Array, size: int, predict: Any, **options: Any) -> Array:
    """MONAI's own loop."""
    from monai.inferers import sliding_window_inference

    batch = torch.from_numpy(np.ascontiguousarray(image))[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MONAI's own dependencies
        found = sliding_window_inference(batch, (size, size), 1, predict, **options)
    return found[0].numpy()  # type: ignore[no-any-return, union-attr, call-overload]


CUTS: dict[str, Cut] = {
    "the stride of the output, as in figure 2": stride_of_the_output,
    "multiples of the period, the last tile pulled back": last_pulled_back,
    "MONAI, windows in context": monai_in_context,
    "MONAI, windows mirrored, equal weights": monai_mirrored("constant"),
    "MONAI, windows mirrored, Gaussian weights": monai_mirrored("gaussian"),
}


def compare(backend: PyTorchBackend, cases: int, seed: int) -> dict[str, list[tuple[float, float]]]:
    """By way to cut: per case the largest difference and the share of pixels of another class."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("ushape", *CUTS)}
    for _ in range(cases):
        image = rng.standard_normal((1, *rng.integers(SIDES[0], SIDES[1] + 1, 2)))
        keep = backend.geometry.period * int(rng.integers(TILES[0], TILES[1] + 1))
        transform = D4[rng.integers(len(D4))]
        tiled = ours(backend, image, keep, transform)
        found["ushape"].append(difference(tiled, whole(backend, image, transform)))
        turned = np.ascontiguousarray(transform(image))
        reference = whole(backend, turned)
        for name, cut in CUTS.items():
            found[name].append(difference(cut(backend, turned, keep), reference))
    return found


def difference(one: Array, reference: Array) -> tuple[float, float]:
    """Largest difference as a share of the largest value, and share of pixels of another class.

    A network of random weights prefers one class; so that both have half of the pixels, the median decides.
    """
    largest = np.abs(one - reference).max() / np.abs(reference).max()
    scores, expected = one[1] - one[0], reference[1] - reference[0]
    middle = np.median(expected)
    return float(largest), float(((scores > middle) != (expected > middle)).mean())


def table(found: dict[str, list[tuple[float, float]]]) -> str:
    """Markdown, a row per way to cut."""
    lines = [
        "| tiles | cases exact (1e-12) | largest difference, median | worst | pixels of another class |",
        "|---|---|---|---|---|",
    ]
    for name, rows in found.items():
        differences, classes = np.array(rows).T
        exact = f"{(differences <= EXACT).sum()} of {len(rows)}"
        sizes = f"{np.median(differences):.1e} | {differences.max():.1e} | {100 * classes.mean():.2g} %"
        lines.append(f"| {name} | {exact} | {sizes} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--width", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(circumstances(("torch", "monai"), "exact arithmetic, any number"))
    sides = f"images of {SIDES[0]} to {SIDES[1]} px a side, tiles that keep at least {TILES[0] * 16} to"
    print(f"width {options.width}, {options.cases} cases, seed {options.seed}, {sides} {TILES[1] * 16} px\n")
    print(table(compare(network(options.width), options.cases, options.seed)))


if __name__ == "__main__":
    main()
