"""`ushape doctor` as a user runs it."""

import re

import torch


def test_the_machine_and_its_speed_are_told(ushape) -> None:
    done = ushape("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"torch {torch.__version__}" in done.stdout
    assert re.search(r"^cores: +\d+ of \d+ allowed", done.stdout, re.MULTILINE)
    figures = re.search(r"^  fp32 +([\d.]+) +([\d.]+)$", done.stdout, re.MULTILINE)
    assert figures
    assert 0 < float(figures[2]) < float(figures[1]), "the narrow network is the faster one"
    if not torch.cuda.is_available():
        assert re.search(r"^  int8 +[\d.]+ +[\d.]+$", done.stdout, re.MULTILINE)
    assert re.search(r"^--precision auto takes (fp32|bf16), on \w+, by \w+", done.stdout, re.MULTILINE)


def test_an_argument_is_refused(ushape) -> None:
    done = ushape("doctor", "model")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "ushape doctor --help" in done.stderr
