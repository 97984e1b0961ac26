"""How a result came about: the content of its JSON file, and one line of it for the screen."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ushape.backends import peak_memory
from ushape.config import ClassInfo, ModelHeader, PixelSize, Postprocessing
from ushape.geometry import Geometry, PaddedGeometry
from ushape.instances.measurements import has_square_pixels
from ushape.io import ImageSize
from ushape.predict.averaging import Average
from ushape.predict.scaling import Scale, diameter_mismatch, in_words, pixel_size_mismatch
from ushape.tiling import Span

Array = np.ndarray[Any, Any]
_ROWS_AT_ONCE = 10_000
"""Of a table that is written: some 20 MB as words."""


def record_of(
    header: ModelHeader,
    image: dict[str, Any],
    tiles: dict[str, Any],
    how: dict[str, Any],
    counts: Sequence[int],
    postprocessing: Postprocessing | None,
    table: dict[str, Array] | None,
    notes: Sequence[str],
    *,
    results: Mapping[str, Path],
) -> dict[str, Any]:
    """Tell image, tile plan, precision and results; the model's file is not known here.

    Parameters
    ----------
    header : ModelHeader
    image : dict
        See `image_entry`.
    tiles : dict
        See `tiles_entry`.
    how : dict
        See `how_entry`.
    counts : sequence of int
        Pixels of each class.
    postprocessing : Postprocessing or None
        How objects were found; None if they were not asked for.
    table : dict or None
        The objects.
    notes : sequence of str
        What was done to the image.
    results : mapping
        Where they go, by kind: whatever else lies beside the record is not its own.
    """
    size = image["pixel_size_um"]
    return {
        "model": {"name": header.name, "members": header.members},
        "image": image,
        "results": {kind: path.name for kind, path in results.items() if kind != "json"},
        "tiles": tiles,
        **how,
        "classes": class_areas(header, counts, size),
        "postprocessing": None if postprocessing is None else postprocessing.model_dump(),
        "objects": None if table is None else len(table["id"]),
        "notes": [*notes, *_notes_on_pixels(size, table is not None)],
        "warnings": _warnings(header, image, how, None if table is None else table["area_px"]),
    }


def image_entry(path: Path | None, size: ImageSize, pixel_size_um: PixelSize | None) -> dict[str, Any]:
    """Tell which image it is."""
    told = size._asdict() | {"dtype": str(size.dtype), "pixel_size_um": pixel_size_um}
    return {"file": None if path is None else str(path.absolute()), **told}


def tiles_entry(number: int, largest: tuple[Span, Span], geometry: Geometry, reason: str) -> dict[str, Any]:
    """Tell how a plane is cut into tiles, in pixels of the network."""
    row, column = largest
    halo = geometry.margin
    if isinstance(geometry, PaddedGeometry) and number > 1:  # else it is not needed, and takes time to find
        halo = geometry.whole_halo
    return {
        "number": number,
        "keep": (row.keep, column.keep),
        "input": (row.read, column.read),
        "margin": geometry.margin,
        "halo": halo,
        "period": geometry.period,
        "reason": reason,
    }


def how_entry(
    precision: str, device: str, engine: str, average: Average, scale: Scale = (1.0, 1.0)
) -> dict[str, Any]:
    """Tell how tiles were computed."""
    return asked_entry(precision, average, scale) | {"device": device, "engine": engine}


def asked_entry(precision: str, average: Average, scale: Scale) -> dict[str, Any]:
    """Tell the part of it that is asked for: a run that is resumed looks for the same."""
    return {
        "scale": list(scale),
        "precision": precision,
        "average": average.name,
        "average_of": None if average.name == "none" else average.of,
    }


def speed(pixels: int, seconds: float) -> dict[str, float]:
    """Tell what it took."""
    return {
        "seconds": seconds,
        "megapixels_per_s": pixels / 1e6 / seconds,
        "peak_memory_bytes": peak_memory(),
    }


def summary(name: str, record: dict[str, Any]) -> str:
    """One line: size, tiles, precision, objects, time."""
    size, tiles = record["image"], record["tiles"]
    planes = f"{size['planes']} x " if size["planes"] > 1 else ""
    keep = " x ".join(str(side) for side in dict.fromkeys(tiles["keep"]))
    parts = [
        f"{planes}{size['height']} x {size['width']} px",
        f"{tiles['number']} tiles of {keep}" if tiles["number"] > 1 else "1 tile",
        record["precision"] if record["precision"] in ("bf16", "int8") else "exact",
        f"{record['seconds']:.1f} s",
    ]
    if record["average"] != "none":
        parts.insert(-1, f"average {record['average']}")
    if record["scale"] != [1.0, 1.0]:
        parts.insert(1, f"scale {in_words(tuple(record['scale']))}")
    kept = record.get("blocks", {}).get("kept_of_an_interrupted_run")
    if kept:
        parts.insert(-1, f"went on with {kept} of {record['blocks']['number']} blocks")
    if record["objects"] is not None:
        parts.insert(-1, f"{record['objects']} objects")
    return f"{name}: {', '.join(parts)}"


def objects_in_words(record: dict[str, Any]) -> str | None:
    """One line: how objects were found; None if they were not looked for."""
    settings = record["postprocessing"]
    return None if settings is None else f"objects: {Postprocessing(**settings).in_words()}"


def _notes_on_pixels(size: PixelSize | None, with_objects: bool) -> list[str]:
    """Say where pixels that are not square cost a measurement."""
    if with_objects and size is not None and not has_square_pixels(size):
        pixels = f"pixels of {size[0]:g} x {size[1]:g} um"
        return [f"{pixels} are not square: objects have no perimeter in um"]
    return []


def _warnings(
    header: ModelHeader, image: dict[str, Any], how: dict[str, Any], areas_px: Array | None
) -> list[str]:
    """Warn of grey values, turns, pixels or objects that are not as those of the training images."""
    scale: Scale = tuple(how["scale"])
    found = [grey_value_mismatch(header, image["dtype"]), turning_mismatch(header, how["average"])]
    found.append(pixel_size_mismatch(header, image["pixel_size_um"], scale))
    if areas_px is not None:
        found.append(diameter_mismatch(header, areas_px, scale))
    return [line for line in found if line is not None]


def grey_value_mismatch(header: ModelHeader, dtype: str) -> str | None:
    """Warn if grey values are normalised as those of 8 bits are, and cannot be such."""
    means = header.normalization.mean or ()
    if header.normalization.kind == "image" or dtype == "uint8" or max(means) > 255:
        return None
    told = ", ".join(f"{mean:.0f}" for mean in means)
    return (
        f"grey values of type {dtype} are normalised as those of 8 bits are, with means of {told}; if the "
        "network was not trained on such images, bring this one to 0 .. 255 before"
    )


def turning_mismatch(header: ModelHeader, average: str) -> str | None:
    """Warn if turned images are averaged over, and training images had a top."""
    trained = [header.provenance, *header.provenance.get("joined", [])]
    if average == "none" or not any(origin.get("recipe", {}).get("upright") for origin in trained):
        return None
    return (
        f"--average {average} turns the image, and the network was trained on images that have a top, turned "
        "by 10 degrees at most; drop --average"
    )


def class_areas(header: ModelHeader, counts: Sequence[int], size: PixelSize | None) -> list[dict[str, Any]]:
    """Tell the area of each class, of so many pixels of a size in micrometres."""
    pixel_area = None if size is None else size[0] * size[1]
    return [
        {"index": index, "name": info.name, "area_px": counts[index]}
        | ({"area_um2": counts[index] * pixel_area} if pixel_area else {})
        for index, info in enumerate(header.classes)
    ]


def object_rows(
    table: dict[str, Array], classes: Sequence[ClassInfo]
) -> tuple[list[str], Iterator[Sequence[Any]]]:
    """Header and rows of a table of objects, as they are written.

    Of millions of objects a row takes several times the memory as words that it takes as numbers, so rows are
    made when they are asked for.
    """
    return [*table], _rows(table, classes)


def _rows(table: dict[str, Array], classes: Sequence[ClassInfo]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(table["id"]), _ROWS_AT_ONCE):
        part = {name: values[start : start + _ROWS_AT_ONCE] for name, values in table.items()}
        columns = {name: _written(values) for name, values in part.items()}
        columns["class"] = [classes[index].name for index in part["class"]]
        yield from zip(*columns.values(), strict=True)


def _written(values: Array) -> list[Any]:
    """Numbers as they stand in a table: ten digits show every pixel of the largest area."""
    if values.dtype.kind != "f":
        return values.tolist()  # type: ignore[no-any-return]
    return [f"{value:.10g}" for value in values.tolist()]
