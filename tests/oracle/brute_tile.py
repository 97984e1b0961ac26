"""A training tile pixel by pixel with SciPy, from the numbers that were drawn; imports nothing of ours."""

import math

import numpy as np
from scipy.interpolate import BSpline, CubicSpline
from scipy.ndimage import map_coordinates


def displacement(control: np.ndarray, size: int, spline: str) -> np.ndarray:
    """Displacement of each pixel, (size, size), from one plane of control values, (grid, grid)."""
    grid = len(control)
    pixels = np.arange(size)
    if spline == "interpolating":
        nodes = np.linspace(0, size - 1, grid)
        rows = CubicSpline(nodes, control, axis=0, bc_type="natural")(pixels)
        return CubicSpline(nodes, rows, axis=1, bc_type="natural")(pixels)
    # Uniform cubic B-spline: control point k sits at knot k + 2, the tile between points 1 and grid - 2.
    spacing = (size - 1) / (grid - 3)
    knots = (np.arange(grid + 4) - 3) * spacing
    rows = BSpline(knots, control, 3)(pixels)
    return BSpline(knots, rows.T, 3)(pixels).T


def coordinates(size, *, displacements, angle, mirror, scale, shift, spline):
    """Offsets (y, x) from the centre asked for, in complex numbers: x is real, y imaginary."""
    offset = np.arange(size) - (size - 1) / 2
    z = (offset + displacement(displacements[1], size, spline)) + 1j * (
        offset[:, None] + displacement(displacements[0], size, spline)
    )
    if mirror:
        z = -z.conjugate()
    # The tile shows the image turned clockwise: what is right of the centre was above it (y runs downwards).
    z = z * scale * complex(math.cos(angle), -math.sin(angle)) + complex(shift[1], shift[0])
    return z.imag, z.real


def sample(plane: np.ndarray, y: np.ndarray, x: np.ndarray, order: int) -> np.ndarray:
    """Look up points of a plane that is mirrored at its border, the edge not repeated."""
    return map_coordinates(plane, [y, x], order=order, mode="mirror", prefilter=False)
