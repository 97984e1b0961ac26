"""Lightning can be imported beside a torchvision whose compiled operators do not load.

Each case is a process of its own: operators are defined once and for all in a process.
"""

import subprocess
import sys

import pytest

DEFINE = "from ushape.torchvision_operators import define_missing_operators as define; "


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.fixture(scope="module")
def defined() -> str:
    """What the call defines beside the torchvision of this environment, as printed."""
    result = python(DEFINE + "print(define())")
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_without_the_call_lightning_dies(defined):
    if defined == "()":
        pytest.skip("the operators of the torchvision installed here load: there is nothing to define")
    result = python("import lightning")
    assert result.returncode == 1
    assert "operator torchvision::nms does not exist" in result.stderr


def test_after_the_call_lightning_and_torchvision_can_be_imported(defined):
    result = python(DEFINE + "print(define()); import lightning, torchvision; print(define())")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:2] == [defined, "()"]
    assert defined in ("()", "('nms', 'qnms')")


def test_without_torchvision_nothing_is_defined():
    hide = "import sys, torch; sys.modules['torchvision'] = None; "
    result = python(hide + DEFINE + "print(define(), hasattr(torch.ops.torchvision, 'nms'))")
    assert result.stdout.strip() == "() False", result.stderr


def test_operators_that_exist_are_left_alone():
    schema = "'(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'"
    exists = f"import torch; torch.library.define('torchvision::nms', {schema}); "
    result = python(exists + DEFINE + "print('nms' in define())")
    assert result.stdout.strip() == "False", result.stderr
