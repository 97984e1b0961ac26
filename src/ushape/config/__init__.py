"""What a model file says about itself, and how words on the command line become numbers."""

from ushape.config.header import (
    IGNORE,
    UNCALIBRATED,
    Architecture,
    Calibration,
    ClassInfo,
    Connectivity,
    EncoderUNetConfig,
    Frozen,
    ModelHeader,
    Normalization,
    PixelSize,
    Postprocessing,
    UNetConfig,
    fault_of,
)
from ushape.config.words import (
    parse_area,
    parse_bytes,
    parse_duration,
    parse_pixel_size,
    parse_split,
    parse_until,
)

__all__ = [
    "IGNORE",
    "UNCALIBRATED",
    "Architecture",
    "Calibration",
    "ClassInfo",
    "Connectivity",
    "EncoderUNetConfig",
    "Frozen",
    "ModelHeader",
    "Normalization",
    "PixelSize",
    "Postprocessing",
    "UNetConfig",
    "fault_of",
    "parse_area",
    "parse_bytes",
    "parse_duration",
    "parse_pixel_size",
    "parse_split",
    "parse_until",
]
