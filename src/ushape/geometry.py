"""Size arithmetic of a network: what goes in, what comes out, where it lies, and how far a pixel looks.

For unpadded convolutions all is derived from the list of layers that one pixel passes on its way down and up
the U, in one dimension; height and width are independent. A convolution of kernel k takes k - 1 pixels, a
pooling of 2 halves an even size, an up-convolution doubles, and a skip is cropped to the size that comes up
from below::

    572 -> 570 -> 568 .................. crop to 392 | 392 -> 390 -> 388
              284 -> 282 -> 280 ........ crop to 200 | 200 -> 198 -> 196
                        ...          ...
                         32 -> 30 -> 28

Source: Ronneberger 2015, figure 1 and section 2.

A network of zero-padded convolutions loses no pixel and takes any size; what it needs to be cut into tiles is
how far it looks (its halo) and the shift under which it gives the same numbers (its period).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ushape.errors import ConfigError, ShapeError, TilingError


@dataclass(frozen=True)
class Layer:
    """One step of the path through the network, in one dimension.

    Attributes
    ----------
    kind : {"conv", "pool", "up"}
        Unpadded convolution, pooling, or up-convolution. (A bilinear enlargement that keeps what lies
        between pixels is an "up" and a "conv" of kernel factor + 1.)
    factor : int
        Kernel size of a convolution; factor by which a pooling shrinks and an up-convolution grows.
    """

    kind: Literal["conv", "pool", "up"]
    factor: int

    def output_size(self, size: int) -> int | None:
        """Size after this layer, or None where the layer cannot take `size` without losing a pixel."""
        if self.kind == "conv":
            return size - self.factor + 1 if size >= self.factor else None
        if self.kind == "pool":
            return size // self.factor if size % self.factor == 0 else None
        return size * self.factor

    def window(self, first: int, last: int) -> tuple[int, int]:
        """First and last input pixel that the output pixels `first` to `last` can see."""
        if self.kind == "conv":
            return first, last + self.factor - 1
        if self.kind == "pool":
            return first * self.factor, last * self.factor + self.factor - 1
        return first // self.factor, last // self.factor


class Geometry(ABC):
    """What tiles, training and messages need to know of the sizes of any network."""

    @property
    @abstractmethod
    def margin(self) -> int:
        """Pixels lost on each side between input and output."""

    @property
    @abstractmethod
    def halo(self) -> int | None:
        """Pixels that the network looks at beyond its output, on each side; None: all there are."""

    @property
    @abstractmethod
    def period(self) -> int:
        """Shift, in input pixels, under which the network is equivariant: the product of the poolings."""

    @property
    @abstractmethod
    def step(self) -> int:
        """Distance of one valid input size to the next."""

    @property
    @abstractmethod
    def smallest(self) -> int:
        """Smallest valid input size. All others follow at steps of `step`."""

    @abstractmethod
    def exact_output(self, tile: int) -> int:
        """Pixels that an inner tile of `tile` input pixels has as the whole image would; 0 if none."""

    @abstractmethod
    def tile_size(self, keep: int, length: int) -> int:
        """Input pixels of a tile that keeps `keep` of an image side of `length` pixels, or all of it."""

    def smallest_tile(self, length: int) -> int:
        """Input pixels of the smallest tile of an image side of `length` pixels."""
        return self.tile_size(min(length, self.period), length)

    @property
    def shrink(self) -> int:
        """Factor by which the image is shrunk before the first convolution."""
        return 1

    @property
    def looks_at_all(self) -> str | None:
        """Name of the layer by which the network looks at the whole image; None if it has none."""
        return None

    def is_valid(self, size: int) -> bool:
        """Whether an input of `size` pixels passes every layer without losing a pixel on one side."""
        return size >= self.smallest and (size - self.smallest) % self.step == 0

    def output_size(self, size: int) -> int:
        """Size of the output for an input of `size` pixels.

        Raises
        ------
        ShapeError
            If `size` is not valid; the message names the nearest valid sizes.
        """
        self.require_valid(size)
        return size - 2 * self.margin

    def require_valid(self, size: int, what: str = "input size") -> None:
        """Raise ShapeError, naming the nearest valid sizes, unless `size` is valid."""
        if self.is_valid(size):
            return
        below, above = self.nearest_valid_sizes(size)
        if below is None:
            raise ShapeError(f"{what} {size} is not valid; the smallest valid size is {above}")
        raise ShapeError(f"{what} {size} is not valid; nearest valid sizes: {below} and {above}")

    def nearest_valid_sizes(self, size: int) -> tuple[int | None, int]:
        """Largest valid size not above `size` (None if there is none) and smallest not below it."""
        if size < self.smallest:
            return None, self.smallest
        below = size - (size - self.smallest) % self.step
        return below, below if below == size else below + self.step

    def input_size(self, output: int) -> int:
        """Smallest valid input whose output has at least `output` pixels."""
        return self.nearest_valid_sizes(output + 2 * self.margin)[1]

    def valid_sizes(self) -> Iterator[int]:
        """Valid input sizes in ascending order, without end."""
        size = self.smallest
        while True:
            yield size
            size += self.step


class PaddedGeometry(Geometry):
    """Sizes of a network of zero-padded convolutions: any goes in, and the same comes out.

    Parameters
    ----------
    period : int
        Product of its strides.
    reach : callable
        Finds the halo, or the name of a layer that looks at the whole image, which takes a second for a large
        network; called once, and only where an image is cut into tiles.
    """

    def __init__(self, period: int, reach: Callable[[], int | str]) -> None:
        self._period, self._find_reach = period, reach

    def __repr__(self) -> str:
        return f"PaddedGeometry(period={self.period})"

    @property
    def margin(self) -> int:
        """0: nothing is lost."""
        return 0

    @property
    def step(self) -> int:
        """1: any size is valid."""
        return 1

    @property
    def smallest(self) -> int:
        """1: any size is valid."""
        return 1

    @property
    def period(self) -> int:
        """Product of the strides."""
        return self._period

    @property
    def halo(self) -> int | None:
        """How far the network looks, as `reach` found it."""
        return self._reach if isinstance(self._reach, int) else None

    @property
    def looks_at_all(self) -> str | None:
        """Name of the layer by which the network looks at the whole image; None if it has none."""
        return self._reach if isinstance(self._reach, str) else None

    @property
    def whole_halo(self) -> int:
        """Pixels that a tile reads on each side of what it keeps: the halo, in whole periods.

        Raises
        ------
        TilingError
            If the network looks at the whole image.
        """
        if self.halo is None:
            raise TilingError(
                f"layer `{self.looks_at_all}` looks at the whole image at once, so tiles cannot equal it; "
                "raise the limit (--max-memory), give smaller images, or train with another encoder: resnet34"
            )
        return -(-self.halo // self.period) * self.period

    def exact_output(self, tile: int) -> int:
        """See `Geometry`."""
        return max(tile - 2 * self.whole_halo, 0)

    def tile_size(self, keep: int, length: int) -> int:
        """See `Geometry`; at the border of the image a tile reads one halo less."""
        return length if keep >= length else min(length, keep + 2 * self.whole_halo)

    @cached_property
    def _reach(self) -> int | str:
        return self._find_reach()


@dataclass(frozen=True)
class UnpaddedGeometry(Geometry):
    """Valid sizes, margin, period and receptive field of a network of unpadded convolutions.

    Parameters
    ----------
    layers : tuple of Layer
        The longest path through the network, input to output. The last step before each pooling is the
        skip of that level, cropped centrally at the up-convolution that returns to the level.

    Raises
    ------
    ConfigError
        If the layers do not return to the resolution they started from.

    Examples
    --------
    >>> from ushape.models import UNet
    >>> geometry = UNet().geometry
    >>> geometry.output_size(572), geometry.margin, geometry.period
    (388, 92, 16)
    >>> geometry.nearest_valid_sizes(570)
    (556, 572)
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        depth = 0
        for layer in self.layers:
            depth += {"pool": 1, "up": -1, "conv": 0}[layer.kind]
            if depth < 0:
                raise ConfigError("the layers go up more often than they went down")
        if depth:
            raise ConfigError(f"the layers end {depth} poolings below the resolution they started from")

    def trace(self, size: int) -> list[int] | None:
        """Sizes along the path, the input's first; None if `size` is not valid."""
        sizes, skips = [size], []
        for layer in self.layers:
            if layer.kind == "pool":
                skips.append(sizes[-1])
            following = layer.output_size(sizes[-1])
            if following is None:
                return None
            if layer.kind == "up":
                surplus = skips.pop() - following
                if surplus < 0 or surplus % 2:
                    return None
            sizes.append(following)
        return sizes

    @cached_property
    def period(self) -> int:
        """Shift, in input pixels, under which the network is equivariant: the product of the poolings."""
        period = 1
        for layer in self.layers:
            period *= layer.factor if layer.kind == "pool" else 1
        return period

    def exact_output(self, tile: int) -> int:
        """See `Geometry`."""
        valid, _ = self.nearest_valid_sizes(tile)
        return 0 if valid is None else self.output_size(valid)

    def tile_size(self, keep: int, length: int) -> int:
        """See `Geometry`."""
        return self.input_size(min(keep, length))

    @property
    def step(self) -> int:
        """The period: half-way sizes would lose a pixel in a pooling."""
        return self.period

    @property
    def halo(self) -> int:
        """The margin: an unpadded network looks exactly at what it loses."""
        return self.margin

    @property
    def shrink(self) -> int:
        """Factor by which the image is shrunk before the first convolution."""
        first = self.layers[0]
        return first.factor if first.kind == "pool" else 1

    @cached_property
    def smallest(self) -> int:
        """Smallest valid input size. All others follow at steps of `step`."""
        size = 1
        while self.trace(size) is None:
            size += 1
        return size

    @cached_property
    def margin(self) -> int:
        """Pixels lost on each side between input and output."""
        sizes = self.trace(self.smallest)
        assert sizes is not None
        return (sizes[0] - sizes[-1]) // 2

    @cached_property
    def receptive_field(self) -> tuple[int, int]:
        """Smallest and largest number of input pixels that one output pixel sees.

        Pooling makes it depend on the place of the output pixel in the period.
        """
        spans = [last - first + 1 for first, last in map(self.window, range(self.period))]
        return min(spans), max(spans)

    def window(self, pixel: int) -> tuple[int, int]:
        """First and last input pixel, in input coordinates, that output pixel `pixel` sees."""
        first = last = pixel
        for layer in reversed(self.layers):
            first, last = layer.window(first, last)
        return first, last
