"""Whatever an installed package needs beside its modules is named in `package-data`."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "ushape"


def named(patterns: list[str]) -> set[Path]:
    return {path for pattern in patterns for path in PACKAGE.glob(pattern) if path.is_file()}


def beside_modules() -> set[Path]:
    found = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    return {path for path in found if path.suffix != ".py"}


def test_a_wheel_holds_every_file_of_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert beside_modules() == named(settings["package-data"]["ushape"])


@pytest.mark.parametrize("folder", sorted({path.parent for path in PACKAGE.rglob("*.py")}))
def test_every_folder_of_modules_is_a_package(folder: Path) -> None:
    """Else `packages.find` leaves it out of a wheel, though it is found where the sources are."""
    assert (folder / "__init__.py").is_file()
