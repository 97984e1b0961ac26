"""How tiles reach the network: made by worker processes, or on the device from what workers drew."""

import math
import os
import signal
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

from ushape import augment
from ushape.augment import on_device
from ushape.errors import ConfigError
from ushape.training.device_tiles import DeviceTiles, fits_on
from ushape.training.tiles import Tile, TileDataset

AugmentOn = Literal["auto", "cpu", "device"]

_AHEAD = 4
"""Batches that each worker makes ahead of the step."""


class TileData(LightningDataModule):
    """Feeds the tiles of `dataset` from the step the run has reached.

    Parameters
    ----------
    dataset : TileDataset
    workers : int or None
        Processes that make tiles; 0 makes them in the training process; None decides by the device. What is
        fed does not depend on it.
    device : torch.device
        Where the network is trained.
    augment_on : {"auto", "cpu", "device"}
        Where tiles are made: by OpenCV on the CPU, or by PyTorch on `device`, which keeps all images. "auto":
        on the device if that is a GPU whose memory can hold them.

    Raises
    ------
    ConfigError
        If `augment_on` is none of these.
    """

    def __init__(
        self,
        dataset: TileDataset,
        *,
        workers: int | None = 0,
        device: torch.device = torch.device("cpu"),  # noqa: B008
        augment_on: AugmentOn = "auto",
    ) -> None:
        super().__init__()
        if augment_on not in ("auto", "cpu", "device"):
            raise ConfigError(f"augment_on must be 'auto', 'cpu' or 'device', got {augment_on!r}")
        if augment_on == "device" and device.type == "mps":
            raise ConfigError("augment_on 'device': tiles are made in float64, which mps has not; use 'cpu'")
        self.dataset, self.device = dataset, device
        is_on_device = augment_on == "device" or (augment_on == "auto" and fits_on(device, dataset))
        self.maker = DeviceTiles(dataset, device) if is_on_device else None
        self.workers = _workers_for(device, is_on_device) if workers is None else workers
        self.loader: DataLoader[Tile] | None = None

    @property
    def _is_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def share(self) -> int:
        """Tiles of a step that this process makes."""
        return share_of_step(self.dataset.tiles_per_step, self.trainer.world_size if self.trainer else 1)

    def train_dataloader(self) -> DataLoader[Tile]:
        """Batches of `share` tiles, or of what was drawn for them."""
        self.loader = DataLoader(
            self.dataset if self.maker is None else _Draws(self.dataset),
            batch_size=self.share,
            sampler=_Onwards(self),
            collate_fn=_collate if self.maker is None else _collate_to_arrays,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=_leave_signals_to_the_trainer,
            prefetch_factor=_AHEAD if self.workers else None,
            # Pinned memory is copied to a GPU while that computes; draws are too small for that to pay.
            pin_memory=self._is_gpu and self.maker is None,
        )
        return self.loader

    def close(self) -> None:
        """End the workers, however the run ended: no signal does, and Python would wait for them to go."""
        if self.loader is not None and self.loader._iterator is not None:
            self.loader._iterator._shutdown_workers()  # type: ignore[attr-defined]

    def on_after_batch_transfer(self, batch: Tile, dataloader_idx: int) -> Tile:
        """Make the tiles, if that is for the device to do."""
        if self.maker is None:
            return batch
        arrays = {key: value for key, value in batch.items() if isinstance(value, np.ndarray)}
        return self.maker(batch | {key: self._sent(value) for key, value in arrays.items()})

    def _sent(self, array: "np.ndarray[Any, Any]") -> Tensor:
        """Bring an array to the device; to a GPU without waiting until it has done what it has to do."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self._is_gpu else tensor


def share_of_step(tiles: int, processes: int) -> int:
    """How many tiles each process makes for a step of at least `tiles`."""
    return math.ceil(tiles / processes)


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Make tiles for the step in hand, too: a terminal sends Ctrl-C, and what ends jobs SIGTERM, to all."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class _Onwards(Sampler[int]):
    """Numbers of the samples of this process, from the step on that the run has reached, without end."""

    def __init__(self, data: TileData) -> None:
        self.data = data

    def __iter__(self) -> Iterator[int]:
        trainer, share = self.data.trainer, self.data.share
        step, rank, processes = (
            (0, 0, 1) if trainer is None else (trainer.global_step, trainer.global_rank, trainer.world_size)
        )
        while True:
            first = (step * processes + rank) * share
            yield from range(first, first + share)
            step += 1


class _Draws(Dataset[Tile]):
    """What `DeviceTiles` makes the tiles of `dataset` from."""

    def __init__(self, dataset: TileDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, number: int) -> Tile:
        draw, data = self.dataset.draw(number), self.dataset
        size = max(data.size_in, data.size_objects)
        rows, columns = on_device.describe_positions(draw.deformation, draw.center, size)
        return {
            "number": number,
            "image": draw.image,
            "rows": rows,
            "columns": columns,
            "grey": on_device.describe_variation(draw.grey),
            "patches": on_device.describe_patches(draw.grey),
            "noise_key": int(augment.generator(data.seed, number, stream=3).integers(2**63)),
        }


def _collate(tiles: list[Tile]) -> Tile:
    """Stack tensors; leave numbers where the CPU can read them without waiting for a GPU."""
    batch: Tile = {}
    for key, first in tiles[0].items():
        values = [tile[key] for tile in tiles]
        # Deformations may differ in their number of control points: zeros then add nothing.
        batch[key] = pad_sequence(values, batch_first=True) if isinstance(first, Tensor) else values
    return batch


def _collate_to_arrays(tiles: list[Tile]) -> Tile:
    """The same in arrays: those go through the pipe of a worker, tensors through a file each."""
    return {
        key: value.numpy() if isinstance(value, Tensor) else value for key, value in _collate(tiles).items()
    }


def _workers_for(device: torch.device, is_on_device: bool) -> int:
    """On a CPU none: a tile takes some hundredth of a step there, and processes would share its cores."""
    if device.type != "cuda":
        return 0
    # A draw takes a fraction of a millisecond, a whole tile some 20: a GPU computes 100 in a second.
    cores = os.cpu_count() or 1
    return min(2, cores) if is_on_device else max(1, min(8, cores - 1))
