"""Score predictions against the truth: files, folders and stacks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ushape.data.masks import ignored_label, number_of_classes
from ushape.evaluate.pairs import KINDS, Kind, Pairs, pair_paths
from ushape.evaluate.planes import Plane, as_objects, hold_objects, read_planes
from ushape.evaluate.scores import METRICS, OBJECT_METRICS, Scored, score
from ushape.io import write_csv, write_json

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["METRICS", "Evaluation", "evaluate"]

_OBJECTS_FIRST: tuple[Kind, ...] = ("instances", *KINDS)

_MOST_ROWS = 30
_MOST_NAMES = 5
"""What the screen shows; the files hold all."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set of predictions.

    Attributes
    ----------
    prediction, truth : Path
        What was compared.
    pairs : Pairs
        Which file was matched with which.
    planes : tuple of (name, prediction, truth, number of the plane in its file)
        What was scored, in the order of `scored.rows`.
    scored : Scored
        Scores, counts and conventions.
    """

    prediction: Path
    truth: Path
    pairs: Pairs
    planes: tuple[tuple[str, Path, Path, int], ...]
    scored: Scored

    @property
    def scores(self) -> dict[str, float]:
        """Each score of the whole set."""
        return dict(self.scored.scores)

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: each score by its name, `counts`, `images`, pairs and conventions."""
        images = [
            {"name": name, "prediction": prediction, "truth": truth, "plane": plane, **row, "counts": counts}
            for (name, prediction, truth, plane), row, counts in zip(
                self.planes, self.scored.rows, self.scored.row_counts, strict=True
            )
        ]
        return {
            "prediction": self.prediction,
            "truth": self.truth,
            **self.scored.scores,
            "counts": self.scored.counts,
            "conventions": self.scored.conventions,
            "matched": self.pairs.how,
            "without_truth": self.pairs.lone_predictions,
            "without_prediction": self.pairs.lone_truths,
            "images": images,
        }

    def to_json(self, path: Path | str) -> None:
        """Write `as_dict` to a file."""
        write_json(path, self.as_dict())

    def to_csv(self, path: Path | str) -> None:
        """Write one row of scores per image (per plane of a stack)."""
        header = ["image", *self.scored.scores]
        rows = [[name, *row.values()] for (name, *_), row in zip(self.planes, self.scored.rows, strict=True)]
        write_csv(path, header, rows)

    def render(self) -> "RenderableType":
        """Tables and lines for the terminal, to be printed by rich."""
        from rich.console import Group
        from rich.table import Table

        table = Table("", *self.scored.scores)
        for (name, *_), row in zip(self.planes[:_MOST_ROWS], self.scored.rows, strict=False):
            table.add_row(name, *(f"{value:.4f}" for value in row.values()))
        if len(self.planes) > _MOST_ROWS:
            table.add_row(f"... and {len(self.planes) - _MOST_ROWS} more", *("" for _ in self.scores))
        table.add_section()
        table.add_row("all", *(f"{value:.4f}" for value in self.scored.scores.values()), style="bold")
        return Group(f"{self.prediction} against {self.truth}", table, *self._lines())

    def _lines(self) -> Iterator[str]:
        """What was matched with what, and by which conventions the scores were taken."""
        shown = [f"{pair.prediction.name} with {pair.truth.name}" for pair in self.pairs.pairs]
        yield f"matched ({self.pairs.how}): {_shortened(shown)}"
        for what, paths in (
            ("no truth for, so not scored", self.pairs.lone_predictions),
            ("no prediction for, so not scored", self.pairs.lone_truths),
        ):
            if paths:
                yield f"{what}: {_shortened([path.name for path in paths])}"
        best = [f"{name} {c['threshold']:.1f}" for name, c in self.scored.counts.items() if "threshold" in c]
        if best:
            yield f"best thresholds: {', '.join(best)}"
        yield from self.scored.conventions


def evaluate(
    prediction: Path | str,
    truth: Path | str,
    *,
    metrics: Sequence[str] | None = None,
    classes: int | str | None = None,
    ignore: int | str | None = None,
) -> Evaluation:
    """Score predictions against the truth.

    Parameters
    ----------
    prediction, truth : path
        Two files (stacks too), or two folders whose files are paired by name; `_classes`, `_probabilities`
        and `_instances` at the end of a predicted name do not count. If a folder holds several of these,
        the probabilities are taken, unless `metrics` asks for scores of objects, or nothing is asked for
        and the truth holds objects.
    metrics : sequence of str, optional
        Names out of `METRICS`. Default: what fits. Probabilities of two classes: `pixel_error`, `v_rand`,
        `v_info`. Class masks, and probabilities of more classes: `dice`, `iou`, `accuracy`. Object ids:
        `ap_0.50`, `f1_0.50`.
    classes : int or str, optional
        A number says that the values of class masks are class indices 0..classes - 1; "objects" that the
        truth holds object ids. Default: values are compared as they are if they are the same on both sides;
        else the truth's are numbered in ascending order, or they are objects, where that is clear.
    ignore : int or str, optional
        Label in the truth of pixels that do not count: a number, or a colour such as "0,0,0".

    Returns
    -------
    Evaluation

    Raises
    ------
    ConfigError
        If a metric is unknown or does not fit, or an option cannot be.
    DataError
        If the folders do not pair or the values do not fit.
    ImageFormatError
        If a file is missing or cannot be read.
    ShapeError
        If sizes differ.
    """
    prediction, truth = Path(prediction), Path(truth)
    names = [name.strip() for name in metrics or ()]
    number, label = number_of_classes(classes), ignored_label(ignore)
    objects_only = bool(names) and set(names) <= set(OBJECT_METRICS)
    pairs = pair_paths(prediction, truth, kinds=_OBJECTS_FIRST if objects_only else KINDS)
    planes = _read(pairs, label)
    are_objects = classes == "objects" or (number is None and hold_objects(planes, ignore))
    if are_objects:
        pairs = pairs if names else _with_instances(pairs, prediction, truth)
        planes = as_objects(_read(pairs, label))
    return Evaluation(
        prediction,
        truth,
        pairs,
        tuple((plane.name, plane.pair.prediction, plane.pair.truth, plane.index) for plane in planes),
        score(planes, names, classes="objects" if are_objects else number),
    )


def _read(pairs: Pairs, label: tuple[int, ...] | None) -> list[Plane]:
    return [plane for pair in pairs.pairs for plane in read_planes(pair, label)]


def _with_instances(pairs: Pairs, prediction: Path, truth: Path) -> Pairs:
    """Pairs with predicted object ids, if there are such for each of `pairs`; else these."""
    other = pair_paths(prediction, truth, kinds=_OBJECTS_FIRST)
    return other if {pair.name for pair in pairs.pairs} <= {pair.name for pair in other.pairs} else pairs


def _shortened(names: Sequence[str]) -> str:
    few = ", ".join(names[:_MOST_NAMES])
    return few if len(names) <= _MOST_NAMES else f"{few}, ... {len(names)} in all"
