"""From the values of a mask to classes and objects, and the mapping in words."""

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ushape.config import IGNORE, ClassInfo, Connectivity
from ushape.data.evidence import Array, Evidence, common_codes, packed, unpacked
from ushape.errors import DataError

Value = int | tuple[int, int, int]


@dataclass(frozen=True)
class MaskCoding:
    """How masks are read.

    Attributes
    ----------
    kind : {"classes", "instances", "rgb"}
        Numbers that are classes, numbers (or colours) that are objects, or colours that are classes.
    classes : tuple of ClassInfo
        Classes by index, in ascending order of label value. Objects: background and object.
    ignore : int or None
        Code of the label that does not count.
    is_rgb : bool
        Whether labels are colours.
    bits : int
        Bits per colour channel.
    connectivity : {4, 8}
        By what the pixels of an object touch, where objects are the components of class 1.
    """

    kind: Literal["classes", "instances", "rgb"]
    classes: tuple[ClassInfo, ...]
    ignore: int | None = None
    is_rgb: bool = False
    bits: int = 8
    connectivity: Connectivity = 8

    @cached_property
    def values(self) -> Array:
        """Codes of the classes, ascending; int64."""
        values = (info.value for info in self.classes)
        codes = [value if isinstance(value, int) else color_code(value, self.bits) for value in values]
        return np.array(codes, np.int64)

    @property
    def words(self) -> str:
        """The mapping in words, for the user to check."""
        if self.kind == "instances":
            what = "colour" if self.is_rgb else "value"
            text = f"objects: 0 is background, every other {what} is one object"
        else:
            text = f"classes: {', '.join(_mapped(i, info) for i, info in enumerate(self.classes))}"
        if self.ignore is None:
            return text
        return f"{text}; {listed([self.ignore], self.is_rgb, self.bits)} does not count"

    def codes(self, plane: Array) -> Array:
        """Codes (H, W) int64 of one plane of a label image, numbers (H, W) or colours (H, W, 3)."""
        if self.is_rgb and plane.ndim == 2:
            plane = np.repeat(plane[..., np.newaxis], 3, axis=-1)
        if not self.is_rgb and plane.ndim == 3:
            plane = plane[..., 0]
        return packed(plane)

    def class_plane(self, plane: Array) -> Array:
        """Classes of one plane of a label image.

        Parameters
        ----------
        plane : ndarray of int, shape (H, W) or (H, W, 3)
            Numbers or colours.

        Returns
        -------
        ndarray of uint8, shape (H, W)
            Class index; IGNORE where the pixel does not count.

        Raises
        ------
        DataError
            If a value is no class of this coding.
        """
        return self.classes_of(self.codes(plane))

    def classes_of(self, codes: Array) -> Array:
        """Class, uint8, of each code; see `class_plane`."""
        ignored = codes == self.ignore if self.ignore is not None else np.zeros(codes.shape, bool)
        if self.kind == "instances":
            classes = (codes != 0).astype(np.uint8)
        else:
            classes = np.searchsorted(self.values, codes).clip(max=len(self.values) - 1).astype(np.uint8)
            unknown = (self.values[classes] != codes) & ~ignored
            if unknown.any():
                found = listed(np.unique(codes[unknown]), self.is_rgb, self.bits)
                raise DataError(f"a mask holds {found}, which is none of the {self.words}")
        classes[ignored] = IGNORE
        return np.asarray(classes)

    def common_values(self, item: Evidence) -> Array:
        """Codes of the values of one mask in the form that all masks of the data set share."""
        return common_codes(item, self.is_rgb)

    def objects(self, plane: Array) -> tuple[Array, Array]:
        """Objects of one plane of a label image, and the class of each.

        Objects are the ids of an instance mask, renumbered 1..n; the components of class 1 where there are
        two classes; and one object per class where there are more: a semantic class is not a cell, no
        border is drawn between its parts.

        A line one pixel wide is drawn diagonally from corner to corner. A vessel, 4-connected, would be as
        many objects as it has steps, and the gap between touching objects would erase it. Where the line
        is background, a membrane between cells, the cells on its two sides are one when 8-connected.

        Returns
        -------
        objects : ndarray of int32, shape (H, W)
            0 = background. Pixels that do not count, if any, have the last id.
        object_class : ndarray of uint8, shape (n + 1,)
            Class of each id, 0 included; IGNORE for those that do not count.
        """
        classes = self.class_plane(plane)
        ignored = classes == IGNORE
        if self.kind == "instances":
            objects, count = _renumbered(np.where(ignored, 0, self.codes(plane)))
        elif len(self.classes) == 2:
            objects, count = _components(classes == 1, self.connectivity)
        else:
            objects, count = np.where(ignored, 0, classes), len(self.classes) - 1
        of_class = np.arange(count + 1) if len(self.classes) > 2 else np.arange(count + 1) > 0
        return not_counted(objects.astype(np.int32), of_class.astype(np.uint8), ignored)


def class_coding(
    codes: Iterable[int],
    *,
    ignore: int | None,
    is_rgb: bool,
    bits: int,
    palette: Array | None,
    connectivity: Connectivity,
) -> MaskCoding:
    """Coding in which each of `codes`, in this order, is a class."""
    codes = [int(code) for code in codes]
    names = ["background", "foreground"] if len(codes) == 2 else [f"class {i}" for i in range(len(codes))]
    infos = tuple(
        ClassInfo(
            name=name,
            value=unpacked(code, bits) if is_rgb else code,
            color=_color(index, code, palette, of_its_own=is_rgb and bits == 8),
        )
        for index, (name, code) in enumerate(zip(names, codes, strict=True))
    )
    return MaskCoding("rgb" if is_rgb else "classes", infos, ignore, is_rgb, bits, connectivity)


def object_coding(*, ignore: int | None, is_rgb: bool, bits: int) -> MaskCoding:
    """Coding in which 0 is background and every other value one object."""
    names = ("background", "object")
    infos = tuple(ClassInfo(name=name, value=i, color=_COLORS[i]) for i, name in enumerate(names))
    return MaskCoding("instances", infos, ignore, is_rgb, bits)


def renamed(coding: MaskCoding, names: Sequence[str]) -> MaskCoding:
    """Return the same coding with the names that a layout implies, if there is one for each class."""
    if len(names) != len(coding.classes):
        return coding
    pairs = zip(coding.classes, names, strict=True)
    return replace(coding, classes=tuple(info.model_copy(update={"name": name}) for info, name in pairs))


def not_counted(objects: Array, object_class: Array, where: Array) -> tuple[Array, Array]:
    """Give the pixels `where` a last id whose class is IGNORE; nothing changes if there are none.

    Parameters
    ----------
    objects : ndarray of int32, shape (H, W)
        Object ids.
    object_class : ndarray of uint8, shape (n + 1,)
        Class of each id; if one is IGNORE already, it is the last.
    where : ndarray of bool, shape (H, W)
        Pixels that do not count.
    """
    if not where.any():
        return objects, object_class
    if object_class[-1] != IGNORE:
        object_class = np.append(object_class, np.uint8(IGNORE))
    return np.where(where, np.int32(len(object_class) - 1), objects), object_class


def listed(codes: Iterable[int], is_rgb: bool, bits: int) -> str:
    """Up to 13 label values as text: "0 1 255", "(0,0,0) (255,0,0)"."""
    texts = [_shown(unpacked(int(code), bits) if is_rgb else int(code)) for code in codes]
    if len(texts) > 13:
        return f"{' '.join(texts[:11])} ... {texts[-1]} ({len(texts)} values)"
    return " ".join(texts)


def color_code(color: Sequence[int], bits: int) -> int:
    """Code of a colour; see `evidence.packed`."""
    red, green, blue = color
    return (red << 2 * bits) | (green << bits) | blue


def _shown(value: Value) -> str:
    return str(value) if isinstance(value, int) else f"({','.join(map(str, value))})"


def _mapped(index: int, info: ClassInfo) -> str:
    name = "" if info.name == f"class {index}" else f" ({info.name})"
    return f"{_shown(info.value)} -> {index}{name}"


def _renumbered(ids: Array) -> tuple[Array, int]:
    """Ids 1..n in ascending order of the old ones, and n; 0 stays 0."""
    values = np.unique(np.append(ids, 0))
    return np.searchsorted(values[values != 0], ids) + (ids != 0), len(values) - 1


def _components(foreground: Array, connectivity: Connectivity) -> tuple[Array, int]:
    import cc3d

    objects, count = cc3d.connected_components(
        foreground.astype(np.uint8), connectivity=connectivity, return_N=True
    )
    return objects, int(count)


_COLORS = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)
"""Black, then colours that the colour-blind can tell apart (Okabe and Ito 2008)."""


def _color(index: int, code: int, palette: Array | None, *, of_its_own: bool) -> tuple[int, int, int]:
    """Colour of an RGB label or of a palette entry, else one of ours."""
    if of_its_own:
        return unpacked(code)
    if palette is not None and 0 <= code < len(palette):
        color: Any = palette[code].tolist()
        return color[0], color[1], color[2]
    if index < len(_COLORS):
        return _COLORS[index]
    hue = 0.618034 * index % 1  # steps of the golden ratio keep neighbours apart
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)
