"""Sequences of the Cell Tracking Challenge: which frames are annotated, and by which truth.

Gold truth (`01_GT/SEG`) is drawn by people, silver truth (`01_ST/SEG`) agreed on by programs. Gold is
taken where it is complete. A gold frame with fewer objects than the silver one labels only some of the
cells; trained on, it would teach that the others are background.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ushape.data.evidence import label_plane, plane_count
from ushape.errors import ImageFormatError
from ushape.io import is_image, read_labels

MAX_MISSING_SHARE = 0.1
"""Share of the tracking markers that a gold frame may lack where there is no silver truth (our choice)."""

Frame = tuple[int, int | None]  # number of the frame, and of the slice in a 3-D data set
Mask = tuple[Path, int | None]  # a file, and the plane of it


@dataclass(frozen=True)
class Sequence:
    """One sequence.

    Attributes
    ----------
    name : str
        Its folder, such as `01`.
    annotated : tuple of (frame, slice or None, image, mask, plane of the mask or None)
        Annotated frames in order.
    orphans : tuple of Path
        Masks of frames that have no image.
    notes : tuple of str
        Which truth was taken, and why.
    """

    name: str
    annotated: tuple[tuple[int, int | None, Path, Path, int | None], ...]
    orphans: tuple[Path, ...]
    notes: tuple[str, ...]


def sequences(root: Path) -> tuple[Sequence, ...]:
    """Sequences in `root` that have segmentation truth; none if it is not in this layout."""
    folders = (path for path in sorted(root.iterdir()) if path.is_dir() and path.name.isdigit())
    return tuple(
        _sequence(root, folder)
        for folder in folders
        if any((root / f"{folder.name}_{kind}" / "SEG").is_dir() for kind in ("GT", "ST"))
    )


def _sequence(root: Path, folder: Path) -> Sequence:
    gold, silver = (numbered_frames(root / f"{folder.name}_{kind}" / "SEG") for kind in ("GT", "ST"))
    images = {frame: path for (frame, _), path in numbered_frames(folder).items()}
    notes = []
    chosen = _by_slice(silver, {frame for frame, slice_ in gold if slice_ is not None})
    markers = numbered_frames(root / f"{folder.name}_GT" / "TRA")
    for frame, path in gold.items():
        partial = _partial(path, chosen.get(frame), _at(markers, frame))
        if partial is None:
            chosen[frame] = path, None
            continue
        notes.append(f"{path} labels only {partial} objects: {_instead(frame in chosen)}")
    used_gold = sum(chosen.get(frame) == (path, None) for frame, path in gold.items())
    notes.insert(0, f"sequence {folder.name}: {used_gold} gold and {len(chosen) - used_gold} silver frames")
    order = sorted(chosen, key=lambda frame: (frame[0], frame[1] or 0))
    return Sequence(
        folder.name,
        tuple((f, z, images[f], *chosen[f, z]) for f, z in order if f in images),
        tuple(dict.fromkeys(chosen[frame][0] for frame in order if frame[0] not in images)),
        tuple(notes),
    )


def _by_slice(silver: dict[Frame, Path], sliced: set[int]) -> dict[Frame, Mask]:
    """Silver masks by frame; a volume slice by slice where people drew single slices of it."""
    found: dict[Frame, Mask] = {}
    for (frame, slice_), path in silver.items():
        if slice_ is None and frame in sliced:
            found |= {(frame, plane): (path, plane) for plane in range(plane_count(path))}
        else:
            found[frame, slice_] = path, None
    return found


def _at(masks: dict[Frame, Path], frame: Frame) -> Mask | None:
    """Mask of a frame or of a slice, which may lie in a volume."""
    if frame in masks:
        return masks[frame], None
    volume = masks.get((frame[0], None))
    return None if volume is None else (volume, frame[1])


def numbered_frames(folder: Path) -> dict[Frame, Path]:
    """Images of a folder by the number of their frame; none if there is no such folder."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    found = ((frame_number(path), path) for path in paths if is_image(path))
    return {frame: path for frame, path in found if frame is not None}


def frame_number(path: Path) -> Frame | None:
    """Read the number in a name: t031.tif, man_seg031.tif, man_seg_031_007.tif (slice 7 of frame 31)."""
    match = re.fullmatch(r"[a-z_]*?_?(\d+)(?:_(\d+))?", path.stem)
    return (int(match[1]), int(match[2]) if match[2] else None) if match else None


def _partial(gold: Path, silver: Mask | None, track: Mask | None) -> str | None:
    """Give "3 of 18" if `gold` labels only some of the objects, None if it is complete for all we know."""
    full, allowed = _object_count(silver or track), 0.0 if silver else MAX_MISSING_SHARE
    count = _object_count((gold, None))
    return f"{count} of {full}" if count < full * (1 - allowed) else None


def _object_count(mask: Mask | None) -> int:
    if mask is None:
        return 0
    path, plane = mask
    try:
        labels = read_labels(path)
    except ImageFormatError:
        return 0  # the data doctor reads it again and says what is wrong with it
    is_there = plane is None or ("Z" in labels.axes and plane < len(labels.array))
    array = label_plane(labels, plane) if plane is not None and is_there else labels.array
    return int(np.count_nonzero(np.unique(array))) if is_there else 0


def _instead(has_silver: bool) -> str:
    return (
        "silver truth taken instead"
        if has_silver
        else "left out, as unlabelled ones would count as background"
    )
