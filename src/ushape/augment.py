"""Random tiles from few images: shift, rotation, mirror and elastic deformation in one resampling.

Every pixel of a tile is looked up once in the image. Where it comes from is a sum of a random spline and a
linear map, both separable, so that all coordinates of a tile are one product of small matrices::

    from(y, x)  =  centre + shift + A @ ((y, x) + displacement(y, x))

    A             rotation, mirror and scale
    displacement  cubic spline over a coarse grid that spans the tile     o----o----o
                                                                          o----o----o
                                                                          o----o----o

Source: Ronneberger 2015, section 3.1. Angles, mirrors, grey values and the extent of the grid are not stated
there: they are our choice, named below.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from ushape.errors import ConfigError, ShapeError

Array = npt.NDArray[Any]
Spline = Literal["interpolating", "approximating"]
Interpolation = Literal["linear", "cubic"]


def generator(seed: int, sample: int, stream: int = 0) -> np.random.Generator:
    """Make the random generator of one sample: the same numbers wherever and whenever it is drawn.

    Parameters
    ----------
    seed, sample, stream : int
        Seed of the run, global number of the sample in the run, and number of an independent stream of the
        same sample (for example for dropout); each at least 0 and below 2**64.

    Returns
    -------
    numpy.random.Generator
        Philox keyed by (seed, sample), its counter starting in a range of its own for each stream.

    Raises
    ------
    ConfigError
        If a number is out of its range.

    Examples
    --------
    >>> generator(1, 7).integers(1000, size=3)
    array([167, 921, 722])
    """
    for name, value in {"seed": seed, "sample": sample, "stream": stream}.items():
        if not 0 <= value < 2**64:
            raise ConfigError(f"{name} must be at least 0 and below 2**64, got {value}")
    key = np.array([seed, sample], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, stream], np.uint64)))


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
        return cls(
            elastic_std_px * displacements,
            angle=2 * math.pi * angle if rotation else 0.0,
            mirror=bool(mirror and flip < 0.5),
            scale=math.exp(low + (high - low) * zoom),
            shift=((2 * shift[0] - 1) * shift_px[0], (2 * shift[1] - 1) * shift_px[1]),
            spline=spline,
        )

    @classmethod
    def draw_plain(cls, rng: np.random.Generator) -> Self:
        """Draw one of the eight turns and mirrors that map pixels onto pixels: nothing is interpolated.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        Deformation
        """
        turns, flip = rng.integers((4, 2)).tolist()
        return cls(np.zeros((2, 3, 3)), angle=turns * math.pi / 2, mirror=bool(flip))

    @property
    def matrix(self) -> Array:
        """A of the module's formula, shape (2, 2): offset (y, x) in the tile to offset in the image."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        flip = -1.0 if self.mirror else 1.0
        return self.scale * np.array([[cos, -sin * flip], [sin, cos * flip]])

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
        grid = self.displacements.shape[-1]
        # Basis functions per axis: the spline's, the offset from the tile's centre, and the constant 1.
        core = np.zeros((2, grid + 2, grid + 2))
        core[:, :grid, :grid] = np.tensordot(self.matrix, self.displacements, 1)
        core[:, grid, -1] = self.matrix[:, 0]
        core[:, -1, grid] = self.matrix[:, 1]
        core[:, -1, -1] = self.shift
        rows, columns = (_axis_basis(length, grid, self.spline) for length in size)
        # Not `@`: the threads of a BLAS stall for tens of milliseconds where training uses every core.
        half_way = np.einsum("iy,aij->ayj", rows, core.astype(np.float32))
        map_y, map_x = np.einsum("ayj,jx->ayx", half_way, columns)
        return map_y, map_x


def _require_drawable(elastic_std_px: float, grid: int, scale: tuple[float, float], spline: Spline) -> None:
    fewest = {"interpolating": 2, "approximating": 4}
    if spline not in fewest:
        raise ConfigError(f"spline must be 'interpolating' or 'approximating', got {spline!r}")
    if grid < fewest[spline]:
        raise ConfigError(f"grid must be at least {fewest[spline]} for an {spline} spline, got {grid}")
    if elastic_std_px < 0:
        raise ConfigError(f"elastic_std_px must not be negative, got {elastic_std_px}")
    if not 0 < scale[0] <= scale[1]:
        raise ConfigError(f"scale must be a range of positive numbers, the smaller first, got {scale}")


@lru_cache(maxsize=32)
def _axis_basis(length: int, grid: int, spline: Spline) -> Array:
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


def random_tile(
    image: Array,
    objects: Array,
    *,
    size_in: int,
    size_objects: int,
    deformation: Deformation,
    center: tuple[float, float] | None = None,
    interpolation: Interpolation = "linear",
) -> tuple[Array, Array]:
    """Resample one tile of an image and the objects in its middle, both through the same coordinates.

    Parameters
    ----------
    image : ndarray of float32, shape (C, H, W)
        The image, of any size; beyond its border it is mirrored as often as needed, the edge not repeated.
    objects : ndarray of int, shape (H, W)
        Object ids, 0 = background.
    size_in : int
        Height and width of the image tile: the network's input.
    size_objects : int
        Height and width of the tile of objects, concentric with the image tile: the network's output and
        on each side the margin that the tails of the border weights need (`weight_map.tail_px`).
    deformation : Deformation
        What was drawn for this tile. Its grid spans the larger one of the two tiles.
    center : tuple of float, optional
        Point (y, x) of the image at the tile's centre, before `deformation.shift`; the middle by default.
    interpolation : {"linear", "cubic"}
        How grey values are interpolated. The paper does not say (its "bicubic" is about displacements);
        linear, as in the authors' later code, takes half of the time.

    Returns
    -------
    image_tile : ndarray of float32, shape (C, size_in, size_in)
        Coordinates are rounded to 1/32 pixel.
    objects_tile : ndarray of int32, shape (size_objects, size_objects)
        Nearest neighbour. An object and its mirror image beyond the border have the same id.

    Raises
    ------
    ShapeError
        If image and objects differ in size, or the two tiles cannot be concentric.
    """
    if image.shape[1:] != objects.shape:
        raise ShapeError(f"image (C, H, W) and objects (H, W) do not fit: {image.shape} and {objects.shape}")
    if (size_in - size_objects) % 2:
        raise ShapeError(f"tiles of {size_in} and {size_objects} pixels have no common centre: even and odd")
    size = max(size_in, size_objects)
    maps, region = [], []
    for axis, offsets in enumerate(deformation.coordinates((size, size))):
        length = objects.shape[axis]
        middle = (length - 1) / 2 if center is None else center[axis]
        seen = _seen_part(middle + offsets.min(), middle + offsets.max(), length)
        offsets += middle - seen.start
        maps.append(offsets)
        region.append(seen)
    planes = np.asarray(image[:, *region], np.float32)
    image_tile = np.empty((len(planes), size_in, size_in), np.float32)
    for plane, tile in zip(planes, image_tile, strict=True):
        _resample(plane, maps, tile, interpolation)
    objects_tile = np.empty((size_objects, size_objects), np.int32)
    _resample(np.asarray(objects[*region], np.int32), maps, objects_tile, "nearest")
    return image_tile, objects_tile


def _seen_part(first: float, last: float, length: int) -> slice:
    """Part of an axis that positions from `first` to `last` fall on, once mirrored as often as needed.

    It ends with the axis where a mirror lies on the way, so mirroring the part gives the same. (OpenCV
    takes planes up to 32767 pixels only, and short coordinates keep their precision.)
    """
    reach = 2  # of cubic interpolation
    start, stop = math.floor(first) - reach, math.ceil(last) + reach + 1
    position = np.arange(min(start, length - 1), max(stop, 1))
    period = max(2 * (length - 1), 1)
    mirrored = np.minimum(position % period, -position % period)
    return slice(int(mirrored.min()), int(mirrored.max()) + 1)


def _resample(plane: Array, maps: list[Array], tile: Array, interpolation: str) -> None:
    """Fill `tile` with `plane` looked up at the middle of the coordinates `maps`."""
    import cv2

    start = (len(maps[0]) - len(tile)) // 2
    middle = slice(start, start + len(tile))
    map_y, map_x = (offsets[middle, middle] for offsets in maps)
    kernel = getattr(cv2, f"INTER_{interpolation.upper()}")
    cv2.remap(plane, map_x, map_y, kernel, dst=tile, borderMode=cv2.BORDER_REFLECT_101)


@dataclass(frozen=True)
class GreyValues:
    """How strongly grey values are varied; 0 switches a part off. The paper names them, without numbers.

    Parameters
    ----------
    brightness : float
        Largest offset, in standard deviations of the normalised image.
    contrast : float
        Largest relative change of the contrast, at most 0.9.
    curve : float
        Largest displacement of the control values of the tone curve, as a fraction of the range of grey
        values, at most 1/8; the slope of the curve changes by up to 8 times this.
    noise : float
        Largest standard deviation of added Gaussian noise, in standard deviations of the image.
    blur_px : float
        Largest standard deviation of a Gaussian blur, in pixels.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    curve: float = 0.05
    noise: float = 0.0
    blur_px: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            largest = {"contrast": 0.9, "curve": 0.125}.get(name, math.inf)
            if not 0 <= value <= largest:
                raise ConfigError(f"{name} must be at least 0 and at most {largest}, got {value}")


def vary_grey_values(image: Array, rng: np.random.Generator, strengths: GreyValues = GreyValues()) -> Array:
    """Change grey values at random: a smooth rising tone curve, contrast, brightness, then blur and noise.

    Parameters
    ----------
    image : ndarray of float32, shape (C, H, W)
        Normalised image (mean 0, standard deviation 1 per channel). Not modified.
    rng : numpy.random.Generator
        Source of all numbers; each channel draws its own.
    strengths : GreyValues
        How strongly.

    Returns
    -------
    ndarray of float32, shape (C, H, W)

    Notes
    -----
    The tone curve is a Bernstein polynomial of degree 4 over the range of the channel, its three inner
    control values displaced: rising control values make it rise everywhere.
    """
    varied = np.stack([_tone(channel, rng, strengths) for channel in np.asarray(image, np.float32)])
    if strengths.blur_px:
        import cv2

        for channel in varied:
            sigma = rng.uniform(0, strengths.blur_px)
            cv2.GaussianBlur(channel, (0, 0), max(sigma, 0.01), dst=channel)
    if strengths.noise:
        std = rng.uniform(0, strengths.noise, (len(varied), 1, 1)).astype(np.float32)
        varied += std * rng.standard_normal(varied.shape, np.float32)
    return varied


def _tone(channel: Array, rng: np.random.Generator, strengths: GreyValues) -> Array:
    brightness, contrast, *curve = rng.uniform(-1, 1, 5)
    low, high = float(channel.min()), float(channel.max())
    span = high - low or 1.0
    control = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    control[1:4] += strengths.curve * np.array(curve)
    coefficients = _BERNSTEIN @ control * span
    coefficients[0] += low
    coefficients *= 1 + strengths.contrast * contrast
    coefficients[0] += strengths.brightness * brightness
    position = (channel - np.float32(low)) * np.float32(1 / span)
    value = np.full_like(position, coefficients[4])
    for coefficient in coefficients[3::-1]:
        value *= position
        value += np.float32(coefficient)
    return value


_BERNSTEIN = np.array(
    [[1, 0, 0, 0, 0], [-4, 4, 0, 0, 0], [6, -12, 6, 0, 0], [-4, 12, -12, 4, 0], [1, -4, 6, -4, 1]], float
)
"""Control values to coefficients of 1, t, t**2, t**3, t**4."""
