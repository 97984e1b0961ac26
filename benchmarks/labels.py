"""What faster precisions change on the held-out slices of ISBI 2012: labels, and V_rand with them."""

from collections.abc import Iterator
from pathlib import Path

import tifffile

from em import HELD_OUT
from ushape import Segmenter
from ushape.errors import ConfigError
from ushape.metrics import v_rand

LEAST_EQUAL = {"bf16": 0.998, "int8": 0.995}
MOST_LOST = 0.003
"""Share of labels that are to be those of fp32, and what V_rand may be lower by."""


def label_table(model: Path, data: Path) -> Iterator[str]:
    """Markdown, a row per precision; one that the machine lacks, or that is refused, says why."""
    volume, cells = (tifffile.imread(data / f"train-{name}.tif") for name in ("volume", "labels"))
    images, truth = volume[list(HELD_OUT)], cells[list(HELD_OUT)] > 0
    segmenter = Segmenter.load(model, device="cpu")
    exact = segmenter(images, "fp32", axes="ZYX")
    score = v_rand(exact.probabilities[:, 1], truth).score
    yield "| precision | labels as in fp32 | V_rand | lower by | within limits |"
    yield "|---" * 5 + "|"
    yield f"| fp32 | | {score:.4f} | | |"
    for precision, least in LEAST_EQUAL.items():
        try:
            found = segmenter(images, precision, axes="ZYX")  # type: ignore[arg-type]
        except ConfigError as error:
            yield f"| {precision} | {error} | | | |"
            continue
        lost = score - v_rand(found.probabilities[:, 1], truth).score
        equal = float((found.classes == exact.classes).mean())
        verdict = "yes" if equal >= least and lost <= MOST_LOST else "NO"
        yield f"| {precision} | {equal:.3%} | {score - lost:.4f} | {lost:+.4f} | {verdict} |"
    asked = ", ".join(f"{least:.1%} ({precision})" for precision, least in LEAST_EQUAL.items())
    yield f"\nlimits: at least {asked} of the labels, V_rand lower by at most {MOST_LOST}"
