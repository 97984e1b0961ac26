"""Sizes of the pixels of training images: what files say, what a person says, and where they differ."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ushape.checkpoint import read_header
from ushape.config import PixelSize, parse_pixel_size
from ushape.data import Sample
from ushape.errors import ConfigError
from ushape.predict.scaling import in_words

_ROUNDING = 1e-3
"""Relative: files keep the size of a pixel as a fraction, in a unit of their own."""


def with_pixel_size(
    samples: Sequence[Sample],
    pixel_size: float | str | PixelSize | None,
    from_model: str | Path | None = None,
) -> list[Sample]:
    """Give images the pixel size that a person states, whatever their files say.

    Parameters
    ----------
    samples : sequence of Sample
    pixel_size : float, str, (float, float) or None
        In micrometres; None: what the files say.
    from_model : path or None
        Model file that training starts from.

    Raises
    ------
    ConfigError
        If it is no pixel size, or `from_model` knows another one.
    """
    if pixel_size is None:
        return list(samples)
    size = parse_pixel_size(pixel_size)
    known = None if from_model is None else read_header(from_model).pixel_size_um
    if known is not None and not _are_equal(size, known):
        raise ConfigError(
            f"--pixel-size {in_words(size)}: {from_model} knows pixels of {in_words(known)} um, and training "
            "resamples no image; bring the images to that size, or drop --pixel-size or --from"
        )
    return [replace(sample, pixel_size_um=size) for sample in samples]


def common_pixel_size(samples: Sequence[Sample]) -> PixelSize | None:
    """Pixel size of all images that tell theirs; None if they differ by more than rounding, or none does."""
    told = [sample.pixel_size_um for sample in samples if sample.pixel_size_um is not None]
    return told[0] if told and all(_are_equal(told[0], other) for other in told) else None


def differing_pixel_sizes(samples: Sequence[Sample]) -> list[str]:
    """Warn, in one line, of images that differ in the size of their pixels; no line if they do not."""
    told = [(sample.name, sample.pixel_size_um) for sample in samples if sample.pixel_size_um is not None]
    odd = [(name, size) for name, size in told if not _are_equal(size, told[0][1])]
    if not odd:
        return []
    (one, its_size), (other, other_size) = told[0], odd[0]
    return [
        f"warning: pixels are {in_words(its_size)} um in {one}, {in_words(other_size)} um in {other}: the "
        "model file will not say how large they are; if they are of one size, state it by --pixel-size"
    ]


def unfit_pixel_size(from_model: str | Path, samples: Sequence[Sample]) -> list[str]:
    """Warn, in one line, of images whose pixels are not as large as those a model to start from knows."""
    known, told = read_header(from_model).pixel_size_um, common_pixel_size(samples)
    if known is None or told is None or _are_equal(known, told):
        return []
    return [
        f"warning: pixels are {in_words(told)} um, as the files say, and {from_model} knows pixels of "
        f"{in_words(known)} um: objects have another size than it was trained on, and training resamples no "
        "image; bring the images to that size"
    ]


def _are_equal(one: PixelSize, other: PixelSize) -> bool:
    return all(math.isclose(*pair, rel_tol=_ROUNDING) for pair in zip(one, other, strict=True))
