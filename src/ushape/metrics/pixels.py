"""Scores of class masks, pixel by pixel: everything follows from the confusion matrix.

One convention: a class that is neither in the truth nor in the prediction is predicted perfectly, so its Dice
and its IoU are 1.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.config import IGNORE
from ushape.errors import DataError, ShapeError

Array = NDArray[Any]


def confusion(pred: Array, truth: Array, classes: int, ignore: int = IGNORE) -> NDArray[np.int64]:
    """Count the pixels of each pair of true and predicted class.

    Parameters
    ----------
    pred, truth : ndarray of int, same shape
        Class indices 0..classes - 1.
    classes : int
        Number of classes, K >= 1.
    ignore : int
        Pixels with this value in `truth` do not count, whatever was predicted there.

    Returns
    -------
    ndarray of int64, shape (K, K)
        Rows are true, columns predicted classes. Matrices of several images may be added (scores of the data
        set) or stacked (scores of each image).

    Raises
    ------
    ShapeError
        If the shapes differ.
    DataError
        If a value that counts is no class.

    Examples
    --------
    >>> confusion(np.array([0, 1, 1]), np.array([0, 1, 255]), classes=2)
    array([[1, 0],
           [0, 1]])
    """
    if pred.shape != truth.shape:
        raise ShapeError(f"prediction has shape {pred.shape}, truth {truth.shape}; make them equal")
    counted = truth != ignore
    rows, columns = truth[counted], pred[counted]
    for what, values in (("truth", rows), ("prediction", columns)):
        wrong = values[(values < 0) | (values >= classes)]
        if wrong.size:
            raise DataError(f"value {wrong[0]} in the {what} is not one of the classes 0..{classes - 1}")
    pairs = rows.astype(np.int64) * classes + columns.astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def dice(matrix: Array) -> NDArray[np.float64]:
    """Dice of each class: 2 |A and B| / (|A| + |B|); 1 if the class is in neither.

    Parameters
    ----------
    matrix : ndarray of int, shape (..., K, K)
        From `confusion`.

    Returns
    -------
    ndarray of float64, shape (..., K)

    Examples
    --------
    >>> dice(np.array([[8, 2], [0, 0]])).round(3)
    array([0.889, 0.   ])
    """
    hits, true, predicted = _counts(matrix)
    return _ratio(2 * hits, true + predicted)


def iou(matrix: Array) -> NDArray[np.float64]:
    """Intersection over union of each class: |A and B| / |A or B|; 1 if the class is in neither.

    Parameters and result as in `dice`.
    """
    hits, true, predicted = _counts(matrix)
    return _ratio(hits, true + predicted - hits)


def accuracy(matrix: Array) -> NDArray[np.float64]:
    """Share of the counted pixels that are right, shape (...); 1 if no pixel counts."""
    return _ratio(_counts(matrix)[0].sum(-1), matrix.sum((-2, -1)))


def _counts(matrix: Array) -> tuple[Array, Array, Array]:
    """Pixels of each class: right, in the truth, in the prediction."""
    return matrix.diagonal(axis1=-2, axis2=-1), matrix.sum(-1), matrix.sum(-2)


def _ratio(part: Array, whole: Array) -> NDArray[np.float64]:
    ones = np.ones(np.shape(whole))
    return np.divide(part, whole, out=ones, where=np.asarray(whole) > 0)[()]  # a number, not an array of none
