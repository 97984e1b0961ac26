"""Part objects that touch, by a watershed that starts from one seed per object."""

from itertools import count, groupby
from operator import itemgetter
from typing import Any

import cc3d
import numpy as np

from ushape.config import Connectivity, Postprocessing
from ushape.instances import neighbours

Array = np.ndarray[Any, Any]


def split(ids: Array, foreground: Array | None, how: Postprocessing) -> Array:
    """Part components as `how.split` says; `foreground` is needed for "probability" alone."""
    if how.split == "distance":
        return split_by_distance(ids, how.seed_depth_px, how.connectivity)
    assert foreground is not None
    return split_by_probability(ids, foreground, how.seed_threshold, how.connectivity)


def split_by_probability(
    ids: Array, foreground: Array, seed_threshold: float, connectivity: Connectivity
) -> Array:
    """Part components between the regions in which the probability exceeds a second, higher threshold.

    Parameters
    ----------
    ids : ndarray of int, shape (H, W)
        Components 1..n, 0 is background.
    foreground : ndarray of float, shape (H, W)
        Probability, 0 to 1.
    seed_threshold : float
    connectivity : {4, 8}

    Returns
    -------
    ndarray of int32, shape (H, W)
        Objects 1..m line by line. A component without a seed is gone.
    """
    seeds = cc3d.connected_components(
        np.where(foreground > seed_threshold, ids, 0), connectivity=connectivity
    )
    return _grown(seeds.astype(np.int32), ids, -foreground, connectivity)


def split_by_distance(ids: Array, depth_px: float, connectivity: Connectivity) -> Array:
    """Part components between the peaks of the distance to their border.

    Parameters
    ----------
    ids, connectivity
        See `split_by_probability`.
    depth_px : float
        Pixels by which a peak rises at least above the pass to a higher peak.

    Returns
    -------
    ndarray of int32, shape (H, W)
        Objects 1..m line by line.
    """
    import edt

    from ushape.instances.peaks import peaks

    ids = ids.astype(np.int32)
    # Beyond the border of the image an object goes on: there is no background to be distant from.
    distance = edt.edt(ids.astype(np.uint32), black_border=False, parallel=1)
    inside = np.flatnonzero(ids)
    descending = inside[np.argsort(-distance.ravel()[inside], kind="stable")]
    found = peaks(distance, ids, descending, depth_px)
    seeds = np.zeros(ids.shape, np.int32)
    seeds.ravel()[found] = np.arange(1, len(found) + 1)
    return _grown(seeds, ids, -distance, connectivity)


def _grown(seeds: Array, ids: Array, landscape: Array, connectivity: Connectivity) -> Array:
    """Let seeds 1..m grow uphill within their components; where there is only one, it takes all."""
    owners = np.zeros(int(seeds.max()) + 1, np.int64)  # component of each seed
    owners[seeds] = ids
    seeded = np.bincount(owners[1:], minlength=int(ids.max()) + 1)  # seeds of each component
    only = np.zeros(len(seeded), np.int32)
    only[owners[1:]] = np.arange(1, len(owners))
    only[seeded > 1] = 0
    objects = only[ids]
    steps = 1 if connectivity == 4 else 2
    for contested in _planes_apart(ids, seeded > 1):
        from skimage.segmentation import watershed

        markers = np.where(contested, seeds, 0)
        objects += watershed(  # type: ignore[no-untyped-call]
            _seeds_first(landscape, markers), markers, connectivity=steps, mask=contested
        )
    return _line_by_line(objects, len(owners))


def _seeds_first(landscape: Array, markers: Array) -> Array:
    """The landscape with its seeds below everything, in the order of their pixels.

    scikit-image floods equal heights in the order in which they were met, but has met all seeds at once:
    which of those is first would depend on all other components.
    """
    places = np.flatnonzero(markers)
    ordered = landscape.astype(np.float64)
    ordered.ravel()[places] = float(landscape.min()) - len(places) + np.arange(len(places))
    return ordered


def _planes_apart(ids: Array, chosen: Array) -> list[Array]:
    """Masks of the chosen components, in none of which two touch: each is flooded by itself.

    Those of two classes touch, and so does one in the filled hole of another.
    """
    place = np.zeros(len(chosen), np.int64)  # number of the mask
    shown = np.where(chosen[ids], ids.astype(np.int64), -1)
    pairs = neighbours.unique(neighbours.straight(shown), neighbours.diagonal(shown))
    in_order = pairs[:, np.argsort(pairs[1], kind="stable")].T.tolist()  # of the larger number
    for component, touching in groupby(in_order, key=itemgetter(1)):
        taken = {int(place[smaller]) for smaller, _ in touching}
        place[component] = next(number for number in count() if number not in taken)
    return [(chosen & (place == number))[ids] for number in np.unique(place[chosen])]


def _line_by_line(objects: Array, count: int) -> Array:
    """Number objects in the order of their first pixels."""
    pixels = np.flatnonzero(objects)[::-1]
    first = np.full(count, objects.size)
    first[objects.ravel()[pixels]] = pixels  # of several values for one place the last one stays
    first[0] = -1
    numbers = np.empty(count, np.int32)
    numbers[np.argsort(first)] = np.arange(count)
    renumbered: Array = numbers[objects]
    return renumbered
