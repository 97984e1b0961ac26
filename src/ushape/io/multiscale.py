"""OME-Zarr: a folder of chunks at several resolutions, read by window and written chunk by chunk.

What its axes, levels and pixel sizes are is read and written by the package ome-zarr; the chunks by zarr.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ushape.errors import ImageFormatError
from ushape.io import pixel_size
from ushape.io.decoded import Decoded, unread

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
    full = metadata.datasets[0]
    names = [str(axis.name).upper() for axis in metadata.axes]
    pixels: Any = group[full.path]
    if {"Y", "X"} - {*names} or any(len(name) > 1 for name in names) or len(names) != pixels.ndim:
        raise ImageFormatError(f"has the axes {', '.join(names)}; an image has y and x, one letter per axis")
    if 0 in pixels.shape:
        raise ImageFormatError(f"holds no image: its data have the shape {pixels.shape}; export it again")
    units = {str(axis.name).upper(): axis.unit for axis in metadata.axes}
    steps = dict(zip(names, full.coordinateTransformations[0].scale, strict=True))
    size = pixel_size.from_units((steps["Y"], steps["X"]), (units["Y"], units["X"]))
    return Decoded(pixels, "".join(names), pixel_size_um=size), VERSIONS[group.info._zarr_format]


def decode_store(path: Path, *, pixels: bool = True) -> Decoded:
    """Read the image of an OME-Zarr folder into memory; without `pixels`, only what its metadata say."""
    opened, _ = open_store(path)
    array = opened.pixels[...] if pixels else unread(opened.pixels.shape, opened.pixels.dtype)
    return Decoded(np.asarray(array), opened.axes, pixel_size_um=opened.pixel_size_um)


def create_store(
    path: Path,
    axes: str,
    shape: Sequence[int],
    dtype: Any,
    chunks: Sequence[int],
    *,
    version: str,
    pixel_size_um: tuple[float, float] | None = None,
    colors: Mapping[int, Sequence[int]] | None = None,
) -> list[Any]:
    """Make an OME-Zarr image without content, all its levels included; what is there is replaced.

    Parameters
    ----------
    path : Path
    axes : str
        Such as "CZYX"; height and width are halved from level to level.
    shape, chunks : sequence of int
        Of the full resolution; all levels have the same chunks.
    dtype : dtype
    version : {"0.4", "0.5"}
        Of OME-Zarr: in Zarr 2 or Zarr 3.
    pixel_size_um : tuple of float, optional
        Height and width of a pixel in micrometres.
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
    names = [name.lower() for name in axes]
    level = list(shape)
    levels: list[Any] = []
    datasets: list[dict[str, Any]] = []
    steps = dict(zip("yx", pixel_size_um or (1.0, 1.0), strict=True))
    while True:
        factor = 2 ** len(levels)
        scale = [steps[name] * factor if name in "yx" else 1.0 for name in names]
        shift = [(factor - 1) / 2 * steps[name] if name in "yx" else 0.0 for name in names]
        number = f"s{len(levels)}"
        options: dict[str, Any] = (
            {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
            if form.zarr_format == 2
            else {"dimension_names": names}
        )
        levels.append(
            group.create_array(
                number, shape=tuple(level), dtype=dtype, chunks=tuple(chunks), fill_value=0, **options
            )
        )
        transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
        datasets.append({"path": number, "coordinateTransformations": transforms})
        if max(level[-2:]) <= _SMALL:
            break
        level[-2:] = [-(-side // 2) for side in level[-2:]]
    units = {} if pixel_size_um is None else {"y": "micrometer", "x": "micrometer"}
    write_multiscales_metadata(group, datasets, form, names, units, name=path.name.partition(".")[0])
    if colors is not None:
        shown = [{"label-value": value, "rgba": [*rgb, 255]} for value, rgb in colors.items()]
        add_metadata(group, {"image-label": {"version": version, "colors": shown}}, fmt=form)
    return levels


def open_levels(path: Path) -> list[Any]:
    """Levels of an image that `create_store` made, to be written to."""
    import zarr

    group: Any = zarr.open_group(str(path), mode="r+")
    return [group[f"s{number}"] for number in range(len([*group.array_keys()]))]


def fill_levels(levels: Sequence[Any]) -> None:
    """Write the lower resolutions, chunk by chunk: of each 2 x 2 pixels the upper left one.

    Class and object numbers must not be averaged.
    """
    for finer, coarser in pairwise(levels):
        for start in np.ndindex(*(-(-n // c) for n, c in zip(coarser.shape, coarser.chunks, strict=True))):
            window = tuple(
                slice(i * c, min((i + 1) * c, n))
                for i, c, n in zip(start, coarser.chunks, coarser.shape, strict=True)
            )
            inside = [slice(2 * side.start, 2 * side.stop) for side in window[-2:]]
            coarser[window] = finer[(*window[:-2], *inside)][..., ::2, ::2]


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
