"""Which images and masks a folder holds, in every layout that `train` and `check` understand.

========================  ==========================================================================
folder                    ``images/`` and ``masks/`` (``imgs/``, ``labels/``, ...), equal stems; also
                          under ``train/`` and ``val/``, or these under them
ISBI 2012                 ``train-volume.tif`` and ``train-labels.tif``, one slice per pair
Cell Tracking Challenge   ``01/``, ``01_GT/SEG/``, ``01_ST/SEG/``: gold truth, else silver truth
DRIVE                     ``training/images``, ``1st_manual``, and ``mask``: the region that counts
globs                     any two patterns; files pair by name, in the end by the digits in it
========================  ==========================================================================
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from glob import has_magic
from itertools import chain
from pathlib import Path

from ushape.data.evidence import plane_count
from ushape.data.faults import Fault
from ushape.data.pairing import Pairing, numbers, pair_up
from ushape.data.pairs import Dataset, Pair, Source, Split
from ushape.data.tracking import sequences
from ushape.errors import ConfigError, DataError
from ushape.io import is_image

_IMAGES = ("images", "imgs", "image", "imagestr")
_MASKS = ("masks", "labels", "label", "labelstr")
_SPLITS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val"}
"""Names of folders, in lower case; the first that is there is taken."""

_ENDS_AS_A_MASK = re.compile(r"[_-](?:cp_)?(?:masks?|labels?|labelled|seg|gt)$", re.IGNORECASE)
"""As Cellpose, QuPath and others call masks."""


def find_pairs(data: Path | str, *, images: str | None = None, masks: str | None = None) -> Dataset:
    """Find the images of a data set and the mask of each.

    Parameters
    ----------
    data : path
        The folder.
    images, masks : str, optional
        Globs or folders below `data` (or absolute) that name the images and the masks; both or none.

    Returns
    -------
    Dataset
        Images without a mask are pairs whose `mask` is None; a fault names each. Files of several planes
        become one pair per plane. The content of images is not looked at, except that Cell Tracking
        Challenge frames annotated twice have their objects counted.

    Raises
    ------
    ConfigError
        If only one of `images` and `masks` is given.
    DataError
        If `data` is not a folder, cannot be read, or is in no known layout, or no image has a mask.
    """
    root = Path(data)
    if not os.path.isdir(root):  # `Path.is_dir` raises where the name is too long
        what = "not a folder" if os.path.exists(root) else "no such folder"
        raise DataError(f"{what}: {root}; give the folder that holds images and masks")
    if (images is None) != (masks is None):
        missing = "masks" if masks is None else "images"
        raise ConfigError(f"--images and --masks go together; --{missing} is missing")
    try:
        return _found(root, images, masks)
    except OSError as error:
        place, fix = error.filename or root, "check its permissions, or copy the data to this machine"
        raise DataError(f"{place} cannot be read: {error.strerror or error}; {fix}") from error


def _found(root: Path, images: str | None, masks: str | None) -> Dataset:
    if images is not None and masks is not None:
        dataset: Dataset | None = _globs(root, images, masks)
    else:
        dataset = next(filter(None, (layout(root) for layout in _LAYOUTS)), None)
    if dataset is None:
        raise DataError(_no_layout(root))
    if not any(pair.mask for pair in dataset.pairs):
        raise DataError(_nothing_paired(dataset))
    return _with_unique_names(_one_pair_per_plane(dataset))


def _isbi_2012(root: Path) -> Dataset | None:
    volume, labels = _first_file(root, "train-volume"), _first_file(root, "train-labels")
    if volume is None or labels is None:
        return None
    pair = Pair(volume.stem, Source(volume), Source(labels))
    return Dataset(root, "ISBI 2012", (pair,), class_names=("membrane", "cell"))


def _drive(root: Path) -> Dataset | None:
    folder = root / "training" if (root / "training").is_dir() else root
    truth = folder / "1st_manual"
    if not truth.is_dir() or not (folder / "images").is_dir():
        return None
    dataset = _paired(root, "DRIVE", _files(folder / "images"), _files(truth))
    regions = pair_up([pair.image.path for pair in dataset.pairs], _files(folder / "mask"))
    pairs = tuple(
        replace(pair, region=_source(region), number=next(iter(numbers(pair.name)), None))
        for pair, (_, region) in zip(dataset.pairs, regions.partners, strict=True)
    )
    note = f"{regions.count} field-of-view masks in {folder / 'mask'}: pixels outside do not count"
    return replace(dataset, pairs=pairs, notes=(note,), class_names=("background", "vessel"))


def _folders(root: Path) -> Dataset | None:
    """`images/` + `masks/`, at the top, or under or over `train/` and `val/`; and by other names of both."""
    places = [*_places(root)]
    parts = [
        _paired(root, "folder", _files(images), _files(masks), split)
        for images, masks, split in places
        if images.is_dir() and masks.is_dir()
    ]
    if not parts:
        return None
    pairs = tuple(chain.from_iterable(part.pairs for part in parts))
    if len({pair.split for pair in pairs}) < 2:
        pairs = tuple(replace(pair, split=None) for pair in pairs)
    return replace(
        parts[0],
        pairs=pairs,
        notes=tuple(dict.fromkeys(chain.from_iterable(part.notes for part in parts))),
        faults=tuple(chain(*(part.faults for part in parts), _halves(places[1:]))),
    )


def _places(root: Path) -> Iterator[tuple[Path, Path, Split]]:
    """Folders of images and of masks that may be there, the top first."""
    images, masks = _named(root, _IMAGES), _named(root, _MASKS)
    yield images, masks, "train"
    for name, split in _SPLITS.items():
        yield _named(root / name, _IMAGES), _named(root / name, _MASKS), split
        yield images / name, masks / name, split


def _named(folder: Path, names: Sequence[str]) -> Path:
    """The folder of the first of these names that is there, in whatever case; what it would be if none is."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    found = {path.name.casefold(): path for path in inside if path.name.casefold() in names and path.is_dir()}
    return next((found[name] for name in names if name in found), folder / names[0])


def _halves(places: Iterable[tuple[Path, Path, Split]]) -> Iterator[Fault]:
    """Images without masks, or the other way round, which would be passed over."""
    for images, masks, _ in places:
        if images.is_dir() != masks.is_dir():
            here, missing = (images, masks) if images.is_dir() else (masks, images)
            if _files(here):
                what = f"there is no folder {missing} to go with it"
                yield Fault("error", here, what, "add it, or move this one away")


def _globs(root: Path, images: str, masks: str) -> Dataset:
    mask_files = _matching(root, masks, "--masks")
    are_masks = set(mask_files)
    # `*.tif` for the images may well match `*_mask.tif` too.
    image_files = [path for path in _matching(root, images, "--images") if path not in are_masks]
    if not image_files:
        raise DataError(f"--images {images!r} matches nothing but masks; make the two patterns differ")
    if len(image_files) == len(mask_files) == 1:
        image, mask = image_files[0], mask_files[0]
        return Dataset(root, "globs", (Pair(image.stem, Source(image), Source(mask)),))
    return _paired(root, "globs", image_files, mask_files)


def _tracking_challenge(root: Path) -> Dataset | None:
    found = sequences(root)
    if not found:
        return None
    pairs = tuple(
        Pair(
            f"{sequence.name}_{image.stem}" + ("" if plane is None else f"[{plane}]"),
            Source(image, plane),
            Source(mask, mask_plane),
            number=frame,
            sequence=sequence.name,
        )
        for sequence in found
        for frame, plane, image, mask, mask_plane in sequence.annotated
    )
    return Dataset(
        root,
        "Cell Tracking Challenge",
        pairs,
        tuple(chain.from_iterable(sequence.notes for sequence in found)),
        tuple(
            Fault("error", mask, "no image of this frame", "restore the image or take the mask out")
            for sequence in found
            for mask in sequence.orphans
        ),
        ("background", "cell"),
    )


_LAYOUTS: tuple[Callable[[Path], Dataset | None], ...] = (_isbi_2012, _tracking_challenge, _drive, _folders)


def _paired(
    root: Path, layout: str, images: Sequence[Path], masks: Sequence[Path], split: Split | None = None
) -> Dataset:
    pairing = pair_up(images, masks)
    pairs = tuple(
        Pair(image.stem, Source(image), _source(mask), split=split, number=_only_number(image.stem))
        for image, mask in pairing.partners
    )
    how = () if pairing.how == "equal stems" else (f"images and masks paired by {pairing.how}",)
    return Dataset(root, layout, pairs, how, tuple(_partner_faults(pairing, images, masks)))


def _partner_faults(pairing: Pairing, images: Sequence[Path], masks: Sequence[Path]) -> Iterable[Fault]:
    for group in (images, masks):
        first: dict[str, Path] = {}
        for path in group:
            if first.setdefault(path.stem, path) != path:
                yield Fault("error", path, f"same name as {first[path.stem]}", "keep one of the two")
    for image, mask in pairing.partners:
        if mask is None:
            yield Fault("error", image, "no mask for this image", "add the mask or take the image out")
    for mask in pairing.orphans:
        yield Fault("error", mask, "no image for this mask", "add the image or take the mask out")


def _one_pair_per_plane(dataset: Dataset) -> Dataset:
    pairs: list[Pair] = []
    faults = list(dataset.faults)
    for pair in dataset.pairs:
        if pair.mask is not None and pair.image.plane is not None:
            count = plane_count(pair.image.path, unreadable=pair.image.plane + 1)
            if pair.image.plane >= count:
                what = f"of slice {pair.image.plane}, but {pair.image.path} has {count} planes"
                fix = "restore the volume, or take the mask out"
                faults.append(Fault("error", pair.mask.path, what, fix))
                continue
        if pair.mask is None or pair.image.plane is not None:
            pairs.append(pair)
            continue
        in_image, in_mask = plane_count(pair.image.path), plane_count(pair.mask.path)
        if in_image == in_mask:
            pairs += _planes(pair, in_image)
        else:
            what = f"{in_mask} planes, but {pair.image.path} has {in_image}"
            faults.append(Fault("error", pair.mask.path, what, "give both the same number of planes"))
    return replace(dataset, pairs=tuple(pairs), faults=tuple(faults))


def _planes(pair: Pair, count: int) -> Iterable[Pair]:
    if count == 1 or pair.mask is None:
        return [pair]
    return [
        replace(
            pair,
            name=f"{pair.name}[{plane}]",
            image=Source(pair.image.path, plane),
            mask=Source(pair.mask.path, plane),
            number=plane,
        )
        for plane in range(count)
    ]


def _with_unique_names(dataset: Dataset) -> Dataset:
    """Call pairs of the same name in `train/` and `val/`, or in several folders, by folder and name."""
    times = Counter(pair.name for pair in dataset.pairs)
    pairs = (
        replace(pair, name=f"{_folder_word(dataset.root, pair)}_{pair.name}")
        if times[pair.name] > 1
        else pair
        for pair in dataset.pairs
    )
    return replace(dataset, pairs=tuple(pairs))


def _folder_word(root: Path, pair: Pair) -> str:
    folder = pair.image.path.parent
    below = folder.relative_to(root) if folder.is_relative_to(root) else folder
    return "_".join(part for part in below.parts if part != "/") + pair.image.path.suffix.replace(".", "_")


def _first_file(folder: Path, stem: str) -> Path | None:
    return next((path for path in _files(folder) if path.stem == stem), None)


def _files(folder: Path) -> list[Path]:
    """Images directly in `folder`, sorted by name; hidden files and other kinds are passed over."""
    return sorted(path for path in folder.iterdir() if is_image(path)) if folder.is_dir() else []


def _matching(root: Path, pattern: str, option: str) -> list[Path]:
    """Images that a glob matches or a folder holds, below `root`, or else from where the user stands."""
    anchor = Path(pattern).anchor
    starts = [Path(anchor)] if anchor else [root, Path()]
    for start in starts:
        try:
            found = [*start.glob(pattern.removeprefix(anchor) or "*")]
        except ValueError as error:
            raise DataError(f"{option} {pattern!r}: {error}; write **/* for all files below") from error
        if len(found) == 1 and found[0].is_dir() and not has_magic(pattern):
            found = _files(found[0])
        files = sorted(path for path in found if is_image(path) and path.is_file())
        if files:
            return files
    raise DataError(f"{option} {pattern!r} matches no image in {root}; check the path, and quote it")


def _source(path: Path | None) -> Source | None:
    return None if path is None else Source(path)


def _only_number(stem: str) -> int | None:
    found = numbers(stem)
    return found[0] if len(found) == 1 else None


def _no_layout(root: Path) -> str:
    if _files(root):
        if (root.parent / "images").is_dir() and (root.parent / "masks").is_dir():
            return f"{root} holds only one half of the data; give {root.parent}"
        if (ending := _ending_of_masks(_files(root))) is not None:
            how = f"say which is which: --images '*' --masks '*{ending}'"
            return f"{root} holds images and masks in one folder; {how}"
        fix = f"move them into {root / 'images'} and their masks into {root / 'masks'}"
        return f"{root} holds {len(_files(root))} images but no known layout; {fix}"
    folders = sorted(path.name for path in root.iterdir() if path.is_dir() and _files(path))
    if len(folders) < 2:
        return f"no images and masks in {root}; a data set is a folder with images/ and masks/"
    masks = next((name for name in folders if re.search("mask|label|seg|truth|gt|annot", name.lower())), "")
    masks = masks or folders[-1]
    images = next(name for name in folders if name != masks)
    return (
        f"no images/ and masks/ in {root}, but {', '.join(folders[:6])}; "
        f"say which is which, for example --images '{images}/*' --masks '{masks}/*'"
    )


def _ending_of_masks(files: Sequence[Path]) -> str | None:
    """The ending by which masks are told from the images that they lie beside; None if there is none."""
    found = [f"{match[0]}{path.suffix}" for path in files if (match := _ENDS_AS_A_MASK.search(path.stem))]
    return Counter(found).most_common(1)[0][0] if 0 < len(found) < len(files) else None


def _nothing_paired(dataset: Dataset) -> str:
    if not dataset.pairs:
        return f"no images beside the masks of {dataset.root}; put them into {dataset.root / 'images'}"
    image = dataset.pairs[0].image.path
    orphan = next((fault.file for fault in dataset.faults if "for this mask" in fault.what), None)
    if orphan is None:
        return f"{image} has no mask, nor has any other image of {dataset.root}; add the masks"
    what = f"no image of {dataset.root} has a mask of the same name: {image.name}, {orphan.name}"
    return f"{what}; rename the masks"
