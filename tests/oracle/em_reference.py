"""The ISBI 2012 scores, slowly: the definitions written out literally, in pure Python on lists.

Independent of the package: nothing of ours is imported. The watershed is Vincent and Soille's (Watersheds
in digital spaces, IEEE PAMI 13(6), 1991: flooding with a queue) for any number of grey levels, with the order
of scan (x outside, y inside) and of neighbours (left, up, right, down) of the challenge's code.
"""

import math

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
        precision = 1 if fp == 0 else tp / (tp + fp)
        recall = 1 if fn == 0 else tp / (tp + fn)
        if precision + recall > 0:
            best = max(best, 2 * precision * recall / (precision + recall))
    return 1 - best
