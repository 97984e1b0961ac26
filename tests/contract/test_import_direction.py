"""Imports point one way: to words that ARCHITECTURE.md lists earlier."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "ushape"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def import_order():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    listed = re.search(r"<!-- import order -->(.*?)<!-- end of import order -->", text, re.DOTALL)
    return re.findall(r"\w+", listed[1])


ORDER = import_order()


def word(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source, package):
    """Dotted names that `source`, a module in `package`, imports anywhere, also within functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            home = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{home}.{alias.name}" for alias in node.names)


def words_imported(source, package):
    """Words of the list among what is imported; names of `ushape/__init__.py` are resolved to nothing."""
    dotted = (name.split(".") for name in imported(source, package))
    return {parts[1] for parts in dotted if parts[0] == "ushape" and len(parts) > 1 and parts[1] in ORDER}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_earlier_words(path):
    package = ".".join(["ushape", *path.relative_to(PACKAGE).parent.parts])
    own = word(path)
    earlier = ORDER[: ORDER.index(own) + 1]
    assert words_imported(path.read_text(encoding="utf-8"), package) <= set(earlier)


def test_every_module_has_one_place_in_the_list():
    assert len(ORDER) == len(set(ORDER))
    assert {word(path) for path in MODULES} <= set(ORDER)


@pytest.mark.parametrize(
    ("source", "package", "expected"),
    [
        ("import ushape.cli", "ushape", {"cli"}),
        ("from ushape import predict, UNet", "ushape", {"predict"}),
        ("def f():\n    from ushape.io.read import read_image", "ushape", {"io"}),
        ("from . import geometry", "ushape", {"geometry"}),
        ("from ..io import read_image", "ushape.models", {"io"}),
        ("import numpy, torch.nn", "ushape", set()),
    ],
)
def test_every_form_of_import_is_seen(source, package, expected):
    assert words_imported(source, package) == expected
