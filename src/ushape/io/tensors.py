"""Tensors by name, as a `.safetensors` file holds them."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def read_tensors(path: str | Path) -> dict[str, "Tensor"]:
    """Read all tensors of a `.safetensors` file, each into memory of its own.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to Tensor
        On the CPU, with the dtypes and shapes of the file.

    Raises
    ------
    OSError, safetensors.SafetensorError
        If the file cannot be read, or is damaged.
    """
    import safetensors.torch  # loads torch

    # Not `load_file`: a Ctrl-C within it is lost, and comes out as the error of a damaged file.
    return safetensors.torch.load(Path(path).read_bytes())
