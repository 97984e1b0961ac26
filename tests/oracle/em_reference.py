"""The ISBI 2012 scores, slowly: the definitions written out literally, in Python loops.

Independent of the package: nothing of ours is imported. Planes are lists of rows; those of the warping, which
leaves connected components to SciPy, are arrays. The watershed is Vincent and Soille's (Watersheds
in digital spaces, IEEE PAMI 13(6), 1991: flooding with a queue) for any number of grey levels, with the order
of scan (x outside, y inside) and of neighbours (left, up, right, down) of the challenge's code.
"""

import functools
import itertools
import math

import numpy as np
from scipy import ndimage

UNSEEN, AT_THIS_LEVEL, IN_QUEUE, LINE = "unseen", "at this level", "in queue", 0


class Watershed:
    """Labels of the catchment basins 1..n, 0 on the lines; `grey` is a list of rows."""

    def __init__(self, grey):
        self.height, self.width = len(grey), len(grey[0])
        pixels = [(x, y) for x in range(self.width) for y in range(self.height)]
        self.label = dict.fromkeys(pixels, UNSEEN)
        self.basins = 0
        for level in sorted({grey[y][x] for x, y in pixels}):
            here = [(x, y) for x, y in pixels if grey[y][x] == level]
            self.extend_basins(here)
            self.add_basins(here)

    def rows(self):
        return [[self.label[x, y] for x in range(self.width)] for y in range(self.height)]

    def neighbours(self, place):
        x, y = place
        return [other for other in ((x - 1, y), (x, y - 1), (x + 1, y), (x, y + 1)) if other in self.label]

    def is_flooded(self, place):
        return isinstance(self.label[place], int)

    def extend_basins(self, here):
        queue = []
        for place in here:
            self.label[place] = AT_THIS_LEVEL
            if any(self.is_flooded(other) for other in self.neighbours(place)):
                self.label[place] = IN_QUEUE
                queue.append(place)
        while queue:
            place = queue.pop(0)
            may_leave_line = False
            for other in self.neighbours(place):
                if self.label[other] == AT_THIS_LEVEL:
                    self.label[other] = IN_QUEUE
                    queue.append(other)
                elif self.is_flooded(other):
                    may_leave_line = self.look_at(place, other, may_leave_line)

    def look_at(self, place, other, may_leave_line):
        """Let `place` learn from a flooded neighbour; return whether, if line, it may still join a basin."""
        own, seen = self.label[place], self.label[other]
        if seen == LINE:
            if own == IN_QUEUE:
                self.label[place] = LINE
                return True
        elif own == IN_QUEUE or (own == LINE and may_leave_line):
            self.label[place] = seen
        elif own not in (LINE, seen):
            self.label[place] = LINE
            return False
        return may_leave_line

    def add_basins(self, here):
        for seed in here:
            if self.label[seed] != AT_THIS_LEVEL:
                continue
            self.basins += 1
            self.label[seed] = self.basins
            queue = [seed]
            while queue:
                for other in self.neighbours(queue.pop(0)):
                    if self.label[other] == AT_THIS_LEVEL:
                        self.label[other] = self.basins
                        queue.append(other)


def watershed(grey):
    return Watershed(grey).rows()


def components(binary):
    """4-connected components 1..n of the true pixels, 0 elsewhere; `binary` is a list of rows."""
    height, width = len(binary), len(binary[0])
    label = [[0] * width for _ in range(height)]
    count = 0
    for y in range(height):
        for x in range(width):
            if binary[y][x] and not label[y][x]:
                count += 1
                label[y][x] = count
                stack = [(x, y)]
                while stack:
                    a, b = stack.pop()
                    for u, v in ((a - 1, b), (a + 1, b), (a, b - 1), (a, b + 1)):
                        if 0 <= u < width and 0 <= v < height and binary[v][u] and not label[v][u]:
                            label[v][u] = count
                            stack.append((u, v))
    return label


def scores(truth, proposal):
    """V_rand and V_info of two label images, with precision and recall, by the formulas with p_ij and aux."""
    pairs = [(a, b) for rows in zip(truth, proposal, strict=True) for a, b in zip(*rows, strict=True) if a]
    n = len(pairs)
    p, a, b = {}, {}, {}
    for i, j in pairs:
        p[i, j] = p.get((i, j), 0) + 1 / n
        a[i] = a.get(i, 0) + 1 / n
        b[j] = b.get(j, 0) + 1 / n
    aux = b.pop(0, 0)
    p = {key: value for key, value in p.items() if key[1]}

    a2 = sum(v * v for v in a.values())
    b2 = sum(v * v for v in b.values()) + aux / n
    ab2 = sum(v * v for v in p.values()) + aux / n
    rand = (2 * ab2 / (a2 + b2), ab2 / b2, ab2 / a2)

    sum_a = sum(v * math.log(v) for v in a.values())
    sum_b = sum(v * math.log(v) for v in b.values()) - aux * math.log(n)
    sum_ab = sum(v * math.log(v) for v in p.values()) - aux * math.log(n)
    h_a, h_b = -sum_a, -sum_b
    information = sum_ab - sum_a - sum_b
    precision, recall = (
        (information / h_a if h_a > 1e-12 else 0.0),
        (information / h_b if h_b > 1e-12 else 1.0),
    )
    if h_a <= 1e-12:  # sums of n times 1/n are not exactly 1
        precision, recall = 0.0, 1.0
    if h_b <= 1e-12:
        precision, recall = 1.0, 0.0
    both = precision + recall
    return rand, (2 * precision * recall / both if both > 0 else 0.0, precision, recall)


def thresholds():
    """0 to 1 in steps of 0.1, added up."""
    threshold = 0.0
    while threshold <= 1:
        yield threshold
        threshold += 0.1


def v_scores(probabilities, truth):
    """Best V_rand and V_info over the thresholds of the mean over the slices: two (score, threshold)."""
    best = [(-1.0, None), (-1.0, None)]
    for threshold in thresholds():
        sums = [0.0, 0.0]
        for plane, cells in zip(probabilities, truth, strict=True):
            inverted = [[0 if p > threshold else 255 for p in row] for row in plane]
            found = scores(components(cells), watershed(inverted))
            sums = [total + score[0] for total, score in zip(sums, found, strict=True)]
        for kind, value in enumerate(sums):
            if value / len(truth) > best[kind][0]:
                best[kind] = (value / len(truth), threshold)
    return best


def f_score(tp, fp, fn):
    precision = 1 if fp == 0 else tp / (tp + fp)
    recall = 1 if fn == 0 else tp / (tp + fn)
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0


def pixel_error(probabilities, truth):
    """1 - best F-score over the thresholds, counts summed over the slices."""
    best = 0.0
    for threshold in thresholds():
        tp = fp = fn = 0
        for plane, cells in zip(probabilities, truth, strict=True):
            for row, labels in zip(plane, cells, strict=True):
                for p, cell in zip(row, labels, strict=True):
                    tp += p > threshold and cell
                    fp += p > threshold and not cell
                    fn += p <= threshold and cell
        best = max(best, f_score(tp, fp, fn))
    return 1 - best


def rand_error(probabilities, truth):
    """1 - best F-score over the thresholds, looking at every pair of pixels of every slice."""
    best = 0.0
    for threshold in thresholds():
        tp = fp = fn = 0
        for plane, cells in zip(probabilities, truth, strict=True):
            proposed = itertools.chain(*components([[p > threshold for p in row] for row in plane]))
            labels = zip(itertools.chain(*components(cells)), proposed, strict=True)
            for (true, found), (other_true, other_found) in itertools.combinations(labels, 2):
                tp += true == other_true and found == other_found
                fp += true != other_true and found == other_found
                fn += true == other_true and found != other_found
        best = max(best, f_score(tp, fp, fn))
    return 1 - best


SIDES = ndimage.generate_binary_structure(2, 1)
SIDES_AND_CORNERS = ndimage.generate_binary_structure(2, 2)


def is_simple(block):
    """Whether the middle of 3 x 3 pixels can change sides: Bertrand's two numbers are both 1.

    They count the pieces of cell, 4-connected, that share a side with it, and of membrane, 8-connected.
    """
    around = np.ones((3, 3), bool)
    around[1, 1] = False
    cells, _ = ndimage.label(block & around, SIDES)
    _, membranes = ndimage.label(~block & around, SIDES_AND_CORNERS)
    return len({cells[0, 1], cells[1, 0], cells[1, 2], cells[2, 1]} - {0}) == 1 and membranes == 1


@functools.cache
def is_simple_pattern(pattern):
    return is_simple(np.frombuffer(pattern, bool).reshape(3, 3))


def warp(probabilities, truth, threshold, counted=None):
    """The truth warped to the proposal, and the places (x, y) where they still differ; arrays (H, W)."""
    height, width = truth.shape
    counted = np.ones_like(truth) if counted is None else counted
    cell = np.pad(truth & counted, 1)
    before = None
    while True:
        differing = [
            (x, y)
            for x in range(width)
            for y in range(height)
            if counted[y, x] and cell[y + 1, x + 1] != (float(probabilities[y, x]) > threshold)
        ]
        if len(differing) == before:
            return cell[1:-1, 1:-1], differing
        before = len(differing)
        # Sorting keeps the order of equal ones.
        for x, y in sorted(differing, key=lambda xy: -distance(probabilities[xy[1], xy[0]], threshold)):
            if is_simple_pattern(cell[y : y + 3, x : x + 3].tobytes()):
                cell[y + 1, x + 1] = not cell[y + 1, x + 1]


def distance(p, threshold):
    """Of a probability from the threshold, rounded as the official code rounds it."""
    return np.float32(abs(float(p) - threshold))


def mismatch_kinds(warped, differing, radius):
    """What each place (x, y) where the warped truth differs from the proposal stands for."""
    objects, _ = ndimage.label(warped, SIDES)
    return {place: mismatch_kind(warped, objects, *place, radius) for place in differing}


def mismatch_kind(warped, objects, x, y, radius):
    inside = warped[y, x]
    near = ids_around(objects, x, y)
    if len(near - {0}) > 1:
        return "split" if inside else "merge"
    if near <= {0}:
        return "object_deleted" if inside else "object_added"
    if 0 not in near:
        return "hole_added" if inside else "hole_deleted"
    if not inside:
        return "hole_added"
    if radius > min(warped.shape):
        radius = max(warped.shape)
    top, left = max(y - radius, 0), max(x - radius, 0)
    window = warped[top : y + radius + 1, left : x + radius + 1].copy()
    window[y - top, x - left] = False
    pieces, _ = ndimage.label(window, SIDES)
    return "split" if len(ids_around(pieces, x - left, y - top) - {0}) > 1 else "hole_deleted"


def ids_around(labels, x, y):
    height, width = labels.shape
    return {
        int(labels[j, i])
        for j in range(max(y - 1, 0), min(y + 2, height))
        for i in range(max(x - 1, 0), min(x + 2, width))
        if (j, i) != (y, x)
    }


def warping_error(probabilities, truth, radius=20):
    """Least share of split and merge pixels over the thresholds 0 to 0.9, that threshold, and all shares."""
    shares = []
    for threshold in itertools.takewhile(lambda value: value <= 0.9, thresholds()):
        wrong = 0
        for plane, cells in zip(probabilities, truth, strict=True):
            kinds = mismatch_kinds(*warp(plane, cells, threshold), radius).values()
            wrong += sum(kind in ("split", "merge") for kind in kinds)
        shares.append(wrong / sum(cells.size for cells in truth))
    best = min(shares)
    return best, list(thresholds())[shares.index(best)], shares
