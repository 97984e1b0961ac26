"""OpenVINO against PyTorch, a cache that may be damaged at any time, and which engine is chosen."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from small_encoder import Pyramid
from small_model import make_model
from torch import nn

from ushape.backends import OpenVINOBackend, PyTorchBackend, cache, engine, memory, openvino, start
from ushape.backends.conversion import converted, identity
from ushape.errors import ConfigError, ShapeError, TilingError
from ushape.models import EncoderUNet, Ensemble, UNet
from ushape.predict import Segmenter


def unet(**options):
    torch.manual_seed(5)
    network = UNet(width=4, **options).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.uniform_(parameter, 0.1, 0.5)
    return network


def tile_for(network, height, width, seed=0):
    size = [network.geometry.input_size(side) for side in (height, width)]
    shape = (network.in_channels, *size)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("USHAPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "network",
    [
        unet(),
        unet(depth=2, norm="batch", in_channels=3, classes=3),
        unet(depth=1, variant="released", classes=1),
        unet(depth=2, shrink=2),
        Ensemble([unet(depth=1), UNet(width=4, depth=1).eval()]),
    ],
    ids=["paper", "batch norm, colours", "released", "half size", "ensemble"],
)
def test_openvino_computes_what_pytorch_does(network):
    ours, reference = OpenVINOBackend(network, "fp32"), PyTorchBackend(network, "cpu", "fp32")
    for height, width in ((1, 1), (60, 90), (60, 20)):
        tile = tile_for(network, height, width)
        expected = reference(tile)
        logits = ours(tile)
        assert (logits.shape, logits.dtype) == (expected.shape, np.float32)
        # The documented bound; measured: 2.1e-6 of the largest.
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def with_encoder(name, **options):
    torch.manual_seed(5)
    return EncoderUNet(Pyramid() if name == "own" else name, 3, 4, width=4, **options).eval()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {}),
        ("tf_efficientnet_lite0", {}),
        ("convnext_atto", {"up": "resize"}),
        ("swin_tiny_patch4_window7_224", {}),
        ("own", {"deep_supervision": True}),
        ("own", {"full_resolution": False, "up": "resize", "norm": None}),
    ],
)
def test_openvino_continues_and_cuts_tiles_of_any_size(name, options):
    """Converted from a tile of one pixel, all that follows from the size follows that of each tile."""
    network = with_encoder(name, **options)
    ours, reference = OpenVINOBackend(network, "fp32"), PyTorchBackend(network, "cpu", "fp32")
    for height, width in ((1, 1), (61, 90), (97, 31)):
        tile = tile_for(network, height, width)
        expected = reference(tile)
        assert expected.shape == (4, height, width)
        # Ten times the bound of a UNet, which has a third of the layers.
        np.testing.assert_allclose(ours(tile), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_a_result_outlives_the_next_tile():
    network = unet(depth=1)
    backend = OpenVINOBackend(network, "fp32")
    first = backend(tile_for(network, 20, 20))
    kept = first.copy()
    backend(tile_for(network, 20, 20, seed=1))
    np.testing.assert_array_equal(first, kept)


def test_two_shapes_in_turn_are_compiled_once_each(monkeypatch):
    made = []
    original = openvino.compiled
    monkeypatch.setattr(openvino, "compiled", lambda *words: made.append(words[1]) or original(*words))
    network = unet(depth=1)
    backend, reference = OpenVINOBackend(network, "fp32"), PyTorchBackend(network, "cpu", "fp32")
    tiles = [tile_for(network, *size) for size in ((20, 30), (30, 20), (40, 40))]
    for tile in [*tiles[:2], *tiles[:2], tiles[2], tiles[0]]:
        expected = reference(tile)
        np.testing.assert_allclose(backend(tile), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert made == [tile.shape for tile in (*tiles, tiles[0])]


def test_maps_that_another_thread_uses_are_not_given_back():
    network = unet(depth=1)
    backend, tile = OpenVINOBackend(network, "fp32"), tile_for(network, 200, 200)
    expected = backend(tile)
    with ThreadPoolExecutor(1) as other:
        computing = other.submit(lambda: [backend(tile) for _ in range(30)])
        while not computing.done():
            backend.release_memory()
    for found in computing.result():
        np.testing.assert_array_equal(found, expected)


def test_sizes_that_are_not_valid_and_statistics_per_tile_are_refused():
    network = unet(depth=1)
    with pytest.raises(ShapeError, match="tile height 19 is not valid; nearest valid sizes: 18 and 20"):
        OpenVINOBackend(network, "fp32")(np.zeros((1, 19, 20), np.float32))
    network.contracting[0].append(torch.nn.GroupNorm(1, 4))
    with pytest.raises(TilingError, match=r"GroupNorm `contracting\.0\.4` computes its statistics per tile"):
        OpenVINOBackend(network)


@pytest.mark.parametrize("damage", ["none", "absent", "truncated", "flipped", "empty", "text", "folder"])
def test_a_damaged_entry_is_made_anew(own_cache, damage):
    network = unet(depth=1)
    tile = tile_for(network, 20, 20)
    expected = OpenVINOBackend(network, "fp32")(tile)
    (entry,) = own_cache.iterdir()
    whole = entry.read_bytes()
    entry.unlink()
    if damage == "folder":
        entry.mkdir()
    elif damage != "absent":
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        contents = {"none": whole, "truncated": whole[:-100], "flipped": flipped, "empty": b""}
        entry.write_bytes(contents.get(damage, b"not a network"))
    np.testing.assert_array_equal(OpenVINOBackend(network, "fp32")(tile), expected)
    if damage != "folder":
        cache._read(entry)  # whole again


def test_an_entry_is_read_and_not_made_again(own_cache, monkeypatch):
    network = unet(depth=1)
    converted(network)
    monkeypatch.setattr("ushape.backends.conversion._convert", lambda network: pytest.fail("converted again"))
    converted(network)


def test_other_weights_are_another_entry(own_cache):
    network = unet(depth=1)
    tile = tile_for(network, 20, 20)
    before = OpenVINOBackend(network, "fp32")(tile)
    with torch.no_grad():
        network.score.bias += 1
    after = OpenVINOBackend(network, "fp32")(tile)
    assert len(list(own_cache.iterdir())) == 2
    np.testing.assert_allclose(after, before + 1, atol=1e-5)


class Bent(Pyramid):
    """Does what an attribute says, of which neither its weights nor its description tell."""

    bend = staticmethod(torch.relu)

    def forward(self, image):
        return [self.bend(one) for one in super().forward(image)]


def test_what_the_code_of_an_encoder_decides_is_not_taken_from_the_cache(own_cache, monkeypatch):
    torch.manual_seed(5)
    network = EncoderUNet(Bent(), 3, 4, width=4).eval()
    tile = tile_for(network, 48, 66)
    before = OpenVINOBackend(network, "fp32")(tile)
    network.encoder.bend = torch.tanh
    expected = PyTorchBackend(network, "cpu", "fp32")(tile)
    assert np.abs(before - expected).max() > 0.01 * np.abs(expected).max()
    found = OpenVINOBackend(network, "fp32")(tile)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    monkeypatch.setattr("ushape.backends.quantization.ALLOWED_SHARE", 1.0)  # untrained: labels at the brink
    OpenVINOBackend(network, "int8", tiles=[tile])
    assert not own_cache.exists()


def test_another_version_of_timm_is_another_entry_for_its_networks_alone(monkeypatch):
    networks = unet(depth=1), with_encoder("resnet18")
    plain, encoded = map(identity, networks)
    monkeypatch.setattr("timm.__version__", "0.0")
    assert identity(networks[0]) == plain
    assert identity(networks[1]) != encoded


def test_another_version_of_nncf_quantises_anew(own_cache, monkeypatch):
    monkeypatch.setattr("ushape.backends.quantization.ALLOWED_SHARE", 1.0)  # untrained: labels at the brink
    network = unet(depth=1)
    tiles, made = [tile_for(network, 20, 20)], []
    for version in ("3.0", "3.0", "3.1"):
        monkeypatch.setattr("ushape.backends.quantization.version", lambda _, found=version: found)
        OpenVINOBackend(network, "int8", tiles=tiles)
        made.append(len(list(own_cache.iterdir())))
    assert made == [2, 2, 3]  # the network in float32 is one of them


def test_an_entry_that_cannot_be_touched_is_read(own_cache, monkeypatch):
    network = unet(depth=1)
    converted(network)

    def refuse(path):  # as for a folder that another user shares; this one may be allowed everything
        raise PermissionError(path)

    monkeypatch.setattr("os.utime", refuse)
    monkeypatch.setattr("ushape.backends.conversion._convert", lambda network: pytest.fail("converted again"))
    converted(network)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("USHAPE_CACHE", str(tmp_path / "file" / "cache"))
    network = unet(depth=1)
    assert OpenVINOBackend(network, "fp32")(tile_for(network, 1, 1)).shape[0] == 2


def test_a_disk_that_is_full_costs_the_entry_alone(own_cache, monkeypatch):
    def fill(*_, **__):
        raise RuntimeError("basic_ios::clear: iostream error")  # OpenVINO's word for it

    monkeypatch.setattr(openvino.import_openvino(), "save_model", fill)
    OpenVINOBackend(make_model()[0])
    assert not own_cache.exists() or not list(own_cache.iterdir())


def test_entries_used_longest_ago_make_room(own_cache, monkeypatch):
    networks = [unet(depth=1, classes=classes) for classes in (2, 3, 4)]
    for age, network in enumerate(networks[:2]):
        converted(network)
        newest = max(own_cache.iterdir(), key=os.path.getctime)
        os.utime(newest, (1e9 - age, 1e9 - age))
    converted(networks[1])  # used again
    size = max(path.stat().st_size for path in own_cache.iterdir())
    monkeypatch.setattr(cache, "LARGEST_BYTES", 2 * size + 1000)
    model = own_cache / "my-model.safetensors"  # the folder that a person names may hold others
    model.write_bytes(bytes(size))
    os.utime(model, (1e8, 1e8))
    before = {*own_cache.iterdir()}
    converted(networks[2])
    left = {*own_cache.iterdir()}
    (gone,) = before - left
    assert len(left) == 3
    assert model in left
    assert gone.stem == cache_key(networks[0])


def cache_key(network):
    return cache.key_of(["converted", *identity(network)])


def test_the_cache_is_where_such_files_of_the_user_are(monkeypatch, tmp_path):
    monkeypatch.delenv("USHAPE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert cache.cache_folder() == tmp_path / "ushape"
    assert cache.cache_folder().name == "ushape"


def test_the_engine_is_chosen_by_rule(monkeypatch):
    network = unet(depth=1)
    for pays, expected in ((True, "openvino"), (False, "pytorch")):
        monkeypatch.setattr(engine, "openvino_pays", lambda pays=pays: pays)
        assert start(network, "cpu", "fp32").engine.startswith(expected)
    monkeypatch.setattr(engine, "openvino_pays", lambda: True)
    assert start(network, "cpu", "fp64").engine.startswith("pytorch")
    assert start(network, "cpu", "fp32", engine="pytorch").engine.startswith("pytorch")
    with pytest.raises(ConfigError, match=r"engine openvino computes on a CPU .* not in fp64 on cpu"):
        start(network, "cpu", "fp64", engine="openvino")
    with pytest.raises(ConfigError, match="engine 'onnx' is not known; use auto, pytorch or openvino"):
        start(network, "cpu", engine="onnx")


def test_int8_needs_openvino_and_tiles():
    network = unet(depth=1)
    with pytest.raises(ConfigError, match="precision int8 is computed by OpenVINO on a CPU, not by PyTorch"):
        PyTorchBackend(network, "cpu", "int8")
    with pytest.raises(ConfigError, match="precision int8 is calibrated on tiles of images"):
        start(network, "cpu", "int8")


def test_int8_without_its_extra_names_it(monkeypatch, own_cache):
    found = engine.OpenVINOBackend
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    network = unet(depth=1)
    with pytest.raises(ConfigError, match=r"needs the package nncf; .* -c constraints\.txt 'ushape\[fast\]'"):
        found(network, "int8", tiles=[tile_for(network, 20, 20)])


@pytest.fixture(scope="module")
def smooth():
    """Light and dark areas, which whole numbers can tell apart."""
    noise = np.random.default_rng(2).standard_normal((150, 170))
    return (120 + 900 * gaussian_filter(noise, 6)).clip(0, 255).astype(np.uint8)


def test_int8_changes_few_labels_or_is_refused(smooth, monkeypatch):
    network, header = make_model()
    with torch.no_grad():  # an edge through the grey values, as a trained network would have it
        network.score.bias += 0.3
    monkeypatch.setattr("ushape.backends.quantization.ALLOWED_SHARE", 0.2)
    exact = Segmenter(network, header, device="cpu")(smooth, "fp32")
    segmenter = Segmenter(network, header, device="cpu")
    rough = segmenter(smooth, "int8")
    assert rough.precision == "int8"
    share = (rough.classes != exact.classes).mean()
    assert 0 < share < 0.2
    again = Segmenter(network, header, device="cpu")(smooth, "int8")
    np.testing.assert_array_equal(again.probabilities, rough.probabilities)
    assert segmenter(smooth, "int8").backend is rough.backend
    other = segmenter(smooth[:150:2], "int8")  # quantised on itself, whatever came before
    alone = Segmenter(network, header, device="cpu")(smooth[:150:2], "int8")
    np.testing.assert_array_equal(other.probabilities, alone.probabilities)
    monkeypatch.setattr("ushape.backends.quantization.ALLOWED_SHARE", 1e-9)
    with pytest.raises(ConfigError, match=r"int8 changes the label of [\d.]+% of the pixels .* use bf16 or"):
        Segmenter(network, header, device="cpu")(smooth[::-1], "int8")


class Halved(nn.Module):
    """Makes of the size of an image a number, which tracing takes for a constant."""

    channels, strides = (4,), (2,)

    def __init__(self, *, is_silent):
        super().__init__()
        self.first, self.is_silent = nn.Conv2d(3, 4, 3, stride=2, padding=1), is_silent

    def forward(self, image):
        found = self.first(image)
        rows = int(image.shape[-2] / 2)
        return [found * (rows / 10) if self.is_silent else found.reshape(*found.shape[:2], rows, -1)]


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_network_that_openvino_cannot_follow_is_computed_by_pytorch(is_silent):
    torch.manual_seed(0)
    network = EncoderUNet(Halved(is_silent=is_silent), 3, 2, width=4).eval()
    assert isinstance(start(network, "cpu", "fp32"), PyTorchBackend)
    for options in ({"engine": "openvino"}, {"precision": "int8", "tiles": [tile_for(network, 8, 8)]}):
        with pytest.raises(ConfigError, match=r"^OpenVINO does not compute this network as PyTorch does: "):
            start(network, "cpu", **{"precision": "fp32", **options})


def test_a_network_of_timm_that_openvino_cannot_follow_is_computed_by_pytorch():
    network = with_encoder("mobilevit_xxs")
    backend = start(network, "cpu", "fp32")
    assert isinstance(backend, PyTorchBackend)
    assert backend(tile_for(network, 70, 90)).shape == (4, 70, 90)


def test_int8_of_an_encoder_takes_tiles_of_any_size(monkeypatch):
    monkeypatch.setattr("ushape.backends.quantization.ALLOWED_SHARE", 1.0)  # untrained: labels at the brink
    network = with_encoder("own")
    tiles = [tile_for(network, 48, 66, seed) for seed in range(2)]
    rough, exact = OpenVINOBackend(network, "int8", tiles=tiles), PyTorchBackend(network, "cpu", "fp32")
    for height, width in ((48, 66), (61, 20)):
        tile = tile_for(network, height, width, seed=7)
        found, expected = rough(tile), exact(tile)
        assert found.shape == expected.shape == (4, height, width)
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95
        assert not np.array_equal(found, OpenVINOBackend(network, "fp32")(tile))


SIGNALS_AFTER_PREDICTIONS = """
import faulthandler, signal
import numpy as np
from ushape.backends import OpenVINOBackend
from ushape.models import UNet

faulthandler.enable()  # as pytest does: a stack for handlers is there before
first, second = (OpenVINOBackend(UNet(width=2, depth=1), "fp32") for _ in range(2))
tile = np.zeros((1, 18, 18), np.float32)
first(tile), second(tile)
del first
del second
signal.signal(signal.SIGINT, lambda *_: print("came"))
signal.raise_signal(signal.SIGINT)
"""


def test_signals_arrive_after_predictions():
    done = subprocess.run([sys.executable, "-c", SIGNALS_AFTER_PREDICTIONS], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "came\n"), done.stderr


MB = 10**6
NONE_IN_1 = 2**63 - 4096
CONTROL_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
CONTROL_2 = ("memory.max", "memory.current", "inactive_file")


@pytest.mark.parametrize(
    ("membership", "names", "groups", "limit", "free"),
    [
        ("0::/", CONTROL_2, {"": (1000 * MB, 900 * MB, 600 * MB)}, 1000, 700),
        ("0::/", CONTROL_2, {"": (1000 * MB, 1100 * MB, 0)}, 1000, 0),
        (
            "0::/slurm/job_1/step_0/task_0",
            CONTROL_2,
            {
                "slurm": ("max", 5000 * MB, 0),
                "slurm/job_1": (1000 * MB, 600 * MB, 100 * MB),
                "slurm/job_1/step_0": ("max", 600 * MB, 100 * MB),
            },
            1000,
            500,
        ),
        (
            "0::/slurm/job_1",
            CONTROL_2,
            {"slurm": (3000 * MB, 2950 * MB, 0), "slurm/job_1": (1000 * MB, 200 * MB, 0)},
            1000,
            50,
        ),
        ("0::/mine", CONTROL_2, {"mine": ("max", MB, 0), "other": (10 * MB, 5 * MB, 0)}, None, 8192),
        (
            "0::/\n5:cpu,cpuacct:/\n4:memory:/slurm/job_2",
            CONTROL_1,
            {
                "memory": (NONE_IN_1, 5000 * MB, 0),
                "memory/slurm/job_2": (1000 * MB, 600 * MB, 250 * MB),
            },
            1000,
            650,
        ),
        # In a container that sees its own group alone, under another path.
        ("4:memory:/docker/0123", CONTROL_1, {"memory": (1000 * MB, 400 * MB, 100 * MB)}, 1000, 700),
        ("4:memory:/", CONTROL_1, {"memory": (NONE_IN_1, 400 * MB, 0)}, None, 8192),
        ("", CONTROL_2, {}, None, 8192),
    ],
)
def test_memory_is_that_of_the_tightest_group(tmp_path, monkeypatch, membership, names, groups, limit, free):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:  9000000 kB\nMemAvailable:  8000000 kB\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text(f"{membership}\n".lstrip())
    for name, (most, used, unread) in groups.items():
        group = tmp_path / "sys" / "fs" / "cgroup" / name
        group.mkdir(parents=True, exist_ok=True)
        (group / names[0]).write_text(f"{most}\n")
        (group / names[1]).write_text(f"{used}\n")
        (group / "memory.stat").write_text(f"active_file 7\n{names[2]} {unread}\n")
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    assert memory.memory_limit() == (None if limit is None else limit * MB)
    assert memory.available_memory() == free * MB
