"""How a result came about: the content of its JSON file, and one line of it for the screen."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ushape.backends import peak_memory
from ushape.config import ClassInfo, ModelHeader, PixelSize, Postprocessing
from ushape.instances.measurements import has_square_pixels
from ushape.predict.scaling import Scale, diameter_mismatch, in_words, pixel_size_mismatch
from ushape.predict.segmentation import Segmentation

Array = np.ndarray[Any, Any]


def record_of(segmentation: Segmentation, *, with_objects: bool) -> dict[str, Any]:
    """Tell image, tile plan, precision and results of a segmentation; the model's file is not known here.

    Parameters
    ----------
    segmentation : Segmentation
    with_objects : bool
        Whether objects were asked for; else they are not looked for, and the record says None.
    """
    image, plan = segmentation.image, segmentation.plan
    count, channels, height, width = image.planes.shape
    geometry = segmentation.backend.geometry
    return {
        "model": {"name": segmentation.header.name, "members": segmentation.header.members},
        "image": {
            "file": str(image.path),
            "planes": count,
            "height": height,
            "width": width,
            "channels": channels,
            "dtype": str(image.array.dtype),
            "pixel_size_um": image.pixel_size_um,
        },
        "scale": list(segmentation.scale),
        "tiles": {
            "number": len(plan),
            "keep": plan.keep,
            "input": plan.input,
            "margin": geometry.margin,
            "period": geometry.period,
            "reason": plan.reason,
        },
        "precision": segmentation.precision,
        "device": str(segmentation.backend.device),
        "engine": segmentation.backend.engine,
        "average": segmentation.average.name,
        "average_of": None if segmentation.average.name == "none" else segmentation.average.of,
        "classes": class_areas(segmentation.header, _counts(segmentation), image.pixel_size_um),
        "postprocessing": segmentation.postprocessing.model_dump() if with_objects else None,
        "objects": len(segmentation.objects()["id"]) if with_objects else None,
        "notes": _notes(segmentation, with_objects),
        "warnings": _warnings(segmentation, with_objects),
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


def _notes(segmentation: Segmentation, with_objects: bool) -> list[str]:
    image, notes = segmentation.image, [*segmentation.notes]
    if image.is_stack:
        notes.append("planes are segmented one by one; an overlay shows the middle one")
    return notes + notes_on_pixels(image.pixel_size_um, with_objects)


def notes_on_pixels(size: PixelSize | None, with_objects: bool) -> list[str]:
    """Say where pixels that are not square cost a measurement."""
    if with_objects and size is not None and not has_square_pixels(size):
        pixels = f"pixels of {size[0]:g} x {size[1]:g} um"
        return [f"{pixels} are not square: objects have no perimeter in um"]
    return []


def _warnings(segmentation: Segmentation, with_objects: bool) -> list[str]:
    areas = segmentation.objects()["area_px"] if with_objects else None
    return warnings_of(segmentation.header, segmentation.image.pixel_size_um, areas, segmentation.scale)


def warnings_of(
    header: ModelHeader, size: PixelSize | None, areas_px: Array | None, scale: Scale
) -> list[str]:
    """Warn of pixels or objects that are not as large as those of the training images."""
    found = [pixel_size_mismatch(header, size, scale)]
    if areas_px is not None:
        found.append(diameter_mismatch(header, areas_px, scale))
    return [line for line in found if line is not None]


def class_areas(header: ModelHeader, counts: Sequence[int], size: PixelSize | None) -> list[dict[str, Any]]:
    """Tell the area of each class, of so many pixels of a size in micrometres."""
    pixel_area = None if size is None else size[0] * size[1]
    return [
        {"index": index, "name": info.name, "area_px": counts[index]}
        | ({"area_um2": counts[index] * pixel_area} if pixel_area else {})
        for index, info in enumerate(header.classes)
    ]


def _counts(segmentation: Segmentation) -> list[int]:
    classes = segmentation.header.classes
    return np.bincount(segmentation.classes.ravel(), minlength=len(classes)).tolist()  # type: ignore[no-any-return]


def object_rows(
    table: dict[str, Array], classes: Sequence[ClassInfo]
) -> tuple[list[str], Iterable[Sequence[Any]]]:
    """Header and rows of a table of objects, as they are written."""
    columns = {name: _written(values) for name, values in table.items()}
    columns["class"] = [classes[index].name for index in table["class"]]
    return list(columns), zip(*columns.values(), strict=True)


def _written(values: Array) -> list[Any]:
    """Numbers as they stand in a table: ten digits show every pixel of the largest area."""
    if values.dtype.kind != "f":
        return values.tolist()  # type: ignore[no-any-return]
    return [f"{value:.10g}" for value in values.tolist()]
