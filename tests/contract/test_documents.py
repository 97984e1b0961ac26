"""What the documents say is so: their code runs, their paths and commands exist."""

import doctest
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


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


def test_every_command_in_the_readme_has_these_options(ushape) -> None:
    for command, words in re.findall(r"^    ushape (\w+) (.*?)(?:#.*)?$", README, re.MULTILINE):
        text = ushape(command, "--help").stdout
        for option in re.findall(r"--[a-z-]+", words):
            assert option in text, f"ushape {command} has no {option}"


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/paper-map.md",
        "docs/scores.md",
        "docs/tiles.md",
    ],
)
def test_every_path_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    named = set(re.findall(r"\]\(([^)#:]+)\)", text)) | set(
        re.findall(r"`((?:src|tests|docs|benchmarks)/[\w./-]*)`", text)
    )
    named |= {f"src/ushape/{path}" for path in re.findall(r"`((?:models|training|metrics)/\w+\.py)", text)}
    base = (ROOT / page).parent
    missing = [path for path in named if not (ROOT / path).exists() and not (base / path).exists()]
    assert not missing


def test_nothing_of_a_machine_is_in_the_tree() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    wrong = [
        path
        for path in tracked
        if Path(path).suffix in {".py", ".md", ".toml", ".txt", ".cff", ""}
        and re.search(r"/(home|root|work|Users)/\w+/", (ROOT / path).read_text(errors="ignore"))
    ]
    assert not wrong
