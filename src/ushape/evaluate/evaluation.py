"""What came out of a comparison: the scores, what they were taken from, and the way back to each image."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ushape.data.evidence import ranked
from ushape.evaluate.images import image_of
from ushape.evaluate.names import ERROR_METRICS
from ushape.evaluate.pairs import Pair, Pairs
from ushape.evaluate.planes import Plane, read_planes
from ushape.evaluate.scored import Scored
from ushape.evaluate.views import Views
from ushape.io import write_csv, write_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Array = NDArray[Any]


@dataclass(frozen=True)
class Place:
    """Where one scored image comes from: its name, its files, and the number of the plane in them.

    `markers`: file with a marker for each cell of a frame of the Cell Tracking Challenge, if DET is scored.
    """

    name: str
    pair: Pair
    index: int
    markers: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set of predictions, and the images behind them.

    Images are counted in the order of `places`, which is that of `scored.rows`; a stack is as many images as
    it has planes. No pixel is kept: the methods that take the number of an image read its files again. A
    report page is made from them::

        for number in evaluation.worst_first():
            name = evaluation.places[number].name
            row = evaluation.scored.rows[number]     # {"dice": 0.91, ...}
            image = evaluation.image(number)         # (C, H, W), or None: no image was found
            pred, true = evaluation.classes(number)  # class indices (H, W) uint8, IGNORE: does not count
            ids = evaluation.objects(number)         # (pred ids, true ids), or None: there are no objects

    Attributes
    ----------
    prediction, truth : Path
        What was compared.
    pairs : Pairs
        Which file was matched with which.
    places : tuple of Place
        What was scored.
    scored : Scored
        `scores` of the set and their `counts` and `averages` (over what), `rows` of the images, `groups` (the
        sequences of the Cell Tracking Challenge), `conventions` in words, and `curves`, name of a score ->
        (xs, ys): "ap", "f1", "precision", "recall" over the IoU threshold, "pixel_error", "rand_error",
        "warping_error", "v_rand", "v_info" over the threshold of the probability, "ece" (the accuracy) over
        the confidence.
    views : Views
        How the values in the files were understood.
    ignore : tuple of int, or None
        Label in the truth of pixels that do not count.
    """

    prediction: Path
    truth: Path
    pairs: Pairs
    places: tuple[Place, ...]
    scored: Scored
    views: Views
    ignore: tuple[int, ...] | None = None

    @property
    def scores(self) -> dict[str, float]:
        """Each score of the whole set."""
        return dict(self.scored.scores)

    def read(self, number: int) -> Plane:
        """One predicted plane beside its truth, values as in the files.

        Raises
        ------
        ImageFormatError
            If a file has gone since.
        """
        return self._read(self.places[number])

    def classes(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Predicted and true class indices (H, W) of one image, IGNORE where nothing counts."""
        return self.views.classes(self.read(number))

    def objects(self, number: int) -> tuple[Array, Array] | None:
        """Predicted and true object ids (H, W) of one image; None if there are more than two classes.

        Ids are those of the files; where a file holds classes, the objects are the 4-connected components of
        class 1.
        """
        return self.views.objects(self.read(number)) if self.views.coding.classes == 2 else None

    def markers(self, number: int) -> Array | None:
        """Ids (H, W) of the markers of true objects that nobody outlined; None if there are no markers.

        They are those of DET's reference, without those that lie in an object of SEG's by more than half.
        """
        place = self.places[number]
        if place.markers is None:
            return None
        ids = self._read(replace(place, pair=replace(place.pair, truth=place.markers))).truth
        outlined = self.read(number).truth if place.markers != place.pair.truth else np.zeros_like(ids)
        values, ranks = ranked(ids)
        inside, areas = (
            np.bincount(of, minlength=len(values)) for of in (ranks[outlined > 0], ranks.ravel())
        )
        return np.where((2 * inside <= areas)[ranks], ids, 0)

    def image(self, number: int) -> Array | None:
        """Grey values (C, H, W) of the image that was segmented, if it is found: see `image_of`."""
        place = self.places[number]
        return image_of(place.pair, place.index, self.read(number).truth.shape)

    def worst_first(self) -> list[int]:
        """Numbers of the images from the worst to the best, by V_rand or else the first score they have."""
        rows = self.scored.rows
        names = ["v_rand", *_columns(self.scored)]  # one gap ruins a slice, and hardly a pixel is wrong
        leading = next((name for name in names if any(name in row for row in rows)), "")
        sign = -1 if leading in ERROR_METRICS else 1
        # An image without this score (a frame that SEG does not see) has nothing to show: last.
        return sorted(
            range(len(rows)), key=lambda number: sign * rows[number].get(leading, sign * float("inf"))
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: each score by its name, `counts`, `images`, pairs and conventions."""
        parts = self.scored.groups.items()
        groups = {name: {**part.scores, "counts": part.counts} for name, part in parts}
        return {
            "prediction": self.prediction,
            "truth": self.truth,
            **self.scored.scores,
            "counts": self.scored.counts,
            "averages": self.scored.averages,
            **({"sequences": groups} if groups else {}),
            "conventions": self.scored.conventions,
            "matched": self.pairs.how,
            "without_truth": self.pairs.lone_predictions,
            "without_prediction": self.pairs.lone_truths,
            "images": [self._image_entry(*found) for found in self._rows()],
        }

    def to_json(self, path: Path | str) -> None:
        """Write `as_dict` to a file."""
        write_json(path, self.as_dict())

    def to_csv(self, path: Path | str) -> None:
        """Write one row of scores per image (per plane of a stack)."""
        columns = _columns(self.scored)
        rows = [[place.name, *(row.get(name, "") for name in columns)] for place, row, _ in self._rows()]
        write_csv(path, ["image", *columns], rows)

    def render(self, *, per_image: bool = False) -> "RenderableType":
        """One table and lines for the terminal, to be printed by rich; with a row per image if asked for."""
        from rich.console import Group

        from ushape.evaluate.table import lines

        title = f"{self.prediction} against {self.truth}"
        return Group(title, self.table(per_image=per_image), *lines(self.pairs, self.scored))

    def table(self, *, per_image: bool = False) -> "Table":
        """The table alone."""
        from ushape.evaluate.table import image_table, score_table

        if not per_image:
            return score_table(self.scored)
        return image_table(self.scored, [place.name for place in self.places], _columns(self.scored))

    def _read(self, place: Place) -> Plane:
        planes = read_planes(place.pair, self.ignore)
        return self.views.seen(next(plane for plane in planes if plane.index == place.index))

    def _rows(self) -> list[tuple[Place, Mapping[str, float], Mapping[str, Any]]]:
        return list(zip(self.places, self.scored.rows, self.scored.row_counts, strict=True))

    @staticmethod
    def _image_entry(place: Place, row: Mapping[str, float], counts: Mapping[str, Any]) -> dict[str, Any]:
        files = {"prediction": place.pair.prediction, "truth": place.pair.truth, "plane": place.index}
        return {"name": place.name, **files, **row, "counts": counts}


def _columns(scored: Scored) -> list[str]:
    """Scores that images have, each once, in the order of the scores of the set."""
    return list(dict.fromkeys(name.removesuffix("_per_image") for name in scored.scores))
