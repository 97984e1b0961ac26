"""Training tiles: which image, which place, which deformation, then gap and weights, from one number.

A tile depends on the seed and its global sample number alone. So it does not matter which worker makes it,
or whether the run was interrupted before it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ushape import augment, weight_map
from ushape.config import IGNORE, Normalization
from ushape.data import Sample
from ushape.geometry import Geometry, PaddedGeometry
from ushape.training.recipe import DEGRADED, Recipe

Array = np.ndarray[Any, Any]

Tile = dict[str, Any]
"""Tensors and plain numbers, by name."""

_BLOCK = 32
"""Side of the blocks of pixels of which is known whether any counts."""

_TRIES = 100
"""Most places that are drawn for a tile: enough where one in twenty shows a pixel that counts."""


@dataclass(frozen=True, eq=False)
class TileDraw:
    """Everything that is drawn for one tile: what any device needs to make it.

    Attributes
    ----------
    image : int
        Index of the image.
    center : tuple of float
        Point (y, x) of the image at the tile's centre.
    deformation : Deformation
    grey : GreyVariation
    rng : numpy.random.Generator
        Source of the noise of each pixel, after all of the above was drawn from it.
    """

    image: int
    center: tuple[float, float]
    deformation: augment.Deformation
    grey: augment.GreyVariation
    rng: np.random.Generator


def class_weights(samples: Sequence[Sample], classes: int, power: float) -> Array:
    """Weights w_c (C,) of the classes in the loss, see `weight_map.class_balance`."""
    counts = np.sum([np.bincount(sample.classes.ravel(), minlength=256) for sample in samples], axis=0)
    return weight_map.class_balance(counts[:classes], power=power)


def parted(sample: Sample) -> Sample:
    """Make each connected part (8 neighbours) of each class but the first an object of its own."""
    import cc3d

    parts, count = cc3d.connected_components(sample.classes, connectivity=8, return_N=True)
    object_class = np.zeros(count + 1, np.uint8)
    object_class[parts] = sample.classes
    return replace(sample, objects=parts.astype(np.int32), object_class=object_class)


def counted_blocks(sample: Sample) -> Array | None:
    """Whether any pixel counts in each block of 32 x 32 pixels; None if all pixels do."""
    counted = sample.classes != IGNORE
    if counted.all():
        return None
    rows, columns = (np.arange(0, length, _BLOCK) for length in counted.shape)
    blocks: Array = np.logical_or.reduceat(np.logical_or.reduceat(counted, rows, axis=0), columns, axis=1)
    return blocks


class TileDataset(Dataset[Tile]):
    """Augmented tiles of annotated images, by global sample number.

    Where some pixels do not count, tiles are drawn until one shows some that do; an image without any is
    passed over.

    Parameters
    ----------
    samples : list of Sample
        Annotated images.
    recipe : Recipe
        Strengths of the augmentation, border weights, largest tile.
    geometry : Geometry
        Of the network: a tile has a valid size.
    normalization : Normalization
        Applied to each whole image, as in prediction.
    seed : int
    """

    def __init__(
        self,
        samples: list[Sample],
        recipe: Recipe,
        geometry: Geometry,
        normalization: Normalization,
        *,
        seed: int,
    ) -> None:
        self.recipe, self.geometry, self.seed = recipe, geometry, seed
        samples = [sample for sample in samples if (sample.classes != IGNORE).any()]
        self.counted = [counted_blocks(sample) for sample in samples]
        self.images = [normalization.apply(sample.image) for sample in samples]
        # Strengths are of images of deviation 1, which a fixed normalisation does not make of each.
        is_fixed = normalization.kind == "fixed"
        self.deviations = [image.std((1, 2)) if is_fixed else None for image in self.images]
        classes = max(int(s.object_class[s.object_class != IGNORE].max()) for s in samples) + 1
        self.balance = class_weights(samples, classes, recipe.class_power)
        self.separate = classes == 2 if recipe.separate is None else recipe.separate
        self.samples = [*map(parted, samples)] if self.separate and classes > 2 else samples
        self.size_in, self.tiles_per_step = tile_size(
            [s.objects.shape for s in samples], recipe.tile * geometry.shrink, geometry
        )
        self.tiles_per_step = recipe.tiles or self.tiles_per_step
        # A network that sees means of k x k pixels sees a k-th of the noise, and a blur k times as narrow.
        grey = recipe.grey or DEGRADED
        noise, blur_px = grey.noise * geometry.shrink, grey.blur_px * geometry.shrink
        self.grey = replace(grey, noise=noise, blur_px=blur_px)
        self.size_out = geometry.output_size(self.size_in)
        if recipe.border == "falk":
            self.tail = weight_map.falk_tail_px()
        else:
            self.tail = weight_map.tail_px(recipe.border_sigma_px, recipe.border_w0)
        self.size_objects = self.size_out + 2 * self.tail

    def __getitem__(self, number: int) -> Tile:
        """Make tile `number`: image (C, s, s) float32, classes (o, o) int64, weights (o, o) float32."""
        draw = self.draw(number)
        sample = self.samples[draw.image]
        image, ids = augment.random_tile(
            self.images[draw.image],
            sample.objects,
            center=draw.center,
            size_in=self.size_in,
            size_objects=self.size_objects,
            deformation=draw.deformation,
            interpolation=self.recipe.interpolation,
        )
        image = augment.vary_grey_values(image, draw.grey, draw.rng)
        classes, weights = weight_map.targets(
            ids,
            sample.object_class,
            self.balance,
            separate=self.separate,
            border=self.recipe.border,
            w0=self.recipe.border_w0,
            sigma_px=self.recipe.border_sigma_px,
            crop=self.tail,
        )
        return {
            "number": number,
            "image": torch.from_numpy(image),
            "classes": torch.from_numpy(classes.astype(np.int64)),
            "weights": torch.from_numpy(weights),
        }

    def draw(self, number: int) -> TileDraw:
        """Draw what tile `number` is: cheap, nothing is computed."""
        image, rng = self._image_of(number), augment.generator(self.seed, number)
        center, deformation = self._center(image, rng), self._deformation(rng)
        grey = self.grey.draw(rng, len(self.images[image]))
        if (deviation := self.deviations[image]) is not None:
            grey = grey.of_deviation(deviation)
        return TileDraw(image=image, center=center, deformation=deformation, grey=grey, rng=rng)

    def _image_of(self, number: int) -> int:
        # Every image once per round, each round in an order of its own.
        turn, place = divmod(number, len(self.samples))
        order = augment.generator(self.seed, turn, stream=2).permutation(len(self.samples))
        return int(order[place])

    def _center(self, image: int, rng: np.random.Generator) -> tuple[float, float]:
        # Anywhere, but with at most a quarter of the tile beyond the border of the image.
        shape, reach = self.samples[image].objects.shape, self.size_out / 4
        low = [min(reach, side / 2) for side in shape]
        # The middle of an even tile is between two pixels: a plain tile then shows pixels as they are.
        middle = 0.5 if self.size_in % 2 == 0 else 0.0
        for _ in range(_TRIES):
            y, x = (
                math.floor(rng.uniform(edge, side - edge)) + middle
                for edge, side in zip(low, shape, strict=True)
            )
            if self._teaches(image, y, x):
                break
        return y, x

    def _teaches(self, image: int, y: float, x: float) -> bool:
        """Whether a tile there, if it is not turned, has a pixel that counts, or nearly."""
        blocks = self.counted[image]
        if blocks is None:
            return True
        half = self.size_out // 2
        rows, columns = (
            slice(max(int(at) - half, 0) // _BLOCK, (int(at) + half) // _BLOCK + 1) for at in (y, x)
        )
        return bool(blocks[rows, columns].any())

    def _deformation(self, rng: np.random.Generator) -> augment.Deformation:
        if rng.uniform() < self.recipe.plain:
            return augment.Deformation.draw_plain(rng, upright=bool(self.recipe.upright))
        return self.recipe.deformation(rng)


def tile_size(shapes: list[tuple[int, ...]], largest: int, geometry: Geometry) -> tuple[int, int]:
    """Input size of a tile that fits the images, and how many make one step.

    A tile much larger than the images would show mirror images; several smaller ones, which cost no more,
    then take its place.

    Parameters
    ----------
    shapes : list of (height, width)
        Of the images.
    largest : int
        Input size of the largest tile, in pixels.
    geometry : Geometry
        Of the network.

    Returns
    -------
    size_in : int
        Valid input size, at most `largest` if a valid one is.
    tiles : int
        Tiles per step, at least 1.
    """
    side = int(np.median([min(shape) for shape in shapes]))
    most = geometry.nearest_valid_sizes(largest)[0] or geometry.smallest
    size_in = min(geometry.input_size(side), most)
    if isinstance(geometry, PaddedGeometry) and size_in > geometry.period:
        size_in -= size_in % geometry.period  # what goes on beyond that is computed for nothing
    computed = max(size_in, geometry.period)  # a padded network fills up what is smaller
    return size_in, max(1, most**2 // computed**2)
