"""`report.html` of a training run: the scores, how they came about, and what the network sees."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ushape import io, report
from ushape.config import ModelHeader
from ushape.evaluate.names import ERROR_METRICS
from ushape.pictures import Comparison
from ushape.report import Html
from ushape.training.scores import NAMES, Curve


def write_page(
    output: Path,
    header: ModelHeader,
    history: list[dict[str, float]],
    best: dict[str, float],
    comparisons: Sequence[Comparison] = (),
    curve: Curve | None = None,
    reliability: Mapping[str, Curve] | None = None,
    *,
    chosen_by: str = "score",
) -> None:
    """Write `report.html` into the folder of a run.

    Parameters
    ----------
    output : Path
        Folder of the run, with its `validation/*.png`.
    header : ModelHeader
        What the model file says of itself.
    history : list of dict
        One row per validation: step, loss, learning rate and scores.
    best : dict
        The row of the best model.
    comparisons : sequence of Comparison
        Validation images beside their truth, in any order: all of them, or the worst of those scored. Without
        them the pictures in `validation/` are shown.
    curve : Curve, optional
        The leading score of the best model over its threshold.
    reliability : mapping of str to Curve, optional
        Accuracy over confidence, before and after calibration.
    chosen_by : str
        The score by which the best model was chosen; see `until.Until`.

    Raises
    ------
    OutputError
        If the page cannot be written.
    """
    model = shlex.quote(str(output / "model.safetensors"))
    command = f"ushape predict {model} my-new-images --output my-results --overlay"
    sections = [
        report.section(
            "Result", report.key_numbers(_scores(best)), _reading(best, chosen_by), *_over_threshold(curve)
        ),
        report.section("Course", *_courses(history), _validations(history)),
        *(_worst_first(comparisons, header) or _pictures(output / "validation")),
        *_calibration(header, best, reliability),
        report.section("Run", _facts(header)),
        report.section("Next", report.commands(command)),
    ]
    report.write_report(output / "report.html", f"Training of {header.name}", sections)


def _scores(row: dict[str, float]) -> dict[str, object]:
    return {name: row[key] for key, name in NAMES.items() if key in row}


def _reading(best: dict[str, float], chosen_by: str) -> str:
    chosen = next((NAMES[key] for key in ("v_rand", "ap") if key in best), "mean Dice over the classes")
    chosen = {"score": chosen, "ap_0.50": NAMES["ap"]}.get(chosen_by) or NAMES[chosen_by]
    return f"Validation scores of the state with the best {chosen}, after {best['step']:.0f} steps."


def _over_threshold(curve: Curve | None) -> list[Html]:
    if curve is None:
        return []
    return [report.curves({curve.score: (curve.xs, curve.ys)}, x=curve.threshold, y=curve.score)]


def _calibration(
    header: ModelHeader, best: dict[str, float], reliability: Mapping[str, Curve] | None
) -> list[Html]:
    if not reliability:
        return []
    back = ", and the class weights of the loss are taken back" if any(header.class_bias) else ""
    words = (
        f"Logits are divided by the temperature {header.temperature:g}{back}, fitted on training images. "
        f"Expected calibration error of the validation images: {best['ece_at_temperature_1']:.4f} before the "
        f"fit, {best['ece']:.4f} after it. On the straight line, of pixels predicted with 80 % as many are "
        "right."
    )
    lines = {name: (curve.xs, curve.ys) for name, curve in reliability.items()}
    return [report.section("What probabilities are worth", words, report.reliability(lines))]


def _courses(history: list[dict[str, float]]) -> list[Html]:
    steps = [row["step"] for row in history]
    known = [key for key in NAMES if history and all(key in row for row in history)]
    drawn = {
        "loss": {"loss": "loss"},
        "score": {NAMES[key]: key for key in known if key not in ERROR_METRICS},
        "error": {NAMES[key]: key for key in known if key in ERROR_METRICS},
    }
    return [
        report.curves(
            {name: (steps, [row[key] for row in history]) for name, key in lines.items()}, x="step", y=y
        )
        for y, lines in drawn.items()
        if lines
    ]


def _validations(history: list[dict[str, float]]) -> Html:
    columns = ["step", "loss", *(key for key in NAMES if history and key in history[-1])]
    rows = [[int(row["step"]), *(row.get(key) for key in columns[1:])] for row in history]
    return report.table([NAMES.get(column, column) for column in columns], rows)


def _worst_first(comparisons: Sequence[Comparison], header: ModelHeader) -> list[Html]:
    order = sorted(comparisons, key=lambda one: one.agreement)
    which = "Validation images"
    if len(order) < len(header.provenance["held_out"]):
        which = f"The {len(order)} worst of the validation images that were scored"
    names = [info.name for info in header.classes]
    rows = report.comparison_rows(order, names)
    return [report.section(f"{which}, worst first", *rows)] if order else []


def _pictures(folder: Path) -> list[Html]:
    files = sorted(folder.glob("*.png")) if folder.is_dir() else []
    rows = [report.picture_row({"": io.read_image(file).array}, caption=file.stem) for file in files]
    return [report.section("Validation images", *rows)] if rows else []


def _facts(header: ModelHeader) -> Html:
    run = header.provenance
    rows: list[list[object]] = [
        ["recipe", run["recipe"]["name"]],
        ["classes", ", ".join(info.name for info in header.classes)],
        ["training images", len(run["training"])],
        ["validation images", ", ".join(run["held_out"])],
        ["seed", str(run["seed"])],
        *([name, version] for name, version in run["versions"].items()),
    ]
    if header.object_diameter_px is not None:
        rows.insert(4, ["objects", header.postprocessing.in_words()])
    return report.table(["what", "value"], rows)
