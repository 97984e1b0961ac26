"""Every kind of file is read as stored; every fault is one line that names the file."""

import logging
import os
import struct
import sys
import warnings
import zlib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from ushape.errors import ImageFormatError, ShapeError
from ushape.io import holds_image, image_size, is_image, read_image, read_labels
from ushape.io.decoded import Decoded, unread
from ushape.io.read import size_of

GREY = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8) * 5
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
STACK = np.stack([GREY, GREY + 1, GREY + 2])
OPAQUE = np.full_like(GREY, 255)
COLOURS = np.array([(0, 0, 0), (200, 30, 40), (10, 220, 90), (255, 255, 255)], np.uint8)
INDICES = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8) % 4


def png(bits, colour_type, rows, width, palette=b""):
    """A PNG written out by hand, for the kinds that no writer at hand makes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    palette_chunk = chunk(b"PLTE", palette) if palette else b""
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette_chunk
    return start + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def palette_image(indices=INDICES, colours=COLOURS):
    image = Pillow.fromarray(indices)
    image.putpalette(colours.tobytes())
    return image


def same(array, expected, dtype=None):
    assert array.dtype == (expected.dtype if dtype is None else dtype)
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, expected)


def check(path, expected, axes, dtype=None):
    """The image reads as expected, and its header alone says the same size."""
    image = read_image(path)
    assert image.axes == axes
    same(image.array, expected, dtype)
    planes, channels, height, width = image.planes.shape
    assert image_size(path) == (planes, height, width, channels, image.array.dtype)
    return image


# Pixels, by format


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".tif"])
def test_grey(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Pillow.fromarray(GREY).save(path)
    image = check(path, GREY, "YX")
    assert image.path == path
    assert not image.is_stack


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_rgb(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Pillow.fromarray(RGB).save(path)
    check(path, RGB, "YXC")
    same(read_labels(path).array, RGB)


def test_suffix_in_capitals(tmp_path):
    path = tmp_path / "A.TIF"
    tifffile.imwrite(path, GREY)
    check(path, GREY, "YX")
    assert is_image(path)


@pytest.mark.parametrize("colours", [GREY, RGB], ids=["grey", "rgb"])
def test_jpeg(tmp_path, colours):
    """Compared with libjpeg-turbo's own decoding: JPEG does not keep the values it was given."""
    path = tmp_path / "a.jpg"
    smooth = np.repeat(np.repeat(colours, 4, axis=0), 4, axis=1)
    Pillow.fromarray(smooth).save(path, quality=95)
    decoded = imagecodecs.jpeg_decode(path.read_bytes())
    image = read_image(path)
    assert image.array.shape == smooth.shape
    # Two builds of the same library may round the colour transform differently by one.
    assert np.abs(image.array.astype(int) - decoded).max() <= 1


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    path = tmp_path / "a.jpg"
    Pillow.new("CMYK", (8, 6), (0, 255, 255, 0)).save(path, quality=100)
    image = read_image(path)
    assert image.axes == "YXC"
    red, green, blue = image.array[3, 3]
    assert red > 250 > 5 > max(green, blue)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_tiff_dtypes(tmp_path, dtype):
    path = tmp_path / "a.tif"
    array = (GREY.astype(dtype) - 100) if dtype != np.uint16 else GREY.astype(dtype) * 200
    for byteorder in "<>":
        tifffile.imwrite(path, array, byteorder=byteorder)
        check(path, array, "YX")


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint32, np.float64, np.float16])
def test_other_dtypes_become_float32(tmp_path, dtype):
    path = tmp_path / "a.tif"
    array = (INDICES * 30).astype(dtype)
    tifffile.imwrite(path, array)
    check(path, array, "YX", dtype=np.float32)


@pytest.mark.parametrize(
    "compression", ["lzw", "zlib", "packbits", "zstd", "lzma", "lerc", "jpeg2000", "png", "jpegxl", "webp"]
)
def test_tiff_compressions(tmp_path, compression):
    path = tmp_path / "a.tif"
    array = RGB if compression in {"webp", "jpegxl", "png"} else GREY
    array = np.repeat(np.repeat(array, 3, axis=0), 3, axis=1)
    photometric = "rgb" if array.ndim == 3 else "minisblack"
    options = {"level": 101} if compression == "webp" else {}
    tifffile.imwrite(
        path, array, photometric=photometric, compression=compression, compressionargs=options, metadata=None
    )
    check(path, array, "YX" if array.ndim == 2 else "YXC")


def test_lzw_with_predictor_and_tiles(tmp_path):
    path = tmp_path / "a.tif"
    array = np.tile(GREY.astype(np.uint16), (7, 5))
    tifffile.imwrite(path, array, compression="lzw", predictor=True, tile=(16, 16))
    check(path, array, "YX")


def test_tiff_jpeg_ycbcr_is_rgb(tmp_path):
    path = tmp_path / "a.tif"
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    tifffile.imwrite(path, red, photometric="rgb", compression="jpeg")
    image = read_image(path)
    assert image.axes == "YXC"
    # JPEG rounds in YCbCr: 2 grey values at quality 95 or better.
    assert np.abs(image.array.astype(int) - red).max() <= 2


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_colour_planar_or_interleaved(tmp_path, planar, dtype):
    path = tmp_path / "a.tif"
    array = RGB.astype(dtype)
    stored = array if planar == "contig" else np.moveaxis(array, -1, 0)
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, compression="lzw")
    check(path, array, "YXC")


@pytest.mark.parametrize("writer", ["tifffile", "pages", "pillow", "imagej", "ome", "bigtiff"])
def test_stack(tmp_path, writer):
    path = tmp_path / ("a.ome.tif" if writer == "ome" else "a.tif")
    if writer == "pillow":
        pages = [Pillow.fromarray(page) for page in STACK]
        pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    elif writer == "pages":
        with tifffile.TiffWriter(path) as tif:
            for page in STACK:
                tif.write(page, contiguous=False, metadata=None)
    elif writer == "bigtiff":
        tifffile.imwrite(path, STACK, bigtiff=True, photometric="minisblack")
    else:
        tifffile.imwrite(
            path,
            STACK,
            imagej=writer == "imagej",
            ome=writer == "ome",
            photometric="minisblack",
            metadata={"axes": "ZYX"},
        )
    image = check(path, STACK, "ZYX")
    assert image.is_stack
    assert image.planes.shape == (3, 1, 6, 8)
    same(read_labels(path).array, STACK)


def test_stack_of_colour(tmp_path):
    path = tmp_path / "a.tif"
    array = np.stack([RGB, RGB[::-1]])
    tifffile.imwrite(path, array, photometric="rgb")
    image = check(path, array, "ZYXC")
    same(image.planes, np.moveaxis(array, -1, 1))


def test_channels_move_last_and_time_joins_z(tmp_path):
    path = tmp_path / "a.tif"
    array = np.arange(2 * 3 * 2 * 6 * 8, dtype=np.uint16).reshape(2, 3, 2, 6, 8)  # T Z C Y X
    tifffile.imwrite(path, array, imagej=True, metadata={"axes": "TZCYX"})
    check(path, np.moveaxis(array.reshape(6, 2, 6, 8), 1, -1), "ZYXC")


def test_animated_gif_of_labels_keeps_indices(tmp_path):
    path = tmp_path / "a.gif"
    frames = np.stack([INDICES, 3 - INDICES, INDICES.reshape(8, 6).T])
    path.write_bytes(imagecodecs.gif_encode(frames, colormap=np.pad(COLOURS, ((0, 252), (0, 0)))))
    labels = read_labels(path)
    assert labels.axes == "ZYX"
    same(labels.array, frames)
    check(path, COLOURS[frames], "ZYXC")


def test_gif_whose_frames_have_different_palettes_is_rgb(tmp_path):
    path = tmp_path / "a.gif"
    other = COLOURS[::-1].copy()
    other[1] = (77, 0, 0)
    frames = [palette_image(), palette_image(colours=other)]
    frames[0].save(path, save_all=True, append_images=frames[1:], optimize=False)
    check(path, np.stack([COLOURS[INDICES], other[INDICES]]), "ZYXC")
    assert read_labels(path).palette is None


def test_second_picture_in_a_camera_jpeg_is_left_aside(tmp_path):
    path = tmp_path / "a.jpg"
    picture = Pillow.fromarray(np.zeros((16, 16), np.uint8))
    picture.save(path, format="MPO", save_all=True, append_images=[picture])
    assert read_image(path).axes == "YX"
    assert image_size(path).planes == 1


# Bits, palettes, opacity, white is zero


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_keep_their_numbers(tmp_path, bits):
    """Pillow and libpng spread 2 and 4 bits over 0..255; a label 3 must stay 3."""
    path = tmp_path / "a.png"
    values = np.arange(16, dtype=np.uint8).reshape(2, 8) % 2**bits
    per_byte = 8 // bits
    rows = [
        bytes(
            sum(int(v) << (8 - bits * (i + 1)) for i, v in enumerate(row[start : start + per_byte]))
            for start in range(0, 8, per_byte)
        )
        for row in values
    ]
    path.write_bytes(png(bits, 0, rows, 8))
    check(path, values, "YX")
    same(read_labels(path).array, values)
    path.write_bytes(png(bits, 3, rows, 8, palette=bytes(range(3 * 2**bits))))
    same(read_labels(path).array, values)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_one_bit_is_0_and_1(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    mask = INDICES > 1
    Pillow.fromarray(mask).save(path)
    check(path, mask, "YX", dtype=np.uint8)
    same(read_labels(path).array, mask, dtype=np.uint8)


def test_fax_compressed_mask_is_1_where_it_is_white(tmp_path):
    path = tmp_path / "a.tif"
    mask = np.tile(INDICES > 1, (4, 4))
    Pillow.fromarray(mask).save(path, compression="group4", tiffinfo={262: 0})
    with tifffile.TiffFile(path) as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    with Pillow.open(path) as independent:
        seen = np.asarray(independent)
    same(read_labels(path).array, seen, dtype=np.uint8)
    same(read_image(path).array, seen, dtype=np.uint8)


def test_what_numpy_wrote_as_true_is_1(tmp_path):
    """tifffile, and with it imageio and napari, says of booleans unasked that white is zero."""
    path, mask = tmp_path / "a.tif", np.tile(INDICES > 1, (4, 4))
    tifffile.imwrite(path, mask)
    with tifffile.TiffFile(path) as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    same(read_labels(path).array, mask, dtype=np.uint8)
    same(read_image(path).array, mask, dtype=np.uint8)


def imagej_with_table(path, grey, table):
    """An image of 8 bits with a lookup table, (256, 3), as ImageJ saves it."""
    tifffile.imwrite(
        path, grey, photometric="palette", colormap=(257 * table.T).astype(np.uint16),
        description="ImageJ=1.54f\nimages=1\n", metadata=None,
    )  # fmt: skip


RAMP = np.arange(256)


@pytest.mark.parametrize(
    "table",
    [
        np.stack([np.clip(4 * (RAMP - 60), 0, 255)] * 3, 1),
        np.stack([255 - RAMP] * 3, 1),
        np.stack([0 * RAMP, RAMP, 0 * RAMP], 1),
        np.stack([RAMP, 0 * RAMP, np.clip(2 * np.abs(128 - RAMP), 0, 255)], 1),
    ],
    ids=["contrast", "inverted", "green", "smooth"],
)
def test_the_display_of_imagej_changes_no_grey_value(table, tmp_path):
    path = tmp_path / "a.tif"
    imagej_with_table(path, GREY.astype(np.uint8), table)
    assert image_size(path).channels == 1
    same(read_image(path).array, GREY.astype(np.uint8))
    labels = read_labels(path)
    same(labels.array, GREY.astype(np.uint8))
    assert labels.palette is None, "another file may be shown in another way"


def test_colours_that_imagej_chose_for_an_image_are_its_colours(tmp_path):
    path, table = tmp_path / "a.tif", np.random.default_rng(0).integers(0, 256, (256, 3))
    imagej_with_table(path, GREY.astype(np.uint8), table)
    same(read_image(path).array, table[GREY].astype(np.uint8))


def test_the_size_of_an_image_with_colours_takes_no_memory():
    terabyte = Decoded(unread((10**6, 10**6), np.dtype(np.uint8)), "YX", palette=np.eye(3, dtype=np.uint8))
    assert size_of(terabyte, Path("a.tif"))[:4] == (1, 10**6, 10**6, 3)
    grey = replace(terabyte, palette=np.full((3, 3), 7, np.uint8))
    assert size_of(grey, Path("a.tif"))[:4] == (1, 10**6, 10**6, 1)


def test_white_is_zero_inverts_images_but_not_label_numbers(tmp_path):
    path = tmp_path / "a.tif"
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535)):
        tifffile.imwrite(path, GREY.astype(dtype), photometric="miniswhite")
        same(read_image(path).array, (top - GREY.astype(int)).astype(dtype))
        same(read_labels(path).array, GREY.astype(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("samples", [1, 3])
def test_png_of_any_depth_with_and_without_opacity(tmp_path, dtype, samples):
    path = tmp_path / "a.png"
    scale = 1 if dtype == np.uint8 else 257
    array = (GREY if samples == 1 else RGB).astype(dtype) * dtype(scale) + dtype(scale // 3)
    axes = "YX" if samples == 1 else "YXC"
    path.write_bytes(imagecodecs.png_encode(array))
    check(path, array, axes)
    colour = array[..., np.newaxis] if samples == 1 else array
    for opacity in (OPAQUE, GREY):
        stored = np.concatenate([colour, opacity[..., np.newaxis].astype(dtype)], axis=-1)
        path.write_bytes(imagecodecs.png_encode(stored))
        check(path, array, axes)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiff_rgba_loses_its_opacity(tmp_path, planar):
    path = tmp_path / "a.tif"
    array = np.dstack([RGB, GREY])
    stored = array if planar == "contig" else np.moveaxis(array, -1, 0)
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, extrasamples=["unassalpha"])
    check(path, RGB, "YXC")
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, extrasamples=["unspecified"])
    check(path, RGB, "YXC")


def test_tiff_grey_with_opacity(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.dstack([GREY, OPAQUE]),
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["assocalpha"],
    )
    check(path, GREY, "YX")


def test_four_fluorescence_channels_are_no_opacity(tmp_path):
    path = tmp_path / "a.tif"
    array = np.dstack([RGB, GREY]).astype(np.uint16)
    tifffile.imwrite(path, np.moveaxis(array, -1, 0), photometric="minisblack", metadata={"axes": "CYX"})
    check(path, array, "YXC")


def test_labels_of_constant_opacity_are_rgb_of_varying_refused(tmp_path):
    path = tmp_path / "a.png"
    Pillow.fromarray(np.dstack([RGB, OPAQUE])).save(path)
    labels = read_labels(path)
    assert labels.axes == "YXC"
    same(labels.array, RGB)
    Pillow.fromarray(np.dstack([RGB, GREY])).save(path)
    with pytest.raises(ImageFormatError, match=r"a\.png .*varying opacity"):
        read_labels(path)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
def test_palette_means_colours_of_an_image_and_indices_of_labels(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    palette_image().save(path)
    check(path, COLOURS[INDICES], "YXC")
    labels = read_labels(path)
    assert labels.axes == "YX"
    same(labels.array, INDICES)
    same(labels.palette[:4], COLOURS)


def test_tiff_palette_of_8_bits_per_colour(tmp_path):
    """Some programs write 0..255 where the standard wants 0..65535."""
    path = tmp_path / "a.tif"
    colormap = np.zeros((3, 256), np.uint16)
    colormap[:, :4] = COLOURS.T
    tifffile.imwrite(path, INDICES, photometric="palette", colormap=colormap)
    check(path, COLOURS[INDICES], "YXC")


def test_palette_of_greys_is_a_grey_image(tmp_path):
    path = tmp_path / "a.png"
    greys = np.repeat(np.array([7, 90, 3, 255], np.uint8)[:, np.newaxis], 3, axis=1)
    palette_image(colours=greys).save(path)
    check(path, greys[INDICES, 0], "YX")
    same(read_labels(path).array, INDICES)


def test_gamma_is_not_applied(tmp_path):
    path = tmp_path / "a.png"
    plain = png(8, 0, [bytes(row) for row in GREY], 8)
    gamma = b"gAMA" + struct.pack(">I", 100000)
    chunk = struct.pack(">I", 4) + gamma + struct.pack(">I", zlib.crc32(gamma))
    path.write_bytes(plain[:33] + chunk + plain[33:])
    check(path, GREY, "YX")


def test_exif_orientation_is_not_applied(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Pillow.Exif()
    exif[274] = 6
    Pillow.fromarray(GREY).save(path, exif=exif)
    assert read_image(path).array.shape == GREY.shape
    assert image_size(path)[1:3] == GREY.shape


# Label numbers


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int16, np.int32])
def test_label_numbers_keep_value_and_dtype(tmp_path, dtype):
    path = tmp_path / "a.tif"
    labels = INDICES.astype(dtype) * (np.iinfo(dtype).max // 3)
    tifffile.imwrite(path, labels, compression="lzw")
    same(read_labels(path).array, labels)


def test_label_numbers_of_16_bit_png(tmp_path):
    path = tmp_path / "a.png"
    labels = INDICES.astype(np.uint16) * 20000
    Pillow.fromarray(labels).save(path)
    same(read_labels(path).array, labels)


def test_labels_in_floating_point(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, INDICES.astype(np.float32))
    same(read_labels(path).array, INDICES, dtype=np.int32)
    tifffile.imwrite(path, INDICES * np.float32(0.5))
    with pytest.raises(ImageFormatError, match=r"a\.tif has 24 of 48 values that are fractions; save"):
        read_labels(path)
    tifffile.imwrite(path, np.full((4, 4), 2.0**31))
    with pytest.raises(ImageFormatError, match=r"has values up to 2\.14748e\+09, beyond 32 bits; save"):
        read_labels(path)


def test_two_channels_are_no_labels(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([GREY, GREY]), photometric="minisblack", metadata={"axes": "CYX"})
    with pytest.raises(ImageFormatError, match=r"a\.tif has 2 channels"):
        read_labels(path)


# Arrays and axes


def test_arrays():
    assert read_image(GREY).axes == "YX"
    assert read_image(STACK).axes == "ZYX"
    assert read_image(RGB).axes == "YXC"
    assert read_image(np.stack([RGB, RGB])).axes == "ZYXC"
    same(read_image(np.dstack([RGB, OPAQUE])).array, RGB)
    assert read_image(GREY).path is None
    same(read_labels(INDICES.astype(np.int64)).array, INDICES.astype(np.int64))


def test_arrays_of_another_byte_order():
    swapped = (GREY.astype(np.uint16) * 257).astype(">u2")
    same(read_image(swapped).array, swapped, dtype=np.uint16)
    same(read_labels(swapped).array, swapped, dtype=np.uint16)


def test_axes_given():
    image = read_image(np.moveaxis(RGB, -1, 0), axes="CYX")
    assert image.axes == "YXC"
    same(image.array, RGB)
    assert read_image(RGB[:3], axes="zyx").planes.shape == (3, 1, 8, 3)
    assert read_image(GREY, axes="ZYX").planes.shape == (1, 1, 6, 8)
    four = read_image(np.dstack([RGB, OPAQUE]), axes="YXC")
    assert four.array.shape == (6, 8, 4)


def test_axes_given_for_a_file(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="rgb", planarconfig="separate")
    assert read_image(path).axes == "YXC"
    same(read_image(path, axes="ZYX").array, STACK)
    Pillow.fromarray(GREY).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png", axes="ZYX").array.shape == (1, 6, 8)
    Pillow.fromarray(np.dstack([RGB, GREY])).save(tmp_path / "b.png")
    same(read_image(tmp_path / "b.png", axes="YXC").array, RGB)


@pytest.mark.parametrize(
    ("array", "axes"),
    [
        (GREY, "YXC"),
        (GREY, "YY"),
        (STACK, "ZCX"),
        (STACK[np.newaxis], "ZZYX"),
        (np.zeros((2, 2, 6, 8)), None),
        (np.zeros(5), None),
        (np.zeros((0, 5)), None),
        (np.zeros((2, 2, 2, 6, 8)), None),
    ],
)
def test_axes_that_do_not_fit(array, axes):
    with pytest.raises(ShapeError, match=r"shape \(\d"):
        read_image(array, axes=axes)


def test_planes_is_a_view():
    array = STACK.copy()
    assert np.shares_memory(read_image(array).planes, array)


# Pixel size


def ome_pixels(**sizes):
    return {"axes": "YX", **sizes}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resolution": (1e4 / 0.5, 1e4 / 0.25), "resolutionunit": "centimeter"}, (0.25, 0.5)),
        ({"resolution": (25400, 12700), "resolutionunit": "inch"}, (2.0, 1.0)),
        ({"resolution": (2, 2), "resolutionunit": "none"}, None),
        ({"resolution": (72, 72), "resolutionunit": "inch"}, None),
        ({"resolution": (300, 300), "resolutionunit": "inch"}, None),
        ({"imagej": True, "resolution": (300, 300), "metadata": {"unit": "inch"}}, None),
        ({"imagej": True, "resolution": (25400, 12700), "metadata": {"unit": "inch"}}, (2.0, 1.0)),
        ({}, None),
        ({"imagej": True, "resolution": (5, 4), "metadata": {"unit": "um"}}, (0.25, 0.2)),
        ({"imagej": True, "resolution": (5, 4), "metadata": {"unit": "micron"}}, (0.25, 0.2)),
        ({"imagej": True, "resolution": (5, 4), "metadata": {"unit": "\\u00B5m"}}, (0.25, 0.2)),
        ({"imagej": True, "resolution": (0.5, 0.5), "metadata": {"unit": "nm"}}, (0.002, 0.002)),
        ({"imagej": True, "resolution": (10, 10), "metadata": {"unit": "mm"}}, (100.0, 100.0)),
        ({"imagej": True, "resolution": (5, 4), "metadata": {"unit": "pixel"}}, None),
        ({"imagej": True}, None),
        ({"ome": True, "metadata": ome_pixels(PhysicalSizeX=0.5, PhysicalSizeY=0.25)}, (0.25, 0.5)),
        (
            {
                "ome": True,
                "metadata": ome_pixels(
                    PhysicalSizeX=500,
                    PhysicalSizeXUnit="nm",
                    PhysicalSizeY=0.00025,
                    PhysicalSizeYUnit="mm",
                ),
            },
            (0.25, 0.5),
        ),
        (
            {
                "ome": True,
                "metadata": ome_pixels(
                    PhysicalSizeX=1, PhysicalSizeXUnit="pixel", PhysicalSizeY=1, PhysicalSizeYUnit="pixel"
                ),
            },
            None,
        ),
        ({"ome": True, "metadata": ome_pixels()}, None),
    ],
)
def test_tiff_pixel_size(tmp_path, options, expected):
    path = tmp_path / ("a.ome.tif" if options.get("ome") else "a.tif")
    tifffile.imwrite(path, GREY, **options)
    # rel: the tags hold fractions of two 32-bit integers.
    assert read_image(path).pixel_size_um == (None if expected is None else pytest.approx(expected, rel=1e-6))


@pytest.mark.parametrize(
    "tag",
    [(282, "2I", 1, (0, 0), True), (282, "s", 0, b"ten", True), (283, "2I", 1, (0, 1), True)],
    ids=["0/0", "text", "zero"],
)
def test_resolution_tag_that_makes_no_sense(tmp_path, tag):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, metadata=None, extratags=[tag])
    assert check(path, GREY, "YX").pixel_size_um is None


@pytest.mark.parametrize("number", [b"xyz", b"INF", b"0", b"-1"])
def test_ome_size_that_makes_no_sense(tmp_path, number):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, GREY, ome=True, metadata=ome_pixels(PhysicalSizeX=0.5, PhysicalSizeY=0.25))
    content = path.read_bytes()
    path.write_bytes(content.replace(b'PhysicalSizeX="0.5"', b'PhysicalSizeX="' + number + b'"'))
    assert check(path, GREY, "YX").pixel_size_um is None


def test_png_pixel_size(tmp_path):
    path = tmp_path / "a.png"
    Pillow.fromarray(GREY).save(path, dpi=(25400 / 0.5, 25400 / 0.25))
    # rel: PNG holds whole pixels per metre, 2,000,000 here.
    assert read_image(path).pixel_size_um == pytest.approx((0.25, 0.5), rel=1e-6)
    Pillow.fromarray(GREY).save(path, dpi=(96, 96))
    assert read_image(path).pixel_size_um is None


# Files that cannot be read


def one_line(call, path):
    """The message of the error: one line that begins with or names the file."""
    with pytest.raises(ImageFormatError) as caught:
        call(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def write_valid(path):
    """A valid image of 64 x 64 random values, of the kind that the suffix says."""
    array = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="rgb", compression="lzw")
    else:
        Pillow.fromarray(array).save(path)


@pytest.mark.parametrize("call", [read_image, read_labels, image_size])
class TestFaults:
    def test_missing(self, tmp_path, call):
        assert one_line(call, tmp_path / "a.png").startswith("no such file: ")

    def test_folder(self, tmp_path, call):
        (tmp_path / "a.png").mkdir()
        assert "is a folder" in one_line(call, tmp_path / "a.png")

    def test_empty(self, tmp_path, call):
        (tmp_path / "a.tif").touch()
        assert "is empty (0 bytes)" in one_line(call, tmp_path / "a.tif")

    @pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
    def test_text(self, tmp_path, call, suffix):
        path = tmp_path / f"a{suffix}"
        path.write_text("hello world,\nhello")
        assert "is not an image: it begins with b'hello world," in one_line(call, path)

    def test_unsupported_suffix(self, tmp_path, call):
        path = tmp_path / "a.czi"
        path.write_bytes(b"ZISRAWFILE")
        message = one_line(call, path)
        assert "export it as TIFF or PNG" in message
        assert ".tiff" in message

    def test_complex(self, tmp_path, call):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, GREY.astype(np.complex64))
        message = (
            "complex64 values" if call is not read_labels else "complex64 values; save numbers of classes"
        )
        assert message in one_line(call, path)

    def test_jpeg_without_data(self, tmp_path, call):
        path = tmp_path / "a.jpg"
        path.write_bytes(b"\xff\xd8\xff\xd9")
        assert "damaged" in one_line(call, path)

    @pytest.mark.parametrize("signature", [b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"\xff\xd8\xff\xe0"])
    def test_signature_only(self, tmp_path, call, signature):
        path = tmp_path / "a.png"
        path.write_bytes(signature)
        assert "damaged" in one_line(call, path)

    @pytest.mark.parametrize(
        "content", [b"II*\0\0\0\0\0", b"II*\0\x08\0\0\0\0\0\0\0\0\0", b"II*\0", b"MM\0*"]
    )
    def test_tiff_without_pages(self, tmp_path, call, content):
        path = tmp_path / "a.tif"
        path.write_bytes(content)
        one_line(call, path)

    def test_cmyk_tiff(self, tmp_path, call):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, np.dstack([RGB, GREY]), photometric="separated")
        assert "has SEPARATED colours; save it as grey or RGB" in one_line(call, path)

    def test_pages_of_different_sizes(self, tmp_path, call):
        path = tmp_path / "a.tif"
        with tifffile.TiffWriter(path) as tif:
            tif.write(GREY, metadata=None)
            tif.write(GREY[:3], metadata=None)
        assert "holds 2 images" in one_line(call, path)

    def test_thumbnail_is_no_second_image(self, tmp_path, call):
        path = tmp_path / "a.tif"
        with tifffile.TiffWriter(path) as tif:
            tif.write(GREY, metadata=None)
            tif.write(GREY[:5, :3], subfiletype=1, metadata=None)
        call(path)


@pytest.mark.parametrize("call", [read_image, read_labels])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".tif"])
@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.97])
def test_truncated(tmp_path, suffix, fraction, call):
    path = tmp_path / f"a{suffix}"
    write_valid(path)
    content = path.read_bytes()
    path.write_bytes(content[: max(14, int(len(content) * fraction))])
    one_line(call, path)


@pytest.mark.parametrize("writer", ["plain", "zlib", "imagej", "ome", "pillow", "pages", "contiguous"])
@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.7, 0.95])
def test_truncated_stack_is_never_a_shorter_one(tmp_path, writer, fraction):
    path = tmp_path / ("a.ome.tif" if writer == "ome" else "a.tif")
    stack = np.random.default_rng(2).integers(0, 255, (5, 64, 64), dtype=np.uint8)
    if writer == "pillow":
        pages = [Pillow.fromarray(page) for page in stack]
        pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    elif writer == "pages":
        with tifffile.TiffWriter(path) as tif:
            for page in stack:
                tif.write(page, contiguous=False, metadata=None)
    elif writer == "contiguous":
        with tifffile.TiffWriter(path, imagej=True) as tif:  # as Fiji writes large stacks: one header
            tif.write(stack, metadata={"axes": "ZYX"}, truncate=True)
    else:
        options = {"plain": {}, "zlib": {"compression": "zlib"}}.get(writer, {writer: True})
        tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "ZYX"}, **options)
    np.testing.assert_array_equal(read_image(path).array, stack)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    for call in (read_image, read_labels, image_size):
        one_line(call, path)


def test_header_of_a_truncated_page_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:-1])
    assert "is truncated" in one_line(image_size, path)


def test_message_is_a_sentence(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack")
    path.write_bytes(path.read_bytes()[:300])
    expected = f"{path} is truncated: it ends before its last plane; copy or export it again"
    assert one_line(read_image, path) == expected
    path.write_bytes(b"II*\0\0\0\0\0")
    assert one_line(read_image, path) == f"{path} holds no image; export it again"


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_counted(tmp_path, number):
    path = tmp_path / "a.tif"
    array = GREY.astype(np.float32)
    array[2, 3:5] = number
    tifffile.imwrite(path, array)
    message = "has 2 of 48 values that are NaN or infinite"
    assert message in one_line(read_image, path)
    assert message in one_line(read_labels, path)
    with pytest.raises(ImageFormatError, match="the array has 2 of 48"):
        read_image(array)


def test_value_beyond_float32_is_infinite(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.full((4, 4), 1e300))
    assert "has 16 of 16 values" in one_line(read_image, path)


@contextmanager
def not_root():
    """Root may read everything; drop to another user."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_permission(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    path = folder / "a.png"
    Pillow.fromarray(GREY).save(path)
    for closed in (path, folder):
        closed.chmod(0)
        with not_root():
            assert "cannot be opened: Permission denied" in one_line(read_image, path)
        closed.chmod(0o700)


def test_name_too_long(tmp_path):
    one_line(read_image, tmp_path / ("a" * 300 + ".png"))


def test_file_taken_for_a_folder(tmp_path):
    (tmp_path / "a.png").touch()
    assert one_line(read_image, tmp_path / "a.png" / "b.png").startswith("no such file: ")


def test_header_that_promises_terabytes(tmp_path):
    path = tmp_path / "a.png"
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0" * 40
    )
    one_line(read_image, path)


def test_wrong_suffix_is_read_by_content(tmp_path):
    path = tmp_path / "a.png"
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    (tmp_path / "a.tif").rename(path)
    check(path, GREY, "YX")


def test_odd_file_names(tmp_path):
    path = tmp_path / "a [1]* \N{MICRO SIGN}.tif"
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    (tmp_path / "a.tif").rename(path)
    check(path, GREY, "YX")


def test_ome_file_whose_other_planes_are_in_other_files(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, STACK[:1], ome=True, metadata={"axes": "ZYX"})
    content = path.read_bytes()
    assert content.count(b'SizeZ="1"') == 1
    path.write_bytes(
        content.replace(b'SizeZ="1"', b'SizeZ="3"').replace(b'PlaneCount="1"', b'PlaneCount="3"')
    )
    assert "lacks planes" in one_line(read_image, path)


def test_ome_file_that_is_one_of_several_gives_its_own_planes(tmp_path):
    """tifffile would open the neighbours as well, and a folder of n files would be read n times."""
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{z}.ome.tif">urn:uuid:{z}</UUID></TiffData>'
        for z in range(2)
    )
    for z in range(2):
        description = (
            f'<OME xmlns="{schema}" UUID="urn:uuid:{z}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="6" SizeZ="2" SizeC="1" SizeT="1">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / f"{z}.ome.tif", STACK[z], description=description, metadata=None)
    same(tifffile.imread(tmp_path / "1.ome.tif"), STACK[:2])
    check(tmp_path / "1.ome.tif", STACK[1], "YX")


# Silence


def test_warnings_of_pillow_do_not_leak(tmp_path):
    path = tmp_path / "a.png"
    plain = png(8, 0, [bytes(row) for row in GREY], 8)
    animation = b"acTL" + bytes(8)  # of no frames: Pillow warns of an invalid APNG
    chunk = struct.pack(">I", 8) + animation + struct.pack(">I", zlib.crc32(animation))
    path.write_bytes(plain[:33] + chunk + plain[33:])
    with pytest.warns(UserWarning, match="Invalid APNG"), Pillow.open(path):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(path, GREY, "YX")


def test_nothing_of_third_parties_leaks(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG, logger="tifffile")
    path = tmp_path / "a.tif"
    write_valid(path)
    path.write_bytes(path.read_bytes()[:300])
    one_line(read_image, path)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_tifffile_may_log_again_afterwards(tmp_path, caplog):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY)
    read_image(path)
    logging.getLogger("tifffile").error("still heard")
    assert [record.getMessage() for record in caplog.records] == ["still heard"]


def test_large_images_are_no_bombs(tmp_path, monkeypatch):
    """The limit is lowered instead of the image made large: 48 pixels stand for 180 million."""
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 10)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(GREY))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(path, GREY, "YX")
    assert Pillow.MAX_IMAGE_PIXELS == 10


# Names


@pytest.mark.parametrize("name", ["a.png", "b.JPG", "c.jpeg", "d.bmp", "e.gif", "f.tif", "g.ome.TIFF"])
def test_image_names(name):
    assert is_image(name)


@pytest.mark.parametrize("name", ["a.txt", ".png", "._a.tif", "a", Path("b.csv")])
def test_other_names(name):
    assert not is_image(name)


def test_entries_of_a_folder_that_are_images(tmp_path):
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "image.ome.zarr").mkdir()
    (tmp_path / "image.ome.zarr" / ".zgroup").touch()
    (tmp_path / "other.ome").mkdir()
    (tmp_path / "other.ome" / ".zgroup").touch()
    (tmp_path / "b.png").touch()
    (tmp_path / "lost.tif").symlink_to("nowhere.tif")  # to be missed, not passed over
    found = {path.name for path in tmp_path.iterdir() if holds_image(path)}
    assert found == {"image.ome.zarr", "b.png", "lost.tif"}


# Real files


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "axes", "shape", "dtype"),
    [
        ("isbi2012/train-volume.tif", "ZYX", (24, 512, 512), np.uint8),
        ("isbi2012/test-volume.tif", "ZYX", (30, 512, 512), np.uint8),
        ("drive/training/images/21_training.tif", "YXC", (584, 565, 3), np.uint8),
        ("drive/training/1st_manual/21_manual1.gif", "YX", (584, 565), np.uint8),
        ("DIC-C2DH-HeLa/01/t000.tif", "YX", (512, 512), np.uint8),
        ("DIC-C2DH-HeLa/01_ST/SEG/man_seg000.tif", "YX", (512, 512), np.uint16),
    ],
)
def test_real_images(data_dir, name, axes, shape, dtype):
    path = data_dir / name
    image = read_image(path)
    assert (image.axes, image.array.shape, image.array.dtype) == (axes, shape, dtype)
    same(read_labels(path).array, image.array)
    assert image_size(path)[:4] == tuple(np.array(image.planes.shape)[[0, 2, 3, 1]])


@pytest.mark.data
def test_real_masks(data_dir):
    isbi = read_labels(data_dir / "isbi2012/train-labels.tif").array
    assert isbi.shape == (24, 512, 512)
    np.testing.assert_array_equal(np.unique(isbi), [0, 255])
    for path in sorted((data_dir / "drive/training").rglob("*.gif"))[:6]:
        labels = read_labels(path)
        np.testing.assert_array_equal(np.unique(labels.array), [0, 255])
        with Pillow.open(path) as independent:
            same(labels.array, np.asarray(independent.convert("L")))


@pytest.mark.data
def test_real_pixel_size(data_dir):
    # rel: the tag holds 100,000 / 19 pixels per millimetre in whole numbers.
    expected = pytest.approx((0.19, 0.19), rel=1e-5)
    assert read_image(data_dir / "DIC-C2DH-HeLa/01/t000.tif").pixel_size_um == expected


class SeriesOfNow:
    """A series as tifffile has them from 2026.9 on: with one shape, and no `get_shape`."""

    def __init__(self, series):
        self._series, self.shape, self.axes = series, series.get_shape(False), series.get_axes(False)

    def __getattr__(self, name):
        if name in ("get_shape", "get_axes"):
            raise AttributeError(name)
        return getattr(self._series, name)


@pytest.mark.skipif(not hasattr(tifffile.TiffPageSeries, "get_shape"), reason="this is tifffile of now")
def test_tiff_is_read_with_the_series_of_newer_tifffile(tmp_path, monkeypatch):
    stack = np.arange(2 * 30 * 40, dtype=np.uint16).reshape(2, 30, 40)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "b.tif", stack[:1], photometric="minisblack", metadata={"axes": "ZYX"})
    before = [read_image(tmp_path / name) for name in ("a.tif", "b.tif")]
    series = tifffile.TiffFile.series.func

    class Callable(list):
        def __call__(self, *, squeeze):
            assert squeeze is False
            return [SeriesOfNow(one) for one in self]

    monkeypatch.setattr(tifffile.TiffFile, "series", property(lambda self: Callable(series(self))))
    for name, expected in zip(("a.tif", "b.tif"), before, strict=True):
        found = read_image(tmp_path / name)
        np.testing.assert_array_equal(found.array, expected.array)
        assert found.is_stack == expected.is_stack


def test_a_palette_of_two_colours_in_one_bit_is_read(tmp_path):
    bits = np.random.default_rng(0).random((20, 30)) < 0.5
    colors = np.zeros((3, 2), np.uint16)
    colors[:, 0], colors[:, 1] = (65535, 0, 0), (0, 65535, 0)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, bits, photometric="minisblack", extratags=[(320, "H", 6, colors.ravel(), True)])
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags["PhotometricInterpretation"].overwrite(3)  # which tifffile does not write
    found = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.planes[0, 1] == 255, bits)
    np.testing.assert_array_equal(found.planes[0, 0] == 255, ~bits)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").array, bits)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_colours_of_32_bits_become_such_of_16_or_are_refused(tmp_path, dtype):
    colors = np.zeros((3, 8, 9), dtype)
    colors[0, :4], colors[1, 4:] = 1, 300
    tifffile.imwrite(tmp_path / "a.tif", colors, photometric="minisblack", metadata={"axes": "CYX"})
    labels = read_labels(tmp_path / "a.tif")
    assert labels.array.dtype == np.uint16
    np.testing.assert_array_equal(np.moveaxis(labels.array, -1, 0), colors)
    tifffile.imwrite(tmp_path / "b.tif", 300 * colors, photometric="minisblack", metadata={"axes": "CYX"})
    with pytest.raises(ImageFormatError, match="has colours beyond 16 bits; save them with 8 bits"):
        read_labels(tmp_path / "b.tif")


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system has no such names")
def test_a_name_that_is_not_utf8_is_refused_in_letters_that_can_be_printed(tmp_path):
    name = os.fsdecode(bytes(tmp_path) + b"/10\xb5m.tif")
    tifffile.imwrite(name, np.zeros((8, 8), np.uint8))
    with pytest.raises(ImageFormatError, match=r"10\\udcb5m.tif' is not UTF-8; rename the file") as caught:
        read_image(name)
    str(caught.value).encode()
