"""Score predictions against the truth: files, folders, stacks, and results of the Cell Tracking Challenge."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ushape.config import PixelSize
from ushape.data.masks import ignored_label, number_of_classes
from ushape.errors import ConfigError
from ushape.evaluate.boundaries import Tolerance, parse_tolerance
from ushape.evaluate.evaluation import Evaluation, Place
from ushape.evaluate.names import (
    BOUNDARY_METRICS,
    MEMBRANE_METRICS,
    METRICS,
    OBJECT_METRICS,
    base,
    known,
    wanted,
)
from ushape.evaluate.pairs import KINDS, Kind, Pair, Pairs, pair_paths
from ushape.evaluate.planes import Plane, as_objects, can_be_ids, hold_objects, read_planes
from ushape.evaluate.scores import score, understand
from ushape.evaluate.sequences import (
    TrackedSequence,
    choose_scores,
    find_sequences,
    pair_frames,
    score_sequences,
)
from ushape.evaluate.values import IDS
from ushape.evaluate.views import Views
from ushape.io import image_size

__all__ = ["METRICS", "Evaluation", "evaluate"]

_OBJECTS_FIRST: tuple[Kind, ...] = ("instances", *KINDS)


def evaluate(
    prediction: Path | str,
    truth: Path | str,
    *,
    metrics: Sequence[str] | None = None,
    classes: int | str | None = None,
    ignore: int | str | None = None,
    tolerance: float | str | None = None,
    pixel_size: float | str | PixelSize | None = None,
) -> Evaluation:
    """Score predictions against the truth.

    Parameters
    ----------
    prediction, truth : path
        Two files (stacks and OME-Zarr too), or two folders whose files are paired by name; `_classes`,
        `_probabilities` (floats, or 0 to 255 in 8 bits) and `_instances` at the end of a predicted name say
        what it holds, and do not count. If a folder holds several of these, the probabilities are taken,
        unless `metrics` asks for scores of objects, or nothing is asked for and the truth holds objects. Or
        folders of the Cell Tracking Challenge: a result `01_RES` and its reference `01_GT`, or the folders
        above them.
    metrics : sequence of str, optional
        Names out of `METRICS`; `ap_0.5` is `ap_0.50`. Default: what fits. Probabilities of two classes:
        `pixel_error`, `v_rand`, `v_info`, `ece`. Class masks: `dice`, `iou`, `accuracy`, of several images
        also their means over the images; probabilities of more classes: the same and `ece`. Object ids:
        `ap_0.50` (of several images also its mean over the images), `ap_0.70`, `f1_0.50`, `pq`. Cell Tracking
        Challenge: `seg`, `det`, `op_csb`.
    classes : int or str, optional
        A number says that the values of class masks are class indices 0..classes - 1, or as many others,
        which are the classes in ascending order; "objects" that the truth holds object ids. Default: values
        are compared as they are if they are the same on both sides; else the truth's are numbered in
        ascending order, or they are objects, where that is clear; a prediction with more values than
        a mask has, or than twice those of the truth, must say what it holds, by its name or here.
    ignore : int or str, optional
        Label in the truth of pixels that do not count: a number, or a colour such as "0,0,0".
    tolerance : float or str, optional
        How far apart two boundaries may be for `boundary_f1` and `nsd`: pixels, such as 2, or "1um". Given
        alone, the scores of boundaries are taken too. Default: 2 pixels.
    pixel_size : float, str or (float, float), optional
        Size of a pixel (or height and width) in micrometres, for a tolerance in these. Default: what the
        files say.

    Returns
    -------
    Evaluation

    Raises
    ------
    ConfigError
        If a metric is unknown or does not fit, or an option cannot be.
    DataError
        If the folders do not pair, the values do not fit, or something needed is missing.
    ImageFormatError
        If a file is missing or cannot be read.
    ShapeError
        If sizes differ.
    """
    prediction, truth = Path(prediction), Path(truth)
    names = known(metrics or ())
    within = None if tolerance is None and pixel_size is None else parse_tolerance(tolerance, pixel_size)
    if within and names and not set(names) & set(BOUNDARY_METRICS):
        raise ConfigError("--tolerance is for boundary_f1 and nsd, but --metrics names neither; add one")
    sequences = find_sequences(prediction, truth)
    if not sequences:
        return _of_files(prediction, truth, names, classes, ignore, within)
    for option, value in {"--classes": classes, "--ignore": ignore, "--tolerance": tolerance}.items():
        if value is not None:
            raise ConfigError(f"{option} {value} does not fit Cell Tracking Challenge folders; leave it out")
    return _of_sequences(sequences, prediction, truth, names)


def _of_sequences(
    sequences: Sequence[TrackedSequence], prediction: Path, truth: Path, names: Sequence[str]
) -> Evaluation:
    chosen, sequences = choose_scores(sequences, names)
    pairs = pair_frames(sequences, prediction, truth)
    scored = score_sequences(sequences, chosen)
    frames = (sequence.pairs(frame) for sequence in sequences for frame in sequence.frames)
    return Evaluation(prediction, truth, pairs, tuple(map(_middle, frames)), scored, Views("instances", IDS))


def _middle(pairs: Mapping[str, Pair]) -> Place:
    """Place of a frame; of a volume its middle plane is shown."""
    pair = next(iter(pairs.values()))
    plane = 0 if pair.plane is not None else image_size(pair.truth).planes // 2
    return Place(pair.name, pair, plane, pairs["det"].truth if "det" in pairs else None)


def _of_files(
    prediction: Path,
    truth: Path,
    names: Sequence[str],
    classes: int | str | None,
    ignore: int | str | None,
    within: Tolerance | None,
) -> Evaluation:
    number, label = number_of_classes(classes), ignored_label(ignore)
    of_objects = _are_of_objects(names)
    pairs = pair_paths(prediction, truth, kinds=_OBJECTS_FIRST if of_objects else KINDS)
    planes = _read(pairs, label)
    true_ids = classes == "objects" or (number is None and hold_objects(planes, ignore))
    if true_ids or (number is None and of_objects and can_be_ids(planes)):
        named = pairs if names else _with_instances(pairs, prediction, truth)
        planes = as_objects(planes if named is pairs else _read(named, label))
        pairs = named
    views = understand(planes, "objects" if true_ids else number)
    chosen = wanted(names, views.kind, views.coding.classes, len(planes))
    if within and not names:
        chosen += BOUNDARY_METRICS
    scored = score(planes, views, chosen, within or Tolerance())
    places = tuple(Place(plane.name, plane.pair, plane.index) for plane in planes)
    return Evaluation(prediction, truth, pairs, places, scored, views, label)


def _are_of_objects(names: Sequence[str]) -> bool:
    """Whether scores of objects are asked for, and none of membranes, which need classes."""
    bases = {base(name) for name in names}
    return bool(bases & set(OBJECT_METRICS)) and not bases & set(MEMBRANE_METRICS)


def _read(pairs: Pairs, label: tuple[int, ...] | None) -> list[Plane]:
    return [plane for pair in pairs.pairs for plane in read_planes(pair, label)]


def _with_instances(pairs: Pairs, prediction: Path, truth: Path) -> Pairs:
    """Pairs with predicted object ids, if there are such for each of `pairs`; else these."""
    other = pair_paths(prediction, truth, kinds=_OBJECTS_FIRST)
    return other if {pair.name for pair in pairs.pairs} <= {pair.name for pair in other.pairs} else pairs
