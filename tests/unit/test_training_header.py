"""What a run's model file says, and the weights it starts from."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import tifffile
import torch

from ushape import UNet
from ushape.checkpoint import read_header, save_model
from ushape.config import ClassInfo, ModelHeader, Normalization, Postprocessing
from ushape.data import Sample
from ushape.errors import ConfigError
from ushape.io import read_image
from ushape.training import train
from ushape.training.budget import Budget
from ushape.training.header import (
    describe,
    initial_network,
    provenance,
    require_same_run,
    unfit_grey_values,
)
from ushape.training.pixel_sizes import differing_pixel_sizes, unfit_pixel_size, with_pixel_size
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


def test_a_resumed_run_fetches_no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for proxy in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    header = describe(FAST, "resnet18", None, None, [sample(touching())], infos(2), True)
    with pytest.raises(ConfigError, match="out of reach"):
        initial_network(header, None, 3, pretrained=True)
    network = initial_network(header, None, 3, freeze_encoder=1, pretrained=True, is_resumed=True)
    assert network.is_pretrained, "its encoder is trained more slowly, as before"
    assert not all(weight.requires_grad for weight in network.parameters())


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
    header, run = run_of_five_steps()
    before = json.loads(header.model_dump_json())
    require_same_run(before, header.model_copy(update={"provenance": run | {"budget": {"steps": 9}}}))
    with pytest.raises(ConfigError, match=f"--resume: {word} differs"):
        require_same_run(before, header.model_copy(update={"provenance": run | change}))


def run_of_five_steps() -> tuple[ModelHeader, dict[str, object]]:
    run = provenance(FAST, 3, Budget(5, None), "fp32", [sample(touching())], [], [])
    header = describe(FAST, "auto", 2, None, [sample(touching())], infos(2))
    return header.model_copy(update={"provenance": run}), run


def test_a_run_of_an_earlier_version_is_not_gone_on_with() -> None:
    header, _ = run_of_five_steps()
    with pytest.raises(
        ConfigError, match="--resume: an earlier version of ushape began this run; start anew"
    ):
        require_same_run(None, header)


def test_another_network_or_normalisation_is_not_gone_on_with() -> None:
    header, _ = run_of_five_steps()
    before = header.model_dump(mode="json")
    fitted = {"temperature": 1.5, "class_bias": (0.5, -0.5), "postprocessing": Postprocessing(threshold=0.7)}
    require_same_run(before, header.model_copy(update=fitted))
    other = header.model_copy(update={"normalization": Normalization(kind="fixed", mean=(1.0,), std=(2.0,))})
    with pytest.raises(ConfigError, match="--resume: how grey values are normalised differs"):
        require_same_run(before, other)
    deeper = header.architecture.model_copy(update={"dropout": 0.5})
    with pytest.raises(ConfigError, match="--resume: --model differs"):
        require_same_run(before, header.model_copy(update={"architecture": deeper}))


def test_images_that_a_model_to_start_from_normalises_as_others_are_warned_of() -> None:
    header, _ = run_of_five_steps()
    of_8_bits = header.model_copy(
        update={"normalization": Normalization(kind="fixed", mean=(120.0,), std=(50.0,))}
    )
    usual = sample(touching())
    other = replace(usual, name="large", image=usual.image.astype(np.uint16))
    assert unfit_grey_values(of_8_bits, [usual]) == []
    assert unfit_grey_values(header, [usual, other]) == []
    (line,) = unfit_grey_values(of_8_bits, [usual, other])
    assert line.startswith("warning: large: grey values of type uint16 are normalised as those of 8 bits are")


def test_provenance_tells_data_apart_and_holds_no_clock() -> None:
    one, other = sample(touching()), sample(touching()[::-1])
    first = provenance(FAST, 3, Budget(5, None), "fp32", [one], [], [])
    assert first == provenance(FAST, 3, Budget(5, None), "fp32", [one], [], [])
    assert first["training"] != provenance(FAST, 3, Budget(5, None), "fp32", [other], [], [])["training"]
    assert first["recipe"]["name"] == "fast"


def of_sizes(*sizes: tuple[float, float] | None) -> list[Sample]:
    """Images whose pixels have these sizes in micrometres."""
    return [replace(sample(touching()), name=f"s{n}", pixel_size_um=size) for n, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "known"),
    [
        ([(0.5, 0.4), (0.50001, 0.4)], (0.5, 0.4)),  # rounding
        ([None, (0.5, 0.4)], (0.5, 0.4)),
        ([None, None], None),
        ([(0.5, 0.4), (0.5, 0.4), (0.25, 0.4)], None),
    ],
)
def test_the_pixel_size_is_known_where_the_images_agree(
    sizes: list[tuple[float, float] | None], known: tuple[float, float] | None
) -> None:
    assert describe(FAST, "auto", 2, None, of_sizes(*sizes), infos(2)).pixel_size_um == known


def test_images_that_differ_in_their_pixels_are_warned_of() -> None:
    assert differing_pixel_sizes(of_sizes(None, (0.5, 0.5), (0.50001, 0.5))) == []
    (line,) = differing_pixel_sizes(of_sizes((0.5, 0.5), (0.5, 0.5), (0.25, 0.3)))
    assert line.startswith(
        "warning: pixels are 0.5 um in s0, 0.25 x 0.3 um in s2: the model file will not say"
    )
    assert line.endswith("state it by --pixel-size")


def test_a_pixel_size_that_is_stated_counts_for_all_images(tmp_path: Path) -> None:
    differing = of_sizes((0.5, 0.5), None, (0.25, 0.25))
    assert with_pixel_size(differing, None) == differing
    stated = with_pixel_size(differing, "0.3,0.2", tiny(tmp_path))  # a model that knows none
    assert {one.pixel_size_um for one in stated} == {(0.3, 0.2)}
    with pytest.raises(ConfigError, match="--pixel-size -1 is not valid; give micrometres"):
        with_pixel_size(differing, -1)


def test_the_model_to_start_from_must_know_the_same_pixel_size(tmp_path: Path) -> None:
    header = describe(FAST, "auto", 2, None, of_sizes((0.25, 0.25)), infos(2))
    path = tmp_path / "source.safetensors"
    save_model(path, initial_network(header, None, 5), header)
    (same,) = with_pixel_size(of_sizes(None), 0.25, path)
    assert same.pixel_size_um == (0.25, 0.25)
    with pytest.raises(ConfigError, match=r"--pixel-size 0.5: .*source.safetensors knows pixels of 0.25 um"):
        with_pixel_size(of_sizes(None), 0.5, path)
    assert unfit_pixel_size(path, of_sizes((0.25, 0.25), None)) == []
    assert unfit_pixel_size(path, of_sizes(None)) == []
    (line,) = unfit_pixel_size(path, of_sizes((0.5, 0.5)))
    assert line.startswith("warning: pixels are 0.5 um, as the files say, and ")
    assert "source.safetensors knows pixels of 0.25 um: objects have another size" in line
    assert unfit_pixel_size(tiny(tmp_path), of_sizes((0.5, 0.5))) == [], "it knows none"


@pytest.mark.parametrize(("dtype", "kind"), [(np.uint8, "fixed"), (np.uint16, "image")])
def test_folds_normalise_alike_whichever_of_them_holds_out_the_image_of_16_bits(
    dtype: type, kind: str
) -> None:
    samples = of_sizes(None, None)
    other = replace(samples[1], image=samples[1].image.astype(dtype))
    headers = [
        describe(FAST, "resnet18", None, None, [train], infos(2), True, [held_out])
        for train, held_out in ((samples[0], other), (other, samples[0]))
    ]
    assert headers[0].normalization == headers[1].normalization
    assert headers[0].normalization.kind == kind


def test_a_run_warns_of_images_that_differ_in_their_pixels(
    discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    copytree(discs / "masks", data / "masks")
    (data / "images").mkdir()
    for number, path in enumerate(sorted((discs / "images").iterdir()), start=1):
        size = {"resolution": (number, number), "metadata": {"unit": "um"}}
        tifffile.imwrite(data / "images" / f"{path.stem}.tif", read_image(path).array, imagej=True, **size)
    result = train(data, tmp_path / "run", steps=1, width=2, device="cpu", quiet=False)
    assert "warning: pixels are " in capsys.readouterr().out
    assert read_header(result.model).pixel_size_um is None
