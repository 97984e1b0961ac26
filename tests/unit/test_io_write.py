"""Results read back exactly, by us and by others; a file is whole or it is not there."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from ushape.errors import OutputError, ShapeError
from ushape.io import (
    read_image,
    read_labels,
    write_classes,
    write_csv,
    write_instances,
    write_json,
    write_overlay,
    write_probabilities,
    written_beside,
)

COLORS = [(0, 0, 0), (230, 60, 20), (20, 200, 70)]
CLASSES = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8) % 3
SIZE_UM = (0.25, 0.5)


def random(shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


# Whole or not at all


def test_written_beside_and_renamed(tmp_path):
    path = tmp_path / "new" / "a.tif"
    with written_beside(path) as beside:
        beside.write_bytes(b"content")
        assert beside.parent == path.parent
        assert beside.suffix == ".tif"
        assert beside.name.startswith(".")
        assert not path.exists()
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, OutputError, SystemExit])
def test_nothing_is_left_of_a_failure(tmp_path, failure):
    path = tmp_path / "a.csv"
    path.write_text("old")

    def write_half():
        with written_beside(path) as beside:
            beside.write_text("half")
            raise failure("stop")

    with pytest.raises(failure, match=r"^stop$"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_usual_permissions(tmp_path):
    """Not those of a private temporary file: colleagues must be able to read the results."""
    before = os.umask(0o022)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644


def one_line(path, call):
    with pytest.raises(OutputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"cannot write {path}: ")
    return message


def writers(path: Path) -> Iterator[tuple[Path, object]]:
    """Every public writer, with more than 64 KiB to write."""
    classes = np.random.default_rng(0).integers(0, 3, (512, 1024), dtype=np.uint8)
    for suffix in (".png", ".tif"):
        target = path / f"classes{suffix}"
        yield target, lambda target=target: write_classes(target, classes, colors=COLORS)
    noise = random((2, 256, 256))
    yield path / "p.tif", lambda: write_probabilities(path / "p.tif", noise)
    ids = (random((512, 512)) * 60000).astype(np.int32)
    yield path / "i.tif", lambda: write_instances(path / "i.tif", ids)
    rgb = (random((256, 256, 3)) * 255).astype(np.uint8)
    yield path / "o.png", lambda: write_overlay(path / "o.png", rgb)
    yield path / "a.json", lambda: write_json(path / "a.json", {"text": "x" * 100_000})
    yield path / "a.csv", lambda: write_csv(path / "a.csv", ["x"], [["y" * 100]] * 1000)


@contextmanager
def file_size_limit(size):
    """The kernel refuses to let a file grow beyond `size`, in the middle of writing it, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_write_cut_off_by_the_system(tmp_path):
    for path, write in writers(tmp_path):
        with file_size_limit(20_000):
            message = one_line(path, write)
        assert os.strerror(errno.EFBIG) in message or "the disk is full" in message
        assert list(tmp_path.iterdir()) == []
        write()
        path.unlink()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has such a device")
def test_full_disk(tmp_path):
    path = tmp_path / "a.csv"

    def write():
        with written_beside(path) as beside:
            beside.write_text("half")
            Path("/dev/full").write_text("this device is always full")

    assert "free some space" in one_line(path, write)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [".", "..", "/", "made"])
def test_a_folder_is_no_file_whatever_it_is_called(tmp_path, monkeypatch, name):
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path)
    message = one_line(Path(name), lambda: write_json(Path(name), {}))
    assert "Is a directory; " in message
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@contextmanager
def not_root():
    """Root may write anywhere; drop to another user while the folder is closed."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_unwritable_folder(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    for path, write in writers(closed):
        with not_root():
            assert "choose a folder that you may write to" in one_line(path, write)
    assert list(closed.iterdir()) == []
    closed.chmod(0o755)


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("kept")
    path = tmp_path / "out" / "a.json"
    one_line(path, lambda: write_json(path, {}))
    assert (tmp_path / "out").read_text() == "kept"


def test_name_taken_by_a_folder(tmp_path):
    path = tmp_path / "a.json"
    path.mkdir()
    assert "remove that folder" in one_line(path, lambda: write_json(path, {}))
    assert list(tmp_path.iterdir()) == [path]


def test_long_name(tmp_path):
    path = tmp_path / ("a" * 300 + ".json")
    assert "choose a shorter name" in one_line(path, lambda: write_json(path, {}))
    longest = tmp_path / ("a" * 250 + ".json")
    write_json(longest, {})
    assert list(tmp_path.iterdir()) == [longest]


@pytest.mark.usefixtures("ctrl_c_at_its_default")
def test_ctrl_c_leaves_whole_files_only(tmp_path):
    program = textwrap.dedent(
        """
        import sys, time
        from ushape.io import written_beside
        with written_beside(sys.argv[1]) as beside:
            beside.write_text("half")
            print("writing", flush=True)
            time.sleep(60)
        """
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.csv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []


# Classes


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_classes_are_indices_in_colours(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    classes = CLASSES.copy()
    classes[0, 0], classes[0, 1] = 255, 200
    write_classes(path, classes, colors=COLORS, pixel_size_um=SIZE_UM)
    with Pillow.open(path) as independent:
        assert independent.mode == "P"
        np.testing.assert_array_equal(np.asarray(independent), classes)
        assert independent.getpalette()[:9] == list(np.ravel(COLORS))
    labels = read_labels(path)
    assert labels.array.dtype == np.uint8
    np.testing.assert_array_equal(labels.array, classes)
    seen = read_image(path)
    np.testing.assert_array_equal(seen.array[1:], np.array(COLORS, np.uint8)[classes[1:]])
    assert seen.array[0, 0].tolist() == [255, 255, 255]
    assert seen.array[0, 1].tolist() == [128, 128, 128]
    # rel: PNG holds whole pixels per metre, TIFF the size itself.
    assert seen.pixel_size_um == pytest.approx(SIZE_UM, rel=1e-6)


def test_classes_of_a_stack(tmp_path):
    path = tmp_path / "a.tif"
    stack = np.stack([CLASSES, 2 - CLASSES])
    write_classes(path, stack, colors=COLORS)
    np.testing.assert_array_equal(tifffile.imread(path), stack)
    assert read_labels(path).axes == "ZYX"
    with pytest.raises(ShapeError, match=r"write a stack as \.tif"):
        write_classes(tmp_path / "b.png", stack, colors=COLORS)
    assert not (tmp_path / "b.png").exists()


def test_classes_of_another_dtype_are_refused(tmp_path):
    with pytest.raises(ShapeError, match="uint8 of 2 or 3 axes, got int64"):
        write_classes(tmp_path / "a.tif", CLASSES.astype(np.int64), colors=COLORS)


# Probabilities


@pytest.mark.parametrize(
    "shape",
    [
        (1, 6, 8),
        (2, 6, 8),
        (3, 6, 8),
        (4, 6, 8),
        (1, 1, 6, 8),
        (5, 1, 6, 8),
        (1, 3, 6, 8),
        (3, 4, 6, 8),
        (2, 1, 1),
    ],
)
def test_probabilities_keep_their_shape(tmp_path, shape):
    path = tmp_path / "a.tif"
    probabilities = random(shape)
    write_probabilities(path, probabilities, pixel_size_um=SIZE_UM)
    back = tifffile.imread(path)
    assert back.dtype == np.float32
    assert back.shape == shape
    np.testing.assert_array_equal(back, probabilities)
    image = read_image(path)
    np.testing.assert_array_equal(image.planes.reshape(shape), probabilities)
    assert image.pixel_size_um == SIZE_UM
    assert read_image(path).is_stack == (len(shape) == 4 and shape[0] > 1)


def test_probabilities_can_be_mapped(tmp_path):
    path = tmp_path / "a.tif"
    probabilities = random((2, 6, 8))
    write_probabilities(path, probabilities)
    np.testing.assert_array_equal(tifffile.memmap(path, mode="r"), probabilities)


def test_probabilities_of_one_plane_are_refused(tmp_path):
    with pytest.raises(ShapeError, match=r"got \(6, 8\)"):
        write_probabilities(tmp_path / "a.tif", random((6, 8)))


# Instances, overlay, tables


@pytest.mark.parametrize(
    ("largest", "dtype"), [(0, np.uint16), (65535, np.uint16), (65536, np.uint32), (100_000, np.uint32)]
)
@pytest.mark.parametrize("shape", [(6, 8), (3, 6, 8)])
def test_instances(tmp_path, largest, dtype, shape):
    path = tmp_path / "a.tif"
    ids = np.zeros(shape, np.int32)
    ids[..., 3, 4] = largest
    write_instances(path, ids, pixel_size_um=SIZE_UM)
    back = tifffile.imread(path)
    assert back.dtype == dtype
    assert back.shape == shape
    np.testing.assert_array_equal(back, ids)
    np.testing.assert_array_equal(read_labels(path).array, ids)


def test_instances_of_a_line_are_refused(tmp_path):
    with pytest.raises(ShapeError, match=r"got \(5,\)"):
        write_instances(tmp_path / "a.tif", np.zeros(5, np.int32))


def test_overlay(tmp_path):
    path = tmp_path / "a.png"
    rgb = (random((6, 8, 3)) * 255).astype(np.uint8)
    write_overlay(path, rgb)
    with Pillow.open(path) as independent:
        np.testing.assert_array_equal(np.asarray(independent), rgb)
    with pytest.raises(ShapeError, match=r"got float32 of shape \(6, 8, 3\)"):
        write_overlay(path, random((6, 8, 3)))


def test_pixels_larger_than_print_dots_survive_in_tiff(tmp_path):
    """40 um is 635 dots per inch, which from a stranger would be taken for a print resolution."""
    path = tmp_path / "a.tif"
    write_instances(path, CLASSES.astype(np.int32), pixel_size_um=(40.0, 41.5))
    assert read_image(path).pixel_size_um == (40.0, 41.5)


def test_json(tmp_path):
    path = tmp_path / "a.json"
    content = {
        "n": np.int64(3),
        "x": np.float32(0.5),
        "list": np.arange(3),
        "path": Path("b"),
        "name": "\u00b5m",
    }
    write_json(path, content)
    expected = {"n": 3, "x": 0.5, "list": [0, 1, 2], "path": "b", "name": "\u00b5m"}
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"x": float("nan")})
    with pytest.raises(TypeError, match="cannot write set as JSON"):
        write_json(path, {"x": {1}})
    assert json.loads(path.read_text(encoding="utf-8")) == expected


def test_csv(tmp_path):
    path = tmp_path / "a.csv"
    write_csv(path, ["name", "area_px"], [["a, b", 3], ["\u00fc", 4.5]])
    assert path.read_bytes() == 'name,area_px\n"a, b",3\n\u00fc,4.5\n'.encode()


def test_a_name_that_is_not_unicode_is_in_json_as_it_is(tmp_path):
    """Folders of old file systems have such names; Python has them with surrogates."""
    told = {"file": "/data/M\udcfcller/a.tif", "word": "Größe"}
    write_json(tmp_path / "a.json", told)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == told
    write_json(tmp_path / "b.json", {"word": "Größe"})
    assert "Größe" in (tmp_path / "b.json").read_text(encoding="utf-8")
    write_csv(tmp_path / "a.csv", ["image"], [[told["file"]]])
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "image\n/data/M\\udcfcller/a.tif\n"
