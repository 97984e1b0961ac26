"""Objects that a watershed parts block by block are those of the whole plane, with the same ids."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ushape.config import ClassInfo, ModelHeader, Normalization, Postprocessing, UNetConfig
from ushape.errors import ConfigError
from ushape.instances import instances, kinds_of, measure
from ushape.io import LargeImage, open_levels
from ushape.predict import budget
from ushape.predict.blocks import Asked, BlockPlan, create_results
from ushape.predict.large_objects import find_objects

HEADER = ModelHeader(
    name="drawn",
    architecture=UNetConfig(classes=3, width=4),
    classes=tuple(ClassInfo(name=name, value=i, color=(i, 0, 0)) for i, name in enumerate("abc")),
)


def by_blocks(foreground, classes, how, block, max_memory=None):
    """Ids and table of planes (Z, H, W) of which blocks have written what they write."""
    count, height, width = foreground.shape
    plan = BlockPlan(
        run="run", asked=Asked(image={}, model="", precision="fp32", postprocessing=how), max_memory=0,
        planes=count, height=height, width=width, channels=3, is_stack=True,
        keep=block, chunk=block, block=block, reason="", device="cpu", engine="",
        normalization=(Normalization(),) * count, version="0.5",
    )  # fmt: skip
    kinds = np.stack([kinds_of(one, how.threshold, of) for one, of in zip(foreground, classes, strict=True)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        create_results(plan, folder, HEADER)
        open_levels(folder / "kinds")[0][...] = kinds
        if plan.asked.foreground:
            open_levels(folder / "foreground")[0][...] = foreground
        tifffile.imwrite(
            folder / "a.tif", grey(foreground), photometric="minisblack", metadata={"axes": "ZYX"}
        )
        with LargeImage(folder / "a.tif") as image:
            table = find_objects(plan, folder, image, how, max_memory)
        return open_levels(folder / "instances")[0][...], table


def grey(foreground):
    return (foreground * 1000).astype(np.uint16)


def of_planes(foreground, classes, how):
    """The same by what is done with planes in memory."""
    ids, tables, before = [], [], 0
    for one, of in zip(foreground, classes, strict=True):
        found = instances(one, how, classes=of)
        tables.append(measure(found, classes=of, image=grey(one)[None]))
        ids.append(np.where(found > 0, found.astype(np.uint32) + before, 0))
        before += int(found.max())
    return np.stack(ids), {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


@st.composite
def planes(draw):
    shape = draw(st.sampled_from([1, 2])), draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sigma = draw(st.sampled_from([0.7, 1.5, 2.5]))
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), (0, sigma, sigma))
    # Half of the values are equal to some other: plateaus, whose order is decided by place.
    steep = smooth / (np.abs(smooth).max() or 1)
    foreground = np.round(1 / (1 + np.exp(-4 * steep)), 2).astype(np.float32)
    kinds = np.ones(shape, np.uint8)
    if draw(st.booleans()):
        kinds += ndimage.uniform_filter(rng.random(shape), (0, 7, 7)) < 0.5
    return foreground, kinds


@settings(max_examples=60)
@example(
    planes=(np.ones((1, 30, 9), np.float32), np.ones((1, 30, 9), np.uint8)), block=(4, 4), split="distance",
    depth=1.0, connectivity=4, min_area=0, fill_holes=True, border="keep",
)  # fmt: skip
@given(
    planes=planes(),
    block=st.tuples(st.sampled_from([4, 8, 20]), st.sampled_from([4, 12, 24])),
    split=st.sampled_from(["distance", "probability"]),
    depth=st.sampled_from([0.0, 0.5, 1.0]),
    connectivity=st.sampled_from([4, 8]),
    min_area=st.integers(0, 12),
    fill_holes=st.booleans(),
    border=st.sampled_from(["keep", "remove"]),
)
def test_parts_of_blocks_are_those_of_the_plane(
    planes, block, split, depth, connectivity, min_area, fill_holes, border
):
    foreground, classes = planes
    if connectivity == 8 and fill_holes:  # objects of two classes may cross at a corner: see Regions
        classes = np.ones_like(classes)
    how = Postprocessing(
        threshold=0.4, split=split, seed_depth_px=depth, seed_threshold=0.6, connectivity=connectivity,
        min_area=min_area, fill_holes=fill_holes, border=border,
    )  # fmt: skip
    ids, table = by_blocks(foreground, classes, how, block)
    expected, expected_table = of_planes(foreground, classes, how)
    np.testing.assert_array_equal(ids, expected)
    for name in ("class", "area_px", "top", "right"):
        np.testing.assert_array_equal(table[name], expected_table[name], err_msg=name)


def test_a_component_too_large_for_the_memory_is_named_with_its_place_and_the_limit_to_give(monkeypatch):
    foreground, how = np.zeros((1, 40, 40), np.float32), Postprocessing(split="distance")
    foreground[0, 10:12, 3:30] = 1
    monkeypatch.setattr(budget, "resident_memory", lambda: 1_000_000_000)
    words = r"row 10, column 3 hangs together over 2 x 27 px: --split distance .* --max-memory 1.1GB"
    with pytest.raises(ConfigError, match=words):
        by_blocks(foreground, np.ones((1, 40, 40), np.uint8), how, (8, 8), max_memory=1_000_001_000)


def island_in_a_hole():
    """A ring that grows from two corners, and within its hole an island that grows from two sides."""
    plane = np.full((13, 13), 0.1, np.float32)
    plane[[0, -1]], plane[:, [0, -1]] = 0.7, 0.7
    plane[0, 0] = plane[12, 12] = 0.9
    plane[5:8, 4:9] = 0.7
    plane[6, 4] = plane[6, 8] = 0.9
    return plane


def hole_across_a_corner():
    """A frame of one seed, whose filled hole hangs on an island by a corner."""
    plane = np.full((11, 11), 0.1, np.float32)
    plane[[0, -1]], plane[:, [0, -1]] = 0.7, 0.7
    plane[0, 0] = 0.9
    plane[4:7, 4:7] = 0.7
    plane[5, 5] = plane[6, 6] = 0.1
    plane[4, 4] = 0.9
    return plane


@pytest.mark.parametrize("plane", [island_in_a_hole(), hole_across_a_corner()], ids=["island", "corner"])
@pytest.mark.parametrize("split", ["distance", "probability"])
@pytest.mark.parametrize("min_area", [0, 2])
@pytest.mark.parametrize("block", [(4, 4), (8, 8), (16, 16)])
def test_components_in_filled_holes_are_flooded_by_themselves(plane, split, min_area, block):
    foreground, classes = plane[None], np.ones((1, *plane.shape), np.uint8)
    how = Postprocessing(split=split, seed_threshold=0.8, seed_depth_px=0, fill_holes=True, min_area=min_area)
    ids, _ = by_blocks(foreground, classes, how, block)
    expected, _ = of_planes(foreground, classes, how)
    np.testing.assert_array_equal(ids, expected)


def test_what_fills_a_hole_stays_with_what_encloses_it():
    plane = island_in_a_hole()
    ids = instances(plane, Postprocessing(split="probability", seed_threshold=0.8, fill_holes=True))
    island = np.unique(ids[5:8, 4:9])
    assert ids.max() == 4
    assert not np.isin(ids[1:5], island).any()
