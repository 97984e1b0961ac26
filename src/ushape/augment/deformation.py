"""Shift, rotation, mirror and elastic deformation as one smooth map of coordinates.

Where a pixel of a tile comes from is a sum of a random spline and a linear map, both separable, so that all
coordinates of a tile are one product of small matrices::

    from(y, x)  =  centre + shift + A @ ((y, x) + displacement(y, x))

    A             rotation, mirror and scale
    displacement  cubic spline over a coarse grid that spans the tile     o----o----o
                                                                          o----o----o
                                                                          o----o----o

Source: Ronneberger 2015, section 3.1. Angles, mirrors and the extent of the grid are not stated there: they
are our choice, named below.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from ushape.errors import ConfigError

Array = npt.NDArray[Any]
Spline = Literal["interpolating", "approximating"]

UPRIGHT_RADIANS = math.radians(10)
"""Most by which images that have a top are turned either way: as a camera may be held."""


@dataclass(frozen=True, eq=False)
class Deformation:
    """What is drawn for one tile: a pure description, which any device can carry out.

    Parameters
    ----------
    displacements : ndarray of float, shape (2, grid, grid)
        Displacement (y, x) at each control point, in pixels of the tile.
    angle : float
        Radians by which the tile shows the image turned clockwise.
    mirror : bool
        Whether left and right of the turned tile are swapped.
    scale : float
        Image pixels per tile pixel, > 0: 2 shows objects at half their size.
    shift : tuple of float
        Offset (y, x), in image pixels, of the tile's centre from the centre asked for.
    spline : {"interpolating", "approximating"}
        How displacements are interpolated, see `draw`.
    """

    displacements: Array
    angle: float = 0.0
    mirror: bool = False
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    spline: Spline = "interpolating"

    @classmethod
    def identity(cls) -> Self:
        """Cut straight out of the image: nothing is moved."""
        return cls(np.zeros((2, 3, 3)))

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        *,
        shift_px: tuple[float, float] = (0.0, 0.0),
        rotation: bool = True,
        upright: bool = False,
        mirror: bool = True,
        elastic_std_px: float = 10.0,
        grid: int = 3,
        scale: tuple[float, float] = (1.0, 1.0),
        spline: Spline = "interpolating",
    ) -> Self:
        """Draw a deformation; the defaults are the paper's recipe.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of all numbers. As many are drawn whatever is switched on, so that switching one part
            off leaves the others as they were.
        shift_px : tuple of float
            Largest shift (y, x), in image pixels: uniform between minus and plus this.
        rotation, mirror : bool
            Whether to rotate, uniformly over the full circle, and to mirror every other tile.
        upright : bool
            Whether to rotate by at most `UPRIGHT_RADIANS` only.
        elastic_std_px : float
            Standard deviation of each component of the displacements, in tile pixels. Paper: 10.
        grid : int
            Control points per axis. Paper: 3. At least 2 (interpolating) or 4 (approximating).
        scale : tuple of float
            Range of the scale, drawn uniformly in its logarithm. Paper: none.
        spline : {"interpolating", "approximating"}
            "interpolating", the paper's words "bicubic interpolation": a natural cubic spline through the
            displacements, its outermost control points on the outermost pixels of the tile.
            "approximating": a uniform cubic B-spline, as in the authors' later code, with one control point
            beyond the tile on each side; it does not pass through the displacements and bends about half
            as hard. Their spacing of 150 pixels on a 572 x 572 tile is about `grid=7`.

        Returns
        -------
        Deformation

        Raises
        ------
        ConfigError
            If a parameter is out of its range.
        """
        _require_drawable(elastic_std_px, grid, scale, spline)
        angle, flip, zoom, *shift = rng.uniform(size=5)
        displacements = rng.normal(size=(2, grid, grid))
        low, high = np.log(scale)
        radians = (2 * angle - 1) * UPRIGHT_RADIANS if upright else 2 * math.pi * angle
        return cls(
            elastic_std_px * displacements,
            angle=radians if rotation else 0.0,
            mirror=bool(mirror and flip < 0.5),
            scale=math.exp(low + (high - low) * zoom),
            shift=((2 * shift[0] - 1) * shift_px[0], (2 * shift[1] - 1) * shift_px[1]),
            spline=spline,
        )

    @classmethod
    def draw_plain(cls, rng: np.random.Generator, *, upright: bool = False) -> Self:
        """Draw one of the eight turns and mirrors that map pixels onto pixels: nothing is interpolated.

        Parameters
        ----------
        rng : numpy.random.Generator
        upright : bool
            Whether left and right may be swapped, but nothing is turned.

        Returns
        -------
        Deformation
        """
        turns, flip = rng.integers((4, 2)).tolist()
        return cls(np.zeros((2, 3, 3)), angle=0.0 if upright else turns * math.pi / 2, mirror=bool(flip))

    @property
    def matrix(self) -> Array:
        """A of the module's formula, shape (2, 2): offset (y, x) in the tile to offset in the image."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        flip = -1.0 if self.mirror else 1.0
        return self.scale * np.array([[cos, -sin * flip], [sin, cos * flip]])

    @property
    def core(self) -> Array:
        """The coordinates without the tile's size, shape (2, grid + 2, grid + 2): see `axis_basis`.

        Offset (y, x) in the image of pixel (y, x) of the tile: `rows[:, y] @ core @ columns[:, x]`.
        """
        grid = self.displacements.shape[-1]
        core = np.zeros((2, grid + 2, grid + 2))
        core[:, :grid, :grid] = np.tensordot(self.matrix, self.displacements, 1)
        core[:, grid, -1] = self.matrix[:, 0]
        core[:, -1, grid] = self.matrix[:, 1]
        core[:, -1, -1] = self.shift
        return core

    def coordinates(self, size: tuple[int, int]) -> tuple[Array, Array]:
        """Where each pixel of a tile comes from.

        Parameters
        ----------
        size : tuple of int
            Height and width of the tile in pixels, at least 2; the grid of displacements spans it.

        Returns
        -------
        map_y, map_x : ndarray of float32, shape (height, width)
            Offset in image pixels from the centre asked for.
        """
        rows, columns = (axis_basis(length, self.displacements.shape[-1], self.spline) for length in size)
        # Not `@`: the threads of a BLAS stall for tens of milliseconds where training uses every core.
        half_way = np.einsum("iy,aij->ayj", rows, self.core.astype(np.float32))
        map_y, map_x = np.einsum("ayj,jx->ayx", half_way, columns)
        return map_y, map_x


def _require_drawable(elastic_std_px: float, grid: int, scale: tuple[float, float], spline: Spline) -> None:
    fewest = {"interpolating": 2, "approximating": 4}
    if spline not in fewest:
        raise ConfigError(f"spline must be 'interpolating' or 'approximating', got {spline!r}")
    if grid < fewest[spline]:
        raise ConfigError(f"grid must be at least {fewest[spline]} for an {spline} spline, got {grid}")
    if not 0 <= elastic_std_px < math.inf:
        raise ConfigError(f"elastic_std_px must be a number, at least 0, got {elastic_std_px}")
    if not 0 < scale[0] <= scale[1] < math.inf:
        raise ConfigError(f"scale must be a range of positive numbers, the smaller first, got {scale}")


@lru_cache(maxsize=32)
def axis_basis(length: int, grid: int, spline: Spline) -> Array:
    """Evaluate what coordinates are made of along one axis, at each pixel of a tile.

    Parameters
    ----------
    length : int
        Pixels of the tile along the axis, at least 2.
    grid : int
        Control points.
    spline : {"interpolating", "approximating"}

    Returns
    -------
    ndarray of float32, shape (grid + 2, length)
        The basis functions of the spline, the offset from the tile's centre, and the constant 1. Read-only.
    """
    pixels = np.arange(length)
    # The spline is evaluated in units of the control points' spacing, control point k at position k.
    if spline == "interpolating":
        from scipy.interpolate import CubicSpline

        bends = CubicSpline(range(grid), np.eye(grid), bc_type="natural")(pixels * (grid - 1) / (length - 1))
    else:
        bends = _b_spline(1 + pixels * (grid - 3) / (length - 1), grid)
    offset = pixels - (length - 1) / 2
    basis = np.vstack([bends.T, offset, np.ones(length)]).astype(np.float32, "C")  # (grid + 2, length)
    basis.flags.writeable = False
    return basis


def _b_spline(positions: Array, grid: int) -> Array:
    distance = np.abs(positions[:, None] - np.arange(grid))
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, inner, outer)
