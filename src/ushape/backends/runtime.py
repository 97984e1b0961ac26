"""OpenVINO as it is used here: imported without its reports on use, and started once in a process."""

import functools
import sys
from typing import Any


def import_openvino() -> Any:
    """Import OpenVINO; without this it sends reports on its use if a package that came with it is there."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@functools.cache
def core() -> Any:
    """Start OpenVINO, once in a process.

    Notes
    -----
    Its CPU plugin gives the calling thread a stack for handlers of signals and takes it away when the last
    user of a Core goes. With several of them that end in another order than they began, the thread is left
    with a stack that is freed, and the next signal with a handler, Ctrl-C or the end of a loader's worker,
    kills the process as a segmentation fault (seen in OpenVINO 2026.4.1). The one here stays till the end.
    """
    return import_openvino().Core()
