"""`ushape info --certify` as a user runs it: figures on the screen, the verdict in the exit status."""

from pathlib import Path

import torch

from ushape.checkpoint import load_model, save_model


def test_a_trained_model_is_certified(trained: Path, ushape) -> None:
    done = ushape("info", trained / "model.safetensors", "--certify")
    assert (done.returncode, done.stderr) == (0, "")
    assert "fp32: largest difference" in done.stdout
    assert "limit 1e-12: pass" in done.stdout
    assert done.stdout.endswith("tiles equal the whole image\n")


def test_info_tells_of_pieces_of_training_images(trained: Path, ushape) -> None:
    done = ushape("info", trained / "model.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\npieces of training images, kept to be quantised on: 8, 380 x 380 px\n" in done.stdout


def test_a_model_that_fails_ends_with_status_1(trained: Path, ushape, tmp_path: Path) -> None:
    network, header = load_model(trained / "model.safetensors")
    torch.nn.init.constant_(network.score.bias, torch.nan)
    save_model(tmp_path / "broken.safetensors", network, header)
    done = ushape("info", tmp_path / "broken.safetensors", "--certify")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("limit") == done.stdout.count("FAIL") >= 2
