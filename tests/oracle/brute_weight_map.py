"""Eq. 2 of the paper and the gap, written out object by object with SciPy; imports nothing of ours."""

import numpy as np
from scipy.ndimage import distance_transform_edt, grey_dilation


def two_distances(objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the nearest and the second-nearest object, by one distance transform per object."""
    nearest = np.full((2, *objects.shape), np.inf)
    for object_id in np.unique(objects[objects > 0]):
        distance = distance_transform_edt(objects != object_id)
        nearest = np.sort([*nearest, distance], axis=0)[:2]
    return nearest[0], nearest[1]


def border_weights(objects: np.ndarray, w0: float, sigma_px: float) -> np.ndarray:
    """Border term of eq. 2 on background, 0 inside objects."""
    d1, d2 = two_distances(objects)
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
