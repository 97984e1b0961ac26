"""The data doctor: a corpus of broken data sets, each fault named with file and fix; healthy ones pass."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from rich.console import Console

from ushape.data import check, open_dataset, render
from ushape.errors import DataError

HIGH = 48


def picture(seed: int, *, size: tuple[int, int] = (HIGH, 64), channels: int = 1) -> np.ndarray:
    """Noisy discs on a slope, uint8 (H, W) or (H, W, 3)."""
    rng = np.random.default_rng(seed)
    grey = 40 + np.arange(size[1]) + 60 * (drawn(seed, size=size) > 0) + rng.normal(0, 8, size)
    grey = grey.clip(0, 255).astype(np.uint8)
    return grey if channels == 1 else np.stack([grey, grey, 255 - grey], axis=-1)


def drawn(seed: int, *, size: tuple[int, int] = (HIGH, 64), high: int = 255) -> np.ndarray:
    """Mask of two discs."""
    y, x = np.mgrid[: size[0], : size[1]]
    first = np.hypot(y - 15, x - 14 - seed) < 9
    second = np.hypot(y - 32, x - 44) < 10
    return np.where(first | second, high, 0).astype(np.uint8)


def save(path: Path, array: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="rgb" if array.shape[-1] == 3 else "minisblack")
    else:
        Image.fromarray(array).save(path, **options)


def healthy(root: Path, count: int = 4) -> Path:
    for i in range(count):
        save(root / "images" / f"{i}.png", picture(i))
        save(root / "masks" / f"{i}.png", drawn(i))
    return root


@pytest.fixture
def data(tmp_path) -> Path:
    return healthy(tmp_path)


def smoothed(plane: np.ndarray) -> np.ndarray:
    big = Image.fromarray(plane).resize((256, 192), Image.Resampling.NEAREST)
    return np.asarray(big.resize((64, HIGH), Image.Resampling.BILINEAR))


def shown(report, width: int = 220) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(render(report))
    return console.file.getvalue()


def without_mask(root: Path) -> None:
    (root / "masks" / "2.png").unlink()


def without_image(root: Path) -> None:
    (root / "images" / "2.png").unlink()


def other_size(root: Path) -> None:
    save(root / "masks" / "2.png", drawn(2)[:, :-1])


def on_its_side(root: Path) -> None:
    save(root / "masks" / "2.png", np.ascontiguousarray(drawn(2).T))


def jpeg_named_png(root: Path) -> None:
    Image.fromarray(drawn(2)).save(root / "masks" / "2.jpg", quality=90)
    (root / "masks" / "2.jpg").rename(root / "masks" / "2.png")


def jpeg(root: Path) -> None:
    (root / "masks" / "2.png").unlink()
    save(root / "masks" / "2.jpg", drawn(2), quality=90)


def anti_aliased(root: Path) -> None:
    save(root / "masks" / "2.png", smoothed(drawn(2)))


def constant_image(root: Path) -> None:
    save(root / "images" / "2.png", np.zeros((HIGH, 64), np.uint8))


def mask_as_image(root: Path) -> None:
    save(root / "images" / "2.png", drawn(2))


def other_mask_values_as_image(root: Path) -> None:
    save(root / "images" / "2.png", drawn(2, high=80) + 20)


def image_as_mask(root: Path) -> None:
    save(root / "masks" / "2.png", picture(2))


def contradicting_copy(root: Path) -> None:
    save(root / "images" / "2.png", picture(1))


def not_a_number(root: Path) -> None:
    (root / "images" / "2.png").unlink()
    bad = picture(2).astype(np.float32)
    bad[3, 4] = np.nan
    save(root / "images" / "2.tif", bad)


def truncated(root: Path) -> None:
    path = root / "images" / "2.png"
    path.write_bytes(path.read_bytes()[:900])


def empty_file(root: Path) -> None:
    (root / "masks" / "2.png").write_bytes(b"")


def five_channels(root: Path) -> None:
    (root / "images" / "2.png").unlink()
    tifffile.imwrite(
        root / "images" / "2.tif",
        np.stack([picture(i) for i in range(5)]),
        photometric="minisblack",
        metadata={"axes": "CYX"},
    )


def values_0_and_1(root: Path) -> None:
    save(root / "masks" / "2.png", drawn(2, high=1))


ERRORS: list[tuple[Callable[[Path], None], str, str, str]] = [
    (without_mask, "images/2.png", "no mask for this image", "add the mask or take the image out"),
    (without_image, "masks/2.png", "no image for this mask", "add the image or take the mask out"),
    (other_size, "masks/2.png", "48 x 63 pixels, but", "export it again at 48 x 64"),
    (on_its_side, "masks/2.png", "it lies on its side", "export it again at 48 x 64"),
    (jpeg_named_png, "masks/2.png", "JPEG-smeared mask", "nearest mapping: 0..127 -> 0, from 128 -> 255"),
    (jpeg, "masks/2.jpg", "values where 0 255 were meant", "save it from the original as PNG or TIFF"),
    (anti_aliased, "masks/2.png", "anti-aliased edges", "without smoothing (nearest neighbour)"),
    (constant_image, "images/2.png", "is empty: every pixel is [0]", "export it again or take it out"),
    (mask_as_image, "images/2.png", "a mask used as an image", "put the image here that was annotated"),
    (other_mask_values_as_image, "images/2.png", "a mask used as an image", "put the image here"),
    (image_as_mask, "masks/2.png", "looks like an image, not a mask", "put the mask here"),
    (contradicting_copy, "images/2.png", "their masks differ", "keep the pair with the right mask"),
    (not_a_number, "images/2.tif", "1 of 3072 values that are NaN", "replace them by numbers"),
    (truncated, "images/2.png", "damaged, truncated", "export it again"),
    (empty_file, "masks/2.png", "is empty (0 bytes)", "copy or export it again"),
    (
        five_channels,
        "images/2.tif",
        "5 channels, but most images have 1",
        "save all images with the same channels",
    ),
    (values_0_and_1, "masks/2.png", "drawn with 0 and 1, but", "save all masks with the same two values"),
]


@pytest.mark.parametrize(
    ("harm", "file", "what", "fix"), [pytest.param(*row, id=row[0].__name__) for row in ERRORS]
)
def test_what_makes_training_wrong_is_an_error_with_file_and_fix(data, harm, file, what, fix):
    harm(data)
    report = check(data)
    assert report.exit_status == 2
    (fault,) = report.errors
    line = str(fault)
    assert "1 error: training would be wrong" in shown(report)
    assert fault.file == data / file
    assert str(data / file) in line
    assert what in line
    assert fix in line
    assert "\n" not in line
    assert line.replace(" ", "") in shown(report).replace("\n", "").replace(" ", "")
    with pytest.raises(DataError) as caught:
        open_dataset(data)
    assert str(caught.value) == line


def test_a_healthy_data_set_passes(data):
    report = check(data)
    assert (report.faults, report.exit_status) == ((), 0)
    assert report.notes == ("masks hold classes: 0 -> 0 (background), 255 -> 1 (foreground)",)
    assert "no errors, 0 warnings: ready to train" in shown(report)


def test_class_table_counts_pixels_and_images(data):
    save(data / "masks" / "3.png", np.zeros((HIGH, 64), np.uint8))
    background, foreground = check(data).classes
    expected = sum(int((drawn(i) > 0).sum()) for i in range(3))
    assert foreground.pixels == expected
    assert foreground.share == pytest.approx(expected / (4 * HIGH * 64), rel=1e-12)
    assert (background.images, foreground.images) == (4, 3)


def test_pair_rows_tell_sizes_dtypes_and_labels(data):
    row = check(data).rows[1]
    assert (row.pair.name, row.shape, row.dtype, row.mask_dtype) == ("1", (1, HIGH, 64), "uint8", "uint8")
    assert row.evidence.values.tolist() == [0, 255]


def test_histogram_has_bins_of_whole_numbers(data):
    histogram = check(data).histogram
    values = np.concatenate([picture(i).ravel() for i in range(4)])
    assert histogram.edges[0] == values.min()
    assert histogram.edges[-1] > values.max()
    assert set(np.diff(histogram.edges)) == {np.ceil((int(values.max()) - int(values.min()) + 1) / 16)}
    assert histogram.counts.sum() == 4 * HIGH * 64  # small images are counted whole
    assert histogram.counts[0] == np.count_nonzero(values < histogram.edges[1])


def test_histogram_of_real_numbers(tmp_path):
    for i in range(2):
        save(tmp_path / "images" / f"{i}.tif", picture(i).astype(np.float32) / 255)
        save(tmp_path / "masks" / f"{i}.png", drawn(i))
    histogram = check(tmp_path).histogram
    assert 0 <= histogram.edges[0] < histogram.edges[-1] <= 1
    assert len(histogram.counts) == 16


def test_an_empty_mask_is_a_warning(data):
    save(data / "masks" / "3.png", np.zeros((HIGH, 64), np.uint8))
    report = check(data)
    assert report.exit_status == 0
    (fault,) = report.warnings
    assert fault.file == data / "masks" / "3.png"
    assert "is empty: every pixel is 0" in fault.what
    assert len(open_dataset(data)[3]) == 3


def test_an_empty_image_with_nothing_labelled_is_a_warning(data):
    save(data / "images" / "3.png", np.full((HIGH, 64), 7, np.uint8))
    save(data / "masks" / "3.png", np.zeros((HIGH, 64), np.uint8))
    assert [fault.file.parent.name for fault in check(data).warnings] == ["images", "masks"]
    assert check(data).exit_status == 0


def test_a_copy_with_the_same_mask_is_used_once(data):
    for folder in ("images", "masks"):
        (data / folder / "copy.png").write_bytes((data / folder / "1.png").read_bytes())
    report = check(data)
    (fault,) = report.warnings
    assert fault.file == data / "images" / "copy.png"
    assert f"the same image as {data / 'images' / '1.png'}" in fault.what
    train, held_out, _, notes = open_dataset(data)
    assert sorted(sample.name for sample in train + held_out) == ["0", "1", "2", "3"]
    assert any("left out: copy" in note for note in notes)


def test_of_a_copy_in_train_and_val_the_one_in_val_stays(tmp_path):
    healthy(tmp_path / "train")
    healthy(tmp_path / "val", count=1)
    train, held_out, _, _ = open_dataset(tmp_path)
    assert len(train) == 3
    assert [np.array_equal(sample.image[0], picture(0)) for sample in held_out] == [True]


def test_a_mask_in_jpeg_that_is_clean_is_a_warning(tmp_path):
    for i in range(3):
        mask = np.zeros((64, 64), np.uint8)
        mask[:, 8 * (i + 1) :] = 255  # edges on the borders of JPEG blocks stay sharp
        save(tmp_path / "images" / f"{i}.png", picture(i, size=(64, 64)))
        save(tmp_path / "masks" / f"{i}.jpg", mask, quality=100)
    report = check(tmp_path)
    assert report.exit_status == 0
    assert {fault.what.split(",")[0] for fault in report.warnings} == {"mask stored as JPEG"}


def test_exchanged_folders_are_called_that(tmp_path):
    for i in range(3):
        save(tmp_path / "images" / f"{i}.png", drawn(i))
        save(tmp_path / "masks" / f"{i}.png", picture(i))
    report = check(tmp_path)
    assert report.exit_status == 2
    assert any("exchanged: swap them" in fault.fix for fault in report.errors)


def test_soft_edges_are_excused_where_classes_are_given(tmp_path):
    """A border class one pixel wide looks like anti-aliasing; `--classes` says that it is meant."""
    for i in range(3):
        mask = drawn(i, high=2)
        inner = (mask[:-2, 1:-1] > 0) & (mask[2:, 1:-1] > 0) & (mask[1:-1, :-2] > 0) & (mask[1:-1, 2:] > 0)
        border = mask > 0
        border[1:-1, 1:-1] &= ~inner
        mask[border] = 1
        save(tmp_path / "images" / f"{i}.png", picture(i))
        save(tmp_path / "masks" / f"{i}.png", mask)
    report = check(tmp_path)
    assert all("or give --classes 3 if all are classes" in fault.fix for fault in report.errors)
    assert len(report.errors) == 3
    assert check(tmp_path, classes=3).errors == ()
    assert check(tmp_path, classes="objects").exit_status == 2


def test_unclear_masks_are_one_fault_and_options_settle_it(tmp_path):
    for i in range(3):
        save(tmp_path / "images" / f"{i}.png", picture(i))
        mask = drawn(i, high=1)
        mask[:, 30:] *= 2
        save(tmp_path / "masks" / f"{i}.png", mask)
    (fault,) = check(tmp_path).errors
    assert fault.what == "masks hold 0 1 2: classes or objects?"
    assert "--classes 3" in fault.fix
    assert "--classes objects" in fault.fix
    assert check(tmp_path, classes="objects").num_objects == 6
    assert [row.images for row in check(tmp_path, classes=3).classes] == [3, 3, 3]


def test_wrong_number_of_classes_shows_the_values(data):
    (fault,) = check(data, classes=3).errors
    assert "--classes 3 given, but the masks hold 2 values: 0 255" in fault.what


def test_a_label_to_ignore_that_does_not_occur_is_a_warning(data):
    (fault,) = check(data, ignore=9).warnings
    assert "no mask holds the label given by --ignore" in fault.what
    assert check(data, ignore=9).exit_status == 0


def test_region_masks_are_left_out_of_the_class_table(tmp_path):
    root = tmp_path / "training"
    for number in (21, 22):
        save(root / "images" / f"{number}_training.tif", picture(number - 20, channels=3))
        save(root / "1st_manual" / f"{number}_manual1.gif", drawn(number - 20))
        region = np.zeros((HIGH, 64), np.uint8)
        region[:, 32:] = 255
        save(root / "mask" / f"{number}_training_mask.gif", region)
    report = check(tmp_path)
    assert report.faults == ()
    assert report.uncounted_share == pytest.approx(0.5)
    assert sum(row.pixels for row in report.classes) == 2 * HIGH * 32
    assert [row.info.name for row in report.classes] == ["background", "vessel"]
    assert "does not count" in shown(report)


def test_a_region_of_another_size_is_an_error(tmp_path):
    root = tmp_path / "training"
    save(root / "images" / "21_training.tif", picture(1))
    save(root / "1st_manual" / "21_manual1.gif", drawn(1))
    save(root / "mask" / "21_training_mask.gif", drawn(1)[1:])
    (fault,) = check(tmp_path).errors
    assert fault.file == root / "mask" / "21_training_mask.gif"


def test_grey_and_rgb_may_be_mixed(data):
    save(data / "images" / "2.png", picture(2, channels=3))
    report = check(data)
    assert report.exit_status == 0
    assert any("grey ones are given three equal channels" in note for note in report.notes)
    train, held_out, _, _ = open_dataset(data)
    assert {sample.image.shape for sample in train + held_out} == {(3, HIGH, 64)}


def test_other_dtypes_among_the_images_are_a_warning(data):
    save(data / "images" / "2.png", picture(2).astype(np.uint16) * 10)
    (fault,) = check(data).warnings
    assert "uint16 grey values, but most images have uint8" in fault.what


def test_a_single_image_is_ready_only_with_a_folder_to_validate_with(tmp_path):
    report = check(healthy(tmp_path / "one", count=1))
    (fault,) = report.faults
    assert (fault.severity, fault.what) == ("warning", "only one annotated image: none to validate with")
    assert "1 warning: ready to train only with --validation FOLDER" in shown(report)
    with pytest.raises(DataError, match="nothing is held out for validation"):
        open_dataset(tmp_path / "one")
    save(tmp_path / "more" / "images" / "x.png", picture(9))
    save(tmp_path / "more" / "masks" / "x.png", drawn(9))
    _, kept, _, notes = open_dataset(tmp_path / "one", validation=str(tmp_path / "more"))
    assert [sample.name for sample in kept] == ["x"]
    assert not any("warning" in note for note in notes)


def test_copies_of_a_single_image_do_not_make_a_data_set(tmp_path):
    healthy(tmp_path, count=1)
    for folder in ("images", "masks"):
        (tmp_path / folder / "copy.png").write_bytes((tmp_path / folder / "0.png").read_bytes())
    report = check(tmp_path)
    assert "only one annotated image: none to validate with" in [fault.what for fault in report.warnings]
    assert "2 warnings: ready to train only with --validation FOLDER" in shown(report)


def test_images_to_train_on_that_are_all_held_out_too_are_an_error(tmp_path):
    healthy(tmp_path / "train", count=2)
    healthy(tmp_path / "val", count=2)
    (fault,) = check(tmp_path).errors
    assert "nothing is left to train on" in fault.what
    with pytest.raises(DataError, match="nothing is left to train on"):
        open_dataset(tmp_path)


def test_an_object_mask_copied_among_the_images_is_found(tmp_path):
    for i in range(3):
        ids = np.zeros((HIGH, 64), np.uint16)
        ids[1::3, 1::3] = np.arange(16 * 21).reshape(16, 21) + 5 * i  # more values than any class mask has
        save(tmp_path / "masks" / f"{i}.png", ids)
        save(tmp_path / "images" / f"{i}.png", ids if i == 1 else picture(i))
    (fault,) = check(tmp_path).errors
    assert fault.file == tmp_path / "images" / "1.png"
    assert "a mask used as an image" in fault.what


def test_binary_images_are_images(tmp_path):
    """Two values do not make a mask: only if they tell the labels."""
    for i in range(3):
        save(
            tmp_path / "images" / f"{i}.png",
            np.random.default_rng(i).integers(0, 2, (HIGH, 64), np.uint8) * 255,
        )
        save(tmp_path / "masks" / f"{i}.png", drawn(i))
    assert check(tmp_path).errors == ()


def test_every_mask_unreadable_is_not_silent(data):
    for i in range(4):
        (data / "masks" / f"{i}.png").write_bytes(b"")
    report = check(data)
    assert len(report.errors) == 4
    assert report.coding is None
    assert "4 errors: training would be wrong" in shown(report)


def test_of_many_equal_faults_a_few_are_shown_and_the_rest_counted(tmp_path):
    healthy(tmp_path, count=9)
    for i in range(9):
        save(tmp_path / "masks" / f"{i}.png", smoothed(drawn(i)))
    report = check(tmp_path)
    assert len(report.errors) == 9
    text = shown(report)
    assert text.count("error: ") == 5
    assert "... and 5 more files like this" in text
    with pytest.raises(DataError, match=r"\(and 8 more: see ushape check"):
        open_dataset(tmp_path)


def test_of_many_pairs_the_first_are_shown_with_a_summary(tmp_path):
    text = shown(check(healthy(tmp_path, count=14)))
    assert "... and 2 more" in text
    assert "14 images of 48 x 64, 1 ch, uint8" in text


def test_stacks_are_read_once(tmp_path, monkeypatch):
    """A terabyte stack read once per slice would take forever."""
    import ushape.data.inspection as inspection

    tifffile.imwrite(tmp_path / "train-volume.tif", np.stack([picture(i) for i in range(5)]))
    tifffile.imwrite(tmp_path / "train-labels.tif", np.stack([drawn(i) for i in range(5)]))
    reads = []
    original = inspection.read_image
    monkeypatch.setattr(inspection, "read_image", lambda path: reads.append(path) or original(path))
    report = check(tmp_path)
    assert len(reads) == 1
    assert [row.info.name for row in report.classes] == ["membrane", "cell"]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "options", "kind", "classes"),
    [
        ("isbi2012", {}, "classes", ["membrane", "cell"]),
        ("drive", {}, "classes", ["background", "vessel"]),
        ("DIC-C2DH-HeLa", {}, "instances", ["background", "cell"]),
        ("dsb2018-other", {}, "instances", ["background", "object"]),
        ("dsb2018", {}, "instances", ["background", "object"]),
        ("camvid", {"ignore": 11}, "classes", [f"class {i}" for i in range(11)]),
    ],
)
def test_real_data_sets_are_understood_without_options(data_dir, monkeypatch, name, options, kind, classes):
    """Every tenth pair only: the rule is for the data set, and the whole of it takes a while."""
    from ushape.data.check import check_dataset
    from ushape.data.layouts import find_pairs

    dataset = find_pairs(data_dir / name)
    step = 10 if len(dataset.pairs) > 30 else 5
    some = type(dataset)(**{**vars(dataset), "pairs": dataset.pairs[::step]})
    report = check_dataset(some, **options)
    assert report.faults == ()
    assert report.coding.kind == kind
    assert [row.info.name for row in report.classes] == classes
    assert min(row.share for row in report.classes) > 0.001


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_few_grey_values_beside_an_empty_mask_are_no_mask(tmp_path: Path, dtype: type) -> None:
    """A dim field with nothing in it; fractions count as the values that they are."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in "abcd":
        dim = rng.integers(3, 13, (48, 64)).astype(dtype)
        if dtype is np.float32:
            dim = dim / 3  # ten values from 1 to 4
        mask = np.zeros((48, 64), np.uint8)
        if name != "a":
            mask[10:30, 10:40] = 255
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", dim.astype(dtype), photometric="minisblack")
        save(tmp_path / "masks" / f"{name}.png", mask)
    assert check(tmp_path).errors == ()
