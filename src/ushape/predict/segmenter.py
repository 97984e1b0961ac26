"""A trained network as a function of images."""

import hashlib
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ushape.backends import Backend, Engine, Precision, find_device, find_precision, start
from ushape.checkpoint import model_hash, read_model
from ushape.config import ModelHeader, PixelSize, parse_bytes
from ushape.errors import CheckpointError
from ushape.io import Image, read_image
from ushape.models import Network
from ushape.predict.averaging import Average
from ushape.predict.scaling import Scale, find_scale, postprocessing_at
from ushape.predict.segmentation import Segmentation, channels_for
from ushape.predict.typical_tiles import typical_tiles

Array = np.ndarray[Any, Any]


class Segmenter:
    """A trained network, ready for images of any size.

    Parameters
    ----------
    network : Network
        Put into evaluation mode and moved to the device.
    header : ModelHeader
        Normalisation, classes and post-processing.
    device : str
        "auto": the first GPU if there is one, else the CPU; or a PyTorch device such as "cuda:1".
    engine : {"auto", "pytorch", "openvino"}
        What computes the network. "auto": OpenVINO on a CPU it is fast on, else PyTorch; docs/engines.md says
        how well the two agree. OpenVINO does not see weights that change after its first use.
    tiles : ndarray, shape (N, C, h, w), optional
        Normalised grey values of a valid size, on which the network is quantised for "int8", once. None: for
        each image anew, on tiles of its own.

    Examples
    --------
    >>> from ushape import Segmenter
    >>> segmenter = Segmenter.load("run/model.safetensors")  # doctest: +SKIP
    >>> segmenter("cells.tif").classes.shape  # doctest: +SKIP
    (3000, 4096)
    """

    def __init__(
        self,
        network: Network,
        header: ModelHeader,
        *,
        device: str = "auto",
        engine: Engine = "auto",
        tiles: Array | None = None,
    ) -> None:
        self.network, self.header, self.device, self.engine = network, header, device, engine
        self.tiles = tiles
        self._backends: dict[str, Backend] = {}
        self._for_int8: tuple[Any, Backend] | None = None

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        device: str = "auto",
        engine: Engine = "auto",
        encoder: nn.Module | None = None,
    ) -> "Segmenter":
        """Read a model file.

        Parameters
        ----------
        model : path
        device, engine
            See the class.
        encoder : nn.Module, optional
            For a network with an encoder of one's own; see `ushape.checkpoint.load_model`.

        Raises
        ------
        CheckpointError
            If the file is not a model or is damaged.
        """
        network, header, tiles = read_model(model, encoder=encoder)
        return cls(network, header, device=device, engine=engine, tiles=tiles)

    def __call__(
        self,
        image: "str | Path | Array | Image",
        precision: Precision = "auto",
        max_memory: int | str | None = None,
        axes: str | None = None,
        *,
        scale: float | None = None,
        pixel_size: float | str | PixelSize | None = None,
        postprocessing: Mapping[str, Any] | None = None,
        average: str = "none",
        average_of: str = "logits",
        progress: Callable[[int, int], None] | None = None,
    ) -> Segmentation:
        """Segment an image or a stack.

        Parameters
        ----------
        image : path, ndarray or Image
            Grey values as they are in the file. An array is "YX", "YXC" if its last axis is 3 or 4 long,
            else a stack, unless `axes` says otherwise.
        precision : {"auto", "fp32", "bf16", "int8", "fp64"}
            "auto": bf16 where the device multiplies it itself, else fp32. "int8", on a CPU: the network is
            quantised on the tiles kept with the model, or else on tiles of this image.
        max_memory : int or str, optional
            Bytes, or words such as "4GB", that the process (on a GPU: one tile) may take. Half of what is
            available if not given.
        axes : str, optional
            Meaning of the axes in the order stored, such as "ZYX" or "CYX".
        scale : float, optional
            The image is magnified by it before it goes through the network, and the probabilities are brought
            back to its own pixels: 0.5 for objects twice as large as in training.
        pixel_size : float, str or (float, float), optional
            Size of a pixel (or height and width) of the image in micrometres, in place of what its file says;
            the scale follows from that of the training images.
        postprocessing : mapping, optional
            Settings of `Postprocessing`, in pixels of the image, that replace those of the model.
        average : {"none", "paper", "d4"}
            Mean over turned and mirrored versions of each tile: the seven that differ from it, or all eight.
        average_of : {"logits", "probabilities"}
            What is averaged; the authors' released code averages raw scores. See `predict.averaging.Average`.
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
            If the precision is not known or not possible here, or in int8 changes too many labels, or if the
            scale, a setting or the average is not possible.
        """
        factors, size = find_scale(self.header, scale, pixel_size)
        how = postprocessing_at(self.header, factors, postprocessing or {})
        opened = image if isinstance(image, Image) else read_image(image, axes=axes)
        budget = parse_bytes(max_memory) if isinstance(max_memory, str) else max_memory
        if size is not None:
            opened = replace(opened, pixel_size_um=size)
        mean = Average(average, average_of)
        is_made_for_it = precision == "int8" and self.tiles is None
        content = hashlib.sha256(opened.array.tobytes()).digest() if is_made_for_it else b""
        tiles = partial(self._typical_tiles, opened, factors)
        backend = self.backend(precision, tiles, (content, opened.array.shape, factors))
        return Segmentation(opened, self.header, backend, budget, progress, factors, how, mean)

    def backend(
        self, precision: Precision = "auto", tiles: Callable[[], list[Array]] = list, image: Any = None
    ) -> Backend:
        """What computes the network in this precision; made once, in int8 without kept tiles for each image.

        Parameters
        ----------
        precision : {"auto", "fp32", "bf16", "int8", "fp64"}
        tiles : callable
            Gives the tiles of an image that "int8" is quantised on if none are kept; see `OpenVINOBackend`.
        image : object
            What tells the image that they come from.
        """
        if precision == "int8" and self.tiles is None:
            if self._for_int8 is None or self._for_int8[0] != image:
                self._for_int8 = image, self._start(precision, tiles())
            return self._for_int8[1]
        decided = find_precision(precision, find_device(self.device))
        if decided not in self._backends:
            kept = self.tiles if decided == "int8" and self.tiles is not None else ()
            self._backends[decided] = self._start(precision, [tile.astype(np.float32) for tile in kept])
        return self._backends[decided]

    def release_memory(self) -> None:
        """Give back what is kept of this machine's memory for the next tile; see `Backend`."""
        made = [self._for_int8[1]] if self._for_int8 else []
        for backend in (*self._backends.values(), *made):
            backend.release_memory()

    def _start(self, precision: Precision, tiles: list[Array]) -> Backend:
        return start(self.network, self.device, precision, engine=self.engine, tiles=tiles)

    def _typical_tiles(self, image: Image, scale: Scale) -> list[Array]:
        planes, _ = channels_for(image, self.header.architecture.in_channels)
        return typical_tiles(planes, self.header, scale, self.network.geometry)


def identity_of(model: str | Path) -> str:
    """Hash of a model file; computed once for each state of the file in this process.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    try:
        state = os.stat(model)
    except OSError as error:
        raise CheckpointError(
            f"{model} cannot be read ({error.strerror}); give a model.safetensors"
        ) from None
    return _hash(str(model), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _hash(model: str, changed_ns: int, size: int) -> str:
    return model_hash(model)


def loaded(model: str, identity: str, device: str) -> Segmenter:
    """Load a model file, the last one of a process but once.

    Raises
    ------
    CheckpointError
        If its hash is another one: on another machine the same name may mean another file.
    """
    return _loaded(model, identity, str(find_device(device)))  # "auto" is one of them


@lru_cache(maxsize=1)
def _loaded(model: str, identity: str, device: str) -> Segmenter:
    found = identity_of(model)
    if found != identity:
        raise CheckpointError(
            f"{model} on {socket.gethostname()} has the hash {found[:8]}, but the run began with "
            f"{identity[:8]}; put the same file there"
        )
    return Segmenter.load(model, device=device)
