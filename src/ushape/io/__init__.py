"""Images, label images and results as files."""

from ushape.io.image import Image, ImageSize, LabelImage
from ushape.io.large import LargeImage, reads_windows, written_at
from ushape.io.multiscale import (
    create_store,
    fill_levels,
    is_store,
    open_levels,
    stem_of,
    written_chunks,
)
from ushape.io.pyramid import LARGEST_TIFF, write_pyramid
from ushape.io.read import (
    IMAGE_SUFFIXES,
    holds_image,
    image_size,
    is_image,
    read_image,
    read_labels,
    stores_floats,
)
from ushape.io.tensors import read_tensors
from ushape.io.write import (
    name_whole,
    output_folder,
    to_disk,
    write_classes,
    write_csv,
    write_geojson,
    write_instances,
    write_json,
    write_overlay,
    write_probabilities,
    written_beside,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "LARGEST_TIFF",
    "Image",
    "ImageSize",
    "LabelImage",
    "LargeImage",
    "create_store",
    "fill_levels",
    "holds_image",
    "image_size",
    "is_image",
    "is_store",
    "name_whole",
    "open_levels",
    "output_folder",
    "read_image",
    "read_labels",
    "read_tensors",
    "reads_windows",
    "stem_of",
    "stores_floats",
    "to_disk",
    "write_classes",
    "write_csv",
    "write_geojson",
    "write_instances",
    "write_json",
    "write_overlay",
    "write_probabilities",
    "write_pyramid",
    "written_at",
    "written_beside",
    "written_chunks",
]
