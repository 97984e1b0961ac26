"""An image of any size in, probabilities, classes and objects out, equal to one pass over the whole image."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ushape import pictures
from ushape.backends import Precision, PyTorchBackend, resident_memory
from ushape.checkpoint import load_model
from ushape.config import ModelHeader, parse_bytes
from ushape.errors import ShapeError
from ushape.instances import Object, instances, measure
from ushape.io import Image, read_image
from ushape.tiling import TilePlan, plan_for_memory, run_tiled

Array = np.ndarray[Any, Any]


class Segmentation:
    """What a network says about an image or a stack; computed when asked for, then kept.

    A stack goes through the network plane by plane, and only what is asked for is kept: its classes take a
    byte per pixel, its probabilities four per class. Where several results of a stack are wanted, `compute`
    gives them in one pass.

    Attributes
    ----------
    image : Image
        What was segmented.
    header : ModelHeader
        Of the model.
    backend : PyTorchBackend
        What computes the network.
    plan : TilePlan
        How each plane is cut into tiles.
    precision : {"fp32", "bf16", "fp64"}
        What the network is computed in. In fp32, tiles equal a pass over the whole image within 1e-5; in
        bf16 they differ from it by the rounding of bf16 itself (measured: logits by 1.5 % of the largest).
    notes : tuple of str
        What was done to the image that the user should know.
    """

    def __init__(
        self,
        image: Image,
        header: ModelHeader,
        backend: PyTorchBackend,
        max_memory: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.image = image
        self.precision = backend.precision
        self.header, self.backend, self._progress = header, backend, progress
        self._planes, self.notes = _channels_for(image, header.architecture.in_channels)
        self._channels = max(header.architecture.classes, 2)
        self.plan = self._plan(max_memory)
        self._tiles_done = 0
        self._probabilities: Array | None = None
        self._classes: Array | None = None
        self._instances: Array | None = None
        self._objects: list[tuple[int, Object]] = []

    @property
    def probabilities(self) -> Array:
        """Probability of each class: float32, shape (C, H, W), for a stack (Z, C, H, W), 0 to 1.

        Softmax over the classes; a network with a single sigmoid channel gives two, 1 - p and p.
        """
        self.compute(probabilities=True)
        return self._like_image(self._probabilities)

    @property
    def classes(self) -> Array:
        """Most probable class: uint8, shape (H, W), for a stack (Z, H, W)."""
        self.compute()
        return self._like_image(self._classes)

    def instances(self) -> Array:
        """Objects by the model's threshold, connectivity and smallest area.

        Returns
        -------
        ndarray of uint16 (uint32 from 65,536 objects on), shape (H, W), for a stack (Z, H, W)
            Ids 1..n without gaps, 0 is background. Planes of a stack are independent: their objects are
            numbered on from plane to plane. Objects of different classes are different objects.
        """
        self.compute(instances=True)
        return self._like_image(self._instances)

    def objects(self) -> list[tuple[int, Object]]:
        """Plane and measurements of each of `instances()`, by ascending id."""
        self.compute(instances=True)
        return self._objects

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
        count, _, height, width = self._planes.shape
        classes = np.empty((count, height, width), np.uint8)
        ids: list[Array] = []
        objects: list[tuple[int, Object]] = []
        # A single plane is always kept: it is there anyway, and everything else follows from it.
        for place, plane in enumerate(self._each_plane(keep=probabilities or count == 1)):
            classes[place] = plane.argmax(0)
            if instances:
                ids.append(self._number_objects(place, plane, objects))
        self._classes = classes
        if instances:
            dtype = np.uint16 if len(objects) < 2**16 else np.uint32
            self._instances, self._objects = np.stack(ids).astype(dtype, copy=False), objects

    def _each_plane(self, *, keep: bool) -> Iterator[Array]:
        """Probabilities of one plane after the other, (C, H, W): those known, or new ones."""
        if self._probabilities is not None:
            yield from self._probabilities
            return
        count, _, height, width = self._planes.shape
        kept = np.empty((count, self._channels, height, width), np.float32) if keep else None
        self._tiles_done = 0
        for place, values in enumerate(self._planes):
            image = self.header.normalization.apply(values)
            out = None if kept is None else kept[place]
            yield run_tiled(image, self._probabilities_of_tile, self.plan, self._channels, out)
        self._probabilities = kept

    def _probabilities_of_tile(self, tile: Array) -> Array:
        result = probabilities_of(self.backend(tile))
        self._tiles_done += 1
        if self._progress is not None:
            self._progress(self._tiles_done, len(self.plan) * len(self._planes))
        return result

    def _number_objects(self, place: int, plane: Array, objects: list[tuple[int, Object]]) -> Array:
        """Ids of one plane, numbered on from `objects`, to which their measurements are added."""
        # With two classes all objects are of class 1, also where the threshold is below a half.
        kinds = (plane[1:].argmax(0) + 1).astype(np.uint8) if len(plane) > 2 else None
        ids = instances(plane[1:].sum(0), self.header.postprocessing, classes=kinds)
        before = len(objects)
        objects += [(place, one._replace(id=one.id + before)) for one in measure(ids, kinds)]
        return ids if not before else np.where(ids > 0, ids.astype(np.uint32) + before, 0)

    def _plan(self, max_memory: int | None) -> TilePlan:
        backend = self.backend
        count, channels, height, width = self._planes.shape
        # Beside the tile: the normalised plane, its probabilities, and the classes of all planes.
        beside = height * width * (4 * (channels + self._channels) + count) + backend.fixed_bytes
        if max_memory is None:
            budget = backend.available_memory() / 2
        else:
            budget = max_memory - (resident_memory() if backend.device.type == "cpu" else 0)
        geometry = backend.geometry
        return plan_for_memory(height, width, geometry, backend.bytes_per_input_pixel, budget - beside)

    def _like_image(self, results: Array | None) -> Array:
        assert results is not None
        return results if self.image.is_stack else results[0]


class Segmenter:
    """A trained network, ready for images of any size.

    Parameters
    ----------
    network : nn.Module
        Put into evaluation mode and moved to the device.
    header : ModelHeader
        Normalisation, classes and post-processing.
    device : str
        "auto": the first GPU if there is one, else the CPU; or a PyTorch device such as "cuda:1".

    Raises
    ------
    ConfigError
        If the device does not exist.

    Examples
    --------
    >>> from ushape import Segmenter
    >>> segmenter = Segmenter.load("run/model.safetensors")  # doctest: +SKIP
    >>> segmenter("cells.tif").classes.shape  # doctest: +SKIP
    (3000, 4096)
    """

    def __init__(self, network: nn.Module, header: ModelHeader, *, device: str = "auto") -> None:
        self.network, self.header, self.device = network, header, device
        self._backends: dict[Precision, PyTorchBackend] = {}

    @classmethod
    def load(cls, model: str | Path, *, device: str = "auto") -> "Segmenter":
        """Read a model file.

        Raises
        ------
        CheckpointError
            If the file is not a model or is damaged.
        """
        return cls(*load_model(model), device=device)

    def __call__(
        self,
        image: "str | Path | Array | Image",
        precision: Precision = "auto",
        max_memory: int | str | None = None,
        axes: str | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Segmentation:
        """Segment an image or a stack.

        Parameters
        ----------
        image : path, ndarray or Image
            Grey values as they are in the file. An array is "YX", "YXC" if its last axis is 3 or 4 long,
            else a stack, unless `axes` says otherwise.
        precision : {"auto", "fp32", "bf16", "fp64"}
            "auto": bf16 where the device multiplies it itself, else fp32.
        max_memory : int or str, optional
            Bytes, or words such as "4GB", that the process (on a GPU: one tile) may take. Half of what is
            available if not given.
        axes : str, optional
            Meaning of the axes in the order stored, such as "ZYX" or "CYX".
        progress : callable, optional
            Called after each tile with the tiles done and their total number.

        Returns
        -------
        Segmentation

        Raises
        ------
        ImageFormatError
            If the file cannot be read.
        ShapeError
            If the image does not have the channels or the axes that the network needs.
        TilingError
            If `max_memory` is too small for the smallest tile.
        ConfigError
            If the precision is not known or not possible here.
        """
        opened = image if isinstance(image, Image) else read_image(image, axes=axes)
        budget = parse_bytes(max_memory) if isinstance(max_memory, str) else max_memory
        return Segmentation(opened, self.header, self.backend(precision), budget, progress)

    def backend(self, precision: Precision = "auto") -> PyTorchBackend:
        """What computes the network in this precision; made once."""
        if precision not in self._backends:
            self._backends[precision] = PyTorchBackend(self.network, self.device, precision)
        return self._backends[precision]


def probabilities_of(logits: Array) -> Array:
    """Probability of each class from the logits of a network.

    Parameters
    ----------
    logits : ndarray of float, shape (K, H, W)

    Returns
    -------
    ndarray of float, shape (K, H, W); (2, H, W) for K = 1
        Softmax over K classes (Ronneberger 2015, section 3); for K = 1 the sigmoid p as (1 - p, p).
    """
    if len(logits) == 1:  # sigmoid(x) is the softmax of (0, x)
        logits = np.concatenate([np.zeros_like(logits), logits])
    exponentials = np.exp(logits - logits.max(0))
    return exponentials / exponentials.sum(0)  # type: ignore[no-any-return]


def _channels_for(image: Image, wanted: int) -> tuple[Array, tuple[str, ...]]:
    """The planes of an image, (Z, C, H, W), with the channels a network wants, and what was done to them."""
    planes = image.planes
    channels = planes.shape[1]
    if channels == wanted:
        return planes, ()
    name = image.path or "the image"
    if wanted == 1 and channels == 3:
        if (planes[:, 1:] == planes[:, :1]).all():
            return planes[:, :1], ("the three colour channels are equal; used as one grey channel",)
        fix = "convert it to grey values, or use a model trained on colour images"
    elif wanted == 3 and channels == 1:
        fix = "convert it to RGB, or use a model trained on grey images"
    else:
        fix = f"give an image with {wanted}, or its axes if they were misread"
    kinds = {1: "1 channel (grey)", 3: "3 channels (RGB)"}
    has, wants = kinds.get(channels, f"{channels} channels"), kinds.get(wanted, f"{wanted} channels")
    raise ShapeError(f"{name} has {has}, the model takes {wants}; {fix}")
