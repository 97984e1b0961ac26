"""Whatever is done to the bytes of a file: it is read, or refused in one line that names it."""

from functools import cache

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ushape.errors import ImageFormatError
from ushape.io import image_size, read_image, read_labels

STACK = np.random.default_rng(3).integers(0, 255, (3, 24, 24), dtype=np.uint8)
RGB = np.moveaxis(STACK, 0, -1).copy()
TIFFS = {
    "plain.tif": {},
    "lzw.tif": {"compression": "lzw"},
    "imagej.tif": {"imagej": True, "resolution": (3, 3), "metadata": {"axes": "ZYX", "unit": "um"}},
    "ome.ome.tif": {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
    "tiles.tif": {"tile": (16, 16), "compression": "jpeg"},
}
NAMES = [*TIFFS, "rgb.png", "deep.png", "palette.png", "a.jpg", "a.bmp", "a.gif"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@cache
def content(path):
    """The bytes of a valid file of the kind that its name says."""
    if path.name in TIFFS:
        tifffile.imwrite(path, STACK, photometric="minisblack", **TIFFS[path.name])
    elif path.name == "deep.png":
        path.write_bytes(imagecodecs.png_encode(RGB.astype(np.uint16) * 200))
    elif path.name == "palette.png":
        Image.fromarray(RGB).quantize(8).save(path)
    else:
        Image.fromarray(RGB).save(path)
    return path.read_bytes()


def refusal(read, path):
    """Why the file is not read; None if it is. Any other exception is a defect, and passes."""
    try:
        read(path)
    except ImageFormatError as error:
        return str(error)
    return None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(NAMES),
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=3),
    kept=st.one_of(st.just(1.0), st.floats(0.01, 1)),
)
def test_damaged_files(folder, name, changes, kept):
    path = folder / name
    data = bytearray(content(path))
    for place, value in changes:
        data[place % len(data)] = value
    path.write_bytes(data[: max(1, int(kept * len(data)))])
    for read in (read_image, read_labels, image_size):
        message = refusal(read, path)
        assert message is None or (str(path) in message and "\n" not in message)
