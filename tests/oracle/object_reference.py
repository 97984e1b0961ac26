"""Matching of objects by trying every assignment: for a handful of objects. Nothing of ours is imported."""

from itertools import permutations


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
