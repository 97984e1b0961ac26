"""Bad input of every kind: one clear line on standard error, status 2, and the folder as it was.

A case is a function that prepares the fault in a fresh folder and returns the words of the command; beside
it stands what the line must name: the file or the value, and the fix.
"""

import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import tifffile
from forked_command import run as run_forked
from forked_command import start_server
from PIL import Image

from ushape.checkpoint import read_tiles

Words = list[object]
Prepare = Callable[["Desk"], Words]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
CASES: list[object] = []


@dataclass(frozen=True)
class Desk:
    """A fresh folder, in which the command runs, and the model and the data to spoil in it."""

    folder: Path
    discs: Path
    trained: Path

    @property
    def model(self) -> Path:
        return self.trained / "model.safetensors"

    @property
    def image(self) -> Path:
        """A sound image, `d0.png`."""
        return Path(shutil.copy(self.discs / "images" / "d0.png", self.folder))

    def data(self) -> Path:
        """A sound data set of five images, `data`."""
        return Path(shutil.copytree(self.discs, self.folder / "data"))

    def run(self) -> Path:
        """A training run that has ended, `run`."""
        return Path(shutil.copytree(self.trained, self.folder / "run"))


def case(*expected: str) -> Callable[[Prepare], Prepare]:
    """Note a case: its words, and what the line on standard error must contain."""

    def note(prepare: Prepare) -> Prepare:
        CASES.append(pytest.param(prepare, expected, id=prepare.__name__))
        return prepare

    return note


def cases(name: str, prepare: Callable[..., Words], *rows: tuple[Words, tuple[str, ...]]) -> None:
    """Note several cases that differ in the words at the end of one command."""
    for words, expected in rows:
        label = f"{name}: {' '.join(map(str, words))}"
        CASES.append(pytest.param(lambda desk, w=words: prepare(desk) + w, expected, id=label))


def contents(folder: Path) -> dict[str, str]:
    """All files, hidden ones too, with their content, and all folders."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }


def the_line(done) -> str:
    """The one line on standard error of a command that refused its input."""
    assert done.returncode == 2, f"{done.returncode}\n{done.stderr}"
    assert "Traceback" not in done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("ushape: ")
    return lines[0]


@pytest.fixture
def desk(tmp_path: Path, discs: Path, trained: Path) -> Desk:
    return Desk(tmp_path, discs, trained)


@pytest.fixture(scope="module")
def forked() -> Run:
    """Run `ushape` as the fixture `ushape` does, without waiting for imports a hundred times.

    That a real start prints nothing more is seen by the tests below that use the fixture `ushape`.
    """
    server = start_server()
    return lambda *words, cwd: run_forked(server, [*map(str, words)], cwd)


# The command line itself


cases(
    "ushape",
    lambda desk: [],
    (["segment"], ("no such command 'segment'", "ushape --help")),
    (["--version-of-nothing"], ("--version-of-nothing", "ushape --help")),
    (["check"], ("missing argument 'DATA'", "ushape check --help")),
    (["check", "data", "more"], ("unexpected extra argument", "more", "ushape check --help")),
    (["check", "data", "--clases", "3"], ("--clases", "--classes")),
    (["check", "data", "--classes"], ("'--classes' requires an argument", "--help")),
    (["train", "data"], ("missing option '--output'", "ushape train --help")),
    (["train", "data", "-o", "run", "--steps", "many"], ("'--steps'", "integer", "ushape train --help")),
    (["train", "data", "-o", "run", "--steps", "0"], ("'--steps'", "1")),
    (["train", "data", "-o", "run", "--width", "-3"], ("'--width'", "1")),
    (["train", "data", "-o", "run", "--seed", "-1"], ("'--seed'", "0")),
    (["train", "data", "-o", "run", "--seed", str(2**64)], ("'--seed'", str(2**64 - 1))),
    (["train", "data", "-o", "run", "--workers", "-1"], ("'--workers'", "0")),
    (["train", "data", "-o", "run", "--devices", "0"], ("'--devices'", "1")),
    (["train", "data", "-o", "run", "--nodes", "0"], ("'--nodes'", "1")),
    (["train", "data", "-o", "run", "--precision", "int8"], ("--precision int8", "auto, fp32 or bf16")),
    (["train", "data", "-o", "run", "--precision", "half"], ("--precision half", "auto, fp32 or bf16")),
    (["train", "data", "-o", "run", "--until", "dice"], ("not a goal: 'dice'", "dice=0.9")),
    (["train", "data", "-o", "run", "--until", "dice=high"], ("not a goal: 'dice=high'", "dice=0.9")),
    (["train", "data", "-o", "run", "--until", "dice=90"], ("no score reaches 90", "dice=0.9")),
    (["predict", "model.safetensors", "-o", "out"], ("missing argument 'INPUT...'", "ushape predict --help")),
    (
        ["evaluate", "a.png", "b.png", "--classes", "two"],
        ("--classes two is not valid", "give a number from 2 to 254, or objects"),
    ),
)


# A data set that cannot be trained on


@case("no such folder: data", "give the folder")
def data_missing(desk: Desk) -> Words:
    return ["check", "data"]


@case("not a folder", "d0.png", "give the folder")
def data_is_a_file(desk: Desk) -> Words:
    return ["check", desk.image]


@case("no images and masks in data", "images/ and masks/")
def data_empty(desk: Desk) -> Words:
    (desk.folder / "data").mkdir()
    return ["check", "data"]


@case("data", "masks/")
def data_in_no_layout(desk: Desk) -> Words:
    (desk.data() / "masks").rename(desk.folder / "data" / "annotations-of-mine")
    return ["check", "data"]


@case("d0.png has no mask", "add the masks")
def masks_folder_empty(desk: Desk) -> Words:
    for path in (desk.data() / "masks").iterdir():
        path.unlink()
    return ["check", "data"]


@case("d3.png: no mask for this image", "add the mask")
def mask_missing(desk: Desk) -> Words:
    (desk.data() / "masks" / "d3.png").unlink()
    return ["check", "data"]


@case("d3.png: no image for this mask", "add the image")
def image_missing(desk: Desk) -> Words:
    (desk.data() / "images" / "d3.png").unlink()
    return ["check", "data"]


@case("d1.png is not an image", "export it")
def text_named_png(desk: Desk) -> Words:
    (desk.data() / "images" / "d1.png").write_text("not a picture at all")
    return ["check", "data"]


@case("d1.png is empty (0 bytes)", "copy or export it again")
def image_of_0_bytes(desk: Desk) -> Words:
    (desk.data() / "images" / "d1.png").write_bytes(b"")
    return ["check", "data"]


@case("d1.png", "truncated", "export it again")
def png_truncated(desk: Desk) -> Words:
    path = desk.data() / "images" / "d1.png"
    path.write_bytes(path.read_bytes()[:3000])
    return ["check", "data"]


@case("d1.tif", "truncated", "export it again")
def tiff_truncated(desk: Desk) -> Words:
    path = desk.data() / "images" / "d1.png"
    target = path.with_suffix(".tif")
    tifffile.imwrite(target, np.asarray(Image.open(path)))
    target.write_bytes(target.read_bytes()[:6000])
    path.unlink()
    return ["check", "data"]


@case("d1.png: no mask for this image", "add the mask")
def folder_named_like_an_image(desk: Desk) -> Words:
    path = desk.data() / "masks" / "d1.png"
    path.unlink()
    path.mkdir()
    return ["check", "data", "--images", "images/*.png", "--masks", "masks/*.png"]


@case("d1.tif", "1 of 11520 values", "NaN")
def image_with_nan(desk: Desk) -> Words:
    path = desk.data() / "images" / "d1.png"
    grey = np.asarray(Image.open(path), np.float32).copy()
    grey[5, 5] = np.nan
    path.unlink()
    tifffile.imwrite(path.with_suffix(".tif"), grey)
    return ["check", "data"]


@case("d1.tif", "complex", "magnitude")
def image_of_complex_numbers(desk: Desk) -> Words:
    path = desk.data() / "images" / "d1.png"
    tifffile.imwrite(path.with_suffix(".tif"), np.asarray(Image.open(path), np.complex64))
    path.unlink()
    return ["check", "data"]


@case("d1.tif: 2 channels, but most images have 1", "same channels")
def one_image_of_two_channels(desk: Desk) -> Words:
    path = desk.data() / "images" / "d1.png"
    grey = np.asarray(Image.open(path))
    tifffile.imwrite(path.with_suffix(".tif"), np.stack([grey, grey]), metadata={"axes": "CYX"})
    path.unlink()
    return ["check", "data"]


@case("d2.png", "96 x 120", "90 x 120")
def sizes_differ(desk: Desk) -> Words:
    path = desk.data() / "masks" / "d2.png"
    Image.fromarray(np.asarray(Image.open(path))[:90]).save(path)
    return ["check", "data"]


@case("d0.png: --classes 3", "0 255", "--classes 2")
def masks_of_0_and_255_with_three_classes(desk: Desk) -> Words:
    for path in (desk.data() / "masks").iterdir():
        Image.fromarray(((np.asarray(Image.open(path)) > 0) * 255).astype(np.uint8)).save(path)
    return ["check", "data", "--classes", "3"]


@case("d0.jpg: JPEG-smeared mask", "0 255", "PNG or TIFF")
def masks_smeared_by_jpeg(desk: Desk) -> Words:
    for path in list((desk.data() / "masks").iterdir()):
        mask = ((np.asarray(Image.open(path)) > 0) * 255).astype(np.uint8)
        path.unlink()
        Image.fromarray(mask).save(path.with_suffix(".jpg"), quality=75)
    return ["check", "data"]


@case("d0.png has 14 values", "mask used as an image", "put the image here")
def mask_used_as_image(desk: Desk) -> Words:
    data = desk.data()
    for path in (data / "masks").iterdir():
        shutil.copy(path, data / "images" / path.name)
    return ["check", "data"]


@case("d0.png: looks like an image, not a mask", "put the mask here")
def image_used_as_mask(desk: Desk) -> Words:
    data = desk.data()
    for path in (data / "images").iterdir():
        shutil.copy(path, data / "masks" / path.name)
    return ["check", "data"]


@case("only the value 0", "check that")
def masks_without_objects(desk: Desk) -> Words:
    for path in (desk.data() / "masks").iterdir():
        Image.fromarray(np.zeros((96, 120), np.uint8)).save(path)
    return ["check", "data"]


@case("d1.png is the same image", "d0.png", "keep the pair")
def one_image_with_two_masks(desk: Desk) -> Words:
    data = desk.data()
    shutil.copy(data / "images" / "d0.png", data / "images" / "d1.png")
    return ["check", "data"]


@case("train-labels.tif: 2 planes", "train-volume.tif has 3", "same number of planes")
def stacks_of_different_length(desk: Desk) -> Words:
    rng = np.random.default_rng(0)
    (desk.folder / "data").mkdir()
    grey = rng.integers(0, 255, (3, 64, 64), dtype=np.uint8)
    tifffile.imwrite(desk.folder / "data" / "train-volume.tif", grey, photometric="minisblack")
    labels = ((grey[:2] > 60) * 255).astype(np.uint8)
    tifffile.imwrite(desk.folder / "data" / "train-labels.tif", labels, photometric="minisblack")
    return ["check", "data"]


@case("d1.gif has 3", "same number of planes")
def animation_with_one_mask(desk: Desk) -> Words:
    path = desk.data() / "images" / "d1.png"
    frames = [Image.fromarray(np.asarray(Image.open(path)) // n) for n in (1, 2, 3)]
    frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:])
    path.unlink()
    return ["check", "data"]


cases(
    "check",
    lambda desk: ["check", desk.data()],
    (["--images", "images/*.png"], ("--masks is missing",)),
    (["--images", "*.bmp", "--masks", "masks/*.png"], ("--images '*.bmp' matches no image", "data", "check")),
    (["--classes", "1"], ("--classes 1", "number from 2")),
    (["--classes", "some"], ("--classes some", "number from 2")),
    (["--ignore", "edges"], ("--ignore edges", "a number such as 255")),
)


# Training


cases(
    "train",
    lambda desk: ["train", desk.data(), "-o", "run", "--device", "cpu"],
    (["--recipe", "slow"], ("'slow'", "paper, fast")),
    (["--model", "resnet"], ("'resnet'", "the nearest names are", "ushape models")),
    (["--model", "released", "--width", "16"], ("--width 16", "--model released")),
    (["--pixel-size", "0"], ("--pixel-size 0 is not valid",)),
    (["--time", "soon"], ("'soon'", "10m")),
    (["--time", "0m"], ("'0m'", "10m")),
    (["--time", "1m", "--steps", "5"], ("--time 1m", "--steps 5", "not both")),
    (["--until", "beauty=0.9"], ("no score 'beauty'", "there are: ap_0.50, dice, iou, accuracy")),
    (["--until", "v_rand=0.96"], ("no score 'v_rand' is taken of these images", "ap_0.50")),
    (["--devices", "2", "--folds", "2"], ("--folds trains on one device", "drop --devices")),
    (["--devices", "2", "--device", "cuda:1"], ("--device cuda:1 is one device", "--device cuda or cpu")),
    (["--resume"], ("run", "nothing to resume", "drop --resume")),
    (["--validation", "d9"], ("'d9'", "d0")),
    (["--validation", "d0,d1,d2,d3,d4"], ("nothing is left to train on", "5")),
    (["--device", "quantum"], ("'quantum'", "use auto or cpu")),
)


@case("d1.png", "export it")
def train_on_a_broken_image(desk: Desk) -> Words:
    (desk.data() / "images" / "d1.png").write_text("not a picture at all")
    return ["train", "data", "-o", "run"]


@case("1 annotated image", "annotate more")
def train_on_one_image(desk: Desk) -> Words:
    for path in [*desk.data().glob("*/d[1-4].png")]:
        path.unlink()
    return ["train", "data", "-o", "run", "--classes", "objects"]


@case("cannot write to", "d0.png: a file has that name", "another folder")
def train_into_a_file(desk: Desk) -> Words:
    return ["train", desk.data(), "-o", desk.image]


@case("run", "holds a run already", "--resume")
def train_over_a_run(desk: Desk) -> Words:
    return ["train", desk.data(), "-o", desk.run()]


@case("run", "holds a run already", "another --output", "no checkpoint/ to go on from")
def train_over_a_run_that_was_killed_early(desk: Desk) -> Words:
    run = desk.run()
    shutil.rmtree(run / "checkpoint")
    return ["train", desk.data(), "-o", run]


@case("model.safetensors", "1 channel", "have 3")
def train_from_a_model_of_other_channels(desk: Desk) -> Words:
    for path in (desk.data() / "images").iterdir():
        grey = np.asarray(Image.open(path))
        Image.fromarray(np.dstack([grey, 255 - grey, grey])).save(path)
    return ["train", "data", "-o", "run", "--from", desk.model]


def resume(desk: Desk) -> Words:
    return ["train", desk.data(), "-o", "run", "--steps", 9, "--width", 4, "--device", "cpu", "--resume"]


@case("run/checkpoint", "no training checkpoint that can be read", "into another folder")
def resume_with_truncated_tensors(desk: Desk) -> Words:
    path = desk.run() / "checkpoint" / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    return resume(desk)


@case("run/checkpoint", "no training checkpoint that can be read", "into another folder")
def resume_with_a_state_of_something_else(desk: Desk) -> Words:
    (desk.run() / "checkpoint" / "state.json").write_text(
        '{"__items__": [["state_dict", {"__tensor__": "nowhere"}]]}'
    )
    return resume(desk)


@case("--resume", "another network", "(4, 1, 3, 3)", "give the options of that run")
def resume_with_another_width(desk: Desk) -> Words:
    desk.run()
    return [8 if word == 4 else word for word in resume(desk)]


def fine_tune(desk: Desk, *options: object) -> Words:
    words = ["train", desk.data(), "-o", "run", "--steps", 2, "--device", "cpu", "--from", desk.model]
    return [*words, *options]


cases(
    "fine-tune",
    fine_tune,
    (["--freeze-encoder", 0], ("cannot freeze 0 levels", "it has 5", "--freeze-encoder 1 to 5")),
    (["--freeze-encoder", 6], ("cannot freeze 6 levels", "it has 5", "--freeze-encoder 1 to 5")),
    (["--freeze-encoder", "all"], ("'--freeze-encoder'", "integer")),
    (["--width", 8], ("decides the network", "drop --model and --width")),
)


@case("--freeze-encoder 2 keeps weights of a trained model", "give one with --from")
def freeze_nothing(desk: Desk) -> Words:
    return ["train", desk.data(), "-o", "run", "--steps", 2, "--freeze-encoder", 2]


cases(
    "folds",
    lambda desk: ["train", desk.data(), "-o", "run", "--steps", 2, "--folds"],
    ([1], ("--folds 1: nothing would be held out", "give 2 or more")),
    ([6], ("--folds 6, but only 5 annotated images", "--folds 2 to 5")),
    (["all"], ("'--folds'", "integer")),
    ([5, "--validation", "d0"], ("--folds holds every image out once", "drop --validation d0, or --folds")),
    ([5, "--resume"], ("nothing to resume", "drop --resume")),
    ([5, "--time", "soon"], ("not a duration",)),
    ([5, "--time", "5m"], ("--time or --steps, not both",)),
    ([5, "--freeze-encoder", 1], ("--freeze-encoder 1", "give one with --from")),
)


@case("--folds 5", "only 1 annotated image", "annotate more")
def folds_of_one_image(desk: Desk) -> Words:
    data = desk.data()
    for path in [path for path in data.rglob("*.png") if path.stem != "d0"]:
        path.unlink()
    return ["train", data, "-o", "run", "--steps", 2, "--folds", 5, "--classes", "objects"]


# Prediction


@case("no such file: nothing.png", "check the name")
def predict_missing_image(desk: Desk) -> Words:
    return ["predict", desk.model, "nothing.png", "-o", "out"]


@case("empty: no image in this folder", "PNG")
def predict_empty_folder(desk: Desk) -> Words:
    (desk.folder / "empty").mkdir()
    return ["predict", desk.model, "empty", "-o", "out"]


@case("*.bmp: no image matches", "check the pattern")
def predict_glob_that_matches_nothing(desk: Desk) -> Words:
    return ["predict", desk.model, "*.bmp", "-o", "out"]


@case("a/d0.png", "b/d0.png", "rename one")
def predict_two_of_one_name(desk: Desk) -> Words:
    for name in "ab":
        (desk.folder / name).mkdir()
        shutil.copy(desk.image, desk.folder / name)
    return ["predict", desk.model, "a", "b", "-o", "out"]


@case("d0.png", "truncated", "export it again")
def predict_truncated_image(desk: Desk) -> Words:
    desk.image.write_bytes(desk.image.read_bytes()[:3000])
    return ["predict", desk.model, "d0.png", "-o", "out"]


@case("nan.tif", "11520 of 11520 values", "replace them")
def predict_nan(desk: Desk) -> Words:
    tifffile.imwrite(desk.folder / "nan.tif", np.full((96, 120), np.nan, np.float32))
    return ["predict", desk.model, "nan.tif", "-o", "out"]


@case("colour.png has 3 channels (RGB)", "the model takes 1 channel", "convert it to grey")
def predict_wrong_channels(desk: Desk) -> Words:
    Image.effect_noise((64, 64), 50).convert("RGB").point(list(range(512)) + [0] * 256).save(
        desk.folder / "colour.png"
    )
    return ["predict", desk.model, "colour.png", "-o", "out"]


def predict_with(desk: Desk, model: Path | str) -> Words:
    return ["predict", model, desk.image, "-o", "out"]


def changed_model(desk: Desk, change: Callable[[dict, dict], None]) -> Words:
    """Predict with a model file whose header and weights `change` has spoilt."""
    with safetensors.safe_open(str(desk.model), framework="pt") as file:
        header = json.loads(file.metadata()["ushape"])
    tensors = safetensors.torch.load_file(str(desk.model))
    change(header, tensors)
    safetensors.torch.save_file(tensors, desk.folder / "changed.safetensors", {"ushape": json.dumps(header)})
    return predict_with(desk, "changed.safetensors")


@case("nothing.safetensors", "no such model file", "ushape train")
def model_missing(desk: Desk) -> Words:
    return predict_with(desk, "nothing.safetensors")


@case("is a folder, not a model file", "ushape train")
def model_is_a_folder(desk: Desk) -> Words:
    return predict_with(desk, desk.folder)


@case("d0.png", "not a safetensors file", "model.safetensors")
def model_is_an_image(desk: Desk) -> Words:
    return predict_with(desk, desk.image)


@case("model.safetensors", "damaged", "whole")
def model_truncated(desk: Desk) -> Words:
    (desk.folder / "model.safetensors").write_bytes(desk.model.read_bytes()[:-100])
    return predict_with(desk, "model.safetensors")


@case("other.safetensors", "not a model of ushape", "ushape train")
def model_of_another_program(desk: Desk) -> Words:
    tensors = safetensors.torch.load_file(str(desk.model))
    safetensors.torch.save_file(tensors, desk.folder / "other.safetensors")
    return predict_with(desk, "other.safetensors")


@case("changed.safetensors", "'ushape/9'", "'ushape/1'", "upgrade")
def model_of_another_version(desk: Desk) -> Words:
    return changed_model(desk, lambda header, tensors: header.update(format="ushape/9"))


@case("changed.safetensors", "normalization.kind", "ushape train")
def model_with_an_invalid_header(desk: Desk) -> Words:
    return changed_model(desk, lambda header, tensors: header["normalization"].update(kind="guess"))


@case("changed.safetensors", "the weights lack", "ushape train")
def model_without_some_weights(desk: Desk) -> Words:
    return changed_model(desk, lambda header, tensors: tensors.pop(min(tensors)))


@case("changed.safetensors", "has shape", "ushape train")
def model_with_weights_of_another_width(desk: Desk) -> Words:
    return changed_model(desk, lambda header, tensors: header["architecture"].update(width=8))


cases(
    "predict",
    lambda desk: ["predict", desk.model, desk.image, "-o", "out"],
    (["--precision", "fp8"], ("'fp8'", "use auto, fp32, bf16 or int8")),
    (["--device", "quantum"], ("'quantum'", "use auto or cpu")),
    (["--average", "8"], ("--average '8'", "use none, paper, d4")),
    (["--average-of", "votes"], ("--average-of 'votes'", "use logits or probabilities")),
    (["--instances", "--connectivity", "6"], ("connectivity 6",)),
    (["--resume", "--overwrite"], ("--resume keeps results", "drop one of them")),
    (["--workers", "0"], ("--workers 0: at least 1",)),
    (["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], ("drop one of them",)),
    (["--scheduler", "tcp://127.0.0.1:1"], ("--scheduler tcp://127.0.0.1:1", "`dask scheduler` prints")),
    (["--max-memory", "much"], ("'much'", "4GB")),
    (["--max-memory", "10MB"], ("the smallest one takes", "raise the limit (--max-memory)")),
    (["--scale", "0"], ("--scale 0 is not possible", "from 0.01 to 100")),
    (["--scale", "nan"], ("--scale nan is not possible", "from 0.01 to 100")),
    (["--scale", "90", "--max-memory", "700MB"], ("8640 x 10800 px", "give a smaller --scale")),
    (["--scale", "2", "--pixel-size", "0.5"], ("--scale or --pixel-size, not both",)),
    (["--pixel-size", "0"], ("--pixel-size 0 is not valid", "give micrometres")),
    (["--pixel-size", "0.5"], ("did not tell the size of their pixels", "give --scale")),
)


@case("cannot write to", "d0.png: a file has that name", "another folder")
def predict_into_a_file(desk: Desk) -> Words:
    return ["predict", desk.model, desk.image, "-o", desk.image]


@case("cannot write to", "d0.png/out", "another folder")
def predict_below_a_file(desk: Desk) -> Words:
    return ["predict", desk.model, desk.image, "-o", desk.image / "out"]


@case("d0_classes.png exists", "--overwrite")
def predict_output_exists(desk: Desk) -> Words:
    (desk.folder / "out").mkdir()
    (desk.folder / "out" / "d0_classes.png").write_bytes(b"precious")
    return ["predict", desk.model, desk.image, "-o", "out"]


@case("d0.json is no record of a prediction", "move it away")
def predict_over_annotations_of_another_program(desk: Desk) -> Words:
    (desk.folder / "d0.json").write_text('{"version": "5.4.1", "shapes": [], "imagePath": "d0.png"}')
    return ["predict", desk.model, desk.image, "-o", ".", "--overwrite"]


# Evaluation


def evaluate(desk: Desk, *options: object) -> Words:
    """Sound masks against themselves."""
    return ["evaluate", desk.data() / "masks", desk.folder / "data" / "masks", *options]


cases(
    "evaluate",
    evaluate,
    (["--metrics", "beauty"], ("'beauty'", "dice")),
    (["--metrics", "ap"], ("'ap' is not known", "the IoU is part of the name, as in ap_0.50")),
    (["--json", "data"], ("cannot write data", "remove that folder")),
    (
        ["--csv", "data/masks/d0.png/scores.csv"],
        ("cannot write data/masks/d0.png/scores.csv", "choose another"),
    ),
    (["--ignore", "edge"], ("--ignore edge is no label", "a number such as 255, or a colour")),
)


@case("nothing", "no such file or folder", "check the name")
def evaluate_missing(desk: Desk) -> Words:
    return ["evaluate", "nothing", desk.data() / "masks"]


@case("is a file but", "give two files or two folders")
def evaluate_file_against_folder(desk: Desk) -> Words:
    return ["evaluate", desk.image, desk.data() / "masks"]


@case("no image in", "empty")
def evaluate_empty_folder(desk: Desk) -> Words:
    (desk.folder / "empty").mkdir()
    return ["evaluate", "empty", desk.data() / "masks"]


@case("pairs", "same stems")
def evaluate_folders_that_do_not_pair(desk: Desk) -> Words:
    other = desk.folder / "other"
    other.mkdir()
    shutil.copy(desk.discs / "masks" / "d0.png", other / "alpha.png")
    return ["evaluate", other, desk.data() / "masks"]


@case("small.png", "90 x 120", "96 x 120")
def evaluate_sizes_differ(desk: Desk) -> Words:
    mask = desk.discs / "masks" / "d0.png"
    Image.fromarray(np.asarray(Image.open(mask))[:90]).save(desk.folder / "small.png")
    return ["evaluate", "small.png", mask]


@case("half.png", "truncated", "export it again")
def evaluate_truncated_mask(desk: Desk) -> Words:
    mask = desk.discs / "masks" / "d0.png"
    (desk.folder / "half.png").write_bytes(mask.read_bytes()[:200])
    return ["evaluate", "half.png", mask]


def against_a_mask(desk: Desk, name: str, values: np.ndarray) -> Words:
    """A prediction beside a mask of 0 and 255, of which it holds both values."""
    values = values.reshape(-1, 20)
    tifffile.imwrite(desk.folder / name, values, photometric="minisblack")
    Image.fromarray((values > 99) * np.uint8(255)).save(desk.folder / "mask.png")
    return ["evaluate", name, "mask.png"]


@case("0, 255, the prediction 256: 0, 1, 2", "end its name in _probabilities (8 bits)", "floats from 0 to 1")
def evaluate_grey_values(desk: Desk) -> Words:
    return against_a_mask(desk, "grey.tif", (np.arange(520) // 2).clip(max=255).astype(np.uint8))


@case("0, 255, the prediction 300: 0, 1, 2", "end its name in _instances", "--metrics ap_0.50")
def evaluate_many_objects_against_a_mask(desk: Desk) -> Words:
    return against_a_mask(desk, "objects.tif", np.arange(300, dtype=np.uint16))


@case("prediction has the 300 values", "too many for classes", "in _instances")
def evaluate_many_objects_as_classes(desk: Desk) -> Words:
    return against_a_mask(desk, "a_classes.tif", np.arange(300, dtype=np.uint16))


@case("a_probabilities.tif holds values 0 to 299", "save them as floats, or as 0 to 255 in 8 bits")
def evaluate_probabilities_of_16_bits(desk: Desk) -> Words:
    return against_a_mask(desk, "a_probabilities.tif", np.arange(300, dtype=np.uint16))


@case("a.ome.zarr is a file but", "give two files or two folders")
def evaluate_a_store_against_a_folder(desk: Desk) -> Words:
    (desk.folder / "a.ome.zarr").mkdir()
    (desk.folder / "a.ome.zarr" / "zarr.json").write_text("{}")
    return ["evaluate", "a.ome.zarr", desk.data() / "masks"]


@case("cannot write pipe.json", "a device or a pipe", "another name")
def evaluate_into_a_pipe(desk: Desk) -> Words:
    os.mkfifo(desk.folder / "pipe.json")
    return evaluate(desk, "--json", "pipe.json")


# The others


@case("nothing.safetensors", "no such model file")
def info_without_a_model(desk: Desk) -> Words:
    return ["info", "nothing.safetensors"]


cases(
    "info",
    lambda desk: ["info", "--certify"],
    ([], ("--certify measures a model file", "give MODEL")),
    (["nothing.safetensors"], ("nothing.safetensors", "no such model file")),
    (["nothing.safetensors", "--size", "572"], ("at sizes of its own", "no --size")),
)


@case("100", "188")
def info_of_a_size_that_is_too_small(desk: Desk) -> Words:
    return ["info", "--size", "100"]


@case("cannot write to", "d0.png: a file has that name", "another folder")
def demo_into_a_file(desk: Desk) -> Words:
    return ["demo", "--output", desk.image]


@pytest.mark.parametrize(("prepare", "expected"), CASES)
def test_one_line_and_nothing_left(
    prepare: Prepare, expected: tuple[str, ...], desk: Desk, forked: Run
) -> None:
    words = prepare(desk)
    before = contents(desk.folder)
    line = the_line(forked(*words, cwd=desk.folder))
    assert [part for part in expected if part not in line] == [], line
    assert contents(desk.folder) == before


# What the system refuses


def limit_files_to(size: int) -> Callable[[], None]:
    """Have the system cut off every file that grows beyond `size`, as a full disk does."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def noise(path: Path) -> Path:
    """An image whose classes are large however well they are compressed."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300), np.uint8)).save(path)
    return path


def test_disk_full_during_prediction(desk: Desk, ushape) -> None:
    """The results of the first input stay; those of the second are not there by half."""
    words = (
        "predict",
        desk.model,
        desk.image,
        noise(desk.folder / "noise.png"),
        "-o",
        "out",
        "--probabilities",
    )
    before = contents(desk.folder)
    line = the_line(ushape(*words, cwd=desk.folder, preexec_fn=limit_files_to(200_000)))
    assert "cannot write out/noise_probabilities.tif: the disk is full; free some space" in line
    assert "choose" in line
    left = contents(desk.folder)
    for path in before:
        assert left.pop(path) == before[path]
    assert set(left) == {"out", "out/d0_classes.png", "out/d0_probabilities.tif", "out/d0.json"}


def test_disk_full_during_training(desk: Desk, ushape) -> None:
    """A model file or a checkpoint is whole or not there."""
    words = ("train", desk.data(), "-o", "run", "--steps", 2, "--width", 4, "--device", "cpu")
    line = the_line(ushape(*words, cwd=desk.folder, preexec_fn=limit_files_to(200_000)))
    assert "cannot write run/last.safetensors" in line
    assert "choose" in line
    left = {Path(path).suffix for path in contents(desk.folder / "run")}
    assert ".safetensors" not in left
    assert not [path for path in contents(desk.folder / "run") if Path(path).name.startswith(".")]


def test_disk_full_while_the_checkpoint_is_written(desk: Desk, ushape) -> None:
    """The models are whole, and no half of a checkpoint is left."""
    model = desk.model.stat().st_size - read_tiles(desk.model).nbytes
    words = ("train", desk.data(), "-o", "run", "--steps", 2, "--width", 4, "--device", "cpu")
    words += ("--no-int8-tiles",)
    line = the_line(ushape(*words, cwd=desk.folder, preexec_fn=limit_files_to(model + 20_000)))
    assert "cannot write run/checkpoint" in line
    assert "free some space" in line
    assert {"model.safetensors", "last.safetensors"} <= {
        path.name for path in (desk.folder / "run").iterdir()
    }
    assert not list((desk.folder / "run").glob("checkpoint*"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a folder that even root cannot write to")
@pytest.mark.parametrize("folder", ["/proc", "/proc/out"])
@pytest.mark.parametrize("command", ["predict", "train", "demo"])
def test_folder_that_cannot_be_written_to(desk: Desk, forked: Run, command: str, folder: str) -> None:
    inputs = {"predict": [desk.model, desk.image], "train": [desk.discs], "demo": []}[command]
    line = the_line(forked(command, *inputs, "--output", folder, cwd=desk.folder))
    assert f"cannot write to {folder}: " in line
    assert "choose another folder" in line


def test_a_bad_image_does_not_stop_the_others(desk: Desk, ushape) -> None:
    """Nothing of it is there; the others are whole, and are kept when it is mended."""
    bad = noise(desk.folder / "noise.png")
    whole = bad.read_bytes()
    bad.write_bytes(whole[:40_000])
    words = ("predict", desk.model, bad, desk.image, "-o", "out")
    done = ushape(*words, cwd=desk.folder)
    assert done.returncode == 2
    assert done.stdout.startswith("d0.png: 96 x 120 px, ")
    assert len(done.stdout.splitlines()) == 1
    first, last = done.stderr.splitlines()
    assert "noise.png is damaged, truncated" in first
    assert last.startswith("ushape: 1 of 2 images could not be segmented: noise.png; mend or remove them; ")
    assert last.endswith(" -o out --resume")
    assert {path.name for path in (desk.folder / "out").iterdir()} == {"d0.json", "d0_classes.png"}
    assert json.loads((desk.folder / "out" / "d0.json").read_text())["image"]["height"] == 96
    bad.write_bytes(whole)
    again = ushape(*words, "--resume", cwd=desk.folder)
    assert again.returncode == 0, again.stderr
    assert "d0.png: kept" in again.stdout.splitlines()
    assert (desk.folder / "out" / "noise_classes.png").exists()


def test_the_traceback_is_there_on_request(desk: Desk, ushape) -> None:
    done = ushape("check", "nothing", "--verbose", cwd=desk.folder)
    assert done.returncode == 2, "it is still the user's to mend"
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ushape: no such folder: nothing")


# What costs nothing must not wait for what does


def loaded_by(*words: str) -> set[str]:
    """Top-level modules that a command has loaded when it ends."""
    code = (
        "import atexit, sys\n"
        "from ushape import cli\n"
        "atexit.register(lambda: print('\\nmodules', *{name.partition('.')[0] for name in sys.modules}))\n"
        f"sys.argv = {['ushape', *words]!r}\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    return set(done.stdout.rpartition("\nmodules")[2].split())


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_by("--help")
    assert "typer" in loaded
    assert not loaded & {"torch", "numpy", "lightning", "PIL", "tifffile", "scipy"}


def test_help_lists_the_commands_that_work(ushape) -> None:
    listed = [line.split()[1] for line in ushape("--help").stdout.splitlines() if re.match(r"\W [a-z]", line)]
    assert listed == ["demo", "check", "train", "predict", "evaluate", "models", "info", "doctor"]
    for command in listed:
        done = ushape(command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"ushape {command}" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("train", "data"),
        ("train", "data", "-o", "run", "--time", "soon"),
        ("predict", "model", "image", "-o", "out", "--max-memory", "much"),
        ("check", "nothing"),
        ("evaluate", "nothing", "nothing"),
    ],
    ids=" ".join,
)
def test_refused_without_torch(words: tuple[str, ...]) -> None:
    loaded = loaded_by(*words)
    assert "typer" in loaded
    assert not loaded & {"torch", "lightning"}
