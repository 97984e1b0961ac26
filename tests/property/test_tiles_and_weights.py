"""What must hold for tiles and border weights whatever the objects are."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import zoom

from ushape.augment import Deformation, generator, random_tile
from ushape.weight_map import border_weights, cut_gap, falk_tail_px, falk_weights, tail_px, targets

PLANES = arrays.arrays(
    np.int32,
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    elements=st.sampled_from([0, 0, 0, 1, 2, 3, 9]),
)
VOLUMES = arrays.arrays(
    np.int32,
    st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 8)),
    elements=st.sampled_from([0, 0, 0, 1, 2, 3, 9]),
)
TURNS = st.sampled_from([np.rot90, np.flipud, np.fliplr, np.transpose])


@settings(deadline=None)  # the first example compiles
@given(PLANES, TURNS)
def test_gap_and_weights_turn_with_the_objects(objects, turn):
    assert_array_equal(cut_gap(turn(objects)), turn(cut_gap(objects)))
    # Equal sums of squares in another order: the same float32.
    assert_array_equal(border_weights(turn(objects)), turn(border_weights(objects)))


@settings(deadline=None)  # the first example compiles
@given(PLANES)
def test_no_two_objects_touch_once_the_gap_is_cut(objects):
    separated = cut_gap(objects)
    assert_array_equal(cut_gap(separated), separated)
    assert np.all((separated == objects) | (separated == 0))


@settings(deadline=None)  # the first example compiles
@given(PLANES, st.permutations([1, 2, 3, 9]))
def test_the_names_of_objects_do_not_matter(objects, names):
    renamed = np.array([0, names[0], names[1], names[2], 0, 0, 0, 0, 0, names[3]])[objects]
    assert_array_equal(border_weights(renamed), border_weights(objects))
    assert_array_equal(cut_gap(renamed) > 0, cut_gap(objects) > 0)


@settings(deadline=None)  # the first example compiles
@given(VOLUMES, st.permutations([0, 1, 2]), st.permutations([1.0, 2.0, 0.75]))
def test_weights_of_a_volume_do_not_depend_on_the_order_of_its_axes(objects, order, spacing):
    turned = objects.transpose(order)
    assert_array_equal(cut_gap(turned), cut_gap(objects).transpose(order))
    assert_array_equal(border_weights(turned), border_weights(objects).transpose(order))
    sizes = tuple(spacing[axis] for axis in order)
    expected = border_weights(objects, spacing=tuple(spacing)).transpose(order)
    # Rounded squares of distances are added in another order.
    assert_allclose(border_weights(turned, spacing=sizes), expected, rtol=0, atol=1e-6)


@settings(deadline=None)  # the first example compiles
@given(VOLUMES, st.integers(0, 5))
def test_a_plane_alone_is_a_volume_of_one_slice(objects, at):
    plane = objects[at % len(objects)]
    assert_array_equal(border_weights(plane[None])[0], border_weights(plane))
    assert_array_equal(border_weights(plane[None], spacing=(7, 1, 1))[0], border_weights(plane))
    assert_array_equal(cut_gap(plane[None])[0], cut_gap(plane))
    assert_array_equal(falk_weights(plane[None])[0], falk_weights(plane))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(5, 30), st.sampled_from([(5.0, 10.0), (2.0, 3.0)]))
def test_a_margin_of_tail_px_decides_the_weights_of_a_tile(seed, coarse, strength):
    """A window with its margin gives what the whole plane gives there."""
    sigma_px, w0 = strength
    tail = tail_px(sigma_px, w0)
    rng = np.random.default_rng(seed)
    objects = zoom(rng.integers(0, 40, (coarse, coarse)), 130 / coarse, order=0)[:130, :130]
    objects[rng.random(objects.shape) < 0.3] = 0
    object_class = np.r_[0, np.ones(39, np.uint8)]
    y, x = rng.integers(0, 130 - 2 * tail - 20, 2) + tail
    options = {"w0": w0, "sigma_px": sigma_px}
    classes, weights = targets(objects, object_class, np.array([1, 2]), **options)
    window = objects[y - tail : y + 20 + tail, x - tail : x + 20 + tail]
    classes_in, weights_in = targets(window, object_class, np.array([1, 2]), crop=tail, **options)
    assert_array_equal(classes_in, classes[y : y + 20, x : x + 20])
    # What lies beyond the margin adds terms below 1e-6, which are taken as 0 in both.
    assert_array_equal(weights_in, weights[y : y + 20, x : x + 20])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.integers(5, 30), st.booleans())
def test_a_margin_of_falk_tail_px_decides_the_later_weights_of_a_tile(seed, coarse, separate):
    tail = falk_tail_px()
    rng = np.random.default_rng(seed)
    objects = zoom(rng.integers(0, 40, (coarse, coarse)), 180 / coarse, order=0)[:180, :180]
    objects[rng.random(objects.shape) < rng.choice([0.3, 0.99, 0.999])] = 0
    object_class = np.resize([0, 1, 2], 40).astype(np.uint8)
    y, x = rng.integers(0, 180 - 2 * tail - 20, 2) + tail
    options = {"border": "falk", "separate": separate}
    classes, weights = targets(objects, object_class, np.ones(3), **options)
    window = objects[y - tail : y + 20 + tail, x - tail : x + 20 + tail]
    classes_in, weights_in = targets(window, object_class, np.ones(3), crop=tail, **options)
    assert_array_equal(classes_in, classes[y : y + 20, x : x + 20])
    # Terms below 1e-6 are taken as 0 in both; a distance that a float32 rounds is rounded in both.
    assert_array_equal(weights_in, weights[y : y + 20, x : x + 20])


@settings(deadline=None)
@given(PLANES, st.integers(2, 15), st.tuples(st.integers(-30, 30), st.integers(-30, 30)))
def test_borders_are_mirrored_as_often_as_a_small_image_needs(plane, half, center):
    """Cut straight out of NumPy's repeated `reflect`, wherever the tile lies."""
    pad = 64
    mirrored = np.pad(plane, pad, mode="reflect")
    image, objects = random_tile(
        plane[None].astype(np.float32),
        plane,
        size_in=2 * half + 1,
        size_objects=2 * half - 1,
        deformation=Deformation.identity(),
        center=center,
    )
    y, x = center[0] + pad, center[1] + pad
    assert_array_equal(image[0], mirrored[y - half : y + half + 1, x - half : x + half + 1])
    assert_array_equal(objects, mirrored[y - half + 1 : y + half, x - half + 1 : x + half])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**63), st.integers(0, 2**63), st.floats(0, 15))
def test_image_and_objects_move_together(seed, sample, elastic_std_px):
    """Where the image is the id of the object under it, the tile is, but for pixels that mix two ids."""
    ids = np.kron(np.arange(1, 26).reshape(5, 5), np.ones((16, 16), int))
    deformation = Deformation.draw(generator(seed, sample), elastic_std_px=elastic_std_px, shift_px=(40, 40))
    image, objects = random_tile(
        ids[None].astype(np.float32), ids, size_in=72, size_objects=48, deformation=deformation
    )
    image = image[0, 12:60, 12:60]
    flat = np.ones((48, 48), bool)
    for axis in (0, 1):
        flat &= (np.roll(image, 1, axis) == image) & (np.roll(image, -1, axis) == image)
    flat &= image == np.rint(image)
    assert flat.mean() > 0.2
    assert_allclose(image[flat], objects[flat])
