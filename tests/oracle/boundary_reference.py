"""Boundary scores straight from their definitions, pixel by pixel, pair by pair. Nothing of ours is imported.

For small masks, given as lists of rows; `spacing` is the size of a pixel (y, x).
"""

import math


def inside(mask, y, x):
    return 0 <= y < len(mask) and 0 <= x < len(mask[0]) and bool(mask[y][x])


def edge_pixels(mask, spacing):
    """Place and length, 1, of each pixel with one of its 4 neighbours outside."""
    return [
        ((y * spacing[0], x * spacing[1]), 1.0)
        for y in range(len(mask))
        for x in range(len(mask[0]))
        if inside(mask, y, x)
        and not all(inside(mask, y + dy, x + dx) for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)))
    ]


def contour(mask, spacing):
    """Place of each corner of pixels that the contour passes, and the length of its lines there.

    In the square between the centres of four pixels the lines of marching squares join the middles of those
    sides whose ends are unlike. With four such sides there are two lines.
    """
    pieces = []
    for y in range(len(mask) + 1):
        for x in range(len(mask[0]) + 1):
            corners = [(y - 1, x - 1), (y - 1, x), (y, x), (y, x - 1)]  # once around
            crossed = []
            for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
                if inside(mask, *start) != inside(mask, *end):
                    middle = [(a + b) / 2 * size for a, b, size in zip(start, end, spacing, strict=True)]
                    crossed.append(middle)
            lines = [math.dist(a, b) for a, b in zip(crossed[::2], crossed[1::2], strict=True)]
            if lines:
                pieces.append(((y * spacing[0], x * spacing[1]), sum(lines)))
    return pieces


def distances(pieces, others):
    """(Distance to the nearest of the others, length) of each piece, in ascending order."""
    return sorted((min(math.dist(place, other) for other, _ in others), length) for place, length in pieces)


def interpolated_percentile(pairs, share):
    """The value at that share of the way from the first to the last one, linear between neighbours."""
    values = [distance for distance, _ in pairs]
    place = share * (len(values) - 1)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def weighted_percentile(pairs, share):
    """The first distance up to which at least that share of the length lies."""
    total, so_far = sum(length for _, length in pairs), 0.0
    for distance, length in pairs:
        so_far += length
        if so_far >= share * total * (1 - 1e-12):
            return distance
    raise AssertionError("the whole length is more than any share of it")


def scores(pred, true, spacing, tolerance, pieces, percentile):
    """(hd95, nsd, precision, recall) of two masks that are not empty."""
    a, b = pieces(pred, spacing), pieces(true, spacing)
    ways = distances(a, b), distances(b, a)
    within = [sum(length for distance, length in way if distance <= tolerance * (1 + 1e-12)) for way in ways]
    total = [sum(length for _, length in way) for way in ways]
    return (
        max(percentile(way, 0.95) for way in ways),
        sum(within) / sum(total),
        within[0] / total[0],
        within[1] / total[1],
    )
