"""What the documents say is so: their code runs, their paths and commands exist."""

import doctest
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from ushape.checkpoint import read_header
from ushape.cli import app
from ushape.training import FAST

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "ushape"
README = (ROOT / "README.md").read_text()
PAPER_MAP = (ROOT / "docs" / "paper-map.md").read_text()
PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]
PAGES += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


def test_the_session_in_the_readme_prints_what_it_says() -> None:
    results = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert results.attempted >= 4
    assert results.failed == 0


def test_the_python_in_the_readme_runs(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if ">>>" not in block)
    (tmp_path / "my-data").symlink_to(discs)
    (tmp_path / "my-images").mkdir()
    (tmp_path / "my-images" / "a.png").symlink_to(discs / "images" / "d0.png")
    monkeypatch.chdir(tmp_path)
    assert 'time="30m"' in code
    names: dict[str, object] = {}
    exec(code.replace('time="30m"', 'steps=1, width=4, device="cpu"'), names)
    segmentation = names["segmentation"]
    assert segmentation.classes.shape == segmentation.instances().shape == (96, 120)
    assert segmentation.probabilities.shape == (2, 96, 120)


def test_the_recipe_of_ones_own_in_its_page_is_trained_with(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "recipes.md").read_text(), re.DOTALL)
    (tmp_path / "my-data").symlink_to(discs)
    monkeypatch.chdir(tmp_path)
    assert 'time="30m"' in code
    names: dict[str, Any] = {}
    exec(code.replace('time="30m"', 'steps=1, width=2, device="cpu"'), names)
    stored = read_header(names["result"].model).provenance["recipe"]
    changes = {"spline": "approximating", "grid": 7, "class_power": 0.5, "accumulate": 4}
    decided = FAST.decided(has_top=False, areas=False)  # what the run sees on touching discs
    assert stored == decided.model_dump(mode="json") | changes


def test_every_command_that_a_page_shows_has_these_options() -> None:
    commands = typer.main.get_command(app).commands
    shown = [
        (page, *found)
        for page in PAGES
        for found in re.findall(
            r"^    \$? ?ushape (\w+) (.*?)(?:#.*)?$", (ROOT / page).read_text(), re.MULTILINE
        )
    ]
    assert len(shown) > 20
    for page, command, words in shown:
        params = commands[command].params
        known = {name for one in params for name in (*one.opts, *one.secondary_opts)}
        assert set(re.findall(r"--[a-z0-9-]+", words)) <= known, f"{page}: ushape {command} {words}"


@pytest.mark.parametrize("page", PAGES)
def test_every_path_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    named = set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text))
    named |= set(re.findall(r"`((?:src|tests|docs|benchmarks)/[\w./-]*)`", text))
    named |= set(re.findall(r"`([\w/]+/\w+\.py)(?:: \w+)?`", text))
    named |= set(re.findall(r"\bdocs/[\w./-]+\.md", text))
    bases = ROOT, (ROOT / page).parent, SOURCES
    missing = [path for path in named if not any((base / path).exists() for base in bases)]
    assert not missing


def test_every_name_in_the_paper_map_is_in_its_module() -> None:
    named = re.findall(r"`([\w/]+\.py): (\w+)`", PAPER_MAP)
    assert len(named) > 10
    for path, name in named:
        defined = rf"^(?:def |class )?{name}\b"
        assert re.search(defined, (SOURCES / path).read_text(), re.MULTILINE), f"no {name} in {path}"


def test_every_statement_of_the_paper_has_a_test_or_says_that_there_is_none() -> None:
    tables = re.findall(r"^\| statement \| code \| test \|\n.*\n((?:\|.*\n)+)", PAPER_MAP, re.MULTILINE)
    assert len(tables) == 5
    for row in "".join(tables).splitlines():
        _, _, test = row.strip("| ").split(" | ")
        assert re.match("`tests/|not tested; ", test), row


def test_nothing_of_a_machine_is_in_the_tree() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = listed.stdout.split()
    assert len(tracked) > 100
    wrong = [
        path
        for path in tracked
        if Path(path).suffix in {".py", ".md", ".toml", ".txt", ".cff", ""}
        and re.search(r"/(home|root|work|Users)/\w+/", (ROOT / path).read_text(errors="ignore"))
    ]
    assert not wrong
