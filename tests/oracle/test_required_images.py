"""Tests on real images are skipped where there are none, but not before a change is taken in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*words: object, **variables: object) -> "subprocess.CompletedProcess[str]":
    """Run a command with variables added to its environment."""
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    return subprocess.run(
        [*map(str, words)], capture_output=True, text=True, timeout=120, env=environment, check=False
    )


@pytest.mark.parametrize(("required", "status", "outcome"), [("", 0, "1 skipped"), ("1", 1, "1 error")])
def test_without_images_a_test_is_skipped_but_fails_where_they_are_required(
    tmp_path: Path, required: str, status: int, outcome: str
) -> None:
    test, absent = tmp_path / "test_images.py", tmp_path / "absent"
    test.write_text("def test_images(data_dir): pass\n")
    words = sys.executable, "-m", "pytest", "-p", "conftest", "-rsE", "--basetemp", tmp_path / "temp", test
    variables = {"PYTHONPATH": ROOT / "tests", "USHAPE_DATA": absent, "USHAPE_REQUIRE_DATA": required}
    done = run(*words, **variables)
    assert done.returncode == status, done.stdout + done.stderr
    assert outcome in done.stdout
    assert f"no real data at {absent}; set USHAPE_DATA" in done.stdout


def test_the_images_are_required_before_a_change_is_taken_in(tmp_path: Path) -> None:
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "$1 $USHAPE_REQUIRE_DATA"\n')
    make.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = run(ROOT / ".ci" / "run", PATH=path, USHAPE_REQUIRE_DATA="")
    assert done.stdout == "lint 1\ntest 1\n", done.stderr
