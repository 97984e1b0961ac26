"""Scores of objects by slow and literal means. Nothing of ours is imported.

Matching by trying every assignment (for a handful of objects), the two definitions of the aggregated Jaccard
index, and SEG.
"""

from itertools import permutations

import numpy as np
from scipy.optimize import linear_sum_assignment


def iou_table(predicted, true):
    """IoU of every pair of object ids, from sets of pixels; images are lists of rows."""

    def objects(image):
        sets = {}
        for y, row in enumerate(image):
            for x, value in enumerate(row):
                if value:
                    sets.setdefault(value, set()).add((y, x))
        return sets

    a, b = objects(predicted), objects(true)
    return a, b, {(i, j): len(a[i] & b[j]) / len(a[i] | b[j]) for i in a for j in b}


def best_matching(predicted, true, threshold):
    """(tp, fp, fn, sum of IoU): most pairs with IoU >= threshold, of those the largest sum of IoU."""
    a, b, table = iou_table(predicted, true)
    padded = list(b) + [None] * len(a)
    best = (0, 0.0)
    for partners in set(permutations(padded, len(a))):
        values = [
            table[i, j]
            for i, j in zip(a, partners, strict=True)
            if j is not None and table[i, j] >= threshold
        ]
        best = max(best, (len(values), sum(values)))
    return best[0], len(a) - best[0], len(b) - best[0], best[1]


def aji_of_partners(predicted, true):
    """(intersection, union) as cellpose defines AJI: one assignment, from a table of all pairs."""
    table, a, b = _shared(predicted, true)
    union = a[:, None] + b[None, :] - table
    iou = table / union
    fewer = min(iou.shape)
    rows, columns = linear_sum_assignment(-(iou >= 0.5).astype(float) - iou / (2 * max(fewer, 1)))
    return table[rows, columns].sum(), np.count_nonzero((predicted > 0) | (true > 0))


def aji_of_best(predicted, true):
    """(intersection, union) by the algorithm of Kumar et al. 2017, line by line."""
    intersection = union = 0
    used = set()
    for j in np.unique(true[true > 0]):
        best, best_pixels, best_iou = None, (0, 0), 0.0
        for i in np.unique(predicted[true == j]):
            both = np.count_nonzero((predicted == i) & (true == j))
            either = np.count_nonzero((predicted == i) | (true == j))
            # Of equal ones the larger, then the first.
            if i and (both / either, both) > (best_iou, best_pixels[0]):
                best, best_pixels, best_iou = i, (both, either), both / either
        if best is None:
            union += np.count_nonzero(true == j)
        else:
            used.add(best)
            intersection, union = intersection + best_pixels[0], union + best_pixels[1]
    for i in np.unique(predicted[predicted > 0]):
        union += np.count_nonzero(predicted == i) if i not in used else 0
    return intersection, union


def seg(result, reference):
    """{reference id: Jaccard index} by the definition of SEG: the result object on more than half of it."""
    scores = {}
    for j in np.unique(reference[reference > 0]):
        area = np.count_nonzero(reference == j)
        covering = [
            i
            for i in np.unique(result[reference == j])
            if i and 2 * np.count_nonzero((result == i) & (reference == j)) > area
        ]
        scores[j] = 0.0
        for i in covering:
            scores[j] = np.count_nonzero((result == i) & (reference == j)) / np.count_nonzero(
                (result == i) | (reference == j)
            )
    return scores


def _shared(predicted, true):
    """Table of common pixels of every predicted and every true object, and their areas."""
    i, a = np.unique(predicted[predicted > 0], return_counts=True)
    j, b = np.unique(true[true > 0], return_counts=True)
    table = np.zeros((i.size, j.size), int)
    for column, number in enumerate(j):
        under = predicted[true == number]
        met, pixels = np.unique(under[under > 0], return_counts=True)
        table[np.searchsorted(i, met), column] = pixels
    return table, a, b
