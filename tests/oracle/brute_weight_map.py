"""Eq. 2, the authors' later form, and both gaps, object by object with SciPy; imports nothing of ours."""

from itertools import product

import numpy as np
from scipy.ndimage import distance_transform_edt, grey_dilation


def two_distances(objects: np.ndarray, spacing=None) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the nearest and the second-nearest object, by one distance transform per object."""
    nearest = np.full((2, *objects.shape), np.inf)
    for object_id in np.unique(objects[objects > 0]):
        distance = distance_transform_edt(objects != object_id, sampling=spacing)
        nearest = np.sort([*nearest, distance], axis=0)[:2]
    return nearest[0], nearest[1]


def border_weights(objects: np.ndarray, w0: float, sigma_px: float, spacing=None) -> np.ndarray:
    """Border term of eq. 2 on background, 0 inside objects."""
    d1, d2 = two_distances(objects, spacing)
    return np.where(objects == 0, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma_px**2)), 0)


def cut_gap(objects: np.ndarray) -> np.ndarray:
    """Remove each pixel whose 3x3 neighbourhood holds two different objects, by morphology.

    The largest id around a pixel and, among ids counted backwards, the largest again: if they are not the
    same object, there are two.
    """
    backwards = np.where(objects > 0, objects.max() + 1 - objects, 0)
    largest = grey_dilation(objects, size=(3, 3))
    smallest = objects.max() + 1 - grey_dilation(backwards, size=(3, 3))
    return np.where((objects > 0) & (largest == smallest), objects, 0)


def cut_gap_pixel_by_pixel(objects: np.ndarray, *, one_sided: bool) -> np.ndarray:
    """Remove each pixel beside another object, or only where that comes before it in reading order."""
    separated = objects.copy()
    for here in np.ndindex(objects.shape):
        for step in product((-1, 0, 1), repeat=objects.ndim):
            beside = tuple(np.add(here, step))
            if (
                min(beside) < 0
                or any(np.greater_equal(beside, objects.shape))
                or (one_sided and beside > here)
            ):
                continue
            if objects[here] and objects[beside] not in (0, objects[here]):
                separated[here] = 0
    return separated


def falk_weights(objects: np.ndarray, object_class: np.ndarray, ignore: int, spacing=None) -> np.ndarray:
    """Falk 2019, from the formula, with no term left out."""
    classes = np.asarray(object_class)[objects]
    background = np.full(objects.shape, 0.1)
    for each in set(classes.ravel().tolist()) - {0, ignore}:
        d1, d2 = two_distances(np.where(classes == each, objects, 0), spacing)
        background += 50 * np.exp(-((d1 + d2) ** 2) / (2 * 6**2)) + (1 - 0.1) * np.exp(-(d1**2) / (2 * 10**2))
    return np.select([classes == ignore, classes > 0], [0.0, 1.0], background)
