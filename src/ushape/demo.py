"""The demonstration: learn from a dozen annotated images in a minute, then be judged on images never seen.

The images are inside the package; where they come from and how they were chosen stands in
``demo_images/README.md``.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.table import Table

from ushape import io, report
from ushape.config import Postprocessing
from ushape.errors import CheckpointError, OutputError
from ushape.instances import instances
from ushape.metrics import Matching, match, total
from ushape.pictures import blend, colorize, display, draw_outlines, heat, side_by_side

Array = np.ndarray[Any, Any]

IMAGES = Path(__file__).with_name("demo_images")
SMALLEST_PX = 16
"""Smaller objects are dropped: about the best cut for Otsu's threshold over the whole BBBC038 set."""

_NAME = "demo nuclei"
_WIDTH = 8  # channels of the first level, where the paper has 64: what two CPU cores can train in a minute
FOUND, INVENTED, MISSED = (86, 200, 255), (255, 160, 0), (255, 70, 160)


@dataclass(frozen=True)
class Annotated:
    """An image with the truth: `image` (C, H, W) as in the file, `ids` (H, W) int with 0 = background."""

    name: str
    image: Array
    ids: Array


@dataclass(frozen=True)
class Method:
    """A way to find objects, judged: its matches with the truth, one per held-out image, at IoU 0.5."""

    name: str
    matchings: tuple[Matching, ...]

    @property
    def sum(self) -> Matching:
        """Counts over all images."""
        return total(self.matchings)

    @property
    def per_image(self) -> float:
        """Mean over the images of AP(0.5)."""
        return float(np.mean([one.average_precision for one in self.matchings]))

    def row(self) -> tuple[str, int, int, int, float, float]:
        """Cells of the table: name, found, invented, missed, AP over all objects, AP per image."""
        counts = self.sum
        return self.name, counts.tp, counts.fp, counts.fn, counts.average_precision, self.per_image


HEADER = ("on held-out images", "found", "invented", "missed", "AP(0.5)", "AP per image")


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration left behind.

    Attributes
    ----------
    network, otsu, otsu_cleaned : Method
        The trained network; Otsu's threshold as it is; the same without objects below `SMALLEST_PX`.
    model, report : Path
        Model file and page.
    pictures : tuple of Path
        One per held-out image.
    steps : int
        Optimiser steps that fitted into the time.
    seconds : float
        Of everything.
    """

    network: Method
    otsu: Method
    otsu_cleaned: Method
    model: Path
    report: Path
    pictures: tuple[Path, ...]
    steps: int
    seconds: float

    @property
    def rows(self) -> tuple[tuple[str, int, int, int, float, float], ...]:
        """Rows under `HEADER`."""
        return self.otsu.row(), self.otsu_cleaned.row(), self.network.row()


def annotated(folder: Path) -> list[Annotated]:
    """Read the pairs below `folder/images` and `folder/masks`, in order of name."""
    paths = sorted((folder / "images").glob("*.png"))
    return [
        Annotated(
            path.stem,
            io.read_image(path).planes[0],
            io.read_labels(folder / "masks" / path.name).array.astype(np.int32),
        )
        for path in paths
    ]


def otsu_objects(grey: Array, *, smallest_px: int = 0) -> Array:
    """Objects by the usual first thing to try: one threshold for the image, then connected components.

    Parameters
    ----------
    grey : ndarray, shape (H, W)
        Bright objects on dark ground.
    smallest_px : int
        Objects of fewer pixels are dropped.

    Returns
    -------
    ndarray of int, shape (H, W)
        Ids, 0 = background.

    Notes
    -----
    Otsu 1979, "A threshold selection method from gray-level histograms".
    """
    from skimage.filters import threshold_otsu

    bright = (grey > threshold_otsu(grey)).astype(np.float32)  # type: ignore[no-untyped-call]
    return instances(bright, Postprocessing(min_area=smallest_px))


def verdicts(truth: Annotated, ids: Array) -> Array:
    """Mark objects on the image: found in `FOUND`, invented in `INVENTED`, missed ones in `MISSED`.

    Parameters
    ----------
    truth : Annotated
    ids : ndarray of int, shape (H, W)
        Predicted objects, 0 = background.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
    """
    pairs = match(ids, truth.ids).pairs
    right = np.isin(ids, [predicted for predicted, _, _ in pairs])
    seen = np.isin(truth.ids, [true for _, true, _ in pairs])
    missed, invented, found = np.where(seen, 0, truth.ids), np.where(right, 0, ids), np.where(right, ids, 0)
    picture = display(truth.image)
    for objects, color in ((missed, MISSED), (invented, INVENTED), (found, FOUND)):
        tinted = blend(picture, (objects > 0).astype(np.uint8), ((0, 0, 0), color), opacity=0.3)
        picture = draw_outlines(tinted, objects, color)
    return picture


def run_demo(output: str | Path, *, seconds: float = 60.0, quiet: bool = True) -> DemoResult:
    """Train on the images inside the package, predict the held-out ones, compare with Otsu's threshold.

    Parameters
    ----------
    output : path
        Folder; gets `report.html`, `model.safetensors` and `pictures/*.png`. Those of an earlier
        demonstration are replaced.
    seconds : float
        Time to train.
    quiet : bool
        Print nothing.

    Returns
    -------
    DemoResult

    Raises
    ------
    OutputError
        If `output` cannot be written, or holds the model of something else.
    """
    from ushape.predict import Segmenter

    started, output, console = time.monotonic(), Path(output), Console(quiet=quiet)
    held_out = annotated(IMAGES / "val")
    console.print(f"Training a narrow U-Net for {seconds:.0f} seconds on the images inside the package.")
    model, steps = _train(output, seconds, quiet)
    console.print(f"Segmenting {len(held_out)} images that it has never seen.")
    segmenter = Segmenter.load(model)
    cases = [_Case.of(one, segmenter(one.image, axes="CYX")) for one in held_out]
    result = DemoResult(
        network=Method(f"U-Net, {steps} steps", tuple(case.matching for case in cases)),
        otsu=_otsu("Otsu's threshold", held_out, 0),
        otsu_cleaned=_otsu("Otsu's threshold, no specks", held_out, SMALLEST_PX),
        model=model,
        report=output / "report.html",
        pictures=tuple(case.write(output / "pictures") for case in cases),
        steps=steps,
        seconds=time.monotonic() - started,
    )
    _write_report(result, cases)
    return result


def render(result: DemoResult) -> Group:
    """What the command shows at the end: the scores, where the pictures are, what to type next."""
    scores = Table(box=None, pad_edge=False)
    for number, name in enumerate(HEADER):
        scores.add_column(name, justify="right" if number else "left")
    for row in result.rows:
        scores.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row))
    return Group(
        scores,
        "",
        f"{_gain(result)} Done in {result.seconds:.0f} s.",
        f"Pictures and explanations: {result.report}",
        "",
        "Next, with your own images in my-data/images and their masks in my-data/masks:",
        *(f"  {line}" for line in _NEXT),
    )


@dataclass(frozen=True)
class _Case:
    """One held-out image with what the network made of it."""

    truth: Annotated
    probability: Array
    classes: Array
    matching: Matching
    overlay: Array
    otsu_overlay: Array

    @classmethod
    def of(cls, truth: Annotated, segmentation: Any) -> "_Case":
        ids = segmentation.instances()
        otsu = otsu_objects(truth.image[0], smallest_px=SMALLEST_PX)
        return cls(
            truth,
            segmentation.probabilities[1],
            segmentation.classes,
            match(ids, truth.ids),
            verdicts(truth, ids),
            verdicts(truth, otsu),
        )

    def panels(self) -> dict[str, Array]:
        image, colors = display(self.truth.image), ((20, 24, 32), (235, 235, 235))
        return {
            "image": image,
            "probability": heat(self.probability),
            "classes": colorize(self.classes, colors),
            "U-Net": self.overlay,
            "Otsu": self.otsu_overlay,
        }

    def write(self, folder: Path) -> Path:
        path, panels = folder / f"{self.truth.name}.png", self.panels()
        io.write_overlay(path, side_by_side(list(panels.values()), list(panels)))
        return path

    def row(self) -> report.Html:
        counts = self.matching
        found = f"{counts.tp} of {counts.tp + counts.fn} nuclei found, {counts.fp} invented"
        caption = f"{self.truth.name}: {found}, AP(0.5) {counts.average_precision:.2f}"
        shown = {name: panel for name, panel in self.panels().items() if name != "classes"}
        return report.picture_row(shown, caption=caption)


def _otsu(name: str, held_out: list[Annotated], smallest_px: int) -> Method:
    found = (match(otsu_objects(one.image[0], smallest_px=smallest_px), one.ids) for one in held_out)
    return Method(name, tuple(found))


def _train(output: Path, seconds: float, quiet: bool) -> tuple[Path, int]:
    """Train on `train/` alone; return the model file and the number of steps."""
    from ushape.checkpoint import read_model, save_model
    from ushape.training import train

    # What a run leaves beside its model would only be in the way here; and a second demonstration may
    # replace the first, which a second run in the same folder may not.
    model, objects = output / "model.safetensors", Postprocessing(min_area=SMALLEST_PX)
    _require_own(model)
    with io.output_folder(output):
        with tempfile.TemporaryDirectory(dir=output, prefix=".run-") as run:
            result = train(IMAGES / "train", run, width=_WIDTH, time=seconds, quiet=quiet)
            if result.stop_asked:  # a page of a run that was broken off would show nothing
                raise KeyboardInterrupt
            network, header, tiles = read_model(result.model)
        header = header.model_copy(update={"postprocessing": objects, "name": _NAME})
        save_model(model, network, header, tiles)
    return model, result.steps


def _require_own(model: Path) -> None:
    """Refuse to replace a model that is not of a demonstration."""
    from ushape.checkpoint import read_header

    if not model.exists():
        return
    try:
        name = read_header(model).name
    except CheckpointError:
        name = ""
    if name != _NAME:
        raise OutputError(f"{model.parent} holds a model that is not of a demonstration; give another folder")


def _gain(result: DemoResult) -> str:
    found, baseline, cleaned = (
        one.sum.average_precision for one in (result.network, result.otsu, result.otsu_cleaned)
    )
    return (
        f"AP(0.5) is {found:.2f}: {found - baseline:+.2f} against Otsu's threshold, "
        f"{found - cleaned:+.2f} if objects below {SMALLEST_PX} px are dropped there too."
    )


def _write_report(result: DemoResult, cases: list[_Case]) -> None:
    counts, training = result.network.sum, len(list((IMAGES / "train" / "images").glob("*.png")))
    numbers = {
        "nuclei found": counts.tp,
        "invented": counts.fp,
        "missed": counts.fn,
        "AP(0.5)": counts.average_precision,
        "AP(0.5) of Otsu's threshold": result.otsu.sum.average_precision,
    }
    scores = report.table(HEADER, result.rows)
    what = [
        line.format(training=training, held_out=len(cases), steps=result.steps, px=SMALLEST_PX)
        for line in _WHAT
    ]
    page = [
        report.section("Result", report.key_numbers(numbers), _gain(result), scores, _READING),
        report.section("What was done", *what),
        report.section("Held-out images", _LEGEND, *(case.row() for case in cases)),
        report.section("Your own images", _ADVICE, report.commands(*_NEXT)),
    ]
    lead = (
        f"A small U-Net learned from {training} annotated images and was then tested on {len(cases)} others."
    )
    report.write_report(result.report, "Cell nuclei after a minute of training", page, lead=lead)


_NEXT = (
    "ushape check my-data",
    "ushape train my-data --output my-run --time 30m",
    "ushape predict my-run/model.safetensors my-new-images --output my-results --instances --overlay",
)
_READING = (
    "A nucleus is found if one object covers it with an intersection over union of at least 0.5; every other "
    "object is invented, every other nucleus missed. AP(0.5) = found / (found + invented + missed), once "
    "over all nuclei and once as the mean over the images."
)
_WHAT = (
    "A U-Net of an eighth of the paper's width, with random weights at the start, was trained for {steps} "
    "steps on {training} fluorescence images of the 2018 Data Science Bowl (BBBC038, CC0), of which it kept "
    "some aside to choose its best state. Touching nuclei were cut apart in the masks, and the loss weighs "
    "the gaps between them more than the rest, as in the paper.",
    "The {held_out} held-out images took no part in that. The network gives each of their pixels a "
    "probability; {px} or more pixels above one half that hang together are an object.",
    "Otsu's threshold is the usual first thing to try without training: one grey value per image, then "
    "connected pixels. It is shown as it is, and without specks: objects below {px} px dropped, as for the "
    "network.",
    "A minute is little. More time, a wider network and more images all help.",
)
_LEGEND = (
    "Light blue: found. Orange: invented. Pink: missed, drawn along the true outline. Grey values are "
    "stretched for display only."
)
_ADVICE = (
    "Put images into my-data/images and masks of the same names into my-data/masks: object numbers, or 0 and "
    "255. The first command finds faults before they cost time; ten to twenty images are a good start."
)
