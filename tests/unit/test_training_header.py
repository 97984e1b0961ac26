"""What a run's model file says, and the weights it starts from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ushape import UNet
from ushape.checkpoint import save_model
from ushape.config import ClassInfo
from ushape.data import Sample
from ushape.errors import ConfigError
from ushape.training.budget import Budget
from ushape.training.header import describe, initial_network, provenance, require_same_run
from ushape.training.recipe import FAST


def infos(number: int) -> tuple[ClassInfo, ...]:
    return tuple(ClassInfo(name=f"class {i}", value=i, color=(i, i, i)) for i in range(number))


def sample(objects: np.ndarray, channels: int = 1) -> Sample:
    image = np.zeros((channels, *objects.shape), np.uint8)
    return Sample(
        "s", image, objects.astype(np.int32), np.minimum(np.arange(objects.max() + 1), 1).astype(np.uint8)
    )


def touching() -> np.ndarray:
    objects = np.zeros((40, 40), int)
    objects[0:10, 0:10], objects[0:10, 10:20], objects[30:40, 0:30] = 1, 2, 3
    return objects


@pytest.mark.parametrize(
    ("model", "width", "name"),
    [
        ("paper", None, "U-Net"),
        ("paper", 16, "U-Net, width 16"),
        ("released", None, "U-Net released 2015"),
        ("auto", 8, "U-Net, width 8, batch norm"),
    ],
)
def test_a_model_is_named_by_what_it_is(model: str, width: int | None, name: str) -> None:
    assert describe(FAST, model, width, None, [sample(touching())], infos(2)).name == name


def tiny(tmp_path: Path) -> Path:
    header = describe(FAST, "auto", 2, None, [sample(touching())], infos(2))
    path = tmp_path / "model.safetensors"
    save_model(path, initial_network(header, None, 5), header)
    return path


def test_the_seed_decides_the_first_weights() -> None:
    header = describe(FAST, "auto", 2, None, [sample(touching())], infos(2))
    one, same, other = (initial_network(header, None, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["score.weight"], other["score.weight"])


def test_fine_tuning_keeps_all_but_a_last_layer_that_does_not_fit(tmp_path: Path) -> None:
    source = tiny(tmp_path)
    header = describe(FAST, "auto", None, source, [sample(touching())], infos(3))
    assert (header.architecture.width, header.architecture.classes) == (2, 3)
    network = initial_network(header, source, 7)
    assert isinstance(network, UNet)
    before = initial_network(
        describe(FAST, "auto", 2, None, [sample(touching())], infos(2)), None, 5
    ).state_dict()
    after = network.state_dict()
    redrawn = {name for name in after if not torch.equal(after[name], before[name])}
    assert redrawn == {"score.weight", "score.bias"}


def test_other_channels_cannot_be_fine_tuned(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes images of 1 channels, the data have 3"):
        describe(FAST, "auto", None, tiny(tmp_path), [sample(touching(), channels=3)], infos(2))


def test_the_weights_given_decide_the_network(tmp_path: Path) -> None:
    for model, width in (("paper", None), ("auto", 64)):
        with pytest.raises(ConfigError, match="decides the network; drop --model and --width"):
            describe(FAST, model, width, tiny(tmp_path), [sample(touching())], infos(2))


@pytest.mark.parametrize(
    ("change", "word"),
    [({"seed": 4}, "--seed"), ({"held_out": {"s": "0"}}, "--validation"), ({"training": {}}, "DATA")],
)
def test_another_run_is_not_gone_on_with(change: dict[str, object], word: str) -> None:
    run = provenance(FAST, 3, Budget(5, None), [sample(touching())], [], [])
    require_same_run(run, run | {"budget": {"steps": 9}})
    with pytest.raises(ConfigError, match=f"--resume: {word} differs"):
        require_same_run(run, run | change)


def test_provenance_tells_data_apart_and_holds_no_clock() -> None:
    one, other = sample(touching()), sample(touching()[::-1])
    first = provenance(FAST, 3, Budget(5, None), [one], [], [])
    assert first == provenance(FAST, 3, Budget(5, None), [one], [], [])
    assert first["training"] != provenance(FAST, 3, Budget(5, None), [other], [], [])["training"]
    assert first["recipe"]["name"] == "fast"
