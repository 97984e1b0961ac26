"""One pair under the magnifying glass: what it holds, and what is wrong with it on its own."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from ushape.data.evidence import (
    MAX_MASK_VALUES,
    Array,
    Evidence,
    examine,
    is_jpeg,
    label_plane,
    packed,
    ranked,
)
from ushape.data.faults import Fault
from ushape.data.pairs import Pair
from ushape.errors import ImageFormatError
from ushape.io import Image, LabelImage, read_image, read_labels

GREY_VALUES_PER_IMAGE = 4096
"""Grey values of each image that enter the histogram."""


@dataclass(frozen=True)
class Files:
    """Readers that keep the file read last, so that a stack is read once and not once per slice."""

    image: Callable[..., Image]
    labels: Callable[..., LabelImage]

    @classmethod
    def opened(cls) -> "Files":
        """Return readers with nothing kept yet."""
        return cls(lru_cache(maxsize=1)(read_image), lru_cache(maxsize=2)(read_labels))

    def image_plane(self, pair: Pair) -> Array:
        """Image of the pair, shape (C, H, W)."""
        return np.asarray(self.image(pair.image.path).planes[pair.image.plane or 0])

    def region(self, pair: Pair) -> Array | None:
        """Pixels that count, bool (H, W); None if all do."""
        if pair.region is None:
            return None
        plane = label_plane(self.labels(pair.region.path), pair.region.plane)
        return np.asarray(packed(plane) != 0)


@dataclass(frozen=True)
class Inspected:
    """What one pair holds.

    Attributes
    ----------
    pair : Pair
        Which.
    shape : tuple of int, or None
        Channels, height, width of the image; None if it cannot be read.
    dtype : str
        Of the image.
    mask_dtype : str
        Of the mask; "" if there is none.
    evidence : Evidence or None
        What the mask holds; None if it cannot be used.
    digests : tuple of bytes
        Hash of the grey values, and of the labels.
    grey_values : ndarray
        A sample of the grey values.
    faults : tuple of Fault
        What is wrong with this pair.
    """

    pair: Pair
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    mask_dtype: str = ""
    evidence: Evidence | None = None
    digests: tuple[bytes, bytes] = (b"", b"")
    grey_values: Array | None = None
    faults: tuple[Fault, ...] = ()


def inspect(pair: Pair, files: Files) -> Inspected:
    """Read one pair and name what is wrong with it.

    Unreadable files are faults, not exceptions. What `--classes` may excuse (`smearing`) is left to the
    caller.
    """
    try:
        image = files.image_plane(pair)
    except ImageFormatError as error:
        return Inspected(pair, faults=(Fault("error", pair.image.path, str(error)),))
    step = (image.size // GREY_VALUES_PER_IMAGE) | 1  # odd, so that it meets every column
    seen = Inspected(pair, image.shape, str(image.dtype), grey_values=image.ravel()[::step].copy())
    if pair.mask is None:
        return replace(seen, faults=tuple(_constant(pair, image, None)))
    try:
        label = files.labels(pair.mask.path)
        region = files.region(pair)
    except ImageFormatError as error:
        return replace(seen, faults=(Fault("error", pair.mask.path, str(error)),))
    plane = label_plane(label, pair.mask.plane)
    seen = replace(seen, mask_dtype=str(plane.dtype))
    wrong_size = _wrong_size(pair, image, plane, region)
    if wrong_size is not None:
        return replace(seen, faults=(wrong_size,))
    evidence = examine(label, pair.mask.plane, region)
    faults = (*_constant(pair, image, evidence), *_used_as_image(pair, image, plane, evidence))
    return replace(seen, evidence=evidence, digests=(_digest(image), _digest(plane)), faults=faults)


def smearing(evidence: Evidence) -> Fault | None:
    """Fault of a mask whose edges are soft, or that is a photograph; None for a sound one."""
    count = len(evidence.values)
    if evidence.smeared == "":
        return None
    if evidence.smeared == "an image":
        what = f"looks like an image, not a mask: {count} values, hardly two neighbours alike"
        return Fault("error", evidence.path, what, "put the mask here")
    levels = " ".join(map(str, evidence.levels)) if not evidence.is_rgb or evidence.is_grey else "few"
    if evidence.smeared == "JPEG-smeared":
        what = f"JPEG-smeared mask: {count} values where {levels} were meant"
        fix = "save it from the original as PNG or TIFF"
    else:
        what = f"anti-aliased edges: {count} values where {levels} were meant"
        fix = "draw, export or resize it without smoothing (nearest neighbour)"
    if count <= MAX_MASK_VALUES:
        fix += f", or give --classes {count} if all are classes"
    return Fault("error", evidence.path, what, fix + _nearest_mapping(evidence))


def _nearest_mapping(evidence: Evidence) -> str:
    levels = evidence.levels
    if not 2 <= len(levels) <= 6 or (evidence.is_rgb and not evidence.is_grey):
        return ""
    ends = [(a + b) // 2 for a, b in pairwise(levels)]
    starts = [0, *(end + 1 for end in ends)]
    spans = [f"{a}..{b} -> {level}" for a, b, level in zip(starts, ends, levels, strict=False)]
    return f" (nearest mapping: {', '.join(spans)}, from {starts[-1]} -> {levels[-1]})"


def _wrong_size(pair: Pair, image: Array, mask: Array, region: Array | None) -> Fault | None:
    height, width = image.shape[-2:]
    sizes = {pair.mask: mask.shape[:2]} | ({} if region is None else {pair.region: region.shape})
    for source, size in sizes.items():
        if source is not None and size != (height, width):
            turned = "; it lies on its side" if size == (width, height) else ""
            what = f"{size[0]} x {size[1]} pixels, but {pair.image} has {height} x {width}{turned}"
            return Fault("error", source.path, what, f"export it again at {height} x {width}")
    return None


def _constant(pair: Pair, image: Array, evidence: Evidence | None) -> Iterator[Fault]:
    """Images and masks that hold a single value."""
    blank = evidence is not None and len(evidence.values) == 1
    if (image == image[:, :1, :1]).all():
        what = f"image {pair.image} is empty: every pixel is {image[:, 0, 0].tolist()}"
        yield Fault("warning" if blank else "error", pair.image.path, what, "export it again or take it out")
    if blank and evidence is not None and pair.mask is not None:
        what = f"mask {pair.mask} is empty: every pixel is {evidence.values[0]}"
        yield Fault("warning", pair.mask.path, what, "right only if there is nothing to label")
    if evidence is not None and not evidence.smeared and pair.mask is not None and is_jpeg(pair.mask.path):
        what = "mask stored as JPEG, which changes labels when it is saved again"
        yield Fault("warning", pair.mask.path, what, "save masks as PNG or TIFF")


def _used_as_image(pair: Pair, image: Array, labels: Array, evidence: Evidence) -> Iterator[Fault]:
    """An image that is a mask: few values, and each tells the label of its pixels; or equal to the mask."""
    pixels = image[0] if len(image) != 3 else np.moveaxis(image, 0, -1)
    is_same = np.array_equal(pixels, labels)
    if len(evidence.values) == 1 and not is_same:
        return  # a single label goes with whatever there is
    if len(np.unique(_codes(pixels[::7, ::7]))) > MAX_MASK_VALUES and not is_same:
        return
    values, ranks = ranked(_codes(pixels))
    has_few = len(values) <= MAX_MASK_VALUES
    what = f"a mask used as an image: {pair.image} has {len(values)} values"
    if len(values) == 1:
        return
    if evidence.smeared == "an image":
        if has_few:
            yield Fault("error", pair.image.path, what, "images and masks are exchanged: swap them")
    elif is_same or (has_few and _tells(ranks, ranked(packed(labels))[1])):
        yield Fault("error", pair.image.path, what, "put the image here that was annotated")


def _codes(pixels: Array) -> Array:
    return pixels if pixels.ndim == 2 else packed(pixels)


def _tells(ranks: Array, label_ranks: Array) -> bool:
    """Whether equal values of the first always go with equal values of the second."""
    joint = np.unique(ranks.astype(np.int64) * (int(label_ranks.max()) + 1) + label_ranks)
    return len(joint) == int(ranks.max()) + 1


def _digest(array: Array) -> bytes:
    digest = hashlib.blake2b(f"{array.shape} {array.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
