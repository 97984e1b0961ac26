"""Data sets: what holds for all masks and all names."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ushape.config import IGNORE
from ushape.data import Fault, Pair, Source, split
from ushape.data.evidence import examine, packed, ranked, unpacked
from ushape.data.masks import decide
from ushape.data.pairing import pair_up
from ushape.io import LabelImage

SIDES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9)
PLANES = hnp.arrays(np.uint8, SIDES, elements=st.sampled_from([0, 1, 2, 3, 255]))
STEMS = st.lists(st.text("ab01_", min_size=1, max_size=6), unique=True, min_size=1, max_size=8)


@given(PLANES, st.sampled_from([None, "objects", 2, 3, 4]), st.sampled_from([None, 3, 255]))
def test_objects_and_their_classes_say_the_same_as_the_class_plane(plane, classes, ignore):
    coding = decide([examine(LabelImage(plane, "YX"))], classes=classes, ignore=ignore)
    if isinstance(coding, Fault):
        return
    objects, object_class = coding.objects(plane)
    by_object, by_pixel = object_class[objects], coding.class_plane(plane)
    assert np.array_equal(by_object, by_pixel)
    assert np.array_equal(
        by_pixel == IGNORE, plane == ignore if ignore is not None else np.zeros(plane.shape, bool)
    )
    if coding.kind == "instances":
        counted = by_pixel != IGNORE
        assert sorted(set(objects[counted & (plane > 0)].tolist())) == list(
            range(1, len(set(plane[counted & (plane > 0)].tolist())) + 1)
        )


@given(hnp.arrays(np.int64, SIDES, elements=st.integers(-3, 70000)))
def test_ranks_give_the_values_back(codes):
    values, ranks = ranked(codes)
    assert np.array_equal(values[ranks], codes)
    assert np.array_equal(values, np.unique(codes))


@given(st.tuples(*[st.integers(0, 65535)] * 3))
def test_colours_survive_packing(color):
    assert unpacked(int(packed(np.array([[color]], np.uint16))[0, 0]), 16) == color


@given(STEMS, STEMS, st.randoms(use_true_random=False))
def test_every_mask_has_one_image_at_most_whatever_the_order(image_stems, mask_stems, random):
    images, masks = ([Path(f"{stem}.png") for stem in stems] for stems in (image_stems, mask_stems))
    pairing = pair_up(images, masks)
    taken = [mask for _, mask in pairing.partners if mask is not None]
    assert len(taken) == len(set(taken))
    assert sorted([*taken, *pairing.orphans]) == sorted(masks)
    assert [image for image, _ in pairing.partners] == images
    shuffled = random.sample(images, len(images)), random.sample(masks, len(masks))
    assert dict(pair_up(*shuffled).partners) == dict(pairing.partners)


@given(STEMS)
def test_equal_stems_always_pair(stems):
    images, masks = [Path(f"{stem}.png") for stem in stems], [Path(f"{stem}.tif") for stem in stems]
    assert all(
        mask is not None and mask.stem == image.stem for image, mask in pair_up(images, masks).partners
    )


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 5))
@settings(max_examples=200)
def test_a_share_is_met_to_half_an_image_and_spread(count, share, seed):
    pairs = [Pair(str(i), Source(Path("a")), None) for i in range(count)]
    train, held_out = split(pairs, share, seed=seed)
    expected = min(max(1, round(share * count)), count - 1)
    assert (len(held_out), len(train)) == (expected, count - expected)
    gaps = np.diff([int(pair.name) for pair in held_out])
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1
