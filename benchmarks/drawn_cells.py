"""Made-up images of touching cells: as much work as real ones, and nothing to download."""

import numpy as np

from ushape.data import Sample


def cells(seed: int, size: int = 512, count: int = 120) -> Sample:
    """One image of `count` bright discs on noise, many of them touching."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size))
    objects = np.zeros((size, size), np.int32)
    for number in range(1, count + 1):
        (row, column), radius = rng.uniform(0, size, 2), rng.uniform(8, 24) * size / 512
        objects[(y - row) ** 2 + (x - column) ** 2 < radius**2] = number
    image = (objects > 0) + rng.normal(0, 0.3, objects.shape)
    object_class = np.ones(count + 1, np.uint8)
    object_class[0] = 0
    return Sample(f"cells {seed}", image[None].astype(np.float32), objects, object_class)
