"""A converted network in whole numbers of 8 bits, quantised on tiles by NNCF and compared on them."""

import importlib.util
import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from ushape.backends.conversion import compiled, from_cache
from ushape.backends.interface import Array
from ushape.errors import ConfigError, to_install
from ushape.models import Network

if TYPE_CHECKING:
    import openvino

ALLOWED_SHARE = 0.005
"""Of pixels whose label in int8 may differ from that in fp32."""


def quantized(
    network: Network, model: "openvino.Model", tiles: Sequence[Array], threads: int
) -> "openvino.Model":
    """Quantise a converted network, or read it from the cache.

    Parameters
    ----------
    network : Network
        What was converted.
    model : openvino.Model
        What it became, in float32.
    tiles : sequence of ndarray, shape (C, h, w)
        Normalised, of one valid size. Every second one is quantised on, and labels are compared on the
        others; a single tile serves for both. They decide the result, so they are part of its key.
    threads : int
        For the comparison.

    Raises
    ------
    ConfigError
        If NNCF is missing, there is no tile, or labels differ in more than `ALLOWED_SHARE` of the pixels.
    """
    if not len(tiles):
        raise ConfigError("precision int8 is calibrated on tiles of images, and there are none; give some")
    parts = [_version(), *(part for tile in tiles for part in _parts(tile))]
    return from_cache(
        "int8", network, lambda: _quantize(model, tiles[::2], tiles[1::2] or tiles, threads), parts
    )


def _version() -> str:
    try:
        return f"nncf {version('nncf')}"
    except PackageNotFoundError:
        return "no nncf"


def _parts(tile: Array) -> tuple[str, bytes]:
    return f"{tile.dtype} {tile.shape}", np.ascontiguousarray(tile).tobytes()


def _quantize(
    model: "openvino.Model", tiles: Sequence[Array], others: Sequence[Array], threads: int
) -> "openvino.Model":
    if importlib.util.find_spec("nncf") is None:
        raise ConfigError(
            f"precision int8 needs the package nncf; install it with {to_install('fast')}, or use fp32 or "
            "bf16"
        )
    # NNCF gives every logger that is made after it its own class, and reports on the screen how far it is.
    logger_class = logging.getLoggerClass()
    import nncf

    logging.setLoggerClass(logger_class)
    nncf.set_log_level(logging.ERROR)
    fixed = model.clone()
    fixed.reshape([1, *tiles[0].shape])
    batches = nncf.Dataset([tile[None] for tile in tiles])
    how = {"preset": nncf.QuantizationPreset.MIXED, "target_device": nncf.TargetDevice.CPU}
    with redirect_stdout(StringIO()):
        quantized = nncf.quantize(fixed, batches, subset_size=len(tiles), **how)
    _require_equal_labels(model, quantized, others, threads)
    return quantized


def _require_equal_labels(
    model: "openvino.Model", quantized: "openvino.Model", tiles: Sequence[Array], threads: int
) -> None:
    labels = []
    for one, precision in ((model, "fp32"), (quantized, "int8")):
        request = compiled(one, tiles[0].shape, precision, threads)
        labels.append(np.stack([_labels(request, tile) for tile in tiles]))
    share = float((labels[0] != labels[1]).mean())
    if share > ALLOWED_SHARE:
        raise ConfigError(
            f"precision int8 changes the label of {share:.2%} of the pixels that it is compared on, "
            f"{ALLOWED_SHARE:.1%} are allowed; use bf16 or fp32"
        )


def _labels(request: Any, tile: Array) -> Array:
    logits = request.infer({0: np.ascontiguousarray(tile[None])})[0][0]
    labels: Array = logits.argmax(0) if len(logits) > 1 else logits[0] > 0
    return labels
