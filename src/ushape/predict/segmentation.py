"""What a network says about an image of any size: probabilities, classes and objects.

All of it is equal to one pass over the whole image.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ushape import pictures
from ushape.backends import Backend, available_memory, resident_memory
from ushape.config import ModelHeader, Postprocessing
from ushape.errors import ConfigError, ShapeError
from ushape.instances import features, instances, measure, require_applicable
from ushape.io import Image
from ushape.predict.averaging import NO_AVERAGE, Average
from ushape.predict.block_planning import bytes_for_objects
from ushape.predict.budget import budget_of
from ushape.predict.probabilities import most_probable, most_probable_kinds, tile_probabilities
from ushape.predict.resampling import resampled
from ushape.predict.scaling import Scale, in_words, postprocessing_at, scaled_size
from ushape.tiling import TilePlan, plan_for_memory, run_tiled

Array = np.ndarray[Any, Any]

GREY_IN_COLOUR = "the three colour channels are equal; used as one grey channel"
_ALL_MEMORY = 1e18


class Segmentation:
    """What a network says about an image or a stack; computed when asked for, then kept.

    A stack goes through the network plane by plane, and only what is asked for is kept: its classes take a
    byte per pixel, its probabilities four per class, which the `max_memory` of a `Segmenter` must hold.
    Where several results of a stack are wanted, `compute` gives them in one pass.

    Attributes
    ----------
    image : Image
        What was segmented.
    header : ModelHeader
        Of the model.
    backend : Backend
        What computes the network.
    plan : TilePlan
        How each plane is cut into tiles.
    precision : {"fp32", "bf16", "int8", "fp64"}
        What the network is computed in. In fp32, tiles equal a pass over the whole image within 1e-5; in
        bf16 they differ from it by the rounding of bf16 itself (measured: logits by 1.5 % of the largest).
    notes : tuple of str
        What was done to the image that the user should know.
    scale : tuple of float
        By what height and width were multiplied before the image went through the network.
    postprocessing : Postprocessing
        How objects are found, in pixels of the image.
    average : Average
        Over which versions of each tile its probabilities are averaged.
    """

    def __init__(
        self,
        image: Image,
        header: ModelHeader,
        backend: Backend,
        max_memory: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        scale: Scale = (1.0, 1.0),
        postprocessing: Postprocessing | None = None,
        average: Average = NO_AVERAGE,
    ) -> None:
        self.image, self.scale, self.average = image, scale, average
        self.postprocessing = postprocessing or postprocessing_at(header, scale, {})
        self.precision, self._max_memory = backend.precision, max_memory
        self.header, self.backend, self._progress = header, backend, progress
        self._planes, self.notes = channels_for(image, header.architecture.in_channels)
        self._channels, self._name = max(header.architecture.classes, 2), image.path or "the image"
        self.plan = self._plan()
        self._tiles_done = 0
        self._probabilities: Array | None = None
        self._classes: Array | None = None
        self._instances: Array | None = None
        self._objects: dict[str, Array] = {}

    @property
    def probabilities(self) -> Array:
        """Probability of each class: float32, shape (C, H, W), for a stack (Z, C, H, W), 0 to 1.

        Softmax over the classes, calibrated as the model says; a network with a single sigmoid channel
        gives two, 1 - p and p.
        """
        self.compute(probabilities=True)
        return self._like_image(self._probabilities)

    @property
    def classes(self) -> Array:
        """Most probable class: uint8, shape (H, W), for a stack (Z, H, W)."""
        self.compute()
        return self._like_image(self._classes)

    def instances(self, postprocessing: Postprocessing | None = None) -> Array:
        """Objects as the model's post-processing finds them, or as another one does.

        Parameters
        ----------
        postprocessing : Postprocessing, optional
            Another way to find objects. Only the ids are made with it: `objects`, `outlines` and `overlay`
            stay with the model's. With a stack it means one more pass through the network, unless
            `probabilities` were asked for before.

        Returns
        -------
        ndarray of uint16 (uint32 from 65,536 objects on), shape (H, W), for a stack (Z, H, W)
            Ids 1..n without gaps, 0 is background. Planes of a stack are independent: their objects are
            numbered on from plane to plane. Objects of different classes are different objects.

        Raises
        ------
        ConfigError
            If the post-processing cannot be applied; see `ushape.instances.require_applicable`.
        """
        if postprocessing is None or postprocessing == self.postprocessing:
            self.compute(instances=True)
            return self._like_image(self._instances)
        self._require_applicable(postprocessing)
        self._require_room_for_objects(postprocessing)
        planes = self._each_plane(keep=len(self._planes) == 1)
        return self._like_image(_numbered_on([self._find_objects(plane, postprocessing) for plane in planes]))

    def objects(self) -> dict[str, Array]:
        """Measurements of `instances()`: columns by name, with the unit in it, and rows by ascending id.

        See `ushape.instances.measure` for the columns; those of a stack end with `plane`, from 0. Grey values
        are those of the file. `pandas.DataFrame` takes it as it is.
        """
        self.compute(instances=True)
        return self._objects

    def outlines(self) -> dict[str, Any]:
        """Outlines of `instances()` as GeoJSON; see `ushape.instances.features`.

        Returns
        -------
        dict
            A FeatureCollection, for `json.dump`.
        """
        self.compute(instances=True)
        assert self._instances is not None
        found: list[dict[str, Any]] = []
        for place, ids in enumerate(self._instances):
            plane = place if self.image.is_stack else None
            found += features(ids, self._rows_of(place), self.header.classes, plane=plane)
        return {"type": "FeatureCollection", "features": found}

    def overlay(self, plane: int | None = None, *, objects: bool = False) -> Array:
        """Draw the result on the image: class colours, or outlines of the objects.

        Parameters
        ----------
        plane : int, optional
            Of a stack; the middle one if not given.
        objects : bool
            Outlines of the objects in place of class colours.

        Returns
        -------
        ndarray of uint8, shape (H, W, 3)
        """
        place = len(self._planes) // 2 if plane is None else plane
        self.compute(instances=objects)
        picture = pictures.display(self._planes[place])
        if objects:
            assert self._instances is not None
            return pictures.draw_outlines(picture, self._instances[place])
        assert self._classes is not None
        return pictures.blend(picture, self._classes[place], [info.color for info in self.header.classes])

    def compute(self, *, probabilities: bool = False, instances: bool = False) -> None:
        """Compute classes and, if asked for, probabilities and instances in one pass; nothing twice."""
        probabilities = probabilities and self._probabilities is None
        instances = instances and self._instances is None
        if self._classes is not None and not probabilities and not instances:
            return
        if instances:
            self._require_applicable(self.postprocessing)
            self._require_room_for_objects(self.postprocessing)
        if probabilities:
            self._require_room()
        count, _, height, width = self._planes.shape
        classes = np.empty((count, height, width), np.uint8)
        ids: list[Array] = []
        tables: list[dict[str, Array]] = []
        # A single plane is always kept: it is there anyway, and everything else follows from it.
        for place, plane in enumerate(self._each_plane(keep=probabilities or count == 1)):
            classes[place] = most_probable(plane)
            if instances:
                ids.append(self._find_objects(plane, self.postprocessing))
                tables.append(self._measured(ids[-1], place, plane))
        self._classes = classes
        if instances:
            self._instances, self._objects = _numbered_on(ids), self._as_one(tables)

    def _each_plane(self, *, keep: bool) -> Iterator[Array]:
        """Probabilities of one plane after the other, (C, H, W): those known, or new ones."""
        if self._probabilities is not None:
            yield from self._probabilities
            return
        count, _, height, width = self._planes.shape
        kept = np.empty((count, self._channels, height, width), np.float32) if keep else None
        self._tiles_done = 0
        for place, values in enumerate(self._planes):
            image = self.header.normalization.apply(resampled(values, self._network_size, cubic=True))
            out = None if kept is None or self._is_scaled else kept[place]
            found = run_tiled(image, self._probabilities_of_tile, self.plan, self._channels, out)
            found = resampled(found, (height, width))
            if kept is not None and self._is_scaled:
                kept[place] = found
            yield found
        self._probabilities = kept

    def _probabilities_of_tile(self, tile: Array) -> Array:
        result = tile_probabilities(tile, self.backend, self.average, self.header.calibration)
        self._tiles_done += 1
        if self._progress is not None:
            self._progress(self._tiles_done, len(self.plan) * len(self._planes))
        return result

    def _find_objects(self, plane: Array, postprocessing: Postprocessing) -> Array:
        self.backend.release_memory()  # objects need it next
        size = self.image.pixel_size_um
        return instances(
            plane[1:].sum(0), postprocessing, classes=most_probable_kinds(plane), pixel_size_um=size
        )

    def _measured(self, ids: Array, place: int, plane: Array) -> dict[str, Array]:
        size, classes = self.image.pixel_size_um, self._classes_of(ids, plane)
        return measure(ids, classes=classes, image=self._planes[place], pixel_size_um=size)

    def _classes_of(self, ids: Array, plane: Array) -> Array | None:
        """Class of the object at each pixel; None if there is but one."""
        kinds = most_probable_kinds(plane)
        if kinds is None:
            return None
        # An object is of one class but for its holes, with one of which a part of it may begin.
        above = plane[1:].sum(0) > self.postprocessing.threshold
        of_id = np.zeros(int(ids.max(initial=0)) + 1, kinds.dtype)
        of_id[ids.ravel()] = kinds.ravel()
        of_id[ids[above]] = kinds[above]
        return of_id[ids]

    def _as_one(self, tables: list[dict[str, Array]]) -> dict[str, Array]:
        """One table of all planes, its objects numbered on."""
        table = {name: np.concatenate([one[name] for one in tables]) for name in tables[0]}
        table["id"] = np.arange(1, len(table["id"]) + 1)
        if self.image.is_stack:
            table["plane"] = np.repeat(np.arange(len(tables)), [len(one["id"]) for one in tables])
        return table

    def _rows_of(self, place: int) -> dict[str, Array]:
        """Rows of the table of objects that are of one plane."""
        if not self.image.is_stack:
            return self._objects
        here = self._objects["plane"] == place
        return {name: values[here] for name, values in self._objects.items()}

    def _require_applicable(self, postprocessing: Postprocessing) -> None:
        size = self.image.pixel_size_um
        require_applicable(postprocessing, self._planes.shape[-2:], size, self._name)

    @property
    def _network_size(self) -> tuple[int, int]:
        """Height and width of a plane as the network sees it."""
        return scaled_size(self._planes.shape[2], self._planes.shape[3], self.scale)

    @property
    def _is_scaled(self) -> bool:
        return bool(self._network_size != self._planes.shape[2:])

    def _plan(self) -> TilePlan:
        backend = self.backend
        count, channels, *size = self._planes.shape
        height, width = self._network_size
        # Beside the tile: the normalised plane, its probabilities, and the classes of all planes.
        beside = height * width * 4 * (channels + self._channels) + math.prod(size) * count
        if self._is_scaled:  # the plane and its probabilities at both sizes, and what one axis gives
            beside += 4 * channels * height * max(width, size[1]) + 8 * self._channels * math.prod(size)
        is_apart = backend.has_own_memory  # in which only the tile lies

        def budget() -> float:
            return budget_of(backend, self._max_memory, resident_memory())

        def cut(room: float) -> TilePlan:
            per_pixel, largest = backend.bytes_per_input_pixel, backend.largest_tile
            return plan_for_memory(height, width, backend.geometry, per_pixel, room, largest=largest)

        taken = backend.fixed_bytes + (0 if is_apart else beside)
        plan = cut(_ALL_MEMORY)
        needed = taken + math.prod(plan.input) * backend.bytes_per_input_pixel
        if self._is_scaled or needed > budget():
            backend.release_memory()  # what is kept for tiles of an earlier image is free for these
            if self._is_scaled:
                self._require_memory(beside, available_memory() / 2 if is_apart else budget())
            plan = cut(budget() - taken)
        return plan

    def _require_memory(self, needed: float, free: float) -> None:
        if needed > free:
            height, width = self._network_size
            raise ConfigError(
                f"scale {in_words(self.scale)} makes {self._name} {height} x {width} px, which takes "
                f"{needed / 1e9:.1f} GB, but {max(free, 0) / 1e9:.1f} GB are left; give a smaller --scale, "
                "or save it as TIFF or OME-Zarr, which are predicted block by block"
            )

    def _require_room(self) -> None:
        """Refuse to keep probabilities of a stack that alone are more than the memory allowed."""
        needed, limit = 4 * self._channels * self._planes[:, 0].size, self._max_memory
        if limit is not None and needed > limit and not self.backend.has_own_memory:
            raise ConfigError(
                f"{self._name}: probabilities of {len(self._planes)} planes take {needed / 1e9:.3g} GB, and "
                f"--max-memory is {limit / 1e9:.3g} GB; raise it, do without them, or save the image as "
                "OME-Zarr, which is predicted block by block"
            )

    def _require_room_for_objects(self, how: Postprocessing) -> None:
        """Refuse to find objects where that alone takes more than is allowed, or more than there is."""
        needed = bytes_for_objects(how) * math.prod(self._planes.shape[-2:])
        # A limit is of the memory of a GPU, if that computes; objects are found beside it.
        told = None if self.backend.has_own_memory else self._max_memory
        limit = available_memory() if told is None else told
        if needed > limit:
            why = "free" if told is None else "allowed by --max-memory"
            raise ConfigError(
                f"{self._name}: finding objects takes {needed / 1e9:.3g} GB, and {limit / 1e9:.3g} GB are "
                f"{why}; give more, or save the image as TIFF or OME-Zarr: then it is done block by block"
            )

    def _like_image(self, results: Array | None) -> Array:
        assert results is not None
        return results if self.image.is_stack else results[0]


def _numbered_on(planes: list[Array]) -> Array:
    """Stack the ids of planes, numbered on from plane to plane."""
    counts = [int(ids.max()) for ids in planes]
    dtype = np.uint16 if sum(counts) < 2**16 else np.uint32
    before = np.cumsum([0, *counts[:-1]]).tolist()
    return np.stack(
        [np.where(ids > 0, ids.astype(np.uint32) + n, 0) for ids, n in zip(planes, before, strict=True)]
    ).astype(dtype)


def channels_for(image: Image, wanted: int) -> tuple[Array, tuple[str, ...]]:
    """The planes of an image, (Z, C, H, W), with the channels a network wants, and what was done to them."""
    planes = image.planes
    channels = planes.shape[1]
    if wanted == 1 and channels == 3 and (planes[:, 1:] == planes[:, :1]).all():
        return planes[:, :1], (GREY_IN_COLOUR,)
    require_channels(image.path, channels, wanted)
    return planes, ()


def require_channels(path: Path | None, channels: int, wanted: int) -> None:
    """Refuse an image with other channels than a network takes.

    Raises
    ------
    ShapeError
    """
    if channels == wanted:
        return
    name = path or "the image"
    if wanted == 1 and channels == 3:
        fix = "convert it to grey values, or use a model trained on colour images"
    elif wanted == 3 and channels == 1:
        fix = "convert it to RGB, or use a model trained on grey images"
    else:
        fix = f"give an image with {wanted}, or its axes if they were misread"
    kinds = {1: "1 channel (grey)", 3: "3 channels (RGB)"}
    has, wants = kinds.get(channels, f"{channels} channels"), kinds.get(wanted, f"{wanted} channels")
    raise ShapeError(f"{name} has {has}, the model takes {wants}; {fix}")
