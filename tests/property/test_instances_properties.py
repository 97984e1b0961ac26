"""Laws of objects, for any plane and any setting."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ushape.config import Postprocessing
from ushape.instances import instances
from ushape.instances.peaks import peaks

SIZES = st.tuples(st.integers(1, 20), st.integers(1, 20))
BINARY = arrays(bool, SIZES)
CONNECTIVITIES = st.sampled_from([4, 8])

SETTINGS = st.builds(
    Postprocessing,
    threshold=st.sampled_from([0.3, 0.5]),
    connectivity=CONNECTIVITIES,
    min_area=st.integers(0, 6),
    split=st.sampled_from(["none", "probability", "distance"]),
    seed_threshold=st.sampled_from([0.6, 0.8]),
    seed_depth_px=st.sampled_from([0.0, 0.5, 1.0]),
    fill_holes=st.booleans(),
    border=st.sampled_from(["keep", "remove"]),
)


def structure(connectivity):
    return np.ones((3, 3)) if connectivity == 8 else None


def smooth_plane(seed, size):
    """Probabilities with peaks and passes of every height."""
    noise = np.random.default_rng(seed).standard_normal(size)
    smooth = ndimage.gaussian_filter(noise, 1.2)
    return (1 / (1 + np.exp(-8 * smooth))).astype(np.float32)


PLANES = st.builds(smooth_plane, st.integers(0, 10_000), SIZES)


@given(PLANES, SETTINGS, st.booleans())
def test_objects_are_numbered_whole_and_of_one_class(foreground, settings, has_classes):
    classes = None if not has_classes else 1 + (np.indices(foreground.shape).sum(0) // 7) % 2
    ids = instances(foreground, settings, classes=classes)
    numbers, first = np.unique(ids[ids > 0], return_index=True)
    assert numbers.tolist() == list(range(1, len(numbers) + 1))
    assert (np.diff(first) > 0).all(), "in the order of their first pixels"
    for number in numbers:
        pixels = ids == number
        assert ndimage.label(pixels, structure(settings.connectivity))[1] == 1, "of one piece"
        assert pixels.sum() >= settings.min_area
        above = pixels & (foreground > settings.threshold)
        if has_classes and not settings.fill_holes:  # specks that are dropped may be of another class
            assert len(set(classes[above])) == 1
        if not settings.fill_holes:
            assert (above == pixels).all()
        if settings.border == "remove":
            assert not pixels[[0, -1]].any()
            assert not pixels[:, [0, -1]].any()


@given(PLANES, SETTINGS)
def test_a_watershed_parts_objects_and_takes_no_pixel_away(foreground, settings):
    settings = settings.changed({"min_area": 0, "border": "keep", "fill_holes": False})
    whole = instances(foreground, settings.changed({"split": "none"}))
    parts = instances(foreground, settings)
    for number in range(1, int(parts.max()) + 1):
        assert len(set(whole[parts == number])) == 1
    dropped = set(whole[(parts == 0) & (whole > 0)].tolist())
    if settings.split != "probability":
        assert not dropped
    for number in dropped:  # all of it, and only where there is no seed
        assert not parts[whole == number].any()
        assert foreground[whole == number].max() <= settings.seed_threshold


@given(BINARY, CONNECTIVITIES)
def test_components_are_those_of_scipy(binary, connectivity):
    ids = instances(binary.astype(np.float32), Postprocessing(connectivity=connectivity))
    reference, count = ndimage.label(binary, structure(connectivity))
    pairs = set(zip(ids[binary].tolist(), reference[binary].tolist(), strict=True))
    assert len(pairs) == count == ids.max()
    assert not ids[~binary].any()


@given(BINARY, CONNECTIVITIES)
def test_holes_are_those_that_scipy_fills_one_object_at_a_time(binary, connectivity):
    settings = Postprocessing(connectivity=connectivity)
    ids = instances(binary.astype(float), settings)
    filled = instances(binary.astype(float), settings.changed({"fill_holes": True}))
    expected = ids.copy()
    # Outer objects first: what lies in several belongs to the innermost.
    heights = {number: np.ptp(np.nonzero(ids == number)[0]) for number in range(1, int(ids.max()) + 1)}
    for number in sorted(heights, key=lambda number: -heights[number]):
        inside = ndimage.binary_fill_holes(ids == number, structure(12 - connectivity))
        expected[inside & (ids == 0)] = number
    np.testing.assert_array_equal(filled, expected)
    np.testing.assert_array_equal(filled[binary], ids[binary])


def number_of_peaks(height, region, depth):
    """By definition: a part of what is at least M - depth high has a peak of height M if M is its top."""
    count = 0
    for part in np.unique(region[region > 0]):
        for top in np.unique(height[region == part]):
            components, number = ndimage.label((region == part) & (height >= top - depth), np.ones((3, 3)))
            tops = ndimage.maximum(height, components, range(1, number + 1))
            count += int(np.count_nonzero(np.asarray(tops) == top))
    return count


@given(
    SIZES.flatmap(
        lambda size: st.tuples(
            arrays(np.float32, size, elements=st.integers(0, 9).map(float)),
            arrays(np.int32, size, elements=st.integers(0, 2)),
        )
    ),
    st.integers(0, 4),
)
def test_peaks_by_their_definition(plane, depth):
    height, region = plane
    inside = np.flatnonzero(region)
    descending = inside[np.argsort(-height.ravel()[inside], kind="stable")]
    found = peaks(height, region, descending, float(depth))
    assert len(found) == len(set(found.tolist())) == number_of_peaks(height, region, depth)
    assert (region.ravel()[found] > 0).all()
    for pixel in found:  # no higher neighbour: it is a top
        y, x = divmod(int(pixel), height.shape[1])
        near = np.s_[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert height[near][region[near] == region[y, x]].max() == height[y, x]
