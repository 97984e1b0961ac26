"""The model file: weights and everything else a prediction needs, in one `model.safetensors`.

The header of a safetensors file carries strings; ours carries one, under the key `ushape`: the JSON of
`config.ModelHeader`. Nothing is ever unpickled. Equal networks with equal headers give equal bytes.
"""

import hashlib
import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import nn

from ushape.config import ModelHeader
from ushape.errors import CheckpointError
from ushape.io import written_beside
from ushape.models import UNet

FORMAT = "ushape/1"
_FIX = "give a file that `ushape train` wrote, unchanged"


def save_model(path: str | Path, network: nn.Module, header: ModelHeader) -> None:
    """Write a model file, whole or not at all.

    Parameters
    ----------
    path : path
        Where to; the folder exists.
    network : nn.Module
        The network `header.architecture` describes; weights are stored as they are.
    header : ModelHeader
        Architecture, normalisation, classes, post-processing, provenance.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    text = json.dumps(header.model_dump(mode="json"), sort_keys=True)
    with written_beside(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, metadata={"ushape": text}))


def load_model(path: str | Path) -> tuple[nn.Module, ModelHeader]:
    """Read a model file.

    Returns
    -------
    network : nn.Module
        On the CPU, in evaluation mode, with the dtype of the file.
    header : ModelHeader
        What the file says about itself.

    Raises
    ------
    CheckpointError
        If the file is missing, is not a model of ours, is damaged, is of another version, or its weights
        do not fit its architecture.
    """
    header = read_header(path)
    try:
        tensors = safetensors.torch.load_file(str(path))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged model file ({error}); copy it again") from error
    network = UNet.from_config(header.architecture)
    _load_weights(path, network, tensors)
    return network.eval(), header


def read_header(path: str | Path) -> ModelHeader:
    """Read what a model file says about itself, without its weights.

    Raises
    ------
    CheckpointError
        If the file is missing, is not a model of ours, or is of another version.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a model file" if path.is_dir() else "no such model file"
        raise CheckpointError(f"{path}: {what}; give the model.safetensors that `ushape train` wrote")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get("ushape")
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a safetensors file, or a damaged one ({error}); give a model.safetensors, whole"
        ) from error
    if text is None:
        raise CheckpointError(
            f"{path}: a safetensors file, but not a model of ushape: no ushape header; {_FIX}"
        )
    return _parse_header(path, text)


def model_hash(path: str | Path) -> str:
    """SHA-256 of the whole file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse_header(path: Path, text: str) -> ModelHeader:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: the ushape header is not JSON ({error}); {_FIX}") from error
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT:
        raise CheckpointError(
            f"{path}: model format {version!r}; this version of ushape reads {FORMAT!r}: "
            "train again, or upgrade"
        )
    try:
        return ModelHeader.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")  # what pydantic puts before words of ours
        raise CheckpointError(f"{path}: the model header is wrong at `{place}`: {what}; {_FIX}") from error


def _load_weights(path: str | Path, network: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    expected = network.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(f"{path}: the weights lack `{name}`, which its header names; {_FIX}")
        if name not in expected:
            raise CheckpointError(f"{path}: the weights have `{name}`, unknown to its header; {_FIX}")
        if tensors[name].shape != expected[name].shape:
            got, want = tuple(tensors[name].shape), tuple(expected[name].shape)
            raise CheckpointError(f"{path}: `{name}` has shape {got}, by its header {want}; {_FIX}")
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
    network.to(dtype).load_state_dict(tensors)
