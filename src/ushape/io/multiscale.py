"""OME-Zarr: a folder of chunks at several resolutions, read by window and written chunk by chunk.

What its axes, levels and pixel sizes are is read and written by the package ome-zarr; the chunks by zarr.
"""

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ushape.config import PixelSize
from ushape.errors import ImageFormatError
from ushape.io import pixel_size
from ushape.io.decoded import Array, Decoded, Spacing, unread
from ushape.io.write import to_disk

VERSIONS = {2: "0.4", 3: "0.5"}
"""Version of OME-Zarr that is written, by that of the Zarr format."""

_SMALL = 512
"""Levels are halved until no side is longer."""


def is_store(path: Path) -> bool:
    """Whether a path is a folder of Zarr, of version 2 or 3."""
    return any(os.path.exists(path / name) for name in ("zarr.json", ".zgroup", ".zarray"))


def stem_of(path: Path) -> str:
    """Name of a file without its ending; `.ome.zarr` is one."""
    return path.stem.removesuffix(".ome") if path.suffix == ".zarr" else path.stem


def open_store(path: Path) -> tuple[Decoded, str]:
    """Open the image of an OME-Zarr folder at full resolution; its pixels are read when they are indexed.

    Returns
    -------
    Decoded
        `pixels` is a `zarr.Array`.
    str
        Version of OME-Zarr in which results of this image are written: "0.4" (Zarr 2) or "0.5" (Zarr 3).

    Raises
    ------
    ImageFormatError
        If the folder holds no image.

    Notes
    -----
    Exceptions of zarr and ome-zarr pass; `ushape.io.read` turns them into one line.
    """
    import zarr
    from ome_zarr import OMEZarrMultiscale

    group = zarr.open(str(path), mode="r")
    if not isinstance(group, zarr.Group):
        raise ImageFormatError("is a Zarr array without metadata of OME; name the OME-Zarr image around it")
    attributes: Any = group.attrs.asdict()
    if "multiscales" not in attributes.get("ome", attributes):
        raise ImageFormatError("is a Zarr group, but no image of OME-Zarr; name an image in it")
    metadata = OMEZarrMultiscale.from_ome_zarr(group).metadata
    names = [str(axis.name).upper() for axis in metadata.axes]
    pixels: Any = group[metadata.datasets[0].path]
    if {"Y", "X"} - {*names} or any(len(name) > 1 for name in names) or len(names) != pixels.ndim:
        raise ImageFormatError(f"has the axes {', '.join(names)}; an image has y and x, one letter per axis")
    if 0 in pixels.shape:
        raise ImageFormatError(f"holds no image: its data have the shape {pixels.shape}; export it again")
    spacings = dict(zip(names, _spacings_of(metadata), strict=True))
    opened = Decoded(pixels, "".join(names), pixel_size_um=_size_um(spacings), spacings=spacings)
    return opened, VERSIONS[group.info._zarr_format]


def _spacings_of(metadata: Any) -> Iterator[Spacing]:
    """Where the pixels of the full resolution lie along each axis.

    What the image says of all levels is applied after what it says of this one (OME-Zarr 0.4 and 0.5).
    """
    steps, offsets = np.ones(len(metadata.axes)), np.zeros(len(metadata.axes))
    of_all = metadata.coordinateTransformations or ()
    with np.errstate(all="ignore"):  # JSON of Python knows NaN and infinity
        for one in (*metadata.datasets[0].coordinateTransformations, *of_all):
            if one.type == "scale":
                steps, offsets = steps * one.scale, offsets * one.scale
            else:
                offsets = offsets + one.translation
    for axis, step, offset in zip(metadata.axes, steps.tolist(), offsets.tolist(), strict=True):
        makes_sense = 0 < step < math.inf and math.isfinite(offset)
        unit = axis.unit if isinstance(axis.unit, str) else None
        yield Spacing(step, offset, unit) if makes_sense else Spacing()


def _size_um(spacings: Mapping[str, Spacing]) -> PixelSize | None:
    """Height and width of a pixel in micrometres, where the units are known."""
    y, x = (spacings.get(axis, Spacing()) for axis in "YX")
    return pixel_size.from_units((y.step, x.step), (y.unit, x.unit))


def decode_store(path: Path, *, pixels: bool = True) -> Decoded:
    """Read the image of an OME-Zarr folder into memory; without `pixels`, only what its metadata say."""
    opened, _ = open_store(path)
    array = opened.pixels[...] if pixels else unread(opened.pixels.shape, opened.pixels.dtype)
    return replace(opened, pixels=np.asarray(array))


def create_store(
    path: Path,
    axes: str,
    shape: Sequence[int],
    dtype: Any,
    chunks: Sequence[int],
    *,
    version: str,
    pixel_size_um: PixelSize | None = None,
    spacings: Mapping[str, Spacing] | None = None,
    colors: Mapping[int, Sequence[int]] | None = None,
) -> list[Any]:
    """Make an OME-Zarr image without content, all its levels included; what is there is replaced.

    Parameters
    ----------
    path : Path
    axes : str
        Such as "CZYX", height and width last; these are halved from level to level.
    shape, chunks : sequence of int
        Of the full resolution; all levels have the same chunks.
    dtype : dtype
        Decides what lower levels hold, and so where their pixels lie; see `fill_levels`.
    version : {"0.4", "0.5"}
        Of OME-Zarr: in Zarr 2 or Zarr 3.
    pixel_size_um : tuple of float, optional
        Height and width of a pixel in micrometres; goes before `spacings` where these say another.
    spacings : mapping, optional
        Where the pixels lie, by axis; along one that is not in it, they are 1 apart.
    colors : mapping, optional
        Red, green and blue of each value: a label image.

    Returns
    -------
    list of zarr.Array
        The levels, full resolution first; see `fill_levels`.
    """
    import zarr

    with warnings.catch_warnings():  # ome-zarr warns of itself
        warnings.simplefilter("ignore", DeprecationWarning)
        from ome_zarr.format import format_from_version
        from ome_zarr.writer import add_metadata, write_multiscales_metadata
    form = format_from_version(version)
    group = zarr.open_group(str(path), mode="w", zarr_format=form.zarr_format)
    options: dict[str, Any] = (
        {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        if form.zarr_format == 2
        else {"dimension_names": [*axes.lower()]}
    )
    options |= {"dtype": dtype, "chunks": tuple(chunks), "fill_value": 0}
    levels: list[Any] = [
        group.create_array(f"s{number}", shape=size, **options) for number, size in enumerate(_sizes(shape))
    ]
    known = _at_size(spacings or {}, pixel_size_um)
    along = {axis: known.get(axis, Spacing()) for axis in axes}
    datasets = [
        {"path": level.path, "coordinateTransformations": _transforms([*along.values()], number, level.dtype)}
        for number, level in enumerate(levels)
    ]
    told = [_axis(letter, spacing) for letter, spacing in along.items()]
    write_multiscales_metadata(group, datasets, form, told, name=path.name.partition(".")[0])
    if colors is not None:
        shown = [{"label-value": value, "rgba": [*rgb, 255]} for value, rgb in colors.items()]
        label = {"colors": shown} if shown else {}  # the list may not be empty
        add_metadata(group, {"image-label": {"version": version, **label}}, fmt=form)
    return levels


def _sizes(shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Shapes of the levels, full resolution first."""
    *leading, height, width = shape
    yield (*leading, height, width)
    while max(height, width) > _SMALL:
        height, width = -(-height // 2), -(-width // 2)
        yield (*leading, height, width)


def _at_size(spacings: Mapping[str, Spacing], size_um: PixelSize | None) -> dict[str, Spacing]:
    """The same, but with pixels of the size that was given, if that is another one.

    Then they begin as many pixels from the origin as before.
    """
    found = dict(spacings)
    if size_um is not None and size_um != _size_um(spacings):
        for axis, step in zip("YX", size_um, strict=True):
            before = found.get(axis, Spacing())
            found[axis] = Spacing(step, before.offset / before.step * step, "micrometer")
    return found


def _axis(letter: str, spacing: Spacing) -> dict[str, str]:
    """An axis in words of OME-Zarr; its unit is that of the image, in whichever words."""
    axis = {"name": letter.lower(), "type": {"C": "channel", "T": "time"}.get(letter, "space")}
    return axis if spacing.unit is None else axis | {"unit": spacing.unit}


def _transforms(spacings: Sequence[Spacing], number: int, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
    """Where the pixels of a level lie: on the upper left one of those they stand for, or in their middle."""
    factors = [1] * (len(spacings) - 2) + [2**number] * 2
    steps = [one.step * factor for one, factor in zip(spacings, factors, strict=True)]
    offsets = [one.offset for one in spacings]
    if _is_averaged(dtype):
        offsets = [one.offset + (step - one.step) / 2 for one, step in zip(spacings, steps, strict=True)]
    return [{"type": "scale", "scale": steps}, {"type": "translation", "translation": offsets}]


def open_levels(path: Path) -> list[Any]:
    """Levels of an image that `create_store` made, to be written to."""
    import zarr

    group: Any = zarr.open_group(str(path), mode="r+")
    return [group[f"s{number}"] for number in range(len([*group.array_keys()]))]


def fill_levels(levels: Sequence[Any]) -> None:
    """Write the lower resolutions, chunk by chunk, and have all of the store outlive a power cut.

    Each pixel is the mean of 2 x 2 of the level before, where these are floats; else it is the upper left
    one of them: class and object numbers must not be averaged.
    """
    for finer, coarser in pairwise(levels):
        for start in np.ndindex(*(-(-n // c) for n, c in zip(coarser.shape, coarser.chunks, strict=True))):
            window = tuple(
                slice(i * c, min((i + 1) * c, n))
                for i, c, n in zip(start, coarser.chunks, coarser.shape, strict=True)
            )
            inside = [slice(2 * side.start, 2 * side.stop) for side in window[-2:]]
            coarser[window] = _halved(finer[(*window[:-2], *inside)])
    _settle(Path(levels[0].store.root))


def _is_averaged(dtype: np.dtype[Any]) -> bool:
    """Whether lower levels hold means: of probabilities, not of numbers of classes and objects."""
    return dtype.kind == "f"


def _halved(pixels: Array) -> Array:
    """Half as many rows and columns, rounded up; where one is alone, the mean is that of the others."""
    if not _is_averaged(pixels.dtype):
        return pixels[..., ::2, ::2]
    missing = [(0, 0)] * (pixels.ndim - 2) + [(0, side % 2) for side in pixels.shape[-2:]]
    even = np.pad(pixels, missing, mode="edge")
    means: Array = np.mean([even[..., y::2, x::2] for y in (0, 1) for x in (0, 1)], axis=0)
    return means


def _settle(store: Path) -> None:
    """Wait until all of a store is on the disk, without what writes that were killed have left in it."""
    for folder, _, names in os.walk(store):
        for path in (Path(folder, name) for name in names):
            if path.suffix == ".partial":  # zarr renames such a file when it is whole
                path.unlink(missing_ok=True)
            else:
                with suppress(FileNotFoundError):  # of a worker thought dead, which is clearing up
                    to_disk(path)
        with suppress(OSError):  # not every file system can
            to_disk(Path(folder))


def written_chunks(array: Any, window: Sequence[slice]) -> list[Path]:
    """Files of the chunks of a local array that a window covers; those that hold nothing have none."""
    ranges = [
        range(side.start // c, -(-side.stop // c)) for side, c in zip(window, array.chunks, strict=True)
    ]
    root = Path(array.store.root) / array.path
    keys = (
        array.metadata.encode_chunk_key(tuple(int(one[i]) for one, i in zip(ranges, place, strict=True)))
        for place in np.ndindex(*map(len, ranges))
    )
    return [root / key for key in keys if (root / key).exists()]
