"""What every test may ask for: real data, a small network with weights that do not depend on a generator."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A deadline measures the machine, not the code; derandomized, a run that is green stays green.
settings.register_profile("ushape", deadline=None, derandomize=True)
settings.load_profile("ushape")

DATA = Path(os.environ.get("USHAPE_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real images; the test is skipped, saying why, where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}; set USHAPE_DATA")
    return DATA
