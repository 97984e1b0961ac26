"""What every test may ask for: real data, the command in a process of its own, and a data set of discs."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# A deadline measures the machine, not the code; derandomized, a run that is green stays green.
settings.register_profile("ushape", deadline=None, derandomize=True)
settings.load_profile("ushape")

DATA = Path(os.environ.get("USHAPE_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real images; where it is absent the test is skipped, or fails if they are required."""
    if not DATA.is_dir():
        reason = f"no real data at {DATA}; set USHAPE_DATA"
        if os.environ.get("USHAPE_REQUIRE_DATA"):
            pytest.fail(f"{reason}, or leave USHAPE_REQUIRE_DATA unset to skip the test", pytrace=False)
        pytest.skip(reason)
    return DATA


@pytest.fixture(scope="session", autouse=True)
def converted_networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's cache out of the tests; processes of one test run share theirs."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USHAPE_CACHE", str(shared / "cache"))
        yield


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def ushape() -> Run:
    """Run `ushape` with the given words; return status, output and errors."""
    command = Path(sys.executable).with_name("ushape")

    def run(*words: object, timeout: float = 300, **options: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [command, *map(str, words)], capture_output=True, text=True, timeout=timeout, **options
        )

    return run


@pytest.fixture
def ctrl_c_at_its_default() -> Iterator[None]:
    """Commands started by the test end by Ctrl-C, also where it is ignored: in background jobs, under nohup.

    A process hands down that it ignores a signal, but not how it handles one: then the child has the default.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def draw_discs(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """An image of bright discs on noise, and their ids."""
    y, x = np.indices(size)
    ids = np.zeros(size, np.uint16)
    for number in range(1, int(rng.integers(6, 16))):
        center, radius = rng.uniform(10, min(size) - 10, 2), rng.uniform(6, 12)
        ids[(y - center[0]) ** 2 + (x - center[1]) ** 2 < radius**2] = number
    image = 40 + 120 * (ids > 0) + rng.normal(0, 15, size)
    return image.clip(0, 255).astype(np.uint8), ids


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set, `images/` and `masks/`, of discs to segment."""
    folder = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for number in range(5):
        image, ids = draw_discs(rng, (96, 120))
        Image.fromarray(image).save(folder / "images" / f"d{number}.png")
        Image.fromarray(ids).save(folder / "masks" / f"d{number}.png")
    return folder


@pytest.fixture(scope="session")
def trained(discs: Path, ushape: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps of a narrow network on the discs."""
    output = tmp_path_factory.mktemp("run") / "run"
    done = ushape("train", discs, "--output", output, "--steps", 8, "--width", 4, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return output
