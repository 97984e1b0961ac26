"""How long an image takes on a CPU, file to file, beside what everybody writes and what MONAI does.

    python benchmarks/inference.py --model runs/paper/model.safetensors
    python benchmarks/inference.py --width 8 --size 512 --repeats 1
    python benchmarks/inference.py --model runs/paper/model.safetensors --who --cold

Prints tables in Markdown. Each row is a process of its own, so that its peak memory is its own; the whole job
is done once, which converts, quantises and compiles, and then timed. Nothing is in the cache before. With a
model, a table of labels in each precision follows; with `--cold`, what `ushape predict` takes from its start.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from machine import DATA, circumstances
from ushape.backends import peak_memory
from ushape.backends.pytorch import cpu_has_bf16
from ushape.checkpoint import load_model, save_model
from ushape.config import ClassInfo, ModelHeader, Normalization, UNetConfig
from ushape.models import UNet
from ushape.models.summary import summarize

PACKAGES = ("ushape", "torch", "openvino", "nncf", "monai")
TILE, STRIDE, MARGIN = 572, 388, 92
"""Of the paper's figure 2, in pixels."""
WINDOW = TILE - TILE % 16
"""The padded network of MONAI takes multiples of 16."""
COLD_SIDE = 512
ROWS = {
    "loop": "PyTorch eager, fp32, tiles of 572 -> 388",
    "monai": f"MONAI sliding_window_inference, BasicUNet, fp32, windows of {WINDOW}, overlap 0.25",
    "naive": "OpenVINO as converted, tile by tile, 572 -> 388",
    "fp32": "ushape, fp32",
    "bf16": "ushape, bf16",
    "int8": "ushape, int8",
}

Array = np.ndarray[Any, Any]
Job = Callable[[Path, Path], None]


def write_image(path: Path, data: Path, size: int) -> None:
    """A square image of slices of electron microscopy, mirrored until it is large enough."""
    plane = tifffile.imread(data / "isbi2012" / "train-volume.tif")[0]
    rows, columns = (max(size - side, 0) for side in plane.shape)
    tifffile.imwrite(path, np.pad(plane, ((0, rows), (0, columns)), mode="reflect")[:size, :size])


def write_model(path: Path, width: int) -> None:
    torch.manual_seed(0)
    classes = tuple(ClassInfo(name=name, value=i, color=(i, i, i)) for i, name in enumerate("ab"))
    header = ModelHeader(name="drawn", architecture=UNetConfig(width=width), classes=classes)
    save_model(path, UNet(width=width), header)


def ushape_job(model: Path, precision: str) -> Job:
    from ushape import Segmenter
    from ushape.io import write_classes

    segmenter = Segmenter.load(model, device="cpu")

    def job(source: Path, target: Path) -> None:
        found = segmenter(source, precision)  # type: ignore[arg-type]
        write_classes(target, found.classes, colors=[info.color for info in found.header.classes])

    return job


def loop_job(model: Path) -> Job:
    network = load_model(model)[0].eval()

    def forward(tile: Array) -> Array:
        with torch.inference_mode():
            return network(torch.from_numpy(tile[None])).softmax(1)[0].numpy()  # type: ignore[no-any-return]

    return tile_by_tile(forward)


def naive_job(model: Path) -> Job:
    import openvino

    network = load_model(model)[0].eval()
    example = torch.zeros(1, network.in_channels, TILE, TILE)
    compiled = openvino.Core().compile_model(openvino.convert_model(network, example_input=example), "CPU")

    def forward(tile: Array) -> Array:
        exponentials = np.exp(compiled(tile[None])[0][0])
        return exponentials / exponentials.sum(0)  # type: ignore[no-any-return]

    return tile_by_tile(forward)


def tile_by_tile(forward: Callable[[Array], Array]) -> Job:
    """The loop everybody writes: tiles at stride 388, of which the last ones reach beyond the border."""

    def job(source: Path, target: Path) -> None:
        image = normalized(source)
        height, width = image.shape[1:]
        beyond = [(MARGIN, MARGIN + STRIDE)] * 2
        mirrored = np.pad(image, [(0, 0), *beyond], mode="reflect")
        classes = np.empty((height + STRIDE, width + STRIDE), np.uint8)
        for top in range(0, height, STRIDE):
            for left in range(0, width, STRIDE):
                tile = np.ascontiguousarray(mirrored[:, top : top + TILE, left : left + TILE])
                classes[top : top + STRIDE, left : left + STRIDE] = forward(tile).argmax(0)
        tifffile.imwrite(target, classes[:height, :width])

    return job


def monai_job(model: Path) -> Job:
    from monai.inferers import sliding_window_inference

    network = monai_network(load_model(model)[0].top_channels[1])

    def job(source: Path, target: Path) -> None:
        image = torch.from_numpy(normalized(source)[None])
        with torch.inference_mode():
            logits = sliding_window_inference(image, (WINDOW, WINDOW), 1, network)
            tifffile.imwrite(target, logits.softmax(1).argmax(1)[0].numpy().astype(np.uint8))  # type: ignore[union-attr]

    return job


def monai_network(width: int) -> torch.nn.Module:
    from monai.networks.nets import BasicUNet

    torch.manual_seed(0)
    features = [width * 2**level for level in range(5)]
    return BasicUNet(2, 1, 2, features=(*features, width)).eval()


def normalized(source: Path) -> Array:
    return Normalization().apply(tifffile.imread(source)[None])


def measure(who: str, model: Path, folder: Path, repeats: int) -> None:
    """One row, in this process: seconds of the first run and of the next ones, and peak memory, as JSON."""
    jobs = {"loop": loop_job, "monai": monai_job, "naive": naive_job}
    job = jobs[who](model) if who in jobs else ushape_job(model, who)
    source, target = folder / "image.tif", folder / f"{who}.tif"
    seconds = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        job(source, target)
        seconds.append(time.perf_counter() - started)
    found = {"first": seconds[0], "seconds": statistics.median(seconds[1:]), "peak": peak_memory()}
    print(json.dumps(found))


def rates() -> dict[str, float]:
    """Best arithmetic rate of a product of matrices here, in multiplications a second, by precision.

    Not of int8: the product of PyTorch is a hundred times slower than that of float32, and says nothing.
    """
    side = 2048
    exact = torch.randn(side, side)
    rounded = exact.bfloat16()
    products: dict[str, Callable[[], object]] = {"fp32": lambda: exact @ exact}
    if cpu_has_bf16():
        products["bf16"] = lambda: rounded @ rounded
    return {
        precision: side**3 / min(seconds_of(product) for _ in range(4))
        for precision, product in products.items()
    }


def seconds_of(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def work_per_pixel(model: Path) -> float:
    """Multiplications per pixel of the image without any overlap: the second difference of the whole work."""
    network = load_model(model)[0]
    assert isinstance(network, UNet)
    sides = [TILE, TILE + 16, TILE + 32]
    small, middle, large = (
        sum(step.multiply_accumulates for step in summarize(network, side, side)) for side in sides
    )
    return (large - 2 * middle + small) / (2 * 16**2)


def table(options: argparse.Namespace, model: Path, folder: Path) -> Iterator[str]:
    write_image(folder / "image.tif", options.data, options.size)
    megapixels, best, work = options.size**2 / 1e6, rates(), work_per_pixel(model)
    limits = (
        f"{name} {2 * rate / 1e9:.0f} GOP/s, which allows {rate / work / 1e6:.2f} Mpx/s"
        for name, rate in best.items()
    )
    yield f"{options.size} x {options.size} px; {2 * work / 1e6:.2f} MFLOP per pixel without overlap"
    yield f"products of matrices: {'; '.join(limits)}"
    yield ""
    yield (
        "| what | first run, s | then, s | Mpx/s | times the first row | of the limit | labels as in fp32 "
        "| peak, GB |"
    )
    yield "|---" * 8 + "|"
    first, runs = None, {}
    for who in options.who:
        words = ["--one", who, "--model", model, "--folder", folder, "--repeats", options.repeats]
        runs[who] = subprocess.run(
            [sys.executable, __file__, *map(str, words)],
            env=with_own_cache(folder), capture_output=True, text=True,
        )  # fmt: skip
    for who, done in runs.items():  # all are done: labels can be compared
        if done.returncode:
            yield f"| {ROWS[who]} | {(done.stderr.strip() or 'failed').splitlines()[-1]} |||||||"
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        seconds = found["seconds"]
        first = first or seconds
        precision = who if who in ("bf16", "int8") else "fp32"
        share = f"{megapixels * 1e6 / seconds * work / best[precision]:.0%}" if precision in best else "-"
        yield (
            f"| {ROWS[who]} | {found['first']:.2f} | {seconds:.2f} | {megapixels / seconds:.3f} "
            f"| {first / seconds:.2f} | {share} | {agreement(folder, who)} | {found['peak'] / 1e9:.2f} |"
        )


def with_own_cache(folder: Path) -> dict[str, str]:
    """An environment in which nothing was converted or quantised before."""
    return os.environ | {"USHAPE_CACHE": str(folder / "cache")}


def agreement(folder: Path, who: str) -> str:
    exact = folder / "fp32.tif"
    if who == "monai" or not exact.exists():
        return "-"
    return f"{(tifffile.imread(exact) == tifffile.imread(folder / f'{who}.tif')).mean():.3%}"


def cold_start(model: Path, data: Path, folder: Path, repeats: int = 5) -> Iterator[str]:
    """Seconds from the start of `ushape predict` until its files are there; the first run fills the cache."""
    write_image(folder / "small.tif", data, COLD_SIDE)
    times = [first_result(model, folder / "small.tif", folder / "cold") for _ in range(1 + repeats)][1:]
    yield f"| cold start of `ushape predict`, {COLD_SIDE} x {COLD_SIDE} px | median s | fastest to slowest |"
    yield "|---" * 3 + "|"
    written, ended = zip(*times, strict=True)
    for what, column in (("all files written", written), ("end of the process", ended)):
        yield f"| {what} | {statistics.median(column):.2f} | {min(column):.2f} to {max(column):.2f} |"


def first_result(model: Path, image: Path, output: Path) -> tuple[float, float]:
    """Seconds from the start of a process until the last of its files has its name, and until its end."""
    command = Path(sys.executable).with_name("ushape")
    words = ["predict", model, image, "--output", output, "--overwrite", "--device", "cpu", "--quiet"]
    started = time.time()
    subprocess.run([command, *map(str, words)], env=with_own_cache(image.parent), check=True)
    ended = time.time()
    return max(path.stat().st_ctime for path in output.iterdir()) - started, ended - started


def main() -> None:
    parser = argparse.ArgumentParser(description="How long an image takes on a CPU, file to file.")
    parser.add_argument("--model", type=Path, help="of membranes (default: drawn weights, no labels)")
    parser.add_argument("--width", type=int, default=64, help="of the network without --model (default 64)")
    parser.add_argument("--size", type=int, default=2048, help="side of the image in pixels (default 2048)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of isbi2012/")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of a row (default 3)")
    parser.add_argument("--who", nargs="*", default=[*ROWS], choices=[*ROWS], help="rows (default: all)")
    parser.add_argument("--cold", action="store_true", help="time the first result of a small image, too")
    parser.add_argument("--one", choices=[*ROWS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one, options.model, options.folder, options.repeats)
        return
    print(circumstances(PACKAGES, f"{torch.get_num_threads()} cores"), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for line in tables(options, Path(folder)):
            print(line, flush=True)


def tables(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Seconds of the rows, the labels of a model that was given, a cold start if it is asked for."""
    from labels import label_table  # whose imports are not to count as memory of a row

    model = options.model or folder / "model.safetensors"
    if options.model is None:
        write_model(model, options.width)
    if options.who:
        yield from table(options, model, folder)
    if options.model is not None:
        yield ""
        yield from label_table(model, options.data / "isbi2012")
    if options.cold:
        yield ""
        yield from cold_start(model, options.data, folder)


if __name__ == "__main__":
    main()
