"""The certificate of exact tiles: for a given network, tile by tile against the whole image, measured.

Each case is an image of random values and size, cut as `predict` cuts it, into tiles of random size that
meet at a random place. The whole of it goes through the network at once, mirrored by numpy, and the two
results are compared. So that the figure means something, a tile that lies half a period off is compared, too.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ushape.backends import Backend, PyTorchBackend, start
from ushape.checkpoint import load_model
from ushape.errors import ConfigError, TilingError
from ushape.geometry import Geometry, PaddedGeometry
from ushape.models import Network
from ushape.tiling import TilePlan, plan_tiles, read_mirrored, run_tiled

Array = np.ndarray[Any, Any]

LIMITS = {"fp32": 1e-5, "fp64": 1e-12}
"""Largest difference allowed, as a share of the largest value: some dozens of roundings of the precision."""

_PERIODS = 4  # side of the largest image; the margin around it is most of the work anyway
_LEAST_SIDE = 32  # of the largest image, for networks of a short period
_LEAST_IMAGES, _MOST_IMAGES = 3, 12


@dataclass(frozen=True)
class Certificate:
    """How far tiles are from the whole image.

    Attributes
    ----------
    differences : dict of float
        The largest difference as a share of the largest value, in PyTorch by precision, "fp32" and "fp64",
        and in "fp32 openvino" where that is what `predict` computes with.
    misaligned : float
        The same for a tile half a period off, where none may lie; in fp32, the median over the images.
    images, tiles, seed : int
        How many were compared, and what they were drawn with.
    margin, halo, period : int
        Of the network, in pixels: what it loses on each side, and what tiles read there beyond what they keep
        (more than the margin only for padded networks, which lose nothing).
    """

    differences: dict[str, float]
    misaligned: float
    images: int
    tiles: int
    seed: int
    margin: int
    halo: int
    period: int

    @property
    def is_exact(self) -> bool:
        """Whether all differences are within `LIMITS`; what is not a number is not."""
        return all(found <= _limit(name) for name, found in self.differences.items())

    def render(self) -> str:
        """Lines for a person: what was compared, each precision with its limit, and the verdict."""
        rows = [
            f"{name}: largest difference {found:.1e} of the largest value, limit {_limit(name):.0e}: "
            f"{'pass' if found <= _limit(name) else 'FAIL'}"
            for name, found in self.differences.items()
        ]
        reads = f"margin {self.margin} px" if self.margin else f"padded, halo {self.halo} px"
        verdict = "tiles equal the whole image" if self.is_exact else "TILES DO NOT EQUAL THE WHOLE IMAGE"
        return "\n".join(
            [
                f"tiles against whole images: {self.images} images, {self.tiles} tiles, seed {self.seed}; "
                f"{reads}, period {self.period} px",
                *rows,
                f"for comparison, a tile {self.period // 2} px off the period: {self.misaligned:.1e}",
                verdict,
            ]
        )


def certify(
    model: str | Path | Network,
    *,
    seed: int = 0,
    seconds: float = 45.0,
    images: int | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Certificate:
    """Measure by how much tiles differ from the whole image, on the CPU in fp32 and in fp64.

    In fp32 by both engines, if `predict` computes with OpenVINO here.

    Parameters
    ----------
    model : path, Network
        A model file or a network, which is put into evaluation mode.
    seed : int
        Of images, sizes and values, >= 0. Equal seeds draw the same images in the same order.
    seconds : float
        No image is begun after this time, but 3 are always compared, and never more than 12.
    images : int, optional
        Compare as many images, however long it takes.
    progress : callable, optional
        Called after each image with the number done and the share of the whole that this is, 0 to 1.

    Returns
    -------
    Certificate

    Raises
    ------
    CheckpointError
        If the file is not a model or is damaged.
    ConfigError
        If `seed` is negative or `images` is not positive.
    TilingError
        If a layer computes statistics per tile, or looks at the whole image; names the layer.
    """
    if seed < 0 or (images is not None and images < 1):
        raise ConfigError(f"seed {seed}, images {images}: give a seed of at least 0 and at least 1 image")
    network = model if not isinstance(model, str | Path) else load_model(model)[0]
    geometry = network.geometry
    if isinstance(geometry, PaddedGeometry) and geometry.looks_at_all is not None:
        raise TilingError(
            f"layer `{geometry.looks_at_all}` looks at the whole image at once, so there are no tiles to "
            "certify: `ushape predict` takes each image whole"
        )
    backends = _backends(network)
    rng, started = np.random.default_rng(seed), time.perf_counter()
    found: dict[str, list[float]] = {"misaligned": [], **{name: [] for name in backends}}
    done = tiles = 0
    while True:
        image, plan = _draw(rng, network, done)
        for precision, backend in backends.items():
            whole = _whole(backend, image)
            tiled = run_tiled(image, backend, plan, network.classes, np.empty_like(whole))
            found[precision].append(_relative(tiled, whole))
            if precision == "fp32":
                found["misaligned"].append(_misaligned(backend, image, plan, whole))
        done, tiles = done + 1, tiles + len(plan)
        share = _share(done, time.perf_counter() - started, images, seconds)
        if progress is not None:
            progress(done, share)
        if share >= 1:
            break
    return Certificate(
        # Not `max`, which passes over what is not a number.
        differences={name: float(np.max(found[name])) for name in backends},
        misaligned=float(np.median(found["misaligned"])),
        images=done,
        tiles=tiles,
        seed=seed,
        margin=geometry.margin,
        halo=geometry.whole_halo if isinstance(geometry, PaddedGeometry) else geometry.margin,
        period=geometry.period,
    )


def _backends(network: Network) -> dict[str, Backend]:
    backends: dict[str, Backend] = {
        name: PyTorchBackend(network, "cpu", name)  # type: ignore[arg-type]
        for name in LIMITS
    }
    predicting = start(network, "cpu", "fp32")
    if not isinstance(predicting, PyTorchBackend):
        backends[f"fp32 {predicting.engine.partition(' ')[0]}"] = predicting
    return backends


def _limit(name: str) -> float:
    return LIMITS[name.partition(" ")[0]]


def _share(done: int, elapsed: float, images: int | None, seconds: float) -> float:
    """How much of the work is done; 1 ends it."""
    if images is not None:
        return done / images
    if done < _LEAST_IMAGES:
        return min(done / _LEAST_IMAGES, 0.99)
    return min(max(elapsed / seconds, done / _MOST_IMAGES), 1.0)


def _draw(rng: np.random.Generator, network: Network, number: int) -> tuple[Array, TilePlan]:
    """Image `number` of normal values, and a plan of two tiles along each axis, or one if it is padded."""
    geometry = network.geometry
    if isinstance(geometry, PaddedGeometry):
        return _draw_strip(rng, network.in_channels, geometry, is_high=number % 2 == 0)
    sides = [_side(rng, geometry) for _ in range(2)]
    keep = [_meeting_place(rng, side, geometry.period) for side in sides]
    image = rng.standard_normal((network.in_channels, *sides))
    return image, plan_tiles(sides[0], sides[1], (keep[0], keep[1]), geometry)


def _draw_strip(
    rng: np.random.Generator, channels: int, geometry: PaddedGeometry, *, is_high: bool
) -> tuple[Array, TilePlan]:
    """An image just longer than the halo on both sides, so that neither of two tiles sees all of it.

    It is long in height or in width: the two tiles lie above each other or side by side.
    """
    period, reach = geometry.period, geometry.whole_halo
    across = int(rng.integers(1, 2 * period + 1)), 2 * period
    along = 2 * reach + period + int(rng.integers(1, period + 1)), reach + period
    (height, keep_y), (width, keep_x) = (along, across) if is_high else (across, along)
    image = rng.standard_normal((channels, height, width))
    return image, plan_tiles(height, width, (keep_y, keep_x), geometry)


def _side(rng: np.random.Generator, geometry: Geometry) -> int:
    shortest = max(geometry.period, geometry.output_size(geometry.smallest)) + 1
    longest = max(_PERIODS * geometry.period, _LEAST_SIDE)
    return int(rng.integers(shortest, longest + 1))


def _meeting_place(rng: np.random.Generator, side: int, period: int) -> int:
    """Where the first tile of an axis ends: the second one is not the longer of the two."""
    return period * int(rng.integers(-(-side // (2 * period)), -(-side // period)))


def _misaligned(backend: Backend, image: Array, plan: TilePlan, whole: Array) -> float:
    """Difference of the last tile, moved by half a period, from the whole image."""
    *_, spans = plan.tiles
    # Along an axis of one tile there is nowhere to move it.
    offs = [backend.geometry.period // 2 if span.keep_start else 0 for span in spans]
    (top, bottom), (left, right) = (
        (span.read_start - off, span.read_stop - off) for span, off in zip(spans, offs, strict=True)
    )
    output = backend(read_mirrored(image, top, bottom, left, right))
    kept = tuple(
        slice(span.keep_start - off, span.keep_stop - off) for span, off in zip(spans, offs, strict=True)
    )
    return _relative(output[:, spans[0].kept, spans[1].kept], whole[:, *kept])


def _whole(backend: Backend, image: Array) -> Array:
    """One pass over the whole image, mirrored here."""
    geometry, padding = backend.geometry, [(0, 0)]
    for length in image.shape[1:]:
        padding.append((geometry.margin, geometry.input_size(length) - length - geometry.margin))
    return backend(np.pad(image, padding, mode="reflect"))[:, : image.shape[1], : image.shape[2]]


def _relative(found: Array, reference: Array) -> float:
    """Largest difference as a share of the largest value; not a number if either holds what is none."""
    with np.errstate(invalid="ignore"):
        largest, difference = np.abs(reference).max(), np.abs(found - reference).max()
        return 0.0 if difference == 0 else float(difference / largest)
