"""Several trained networks of one architecture, used as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ushape.config import Architecture
from ushape.geometry import Geometry
from ushape.models.architecture import Member, build


class Ensemble(nn.Module):
    """The mean of the logits of its members.

    Logits are averaged, not probabilities: the authors' released code averages the raw scores of its network
    over mirrored inputs in the same way, before any softmax. The mean is summed up in at least float32.

    Parameters
    ----------
    members : sequence of UNet or EncoderUNet
        At least one, all of one architecture; their weights are used as they are, not copied.

    Examples
    --------
    >>> from ushape.models import UNet
    >>> ensemble = Ensemble([UNet(width=2), UNet(width=2)])
    >>> ensemble(torch.zeros(1, 1, 188, 188)).shape
    torch.Size([1, 2, 4, 4])
    """

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.in_channels, self.classes = members[0].in_channels, members[0].classes
        self.geometry: Geometry = members[0].geometry
        self.top_channels = members[0].top_channels

    @classmethod
    def from_config(cls, config: Architecture, members: int, encoder: nn.Module | None = None) -> "Ensemble":
        """Build as many networks as a configuration describes, as `build` does."""
        return cls([build(config, encoder=encoder) for _ in range(members)])

    def forward(self, image: Tensor) -> Tensor:
        """Average the logits of the members for the centre of each tile.

        Parameters
        ----------
        image : Tensor of float, shape (N, in_channels, H, W)
            Tiles of valid height and width (`geometry.valid_sizes()`).

        Returns
        -------
        Tensor of float, shape (N, classes, H - 2 * margin, W - 2 * margin)

        Raises
        ------
        ShapeError
            If the number of axes or channels is wrong or a size is not valid; names the nearest valid sizes.
        """
        # One after the other, so that the feature maps of one member live at a time.
        total = self.members[0](image)
        total = total.to(torch.promote_types(total.dtype, torch.float32))
        for member in self.members[1:]:
            total = total + member(image)
        mean: Tensor = total / len(self.members)
        return mean
