"""Test-time averaging: the mean over turned and mirrored versions of the input, tile by tile.

The eight transforms of the square (turns by quarters, each also mirrored) move pixels and compute none.

What "averaged" means for a whole image: it is mirrored out to the smallest input that the network takes and
that covers it; this input is transformed and passed, the result transformed back and cropped. That fixes
where the poolings of a mirrored pass lie: they count from the other end of that input.

A tile may then be transformed just as it was read, and gives the same numbers. Tiles start at multiples of
the period, and all valid sizes are equal modulo the period; so the end of a tile is a multiple of the period
away from the end of the whole input, and mirroring either puts the poolings at the same pixels::

    whole input   |<- 92 -|=========================== 16 k + 4 ===========================|- 92 ->|
    a tile                      |<- 92 -|======= 16 j + 4 =======|- 92 ->|
                   a multiple of 16      another multiple of 16 from the tile's end to that of the whole

A padded network takes any size; what is turned is then mirrored out to whole periods.

A transposed tile has the pixels, and takes the memory, of the tile.

Source: Ronneberger 2015, section 4 (seven rotated versions); the authors' released code takes the mean of
raw scores over four mirrored inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ushape.errors import ConfigError
from ushape.tiling import mirrored

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Transform:
    """One of the eight transforms of the square, on the last two axes of a tensor.

    Attributes
    ----------
    quarters : int
        Turns by 90 degrees counterclockwise.
    is_mirrored : bool
        Whether left and right change places before that.
    """

    quarters: int
    is_mirrored: bool

    def __call__(self, image: Tensor) -> Tensor:
        """Transform a tensor; height and width are exchanged where `quarters` is odd."""
        return torch.rot90(image.flip(-1) if self.is_mirrored else image, self.quarters, (-2, -1))

    def undo(self, image: Tensor) -> Tensor:
        """Bring back what was transformed."""
        turned = torch.rot90(image, -self.quarters, (-2, -1))
        return turned.flip(-1) if self.is_mirrored else turned


D4 = tuple(Transform(quarters, is_mirrored) for is_mirrored in (False, True) for quarters in range(4))
"""All eight, the identity first."""

AVERAGES = {"none": D4[:1], "paper": D4[1:], "d4": D4}
"""Transforms by the name of the average.

The paper averages over "7 rotated versions" of the input and does not say which. We take the seven of the
eight that change the input, three turns and four mirrorings: they need no interpolation, and of all ways to
leave out one of the eight only this one is not arbitrary.
"""

AVERAGED = ("logits", "probabilities")


@dataclass(frozen=True)
class Average:
    """Which versions of a tile are passed, and what of them is averaged.

    Parameters
    ----------
    name : {"none", "paper", "d4"}
        "paper": the seven transforms that change the image, "d4": all eight. As many times the work.
    of : {"logits", "probabilities"}
        Logits by default: the authors' released code averages raw scores. So does an `Ensemble`, and which of
        the two means is taken first then does not matter; and a temperature applies once, to the mean.

    Raises
    ------
    ConfigError
        If one of the two is not known.
    """

    name: str = "none"
    of: str = "logits"

    def __post_init__(self) -> None:
        if self.name not in AVERAGES:
            raise ConfigError(f"--average {self.name!r} is not known; use {', '.join(AVERAGES)}")
        if self.of not in AVERAGED:
            raise ConfigError(f"--average-of {self.of!r} is not known; use {' or '.join(AVERAGED)}")

    def probabilities(
        self, tile: Tensor, logits_of: Forward, probabilities_of: Forward, whole_periods: int = 1
    ) -> Tensor:
        """Compute the averaged probabilities of one tile.

        Parameters
        ----------
        tile : Tensor, shape (C, h, w)
            Both `h` and `w` are valid sizes of the network, in either order.
        logits_of : callable
            The network: takes a tile (C, h, w), gives (K, h - 2 * margin, w - 2 * margin).
        probabilities_of : callable
            Takes logits (K, ...), gives probabilities of the same height and width.
        whole_periods : int
            The period of a padded network, which takes tiles of any size: what is turned is mirrored out to a
            multiple of it. 1 for others, whose valid sizes are equal modulo the period.

        Returns
        -------
        Tensor, shape (max(K, 2), h - 2 * margin, w - 2 * margin)
        """
        beyond = [-size % whole_periods if self.name != "none" else 0 for size in tile.shape[1:]]
        if any(beyond):
            tile = _mirrored_out(tile, *beyond)
        if self.of == "logits":
            found = probabilities_of(self._mean(logits_of, tile))
        else:
            found = self._mean(lambda version: probabilities_of(logits_of(version)), tile)
        return found[:, : found.shape[1] - beyond[0], : found.shape[2] - beyond[1]]

    def _mean(self, forward: Forward, tile: Tensor) -> Tensor:
        """Mean of what `forward` makes of each version, one after the other: few results live at a time."""
        transforms = AVERAGES[self.name]
        if self.name == "none":
            return forward(tile)
        total = transforms[0].undo(forward(transforms[0](tile)))
        for transform in transforms[1:]:
            total = total + transform.undo(forward(transform(tile)))
        return total / len(transforms)


def _mirrored_out(tile: Tensor, below: int, right: int) -> Tensor:
    """Go on below and to the right as the mirror image, as often as it needs, unlike `F.pad`."""
    rows, columns = (
        torch.arange(size + more)[mirrored(0, size + more, size)]
        for size, more in zip(tile.shape[1:], (below, right), strict=True)
    )
    return tile[:, rows][:, :, columns]


NO_AVERAGE = Average()
