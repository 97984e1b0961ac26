"""The commands and their options, frozen: taking one away, or renaming it, breaks somebody's script."""

import inspect

import pytest
import typer

from ushape.cli import app

COMMON = ["--quiet", "--verbose"]
READING = ["--images", "--masks", "--classes", "--ignore"]
FROZEN = {
    "demo": ([], ["--output"]),
    "check": (["DATA"], READING),
    "train": (
        ["DATA"],
        [
            *(
                "--output",
                "-o",
                "--model",
                "--width",
                "--from",
                "--encoder-weights",
                "--freeze-encoder",
                "--recipe",
                "--time",
                "--steps",
            ),
            *("--validation", "--folds", *READING, "--seed", "--device", "--workers", "--resume"),
            *("--until", "--devices", "--nodes", "--pixel-size", "--precision", "--no-int8-tiles"),
        ],
    ),
    "predict": (
        ["MODEL", "INPUT..."],
        [
            *("--output", "-o", "--precision", "--max-memory", "--instances", "--probabilities"),
            *("--overlay", "--outlines", "--layout", "--threshold", "--min-area", "--split", "--fill-holes"),
            "--keep-holes",
            *("--border", "--foi", "--scale", "--pixel-size", "--average", "--workers", "--scheduler"),
            *("--overwrite", "--device", "--resume", "--average-of", "--connectivity"),
        ],
    ),
    "evaluate": (
        ["PREDICTION", "TRUTH"],
        [
            *("--metrics", "--classes", "--ignore", "--json", "--csv", "--report", "--per-image"),
            *("--tolerance", "--pixel-size"),
        ],
    ),
    "doctor": ([], []),
    "models": (["[PATTERN]"], []),
    "info": (["[MODEL]"], ["--size", "--certify"]),
}
COMMANDS = typer.main.get_command(app).commands


def names(command: str, kind: str) -> list[str]:
    """Options with all their spellings, or arguments as the help shows them."""
    found = [one for one in COMMANDS[command].params if one.param_type_name == kind and one.name != "help"]
    return [
        name
        for one in found
        for name in ([*one.opts, *one.secondary_opts] if kind == "option" else [one.metavar])
    ]


def test_the_commands() -> None:
    assert set(COMMANDS) == set(FROZEN)


@pytest.mark.parametrize("command", FROZEN)
def test_arguments_and_options(command: str) -> None:
    arguments, options = FROZEN[command]
    assert names(command, "argument") == arguments
    assert sorted(names(command, "option")) == sorted([*options, *COMMON])


@pytest.mark.parametrize("command", FROZEN)
def test_every_option_is_explained(command: str) -> None:
    assert inspect.getdoc(COMMANDS[command].callback)
    assert [one.name for one in COMMANDS[command].params if not one.help] == []
