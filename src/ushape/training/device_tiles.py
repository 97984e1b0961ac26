"""Training tiles made on the device of the network: its images are uploaded once, then only draws travel.

Positions and grey values are computed for all tiles of a batch together. Images are looked up tile by tile,
because they differ in size, and each is mirrored at its own border.
"""

import numpy as np
import torch
from torch import Tensor

from ushape.augment import on_device
from ushape.errors import ConfigError
from ushape.training.tiles import Tile, TileDataset
from ushape.weight_map.on_device import targets

_SHARE = 4
"""Images may take one part in so many of a GPU's memory."""


class DeviceTiles:
    """Makes the tiles of `dataset` on a device, from batches of what was drawn for them.

    Parameters
    ----------
    dataset : TileDataset
    device : torch.device

    Raises
    ------
    ConfigError
        If the recipe wants the weights of Falk 2019, which are made on the CPU only.
    """

    def __init__(self, dataset: TileDataset, device: torch.device) -> None:
        if dataset.recipe.border != "ronneberger":
            raise ConfigError(
                f"tiles with border {dataset.recipe.border!r} are made on the CPU only; "
                "give augment_on 'auto' or 'cpu'"
            )

        def uploaded(array: object, dtype: torch.dtype) -> Tensor:
            return torch.from_numpy(np.asarray(array)).to(device, dtype)

        self.dataset = dataset
        self.images = [uploaded(image, torch.float32) for image in dataset.images]
        self.objects = [uploaded(sample.objects, torch.int32) for sample in dataset.samples]
        self.object_class = [uploaded(sample.object_class, torch.uint8) for sample in dataset.samples]
        self.weight_of_class = torch.zeros(256, device=device)
        self.weight_of_class[: len(dataset.balance)] = uploaded(dataset.balance, torch.float32)

    def __call__(self, draws: Tile) -> Tile:
        """Make a batch of tiles.

        Parameters
        ----------
        draws : dict
            `number`, `image`, `noise_key`: lists of int. `rows`, `columns`: see
            `on_device.describe_positions`. `grey`, `patches`: see `on_device.describe_variation` and
            `on_device.describe_patches`.

        Returns
        -------
        dict
            As a batch of `TileDataset`: `number`, and tensors `image`, `classes`, `weights`.
        """
        data, recipe = self.dataset, self.dataset.recipe
        images, ids, classes = [], [], []
        at = on_device.positions(draws["rows"], draws["columns"])
        for index, of_tile in zip(draws["image"], at, strict=True):
            of_image, of_objects = (_middle(of_tile, size) for size in (data.size_in, data.size_objects))
            images.append(on_device.resample(self.images[index], of_image, recipe.interpolation))
            ids.append(on_device.look_up(self.objects[index], of_objects))
            classes.append(self.object_class[index][ids[-1].long()])
        image = on_device.vary_grey_values(
            torch.stack(images),
            draws["grey"],
            draws["patches"],
            draws["noise_key"],
            strengths=data.grey,
        )
        target, weights = targets(
            torch.stack(ids),
            torch.stack(classes),
            self.weight_of_class,
            separate=data.separate,
            w0=recipe.border_w0,
            sigma_px=recipe.border_sigma_px,
            crop=data.tail,
        )
        return {"number": draws["number"], "image": image, "classes": target.long(), "weights": weights}


def fits_on(device: torch.device, dataset: TileDataset) -> bool:
    """Whether `device` is a GPU that can keep the images beside the network and make such tiles.

    Its whole memory is asked for, not what is free: the answer, and with it the run, does not depend on the
    moment.
    """
    if device.type != "cuda" or dataset.recipe.border != "ronneberger":
        return False
    needed = sum(4 * (image.size + image[0].size) for image in dataset.images)
    return bool(needed * _SHARE <= torch.cuda.get_device_properties(device).total_memory)


def _middle(at: Tensor, size: int) -> Tensor:
    start = (at.shape[-1] - size) // 2
    return at[:, start : start + size, start : start + size]
