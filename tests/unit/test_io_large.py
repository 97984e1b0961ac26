"""Images read by windows: what a window holds is what the whole image holds there."""

import json
import os
import warnings

import numpy as np
import pytest
import tifffile
import zarr

from ushape.errors import ImageFormatError
from ushape.io import (
    LargeImage,
    create_store,
    fill_levels,
    image_size,
    read_image,
    read_labels,
    reads_windows,
    write_pyramid,
)
from ushape.io.decoded import Spacing

RNG = np.random.default_rng(4)
GREY = RNG.integers(0, 4000, (90, 70), dtype=np.uint16)
COLOUR = RNG.integers(0, 256, (90, 70, 3), dtype=np.uint8)


def write_ome_zarr(path, array, axes, version, **more):
    """Independently of our own writer: the classes of ome-zarr."""
    from ome_zarr import OMEZarrImage, OMEZarrMultiscale

    with warnings.catch_warnings():  # ome-zarr warns of itself
        warnings.simplefilter("ignore", DeprecationWarning)
        image = OMEZarrImage(array, axes.lower(), **more)
        OMEZarrMultiscale(image, scale_factors=[2, 4]).to_ome_zarr(str(path), version=version)
    return path


def attributes_of(path):
    """What the metadata of an OME-Zarr say, independently of our own reader."""
    attributes = zarr.open_group(str(path), mode="r").attrs.asdict()
    return attributes.get("ome", attributes)


def say(path, **words):
    """Have the metadata of an OME-Zarr say something else of the image and its levels."""
    group = zarr.open_group(str(path), mode="r+")
    attributes = group.attrs.asdict()
    attributes.get("ome", attributes)["multiscales"][0].update(words)
    group.update_attributes(attributes)


def moved(scale, translation):
    """Coordinate transformations, in words of OME-Zarr."""
    return [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]


def pyramid(path, array, **options):
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(array, subifds=1, tile=(32, 16), **options)
        file.write(array[::2, ::2], subfiletype=1, tile=(32, 16), **options)
    return path


SOURCES = {
    "v2 yx": lambda path: write_ome_zarr(path, GREY, "YX", "0.4"),
    "v3 yx": lambda path: write_ome_zarr(path, GREY, "YX", "0.5"),
    "v3 cyx": lambda path: write_ome_zarr(path, np.moveaxis(COLOUR, -1, 0), "CYX", "0.5"),
    "v2 tczyx": lambda path: write_ome_zarr(path, np.stack([GREY, GREY // 2])[None, None], "TCZYX", "0.4"),
    "v3 tzyx": lambda path: write_ome_zarr(
        path, np.stack([GREY] * 6).reshape(2, 3, 90, 70) + np.arange(6, dtype=np.uint16).reshape(2, 3, 1, 1),
        "TZYX", "0.5",
    ),
    "pyramid": lambda path: pyramid(path, COLOUR, photometric="rgb", compression="zlib"),
    "slide": lambda path: pyramid(path.with_suffix(".svs"), COLOUR, photometric="rgb", compression="jpeg"),
    "one strip": lambda path: write_tiff(path, GREY),
    "white is zero": lambda path: write_tiff(path, GREY, photometric="miniswhite", tile=(16, 16)),
    "palette": lambda path: write_tiff(
        path, COLOUR[..., 0], photometric="palette", tile=(16, 16),
        colormap=RNG.integers(0, 2**16, (3, 256), dtype=np.uint16),
    ),
    "planar": lambda path: write_tiff(path, np.moveaxis(COLOUR, -1, 0), photometric="rgb", tile=(16, 16)),
    "stack": lambda path: write_tiff(path, np.stack([GREY, GREY + 1, GREY + 2]), photometric="minisblack"),
    "big-endian": lambda path: write_tiff(path, GREY, byteorder=">"),
}  # fmt: skip


def write_tiff(path, array, **options):
    tifffile.imwrite(path, array, **options)
    return path


@pytest.mark.parametrize("kind", SOURCES)
def test_windows_are_those_of_the_whole_image(kind, tmp_path):
    path = SOURCES[kind](tmp_path / ("a.ome.zarr" if kind[0] == "v" else "a.tif"))
    whole = read_image(path)
    with LargeImage(path) as image:
        assert image.size == image_size(path)
        assert image.size[:4] == tuple(whole.planes.shape[i] for i in (0, 2, 3, 1))
        assert image.size.dtype == whole.array.dtype
        assert image.is_stack == whole.is_stack
        assert image.pixel_size_um == whole.pixel_size_um
        for plane, (top, bottom, left, right) in enumerate([(0, 90, 0, 70), (3, 41, 60, 70), (89, 90, 0, 1)]):
            plane = min(plane, image.size.planes - 1)
            window = image.read(plane, top, bottom, left, right)
            np.testing.assert_array_equal(window, whole.planes[plane][:, top:bottom, left:right])


def test_values_of_an_ome_zarr_are_those_written(tmp_path):
    """The reference of the test above is `read_image`; this one knows the array."""
    path = write_ome_zarr(tmp_path / "a.zarr", np.moveaxis(COLOUR, -1, 0), "CYX", "0.4")
    np.testing.assert_array_equal(read_image(path).array, COLOUR)
    stack = SOURCES["v3 tzyx"](tmp_path / "b.zarr")
    assert (read_image(stack).planes[4, 0] == GREY + 4).all()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_pixel_size_is_in_micrometres(version, tmp_path):
    path = write_ome_zarr(
        tmp_path / "a.zarr", GREY, "YX", version,
        scale={"y": 500.0, "x": 0.25}, axes_units={"y": "nanometer", "x": "micrometer"},
    )  # fmt: skip
    with LargeImage(path) as image:
        assert image.pixel_size_um == (0.5, 0.25)
        assert image.version == version


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_is_said_of_all_levels_is_applied_after_what_is_said_of_one(version, tmp_path):
    """As in the example of the specification, where the size of pixels is said there."""
    path, units = tmp_path / "a.zarr", {"y": "micrometer", "x": "micrometer"}
    write_ome_zarr(path, GREY, "YX", version, axes_units=units)
    say(path, coordinateTransformations=[{"type": "scale", "scale": [0.5, 0.25]}])
    assert read_image(path).pixel_size_um == (0.5, 0.25)
    say(
        path,
        datasets=[{"path": "s0", "coordinateTransformations": moved([2.0, 4.0], [3.0, 5.0])}],
        coordinateTransformations=moved([0.5, 0.25], [10.0, 20.0]),
    )
    with LargeImage(path) as image:
        assert image.pixel_size_um == (1.0, 1.0)
        assert image.spacings == {"Y": (1.0, 11.5, "micrometer"), "X": (1.0, 21.25, "micrometer")}


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_scale_that_makes_no_sense_is_none(scale, tmp_path):
    path, units = tmp_path / "a.zarr", {"y": "micrometer", "x": "micrometer"}
    write_ome_zarr(path, GREY, "YX", "0.5", axes_units=units)
    say(path, datasets=[{"path": "s0", "coordinateTransformations": moved([0.5, scale], [3.0, 5.0])}])
    with LargeImage(path) as image:
        assert image.pixel_size_um is None
        assert image.spacings == {"Y": (0.5, 3.0, "micrometer"), "X": (1.0, 0.0, None)}


@pytest.mark.parametrize(
    ("axes", "planes", "expected"),
    [
        ("ZYX", (3,), (4.0, 8.0, "micrometer")),
        ("TZYX", (1, 3), (4.0, 8.0, "micrometer")),
        ("TZYX", (3, 1), (9.0, 18.0, None)),
        ("TZYX", (2, 3), None),
        ("TYX", (1,), None),
    ],
)
def test_planes_lie_where_their_one_axis_says(axes, planes, expected, tmp_path):
    steps, units = {"T": 9.0, "Z": 4.0, "Y": 0.5, "X": 0.25}, {"t": "second", "z": "micrometer"}
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, np.zeros((*planes, 20, 30), np.uint8), axes, "0.5", axes_units=units)
    where = moved([steps[axis] for axis in axes], [2 * steps[axis] for axis in axes])
    say(path, datasets=[{"path": "s0", "coordinateTransformations": where}])
    with LargeImage(path) as image:
        assert image.spacings.get("Z") == expected
        assert [image.spacings[axis] for axis in "YX"] == [(0.5, 1.0, None), (0.25, 0.5, None)]


def test_a_damaged_window_is_one_line_and_others_are_read(tmp_path):
    path = tmp_path / "a.zarr"
    levels = create_store(path, "YX", (64, 64), np.uint8, (32, 32), version="0.5")
    levels[0][:] = 7
    (path / "s0" / "c" / "0" / "1").write_bytes(b"no chunk")
    with LargeImage(path) as image:
        assert (image.read(0, 0, 32, 0, 32) == 7).all()
        with pytest.raises(ImageFormatError, match="damaged"):
            image.read(0, 0, 32, 0, 64)


def test_stores_that_are_no_image_are_named(tmp_path):
    zarr.create_array(tmp_path / "array.zarr", shape=(4, 4), dtype="u1", zarr_format=3)
    zarr.create_group(tmp_path / "group.zarr")
    broken = write_ome_zarr(tmp_path / "broken.zarr", GREY, "YX", "0.5")
    content = json.loads((broken / "zarr.json").read_text())
    content["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = "missing"
    (broken / "zarr.json").write_text(json.dumps(content))
    for name, words in (
        ("array", "without metadata"),
        ("group", "no image of OME-Zarr"),
        ("broken", "damaged"),
    ):
        with pytest.raises(ImageFormatError, match=f"{name}.zarr.*{words}"):
            read_image(tmp_path / f"{name}.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_is_written_is_read_by_ome_zarr_with_all_levels(version, tmp_path):
    from ome_zarr import OMEZarrLabels, OMEZarrMultiscale

    path, classes = tmp_path / "a_classes.ome.zarr", RNG.integers(0, 3, (2, 1500, 700), dtype=np.uint8)
    levels = create_store(
        path, "ZYX", classes.shape, np.uint8, (1, 272, 300),
        version=version, pixel_size_um=(0.5, 0.25), colors={0: (0, 0, 0), 1: (255, 80, 0)},
    )  # fmt: skip
    levels[0][:] = classes
    fill_levels(levels)
    found = OMEZarrMultiscale.from_ome_zarr(str(path))
    assert isinstance(found, OMEZarrLabels)
    assert [axis.name for axis in found.metadata.axes] == ["z", "y", "x"]
    for number, level in enumerate(found.images):
        step = 2**number
        np.testing.assert_array_equal(level.data.compute(), classes[:, ::step, ::step])
        assert list(level.scale.values()) == [1, 0.5 * step, 0.25 * step]
        _, translation = found.metadata.datasets[number].coordinateTransformations
        assert translation.translation == [0, 0, 0], "of the upper left pixel"
    assert len(found.images) == 3
    np.testing.assert_array_equal(read_labels(path).array, classes)
    assert read_image(path).pixel_size_um == (0.5, 0.25)


def means(array):
    """Of 2 x 2 pixels each, or of those that there are at the border."""
    channels, height, width = array.shape
    even = np.pad(array, [(0, 0), (0, height % 2), (0, width % 2)], constant_values=np.nan)
    return np.nanmean(even.reshape(channels, -(-height // 2), 2, -(-width // 2), 2), axis=(2, 4))


def test_lower_levels_of_probabilities_are_means_and_lie_in_the_middle(tmp_path):
    path, finer = tmp_path / "a_probabilities.ome.zarr", RNG.random((2, 1025, 1001), dtype=np.float32)
    levels = create_store(
        path, "CYX", finer.shape, np.float32, (1, 272, 304),
        version="0.5", spacings={"Y": Spacing(0.5, 8.0), "X": Spacing(0.25)},
    )  # fmt: skip
    levels[0][:] = finer
    fill_levels(levels)
    (multiscale,) = attributes_of(path)["multiscales"]
    assert len(levels) == 3
    for number, (level, told) in enumerate(zip(levels, multiscale["datasets"], strict=True)):
        # Three sums of float32, in another order, at each of two levels: 7e-7 at most.
        np.testing.assert_allclose(level[:], finer, rtol=1e-6)
        step, shift = 2**number, (2**number - 1) / 2
        assert told["coordinateTransformations"] == moved(
            [1.0, 0.5 * step, 0.25 * step], [0.0, 8.0 + 0.5 * shift, 0.25 * shift]
        )
        finer = means(finer)


@pytest.mark.parametrize(
    ("size_um", "scale", "translation", "unit"),
    [
        ((0.5, 0.25), [2.0, 500.0, 250.0], [4.0, 1000.0, 0.0], "nanometer"),
        ((1.0, 0.25), [2.0, 1.0, 0.25], [4.0, 2.0, 0.0], "micrometer"),
    ],
    ids=["of the file", "another"],
)
def test_a_size_of_pixels_goes_before_that_of_the_file(size_um, scale, translation, unit, tmp_path):
    path, nm = tmp_path / "a.zarr", "nanometer"
    spacings = {"Z": Spacing(2.0, 4.0, nm), "Y": Spacing(500.0, 1000.0, nm), "X": Spacing(250.0, 0.0, nm)}
    create_store(
        path, "ZYX", (2, 20, 30), np.uint8, (1, 20, 30),
        version="0.5", pixel_size_um=size_um, spacings=spacings,
    )  # fmt: skip
    (multiscale,) = attributes_of(path)["multiscales"]
    assert multiscale["datasets"][0]["coordinateTransformations"] == moved(scale, translation)
    assert [axis["unit"] for axis in multiscale["axes"]] == [nm, unit, unit]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_without_colours_have_no_empty_list_of_them(version, tmp_path):
    """The schema of OME-Zarr wants at least one in it."""
    create_store(tmp_path / "a.zarr", "YX", (20, 30), np.uint16, (20, 30), version=version, colors={})
    assert attributes_of(tmp_path / "a.zarr")["image-label"] == {"version": version}


def test_what_killed_writes_left_is_taken_away_and_the_rest_is_on_the_disk(tmp_path, monkeypatch):
    path, on_disk, fsync = tmp_path / "a.zarr", set(), os.fsync

    def noted(number):
        on_disk.add(os.fstat(number).st_ino)
        fsync(number)

    levels = create_store(path, "YX", (600, 520), np.uint8, (300, 300), version="0.5")
    levels[0][:] = 7
    for chunk in ("s0/c/0/1", "s1/c/0/0"):
        left = (path / chunk).with_suffix(".0123456789abcdef.partial")  # as zarr names it
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"half of a chunk")
    monkeypatch.setattr(os, "fsync", noted)
    fill_levels(levels)
    there = [path, *path.rglob("*")]
    assert not [it for it in there if it.suffix == ".partial"]
    assert {it.stat().st_ino for it in there} <= on_disk
    assert (path / "s1" / "c" / "0" / "0").exists()


def test_ome_zarr_and_tiff_are_read_by_windows(tmp_path):
    assert reads_windows(write_tiff(tmp_path / "a.tif", GREY))
    assert reads_windows(write_ome_zarr(tmp_path / "a.zarr", GREY, "YX", "0.5"))
    assert not reads_windows(tmp_path)
    assert not reads_windows(tmp_path / "missing.tif")
    (tmp_path / "a.txt").write_text("text")
    assert not reads_windows(tmp_path / "a.txt")


@pytest.mark.parametrize("shape", [(700, 1100), (2, 600, 1025), (300, 200)])
def test_levels_become_a_pyramid_of_tiles(shape, tmp_path):
    ids = RNG.integers(0, 2**17, shape, dtype=np.uint32)
    axes = "ZYX"[-len(shape) :]
    chunks = (1,) * (len(shape) - 2) + (272, 304)
    levels = create_store(tmp_path / "ids.zarr", axes, shape, ids.dtype, chunks, version="0.5")
    levels[0][:] = ids
    fill_levels(levels)
    pages = [(plane,) for plane in range(shape[0])] if len(shape) == 3 else [()]
    write_pyramid(tmp_path / "a.tif", levels, pages, shape[:-2], axes, pixel_size_um=(0.5, 0.25))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), ids)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
        assert file.pages.first.is_tiled
        (series,) = file.series
        assert len(series.levels) == len(levels) == {1100: 3, 1025: 3, 200: 1}[shape[-1]]
        for number, level in enumerate(series.levels):
            step = 2**number
            np.testing.assert_array_equal(level.asarray(), ids[..., ::step, ::step])
            # Per centimetre, to the six digits that tifffile keeps of a ratio.
            assert level.keyframe.get_resolution("MICROMETER") == pytest.approx((4 / step, 2 / step))
    image = read_image(tmp_path / "a.tif")
    assert image.pixel_size_um == (0.5, 0.25)
    np.testing.assert_array_equal(image.array, ids)


def test_planes_of_axes_with_one_letter_are_told_apart(tmp_path):
    array = RNG.integers(0, 255, (3, 4, 20, 30), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")  # axes QQYX
    whole = read_image(tmp_path / "a.tif").planes
    with LargeImage(tmp_path / "a.tif") as image:
        assert image.is_stack
        assert image.size.planes == 12
        for plane in range(12):
            np.testing.assert_array_equal(image.read(plane, 2, 9, 3, 8), whole[plane][:, 2:9, 3:8])


def test_a_slide_tells_the_size_of_its_pixels_in_its_description(tmp_path):
    description = "Aperio Image Library v11.2.1\r\n70x90 (256x256) JPEG/RGB Q=30|AppMag = 20|MPP = 0.4990"
    tifffile.imwrite(tmp_path / "a.svs", COLOUR, photometric="rgb", description=description, metadata=None)
    assert read_image(tmp_path / "a.svs").pixel_size_um == (0.499, 0.499)
    without = description.partition("|MPP")[0]
    tifffile.imwrite(tmp_path / "b.svs", COLOUR, photometric="rgb", description=without, metadata=None)
    assert read_image(tmp_path / "b.svs").pixel_size_um is None


def test_photographs_of_the_glass_are_left_aside_in_an_ome_tiff(tmp_path):
    """As Bio-Formats and QuPath write them behind a slide."""
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for name, pixels in (("a slide", COLOUR), ("label image", COLOUR[:20]), ("Macro", COLOUR[:, :30])):
            tif.write(pixels, photometric="rgb", metadata={"Name": name, "axes": "YXS"})
    np.testing.assert_array_equal(read_image(path).array, COLOUR)
    with LargeImage(path) as image:
        np.testing.assert_array_equal(image.read(0, 0, 9, 0, 8), COLOUR[:9, :8].transpose(2, 0, 1))


@pytest.mark.parametrize(("name", "axes"), [("label", "YX"), ("cells in colour", "YXS")])
def test_other_images_of_an_ome_tiff_are_not_chosen_from(name, axes, tmp_path):
    """A mask that is called label is no photograph."""
    path, other = tmp_path / "a.ome.tif", COLOUR if axes == "YXS" else COLOUR[..., 0]
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(COLOUR, photometric="rgb", metadata={"Name": "cells", "axes": "YXS"})
        kind = "rgb" if axes == "YXS" else "minisblack"
        tif.write(other, photometric=kind, metadata={"Name": name, "axes": axes})
    with pytest.raises(ImageFormatError, match="holds 2 images of different kinds"):
        read_image(path)
