"""Dropout that draws the same for maps of every layout."""

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """Dropout whose mask does not depend on how a map lies in memory.

    PyTorch draws it in that order, and which layout is fastest differs from processor to processor: one seed
    would train other networks on other machines.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Set a share `p` of the values to 0 while training, and enlarge the others by 1 / (1 - p).

        Parameters
        ----------
        x : Tensor of float, any shape

        Returns
        -------
        Tensor of the same shape, dtype and layout
        """
        if not self.training or self.p == 0:
            return x
        kept = torch.empty(x.shape, dtype=x.dtype, device=x.device).bernoulli_(1 - self.p)
        return x * kept.div_(1 - self.p)
