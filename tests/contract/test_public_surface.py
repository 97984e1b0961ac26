"""What `import ushape` offers, what it costs, and the form of the source files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ushape
import ushape.training

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for folder in ("src", "benchmarks", "recipes") for path in ROOT.glob(f"{folder}/**/*.py")
)


def modules_after(statement: str) -> set[str]:
    """Top-level modules loaded in a fresh process once `statement` has run."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_public_names_are_frozen_and_sorted():
    assert ushape.__all__ == [
        "EncoderUNet",
        "Segmentation",
        "Segmenter",
        "UNet",
        "__version__",
        "certify",
        "metrics",
        "train",
    ]
    assert sorted(ushape.__all__) == ushape.__all__ == dir(ushape)


@pytest.mark.parametrize("name", ushape.__all__)
def test_a_public_name_can_be_imported(name):
    assert getattr(ushape, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'ushape' has no attribute 'Unet'"):
        ushape.Unet  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    assert not modules_after("import ushape") & {"torch", "numpy", "lightning", "pydantic", "rich"}


def test_the_command_line_starts_without_torch():
    assert not modules_after("import ushape.cli") & {
        "torch",
        "lightning",
        "matplotlib",
        "skimage",
        "numba",
        "cv2",
    }


def test_predicting_needs_neither_lightning_nor_matplotlib():
    loaded = modules_after("import ushape.predict")
    assert "torch" in loaded
    assert not loaded & {"lightning", "pytorch_lightning", "matplotlib", "tensorboard"}


def test_a_recipe_does_not_wait_for_lightning():
    assert not modules_after("from ushape.training import FAST") & {"lightning", "matplotlib", "tensorboard"}


@pytest.mark.parametrize("package", [ushape, ushape.training], ids=lambda package: package.__name__)
def test_editors_see_every_name_that_is_imported_on_first_use(package):
    tree = ast.parse(Path(package.__file__).read_text())
    (seen,) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(seen.test) == "TYPE_CHECKING"
    names = {alias.asname for node in seen.body for alias in node.names}
    assert names == set(package.__all__) - {"__version__"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_one_thing(path):
    num_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert num_lines <= 400
    assert path.stem not in {
        "utils",
        "util",
        "helpers",
        "helper",
        "common",
        "misc",
        "tools",
        "manager",
        "base",
    }


def test_the_package_is_typed():
    assert (ROOT / "src" / "ushape" / "py.typed").is_file()
