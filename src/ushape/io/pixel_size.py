"""How large a pixel is, from whichever place a file says it in."""

import math
import re
from typing import Any
from xml.etree import ElementTree

import tifffile

from ushape.config import PixelSize

_MICROMETRES = {
    "angstrom": 1e-4,
    "\N{ANGSTROM SIGN}": 1e-4,
    "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "inch": 25400.0,
    "in": 25400.0,
}
_MICRO_SIGNS = ("\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}", "\\u00b5")

_MPP = re.compile(r"\|\s*MPP\s*=\s*([0-9.]+)")
"""Micrometres per pixel in the description of an Aperio slide."""

_LARGEST_BARE_UM = 25.4
"""Programs write 72, 96 or 300 dots per inch into files nobody ever measured. Fewer than 1000 dots per inch
are taken for such a print resolution, unless ImageJ (in another unit), OME or this package wrote them."""


def from_density(per_um: PixelSize) -> PixelSize | None:
    """Pixel size from pixels per micrometre (y, x) in a bare resolution tag."""
    size = _checked(_inverse(per_um[0]), _inverse(per_um[1]))
    return size if size is not None and max(size) < _LARGEST_BARE_UM else None


def from_units(size: PixelSize, units: tuple[str | None, str | None]) -> PixelSize | None:
    """Pixel size (y, x) in named units of length; None where one has none."""
    um = [_micrometres(unit or "") for unit in units]
    return None if um[0] is None or um[1] is None else _checked(size[0] * um[0], size[1] * um[1])


def of_tiff(tif: tifffile.TiffFile) -> PixelSize | None:
    """Pixel size of a TIFF: from our own metadata, OME, Aperio, ImageJ or the resolution tags, in this order.

    Tags that make no sense give None: they must not cost the image.
    """
    try:
        return _of_tiff(tif)
    except (ArithmeticError, LookupError, TypeError, ValueError, ElementTree.ParseError):
        return None


def _of_tiff(tif: tifffile.TiffFile) -> PixelSize | None:
    ours = (tif.shaped_metadata or ({},))[0].get("pixel_size_um")
    if ours is not None:
        y, x = ours
        return _checked(float(y), float(x))
    if tif.is_ome and tif.ome_metadata:
        return _ome(tif.ome_metadata)
    if tif.is_svs and (told := _MPP.search(tif.pages.first.description)):
        return _checked(float(told[1]), float(told[1]))
    density = _density(tif.pages.first)
    if density is None:
        return None
    if tif.is_imagej and tif.imagej_metadata is not None:
        unit = str(tif.imagej_metadata.get("unit", ""))
        if unit.strip().lower() in ("in", "inch"):  # as ImageJ says of what others meant for printing, too
            return from_density((density[0] / 25400, density[1] / 25400))
        um = _micrometres(unit)
        return None if um is None else _checked(um * _inverse(density[0]), um * _inverse(density[1]))
    um = {2: 25400.0, 3: 1e4}.get(int(tif.pages.first.tags.valueof("ResolutionUnit", 2)))
    return None if um is None else from_density((density[0] / um, density[1] / um))


def _inverse(value: float) -> float:
    return 1 / value if value else math.inf


def _checked(y: float, x: float) -> PixelSize | None:
    """The size, or None where it is not one: zero, negative, infinite."""
    return (y, x) if 0 < y < math.inf and 0 < x < math.inf else None


def _micrometres(unit: str) -> float | None:
    """Micrometres in one `unit`; None for "pixel", none and unknown ones."""
    unit = unit.strip().lower()
    for sign in _MICRO_SIGNS:
        unit = unit.replace(sign, "u")
    return _MICROMETRES.get(unit)


def _ome(xml: str) -> PixelSize | None:
    """`PhysicalSizeY` and `PhysicalSizeX` of the first image; without a unit, OME means micrometres."""
    for element in ElementTree.fromstring(xml).iter():
        if element.tag.endswith("}Pixels"):
            return _checked(_ome_length(element, "Y"), _ome_length(element, "X"))
    return None


def _ome_length(pixels: ElementTree.Element, side: str) -> float:
    um = _micrometres(pixels.get(f"PhysicalSize{side}Unit", "um"))
    return math.nan if um is None else um * float(pixels.get(f"PhysicalSize{side}", "nan"))


def _density(page: Any) -> PixelSize | None:
    """Pixels per unit (y, x) of the resolution tags."""
    density = []
    for name in ("YResolution", "XResolution"):
        numerator, denominator = page.tags.valueof(name, (0, 0))
        density.append(numerator / denominator if denominator else 0.0)
    return (density[0], density[1]) if min(density) > 0 else None
