"""The model file: weights and everything else a prediction needs, in one `model.safetensors`.

The header of a safetensors file carries strings; ours carries one, under the key `ushape`: the JSON of
`config.ModelHeader`. One tensor may be no weight: tiles of the training images, normalised, on which a
prediction quantises the network for int8. Nothing is ever unpickled. Equal networks with equal headers and
tiles give equal bytes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import nn

from ushape.config import ModelHeader, UNetConfig
from ushape.errors import CheckpointError, ConfigError
from ushape.io import read_tensors, written_beside
from ushape.models import EncoderUNet, Ensemble, Network, UNet, build

FORMAT = "ushape/1"
TILES = "int8.tiles"
"""Name of the tensor that is no weight; no part of a network is called so."""

Array = np.ndarray[Any, Any]

_FIX = "give a file that `ushape train` wrote, unchanged"


def save_model(path: str | Path, network: nn.Module, header: ModelHeader, tiles: Array | None = None) -> None:
    """Write a model file, whole or not at all.

    Parameters
    ----------
    path : path
        Where to; the folder exists.
    network : nn.Module
        The network `header.architecture` and `header.members` describe; weights are stored as they are.
    header : ModelHeader
        Architecture, normalisation, classes, post-processing, provenance.
    tiles : ndarray, shape (N, C, h, w), optional
        What the network is quantised on for int8; see `predict.typical_tiles.tiles_to_keep`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if tiles is not None:
        tensors[TILES] = torch.from_numpy(np.ascontiguousarray(tiles))
    text = json.dumps(header.model_dump(mode="json"), sort_keys=True)
    with written_beside(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, metadata={"ushape": text}))


class Stored(NamedTuple):
    """What a model file holds: the network, what it says about itself, and its tiles, if it keeps some."""

    network: Network
    header: ModelHeader
    tiles: Array | None


def load_model(path: str | Path, *, encoder: nn.Module | None = None) -> tuple[Network, ModelHeader]:
    """Read a model file; nothing else is needed, and nothing is fetched.

    Parameters
    ----------
    path : path
    encoder : nn.Module, optional
        For a network with an encoder of one's own, which no file can hold: such a module; it is copied, and
        the copy gets the weights of the file.

    Returns
    -------
    network : UNet, EncoderUNet or Ensemble
        On the CPU, in evaluation mode, with the dtype of the file.
    header : ModelHeader
        What the file says about itself.

    Raises
    ------
    CheckpointError, ConfigError
        See `read_model`.
    """
    stored = read_model(path, encoder=encoder)
    return stored.network, stored.header


def read_model(path: str | Path, *, encoder: nn.Module | None = None) -> Stored:
    """Read all of a model file, the tiles (N, C, h, w) float16 that it keeps included; see `load_model`.

    Raises
    ------
    CheckpointError
        If the file is missing, is not a model of ours, is damaged, is of another version, or its weights
        do not fit its architecture.
    ConfigError
        If the network cannot be built here: its encoder is unknown to timm, or timm is missing.
    """
    header = read_header(path)
    try:
        tensors = read_tensors(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged model file ({error}); copy it again") from error
    network, tiles = _network_of(header, encoder), tensors.pop(TILES, None)
    _load_weights(path, network, tensors)
    return Stored(network.eval(), header, None if tiles is None else tiles.numpy())


def read_tiles(path: str | Path) -> Array | None:
    """Read the tiles that a model file keeps, (N, C, h, w) float16, without its weights; None: it has none.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            return file.get_tensor(TILES) if TILES in file.keys() else None  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged model file ({error}); copy it again") from error


def join_models(
    models: Sequence[str | Path],
    path: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    encoder: nn.Module | None = None,
) -> ModelHeader:
    """Write several models as one: a file of which each network is a member.

    Parameters
    ----------
    models : sequence of path
        Model files, two or more; the members of one that has several become members one by one.
    path : path
        Where to; the folder exists.
    changes : mapping, optional
        Fields of the header that are not those of the first model, such as `postprocessing`.
    provenance : mapping, optional
        What else it says about where it comes from.
    encoder : nn.Module, optional
        See `load_model`.

    Returns
    -------
    ModelHeader
        What the file says about itself; its provenance has that of each model, and the hash of its file.

    Raises
    ------
    ConfigError
        If there is but one model, or they differ in architecture, normalisation or classes.
    CheckpointError, OutputError
        If a file is not a model, or `path` cannot be written.
    """
    if len(models) < 2:
        raise ConfigError(f"an ensemble needs two models or more, got {len(models)}; give more")
    loaded = [read_model(model, encoder=encoder) for model in models]
    headers = [stored.header for stored in loaded]
    for model, header in zip(models, headers, strict=True):
        _require_same_kind(models[0], headers[0], model, header)
    members = (one for stored in loaded for one in stored.network.modules())
    ensemble = Ensemble([one for one in members if isinstance(one, UNet | EncoderUNet)])
    header = headers[0].model_copy(
        update={
            "name": f"ensemble of {len(ensemble.members)}: {headers[0].name}",
            "members": len(ensemble.members),
            "provenance": {
                **(provenance or {}),
                "joined": [
                    {"sha256": model_hash(model), **header.provenance}
                    for model, header in zip(models, headers, strict=True)
                ],
            },
            **(changes or {}),
        }
    )
    tiles = [stored.tiles for stored in loaded if stored.tiles is not None]
    save_model(path, ensemble, header, np.concatenate(tiles)[:: len(tiles)] if tiles else None)
    return header


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
        # Not as PyTorch's, which would call into it already here.
        with safetensors.safe_open(str(path), framework="numpy") as file:
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
        # Pydantic puts the kind of architecture between, which is no key of the header.
        kinds = {"unet", "encoder-unet"}
        place = ".".join(str(part) for part in first["loc"] if part not in kinds)
        what = first["msg"].removeprefix("Value error, ")  # what pydantic puts before words of ours
        raise CheckpointError(f"{path}: the model header is wrong at `{place}`: {what}; {_FIX}") from error


def _network_of(header: ModelHeader, encoder: nn.Module | None) -> Network:
    """Build a network whose weights are then replaced; a `UNet` has none before."""
    config, members = header.architecture, header.members
    is_unet = isinstance(config, UNetConfig)  # an encoder may compute with its weights when it is built
    # To draw 31 million numbers for nothing takes a third of a second.
    with torch.device("meta") if is_unet else nullcontext():
        if members > 1:
            return Ensemble.from_config(config, members, encoder)
        return build(config, encoder=encoder)


def _require_same_kind(
    first: str | Path, expected: ModelHeader, other: str | Path, found: ModelHeader
) -> None:
    for field in ("architecture", "normalization", "classes"):
        if getattr(found, field) != getattr(expected, field):
            raise ConfigError(
                f"{other} and {first} differ in their {field}; give models of one network and kind of data"
            )


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
        if tensors[name].is_floating_point() != expected[name].is_floating_point():
            raise CheckpointError(f"{path}: `{name}` is of {tensors[name].dtype}; {_FIX}")
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
    tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    is_empty = any(tensor.is_meta for tensor in expected.values())  # then it takes the tensors as they are
    network.to(dtype).load_state_dict(tensors, assign=is_empty)
