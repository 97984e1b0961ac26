"""Objects as GeoJSON, for QuPath and napari."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ushape.config import ClassInfo
from ushape.instances.edges import Polygon, polygons
from ushape.instances.measurements import Table

Array = np.ndarray[Any, Any]

_SIDES = ("top", "left", "bottom", "right")
_SAID_ELSEWHERE = {"id", "class", "plane", *_SIDES, *(f"{side}_um" for side in _SIDES)}
"""Columns that name, classification and outline tell."""


def features(
    ids: Array,
    table: Table,
    classes: Sequence[ClassInfo],
    *,
    plane: int | None = None,
    origin: tuple[int, int] = (0, 0),
) -> Iterator[dict[str, Any]]:
    """Give the objects of one plane as features of GeoJSON (RFC 7946).

    Parameters
    ----------
    ids : ndarray of int, shape (H, W)
        0 is background.
    table : dict of ndarray
        What `measure` says about them.
    classes : sequence of ClassInfo
        Names and colours, by class index.
    plane : int, optional
        Number of the plane in its stack, from 0.
    origin : (int, int)
        Row and column of the first pixel of `ids`, if they are a window of the image.

    Yields
    ------
    dict
        A Feature, by ascending id. Its geometry is a Polygon, or a MultiPolygon if the object has parts that
        touch by corners alone, in pixels from the upper left corner of the image as in QuPath; with `plane`,
        the member of that name says so to QuPath. Its properties are those of a QuPath detection: name,
        classification with colour, and measurements as a list of names and values. QuPath from 0.4 on
        reads this form, and so does napari-geojson, which fails on the newer one, a mapping. It fails on a
        MultiPolygon, too; with connectivity 4 there are none.
    """
    outlines = polygons(ids)
    measured = {name: values.tolist() for name, values in table.items() if name not in _SAID_ELSEWHERE}
    for row, (number, kind) in enumerate(zip(table["id"].tolist(), table["class"].tolist(), strict=True)):
        geometry = _geometry(outlines[number], origin)
        if plane is not None:
            geometry["plane"] = {"c": -1, "z": plane, "t": 0}  # c: all channels
        properties = {
            "objectType": "detection",
            "name": str(number),
            "classification": {"name": classes[kind].name, "color": list(classes[kind].color)},
            "measurements": [{"name": name, "value": values[row]} for name, values in measured.items()],
        }
        yield {"type": "Feature", "id": number, "geometry": geometry, "properties": properties}


def _geometry(parts: list[Polygon], origin: tuple[int, int]) -> dict[str, Any]:
    top, left = origin
    moved = [[[[x + left, y + top] for x, y in ring] for ring in polygon] for polygon in parts]
    if len(moved) == 1:
        return {"type": "Polygon", "coordinates": moved[0]}
    return {"type": "MultiPolygon", "coordinates": moved}
