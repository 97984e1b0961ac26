"""Results in the folders of the Cell Tracking Challenge: SEG and DET of each sequence and of the data set."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ushape.data.tracking import Frame, numbered_frames
from ushape.errors import DataError
from ushape.evaluate.names import TRACKING_METRICS, choose
from ushape.evaluate.objects import DET, SEG, row_of
from ushape.evaluate.pairs import Pair, Pairs
from ushape.evaluate.planes import read_planes
from ushape.evaluate.scored import Numbers, Row, Scored

_FOLDERS = {"seg": "SEG", "det": "TRA"}
"""Where the reference of each score lies."""

_FAMILIES = {"seg": SEG, "det": DET}

_OP_CSB = ("op_csb = (seg + det) / 2; of a data set each score is the mean of its sequences",)


@dataclass(frozen=True)
class TrackedSequence:
    """A result and its reference.

    Attributes
    ----------
    name : str
        Such as `01`.
    result, reference : Path
        Its folders, such as `01_RES` and `01_GT`.
    results : mapping of frame to Path
        `maskNNN.tif`.
    references : mapping of "seg" and "det" to mapping of frame to Path
        `SEG/man_segNNN.tif`, of which there may be few, and `TRA/man_trackNNN.tif`. A frame is its number
        and, for a single slice of a volume, that of the slice.
    """

    name: str
    result: Path
    reference: Path
    results: dict[Frame, Path]
    references: dict[str, dict[Frame, Path]]

    @property
    def frames(self) -> list[Frame]:
        """Frames with a reference of either kind, in order."""
        found = {frame for references in self.references.values() for frame in references}
        return sorted(found, key=lambda frame: (frame[0], -1 if frame[1] is None else frame[1]))

    def pairs(self, frame: Frame) -> dict[str, Pair]:
        """Result and reference of one frame, for each kind of reference that it has."""
        number, piece = frame
        name = f"{self.name}/{number:03d}" + ("" if piece is None else f"[{piece}]")
        return {
            kind: Pair(name, self.results[number, None], references[frame], piece)
            for kind, references in self.references.items()
            if frame in references
        }


def find_sequences(prediction: Path, truth: Path) -> tuple[TrackedSequence, ...]:
    """Sequences of `01_RES` and `01_GT`, or of the folders above them; none if there is no reference.

    Raises
    ------
    DataError
        If there are references, but no result.
    """
    if not (prediction.is_dir() and truth.is_dir()):
        return ()
    references = _reference_folders(truth)
    found = []
    for name, folder in references.items():
        result = _result_folder(prediction, name, is_only=len(references) == 1)
        if result is not None:
            kinds = {kind: numbered_frames(folder / inside) for kind, inside in _FOLDERS.items()}
            found.append(TrackedSequence(name, result, folder, _masks(result), kinds))
    if references and not found:
        raise DataError(
            f"{prediction} holds no result for {' or '.join(map(str, references.values()))}; give a folder "
            "of maskNNN.tif, named such as 01_RES, or the folder above it"
        )
    return tuple(found)


def choose_scores(
    sequences: Sequence[TrackedSequence], names: Sequence[str]
) -> tuple[list[str], tuple[TrackedSequence, ...]]:
    """Scores to take, and the sequences with no more references than these need.

    Parameters
    ----------
    sequences : sequence of TrackedSequence
    names : sequence of str
        Scores asked for; none: those that there is a reference for.

    Raises
    ------
    ConfigError
        If a score is asked for that does not fit.
    DataError
        If its reference, or the result of a frame with a reference, is missing.
    """
    there = {kind for kind in _FOLDERS if any(sequence.references[kind] for sequence in sequences)}
    usual = TRACKING_METRICS if there == set(_FOLDERS) else there
    wanted = choose(names, TRACKING_METRICS, usual, "Cell Tracking Challenge folders")
    kinds = [kind for kind in _FOLDERS if kind in wanted or "op_csb" in wanted]
    for sequence in sequences:
        for kind in kinds:
            _check(sequence, kind, is_asked=bool(names))
    return wanted, tuple(
        replace(sequence, references={kind: sequence.references[kind] for kind in kinds})
        for sequence in sequences
    )


def pair_frames(sequences: Sequence[TrackedSequence], prediction: Path, truth: Path) -> Pairs:
    """Each frame with a reference, that of SEG rather than markers, and what has no partner."""
    pairs, lone = [], []
    for sequence in sequences:
        pairs += [next(iter(sequence.pairs(frame).values())) for frame in sequence.frames]
        numbers = {number for number, _ in sequence.frames}
        lone += [path for (number, _), path in sequence.results.items() if number not in numbers]
    taken = {folder for sequence in sequences for folder in (sequence.result, sequence.reference)}
    lone += [path for path in _result_folders(prediction).values() if path not in taken]
    lone_truths = [path for path in _reference_folders(truth).values() if path not in taken]
    return Pairs(tuple(pairs), "by the numbers of the frames", tuple(lone), tuple(lone_truths))


def score_sequences(sequences: Sequence[TrackedSequence], wanted: Sequence[str]) -> Scored:
    """The scores wanted of each sequence, and their means over the sequences that have them."""
    groups = {sequence.name: _score(sequence, wanted) for sequence in sequences}
    having = {name: [key for key, group in groups.items() if name in group.scores] for name in wanted}
    having = {name: keys for name, keys in having.items() if keys}
    words = [family.words for kind, family in _FAMILIES.items() if kind in sequences[0].references]
    return Scored(
        {name: float(np.mean([groups[key].scores[name] for key in keys])) for name, keys in having.items()},
        {name: _sums([groups[key].counts[name] for key in keys]) for name, keys in having.items()},
        {name: _mean_of(keys) for name, keys in having.items()},
        [row for group in groups.values() for row in group.rows],
        [counts for group in groups.values() for counts in group.row_counts],
        (*words, *_OP_CSB, *(line for group in groups.values() for line in group.conventions)),
        groups=groups,
    )


def _score(sequence: TrackedSequence, wanted: Sequence[str]) -> Scored:
    """The scores of one sequence."""
    measured = [_measured(sequence, frame) for frame in sequence.frames]
    of_kind = {kind: [counts[kind] for counts in measured if kind in counts] for kind in sequence.references}
    rows = [_row(counts, wanted) for counts in measured]
    scores, counts = _row({k: _FAMILIES[k].total(found) for k, found in of_kind.items() if found}, wanted)
    return Scored(
        scores,
        counts,
        dict.fromkeys(scores, f"sequence {sequence.name}"),
        [row for row, _ in rows],
        [numbers for _, numbers in rows],
        tuple(_said(sequence)),
    )


def _row(found: Mapping[str, Any], wanted: Sequence[str]) -> Row:
    scores, counts = row_of([_FAMILIES[kind] for kind in found], list(found.values()))
    return (
        {name: scores[name] for name in wanted if name in scores},
        {name: counts[name] for name in wanted if name in counts},
    )


def _measured(sequence: TrackedSequence, frame: Frame) -> dict[str, Any]:
    """What is counted in one frame, by kind of reference."""
    counts = {}
    for kind, pair in sequence.pairs(frame).items():
        # A volume is one image: its objects go through all planes.
        planes = list(read_planes(pair))
        pred, true = np.stack([p.prediction for p in planes]), np.stack([p.truth for p in planes])
        counts[kind] = _FAMILIES[kind].measure(pred, true)
    return counts


def _check(sequence: TrackedSequence, kind: str, *, is_asked: bool) -> None:
    folder, frames = sequence.reference / _FOLDERS[kind], {number for number, _ in sequence.references[kind]}
    if is_asked and not frames:
        raise DataError(f"{folder} holds no reference, so that {kind} cannot be scored; leave it out")
    missing = sorted(frames - {number for number, _ in sequence.results})
    if missing:
        other = next(other for other in _FOLDERS if other != kind)
        raise DataError(
            f"{sequence.result} has no result for {len(missing)} of the {len(frames)} frames in {folder}, "
            f"the first mask{missing[0]:03d}.tif; predict these frames too, or give --metrics {other}"
        )


def _said(sequence: TrackedSequence) -> Iterator[str]:
    """Which frames were scored, and which were not."""
    for kind, references in sequence.references.items():
        frames, results = len({number for number, _ in references}), len(sequence.results)
        if not references:
            yield f"sequence {sequence.name}: not scored by {kind}: no reference in {_FOLDERS[kind]}"
        elif frames == results:
            yield f"sequence {sequence.name}: {kind} of all {results} frames"
        else:
            yield (
                f"sequence {sequence.name}: {kind} of the {frames} frames with a reference in "
                f"{_FOLDERS[kind]}; the other {results - frames} of {results} are not scored by it"
            )


def _reference_folders(truth: Path) -> dict[str, Path]:
    """Folders with `SEG` or `TRA` by the name of their sequence: `truth` itself, or the `01_GT` in it."""
    if _has_reference(truth):
        return {truth.resolve().name.partition("_")[0]: truth}
    inside = sorted(truth.iterdir()) if truth.is_dir() else []
    return {
        path.name.partition("_")[0]: path
        for path in inside
        if re.fullmatch(r"\d+_GT", path.name) and _has_reference(path)
    }


def _has_reference(folder: Path) -> bool:
    return any(numbered_frames(folder / inside) for inside in _FOLDERS.values())


def _result_folders(prediction: Path) -> dict[str, Path]:
    folders = (path for path in sorted(prediction.glob("*_RES")) if path.is_dir())
    return {path.name.removesuffix("_RES"): path for path in folders}


def _result_folder(prediction: Path, name: str, *, is_only: bool) -> Path | None:
    """Folder of the result for one sequence: `01_RES` in `prediction`, or itself."""
    inside = _result_folders(prediction).get(name)
    if inside is not None:
        return inside
    own = prediction.resolve().name
    fits = own == f"{name}_RES" if own.endswith("_RES") else is_only
    return prediction if fits and _masks(prediction) else None


def _masks(folder: Path) -> dict[Frame, Path]:
    return {frame: path for frame, path in numbered_frames(folder).items() if path.name.startswith("mask")}


def _sums(parts: Sequence[Numbers]) -> Numbers:
    return {"sequences": len(parts)} | {key: sum(part[key] for part in parts) for key in parts[0]}


def _mean_of(names: Sequence[str]) -> str:
    return f"sequence {names[0]}" if len(names) == 1 else f"mean of the sequences {', '.join(names)}"
