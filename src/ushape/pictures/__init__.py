"""What a person looks at: images, classes and objects in colours, and where prediction and truth differ."""

from ushape.pictures.difference import (
    DIFFERENCE_COLORS,
    Difference,
    Differences,
    class_differences,
    differences,
)
from ushape.pictures.drawing import (
    OUTLINE,
    Color,
    blend,
    color_objects,
    colorize,
    display,
    draw_outlines,
    heat,
    reduced,
    side_by_side,
)
from ushape.pictures.panels import Comparison, class_colors, compare

__all__ = [
    "DIFFERENCE_COLORS",
    "OUTLINE",
    "Color",
    "Comparison",
    "Difference",
    "Differences",
    "blend",
    "class_colors",
    "class_differences",
    "color_objects",
    "colorize",
    "compare",
    "differences",
    "display",
    "draw_outlines",
    "heat",
    "reduced",
    "side_by_side",
]
