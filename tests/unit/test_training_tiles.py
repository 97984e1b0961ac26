"""Training tiles: a function of the number alone, image and target at the same place, valid sizes."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ushape import UNet, augment
from ushape.augment import GreyValues
from ushape.config import IGNORE, Normalization
from ushape.data import Sample
from ushape.geometry import PaddedGeometry
from ushape.training.feed import TileData, share_of_step
from ushape.training.recipe import FAST, Recipe
from ushape.training.tiles import Tile, TileDataset, parted, tile_size

GEOMETRY = UNet(width=1, depth=2).geometry
PLAIN = FAST.model_copy(update={"grey": GreyValues(0, 0, 0, 0, 0), "tile": 108})


def stripes(seed: int) -> Sample:
    """Wide objects, bright on dark without noise, so that the image itself says where they are."""
    rng = np.random.default_rng(seed)
    objects = np.zeros((150, 160), np.int32)
    for number, left in enumerate(range(10, 130, 40), start=1):
        objects[20 : 130 - rng.integers(20), left : left + 25] = number
    return Sample(
        f"s{seed}",
        (200.0 * (objects > 0))[None].astype(np.float32),
        objects,
        np.array([0, 1, 1, 1], np.uint8),
    )


def dataset(seed: int = 0, samples: Callable[[int], Sample] = stripes, recipe: Recipe = PLAIN) -> TileDataset:
    return TileDataset([samples(0), samples(1)], recipe, GEOMETRY, Normalization(), seed=seed)


def equal(left: Tile, right: Tile) -> bool:
    return all(torch.equal(left[key], right[key]) for key in ("image", "classes", "weights"))


def test_a_tile_depends_on_seed_and_number_alone() -> None:
    first, again, other = dataset(), dataset(), dataset(seed=1)
    again[3]  # what was drawn before does not matter
    assert equal(first[7], again[7])
    one, two = (number for number in range(4) if first._image_of(number) == 0)
    assert not torch.equal(first[one]["classes"], first[two]["classes"])
    assert not equal(first[7], other[7])


def test_each_round_shows_every_image_once() -> None:
    tiles = dataset()
    for turn in range(5):
        assert {tiles._image_of(2 * turn), tiles._image_of(2 * turn + 1)} == {0, 1}


def test_tiles_lie_anywhere_with_a_quarter_at_most_beyond_the_image() -> None:
    tiles = dataset()
    drawn = [tiles.draw(number) for number in range(400)]
    for axis, side in enumerate((150, 160)):
        centers = np.array([draw.center[axis] for draw in drawn])
        reach = tiles.size_out / 4
        assert reach - 0.5 <= centers.min() < reach + 3
        assert side - reach - 3 < centers.max() <= side - reach + 0.5
        assert (centers % 1 == 0.5).all(), "between two pixels"
        assert abs(centers.mean() - side / 2) < 5  # of 400 draws, whose mean has a deviation of 1.5


def test_lengths_and_noise_count_in_pixels_of_the_network() -> None:
    recipe = FAST.model_copy(update={"grey": GreyValues(noise=0.3, blur_px=2.0, fade=0.5), "tile": 108})
    geometry = UNet(width=1, depth=2, shrink=2).geometry
    tiles = TileDataset([stripes(0)], recipe, geometry, Normalization(), seed=0)
    assert (tiles.grey.noise, tiles.grey.blur_px, tiles.grey.fade) == (0.6, 4.0, 0.5)


def test_sizes_fit_the_network() -> None:
    tiles = dataset()
    tile = tiles[0]
    network = UNet(width=1, depth=2)
    assert network(tile["image"][None]).shape[-2:] == tile["classes"].shape == tile["weights"].shape


@pytest.mark.parametrize("number", range(8))
def test_classes_lie_where_the_image_shows_them(number: int) -> None:
    tiles = dataset()
    tile = tiles[number]
    margin = (tiles.size_in - tiles.size_out) // 2
    inner = tile["image"][0, margin:-margin, margin:-margin]
    bright = inner > (tile["image"].min() + tile["image"].max()) / 2
    # Half a pixel of interpolation at the outlines; a shift by 2 px would differ on more than 5 %.
    assert (bright == (tile["classes"] == 1)).float().mean() > 0.97


def test_the_border_of_a_recipe_decides_the_weights() -> None:
    """The same tile with the paper's weights, by default, and with those its authors published later."""
    paper, later = dataset()[0], dataset(recipe=PLAIN.model_copy(update={"border": "falk"}))[0]
    assert PLAIN.border == "ronneberger"
    assert torch.equal(paper["image"], later["image"])
    inside, outside = later["classes"] == 1, later["classes"] == 0
    assert torch.all(later["weights"][inside] == 1)
    assert later["weights"][outside].min() >= np.float32(0.1)
    assert len(paper["weights"][inside].unique()) == 1
    # Gaps of both kinds lie within objects; elsewhere the classes are the same.
    assert torch.all(paper["classes"] <= later["classes"])


def test_the_spline_and_the_grid_of_a_recipe_are_drawn() -> None:
    deformed = PLAIN.model_copy(update={"plain": 0.0})
    later = deformed.model_copy(update={"spline": "approximating", "grid": 7})
    usual, other = (dataset(recipe=one).draw(5).deformation for one in (deformed, later))
    assert (usual.spline, usual.displacements.shape) == ("interpolating", (2, 3, 3))
    assert (other.spline, other.displacements.shape) == ("approximating", (2, 7, 7))
    assert not torch.equal(dataset(recipe=deformed)[5]["image"], dataset(recipe=later)[5]["image"])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_class_power_of_a_recipe_weighs_the_classes(power: float) -> None:
    tiles = dataset(recipe=PLAIN.model_copy(update={"class_power": power, "border_w0": 0.0}))
    background, objects = np.sum([np.bincount(sample.classes.ravel()) for sample in tiles.samples], axis=0)
    tile = next(tile for tile in map(tiles.__getitem__, range(20)) if len(tile["classes"].unique()) == 2)
    (of_background,), (of_objects,) = (tile["weights"][tile["classes"] == n].unique() for n in (0, 1))
    # One division in float32.
    assert float(of_objects / of_background) == pytest.approx((background / objects) ** power, rel=1e-6)


def cells_of_two_kinds(seed: int) -> Sample:
    """Two cells of a kind, a cell of another that touches the second, pixels that do not count."""
    objects = np.zeros((150, 160), np.int32)
    objects[40:110, 20:60], objects[40:110, 64:100], objects[40:110, 100:140] = 1, 1, 2
    objects[:20] = 3
    table = np.array([0, 1, 2, IGNORE], np.uint8)
    return Sample(f"k{seed}", np.zeros((1, *objects.shape), np.float32), objects, table)


def test_parts_of_classes_are_objects() -> None:
    before = cells_of_two_kinds(0)
    found = parted(before)
    np.testing.assert_array_equal(found.classes, before.classes)
    ids = [found.objects[row, column] for row, column in ((0, 0), (50, 30), (50, 80), (50, 120), (30, 30))]
    assert len(set(ids)) == 5
    assert ids[-1] == 0
    assert sorted(found.object_class[ids]) == [0, 1, 1, 2, IGNORE]


@pytest.mark.parametrize("separate", [None, False, True])
def test_cells_of_several_kinds_are_kept_apart_where_that_is_wanted(separate: bool | None) -> None:
    recipe = PLAIN.model_copy(update={"plain": 1.0, "separate": separate})
    tiles = dataset(samples=cells_of_two_kinds, recipe=recipe)
    batch = [tiles[number] for number in range(12)]
    classes = torch.stack([tile["classes"] for tile in batch])
    weights = torch.stack([tile["weights"] for tile in batch])
    heaviest = weights[classes == 0].max()  # between the cells of one kind, 4 px from each other
    touch = (classes[:, :, 1:] + classes[:, :, :-1] == 3).any() or (
        classes[:, 1:] + classes[:, :-1] == 3
    ).any()
    if separate:
        assert not touch
        assert heaviest > tiles.balance[0] + 5  # eq. 2: 10 exp(-5**2 / 50) is 6, in the gap 8
    else:
        assert touch
        assert heaviest == tiles.balance[0]
    assert (weights[classes == IGNORE] == 0).all()


def test_one_kind_of_cells_need_not_be_kept_apart() -> None:
    tiles = dataset(recipe=PLAIN.model_copy(update={"separate": False}))
    assert set(torch.unique(tiles[0]["weights"]).tolist()) <= set(tiles.balance.tolist())


def test_half_of_the_tiles_show_pixels_as_they_are() -> None:
    rng = np.random.default_rng(0)

    def noisy(seed: int) -> Sample:
        return Sample(
            f"n{seed}", rng.normal(size=(1, 150, 160)), stripes(seed).objects, np.array([0, 1, 1, 1])
        )

    tiles = dataset(samples=noisy)
    assert tiles.recipe.plain == 0.5
    values = np.unique([image.ravel() for image in tiles.images])
    plain = 0
    for number in range(60):
        seen = tiles[number]["image"].numpy().ravel()
        place = np.searchsorted(values, seen).clip(1, len(values) - 1)
        nearest = np.minimum(np.abs(values[place] - seen), np.abs(values[place - 1] - seen))
        plain += bool((nearest < 1e-5).all())  # the tone curve, straight here, rounds in float32
    assert 18 <= plain <= 42  # both beyond three standard deviations of 60 fair coins


def test_ignored_pixels_weigh_nothing() -> None:
    def with_unknown(seed: int) -> Sample:
        sample = stripes(seed)
        sample.objects[:, 80:] = 4
        return Sample(sample.name, sample.image, sample.objects, np.array([0, 1, 1, 1, IGNORE], np.uint8))

    tiles = dataset(samples=with_unknown)
    batch = [tiles[number] for number in range(6)]
    unknown = torch.stack([tile["classes"] for tile in batch]) == IGNORE
    weights = torch.stack([tile["weights"] for tile in batch])
    assert unknown.any()
    assert (weights[unknown] == 0).all()
    assert (weights[~unknown] > 0).all()


def annotated_in_a_corner(seed: int) -> Sample:
    """A large image of which only a corner counts."""
    objects = np.full((500, 540), 2, np.int32)
    objects[400:, 440:] = 0
    objects[420:450, 460:500] = 1
    image = np.zeros((1, *objects.shape), np.float32)
    return Sample(f"c{seed}", image, objects, np.array([0, 1, IGNORE], np.uint8))


def unknown_everywhere(seed: int) -> Sample:
    objects = np.ones((500, 540), np.int32)
    return Sample("u", np.zeros((1, *objects.shape), np.float32), objects, np.array([0, IGNORE], np.uint8))


def test_tiles_lie_where_something_counts() -> None:
    """By chance one in seventeen of them would."""
    recipe = PLAIN.model_copy(update={"plain": 1.0})
    samples = [unknown_everywhere(0), annotated_in_a_corner(1)]
    tiles = TileDataset(samples, recipe, GEOMETRY, Normalization(), seed=0)
    assert len(tiles.images) == len(tiles.samples) == 1, "an image in which nothing counts is passed over"
    counting = [bool((tiles[number]["weights"] > 0).any()) for number in range(20)]
    # What counts is known to 32 pixels: three in four of the tiles drawn show some of it.
    assert sum(counting) >= 8
    seen = {tiles.draw(number).center for number in range(20)}
    assert len(seen) == 20


def test_where_all_pixels_count_nothing_is_drawn_twice() -> None:
    tiles = dataset()
    assert tiles.counted == [None, None]
    rng = augment.generator(0, 3)
    y, x = (np.floor(rng.uniform(tiles.size_out / 4, side - tiles.size_out / 4)) + 0.5 for side in (150, 160))
    assert tiles._center(0, augment.generator(0, 3)) == (y, x)


def test_an_odd_tile_has_a_pixel_in_its_middle() -> None:
    padded = PaddedGeometry(32, lambda: 100)
    odd = Sample(
        "o", np.zeros((1, 31, 31), np.float32), np.eye(31, dtype=np.int32), np.array([0, 1], np.uint8)
    )
    tiles = TileDataset([odd], PLAIN.model_copy(update={"plain": 1.0}), padded, Normalization(), seed=0)
    assert tiles.size_in == 31
    assert tiles.draw(0).center[0] % 1 == 0


def test_images_smaller_than_what_a_padded_network_computes_make_no_more_tiles() -> None:
    padded = PaddedGeometry(32, lambda: 100)
    assert tile_size([(8, 8)], 572, padded) == (8, tile_size([(32, 32)], 572, padded)[1])


def test_strengths_of_grey_values_are_of_the_images_deviation() -> None:
    """A fixed normalisation, as encoders have it, leaves a dim image with a small deviation."""
    recipe = FAST.model_copy(update={"grey": GreyValues(brightness=0.2, noise=0.3), "tile": 108})
    fixed = Normalization(kind="fixed", mean=(0.0,), std=(1000.0,))
    tiles, usual = (
        TileDataset([stripes(0)], recipe, GEOMETRY, kind, seed=0) for kind in (fixed, Normalization())
    )
    (deviation,) = tiles.deviations[0]
    assert deviation < 0.2
    for number in range(5):
        dim, bright = tiles.draw(number).grey, usual.draw(number).grey
        np.testing.assert_allclose(dim.noise, bright.noise * deviation, rtol=1e-6)
        np.testing.assert_allclose(dim.brightness, bright.brightness * deviation, rtol=1e-6)
        np.testing.assert_array_equal(dim.contrast, bright.contrast)


def test_small_images_get_several_small_tiles() -> None:
    paper = UNet(width=1).geometry
    assert tile_size([(512, 512)], 572, paper) == (572, 1)
    size_in, tiles = tile_size([(96, 120), (100, 90)], 572, paper)
    assert paper.output_size(size_in) >= 90
    assert size_in < 300
    assert tiles == 572**2 // size_in**2
    # A network deeper than the tile allows gets its smallest tile.
    deep = UNet(width=1, depth=6).geometry
    assert tile_size([(512, 512)], 572, deep) == (deep.smallest, 1)


def test_a_padded_network_gets_whole_periods() -> None:
    padded = PaddedGeometry(32, lambda: 100)
    assert tile_size([(360, 480)], 572, padded) == (352, 2)  # 384 would be computed for 360
    assert tile_size([(1000, 1000)], 572, padded) == (544, 1)
    assert tile_size([(20, 20)], 572, padded)[0] == 20


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_the_workers(workers: int) -> None:
    tiles = dataset()
    loader = iter(TileData(tiles, workers=workers).train_dataloader())
    batches = [next(loader) for _ in range(2)]
    numbers = [number for batch in batches for number in batch["number"]]
    assert numbers == list(range(2 * tiles.tiles_per_step))
    assert torch.equal(batches[1]["image"][0], tiles[tiles.tiles_per_step]["image"])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_make_the_same_tiles_however_they_are_started(start: str) -> None:
    tiles = dataset()
    tiles.tiles_per_step = 2
    loader = TileData(tiles, workers=2).train_dataloader()
    loader.multiprocessing_context = start
    batches = [batch for batch, _ in zip(loader, range(3), strict=False)]
    for step, batch in enumerate(batches):
        for place in range(2):
            assert batch["number"][place] == 2 * step + place
            assert torch.equal(batch["image"][place], tiles[2 * step + place]["image"])
            assert torch.equal(batch["weights"][place], tiles[2 * step + place]["weights"])


@pytest.mark.parametrize(("tiles", "processes", "share"), [(8, 2, 4), (1, 1, 1), (1, 4, 1), (5, 2, 3)])
def test_a_step_takes_at_least_the_tiles_it_would_take_alone(tiles: int, processes: int, share: int) -> None:
    assert share_of_step(tiles, processes) == share


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_out_the_tiles_of_a_step(processes: int) -> None:
    tiles = dataset()
    tiles.tiles_per_step = 6
    step = []
    for rank in range(processes):
        data = TileData(tiles, workers=0)
        data.trainer = SimpleNamespace(global_step=5, global_rank=rank, world_size=processes)
        numbers = iter(data.train_dataloader().sampler)
        step += [next(numbers) for _ in range(data.share)]
        assert next(numbers) == 36 + rank * data.share, "the next step"
    assert step == [30, 31, 32, 33, 34, 35]
