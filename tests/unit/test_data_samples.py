"""Samples: what training gets, and which images are held out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ushape.config import IGNORE
from ushape.data import (
    Pair,
    Source,
    find_pairs,
    infer_coding,
    load_samples,
    open_dataset,
    samples,
    split,
)
from ushape.errors import DataError
from ushape.io import read_labels


def pairs(count: int, *, split: list[str | None] | None = None, prefix: str = "img_") -> list[Pair]:
    return [
        Pair(f"{prefix}{i}", Source(Path(f"{i}.png")), Source(Path("m.png")), None, split and split[i], i)
        for i in range(count)
    ]


def held_out(chosen: list[Pair], validation=None, seed: int = 0) -> list[str]:
    train, kept = split(chosen, validation, seed=seed)
    assert [p for p in chosen if p in train] == train  # order is kept
    assert {p.name for p in train}.isdisjoint(p.name for p in kept)
    assert len(train) + len(kept) == len(chosen)
    return [p.name for p in kept]


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        photometric = "rgb" if array.shape[-1] == 3 else "minisblack"
        tifffile.imwrite(path, array, photometric=photometric)
    else:
        Image.fromarray(array).save(path)


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape or (24, 32), np.uint8)


def mask(high: int = 255) -> np.ndarray:
    plane = np.zeros((24, 32), np.uint8)
    plane[2:8, 3:9] = plane[12:20, 15:30] = high
    return plane


def folder(root: Path, stems: str = "abcde", sub: str = "") -> Path:
    for i, stem in enumerate(stems):
        save(root / sub / "images" / f"{stem}.png", noise(hash_of(sub + stem)))
        save(root / sub / "masks" / f"{stem}.png", np.roll(mask(), i, 1))
    return root


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode(), "big") % 1000


# Which images are held out


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(10, 0.2, 2), (24, None, 5), (3, 0.1, 1), (2, 0.9, 1)]
)
def test_a_share_is_held_out_at_least_one_and_not_all(count, share, expected):
    assert len(held_out(pairs(count), share)) == expected


@pytest.mark.parametrize("seed", range(20))
def test_what_is_held_out_is_spread_evenly(seed):
    numbers = [int(name.split("_")[1]) for name in held_out(pairs(24), "0.25", seed)]
    assert set(np.diff(numbers)) == {4}


def test_the_seed_chooses_and_repeats():
    choices = [tuple(held_out(pairs(30), seed=seed)) for seed in range(12)]
    assert len(set(choices)) > 2
    assert choices == [tuple(held_out(pairs(30), seed=seed)) for seed in range(12)]


def test_names_and_numbers_choose():
    chosen = pairs(12)
    assert held_out(chosen, "img_3,img_10.png") == ["img_3", "img_10"]
    assert held_out(chosen, "3, 7,11") == ["img_3", "img_7", "img_11"]
    assert held_out(chosen, "0") == ["img_0"]
    assert held_out(chosen, "1") == ["img_1"]


def test_slices_and_frames_have_names_and_numbers():
    slices = [Pair(f"train-volume[{i}]", Source(Path("v"), i), None, number=i) for i in range(5)]
    assert held_out(slices, "train-volume[3]") == held_out(slices, "3") == ["train-volume[3]"]
    frames = [Pair(f"01_t{i:03d}", Source(Path("v")), None, number=i) for i in range(40)]
    assert held_out(frames, "t031") == held_out(frames, "31") == held_out(frames, "01_t031") == ["01_t031"]


def test_unknown_names_in_a_sequence_are_refused():
    pairs = [Pair(name, Source(Path(f"{name}.png")), None) for name in "abc"]
    assert [pair.name for pair in split(pairs, ["b"])[1]] == ["b"]
    with pytest.raises(DataError, match=r"--validation 'b.png' is no folder, share or image; .* a, b, c"):
        split(pairs, ["a", "b.png"])


def test_train_and_val_folders_win_over_a_share_and_names_over_them():
    chosen = pairs(4, split=["train", "val", "val", "train"])
    assert held_out(chosen) == held_out(chosen, 0.2) == ["img_1", "img_2"]
    assert held_out(chosen, "img_0") == ["img_0"]


def test_a_share_that_train_and_val_folders_overrule_is_noted(tmp_path):
    folder(tmp_path, stems="abc", sub="train")
    folder(tmp_path, stems="d", sub="val")
    note = "--validation 0.3 is not used: train/ and val/ say what is held out"
    for share in (0.3, "0.3"):
        train, kept, _, notes = open_dataset(tmp_path, validation=share)
        assert (len(train), len(kept)) == (3, 1)
        assert note in notes
    for other in (None, "0.2", "val", "a"):  # 0.2 is what the command gives where nothing is said
        assert not any("is not used" in line for line in open_dataset(tmp_path, validation=other)[3])
    folder(tmp_path / "plain")
    assert not any("is not used" in line for line in open_dataset(tmp_path / "plain", validation=0.3)[3])


def test_a_sequence_is_held_out_by_its_name():
    chosen = [
        Pair(f"{name}_t{frame:03}", Source(Path("i")), Source(Path("m")), number=frame, sequence=name)
        for name in ("01", "02")
        for frame in range(3)
    ]
    assert held_out(chosen, "02") == ["02_t000", "02_t001", "02_t002"]
    assert held_out(chosen, "2") == ["01_t002", "02_t002"], "a number of frames"


def test_the_folder_of_a_sequence_is_no_data_set_to_validate_on(tmp_path):
    for name in ("02", "02_GT", "more"):
        (tmp_path / name).mkdir()
    assert samples._validation_folder("02", tmp_path) is None
    assert samples._validation_folder("more", tmp_path) == tmp_path / "more"


def test_many_names_are_not_a_path_too_long():
    chosen = pairs(40)
    names = [f"{pair.name}.png" for pair in chosen[:30]]
    assert held_out(chosen, ",".join(names)) == [pair.name for pair in chosen[:30]]
    assert samples._validation_folder(",".join(names * 20), Path()) is None


@pytest.mark.parametrize("validation", ["img_99", "99", "1.5", "-1"])
def test_unknown_names_are_refused(validation):
    with pytest.raises(DataError, match=r"is no folder, share or image; .* img_0, img_1, img_2, \.\.\."):
        split(pairs(5), validation)


@pytest.mark.parametrize(
    ("count", "validation", "message"),
    [
        (1, None, "nothing is held out for validation: 1 annotated images"),
        (2, "0,1", "nothing is left to train on: 2 annotated images"),
        (3, "", "nothing is held out"),
    ],
)
def test_both_parts_must_have_an_image(count, validation, message):
    with pytest.raises(DataError, match=message):
        split(pairs(count), validation)


# Samples


def test_a_sample_has_image_objects_and_classes(tmp_path):
    folder(tmp_path)
    train, kept, classes, notes = open_dataset(tmp_path, validation="b")
    assert [sample.name for sample in train] == ["a", "c", "d", "e"]
    (sample,) = kept
    assert np.array_equal(sample.image, noise(hash_of("b"))[np.newaxis])
    assert sample.image.dtype == np.uint8
    assert (sample.objects.dtype, sample.object_class.dtype) == (np.int32, np.uint8)
    assert sample.objects.max() == 2
    assert np.array_equal(sample.classes, np.roll(mask(1), 1, 1))
    assert [info.value for info in classes] == [0, 255]
    assert notes[0] == "folder: 4 images to train on, 1 held out"
    assert notes[1] == "masks hold classes: 0 -> 0 (background), 255 -> 1 (foreground)"


def test_slices_of_a_stack_are_samples(tmp_path):
    volume = np.stack([noise(i) for i in range(4)])
    save(tmp_path / "train-volume.tif", volume)
    save(tmp_path / "train-labels.tif", np.stack([np.roll(mask(), i, 1) for i in range(4)]))
    train, kept, classes, _ = open_dataset(tmp_path, validation="2")
    assert [sample.name for sample in train] == [f"train-volume[{i}]" for i in (0, 1, 3)]
    assert np.array_equal(kept[0].image[0], volume[2])
    assert np.array_equal(kept[0].classes, np.roll(mask(1), 2, 1))
    assert [info.name for info in classes] == ["membrane", "cell"]


def test_pixels_outside_the_region_do_not_count(tmp_path):
    root = tmp_path / "training"
    region = np.zeros((24, 32), np.uint8)
    region[:, :16] = 255
    for i in (21, 22):
        save(root / "images" / f"{i}_training.tif", noise(i, 24, 32, 3))
        save(root / "1st_manual" / f"{i}_manual1.gif", mask())
        save(root / "mask" / f"{i}_training_mask.gif", region)
    (sample, *_), _, _, _ = open_dataset(tmp_path)
    assert sample.image.shape == (3, 24, 32)
    assert np.array_equal(sample.classes == IGNORE, region == 0)
    assert np.array_equal(sample.classes[:, :16], mask(1)[:, :16])
    assert sample.object_class[-1] == IGNORE


def test_a_folder_of_its_own_is_held_out_and_no_copy_of_it_is_trained_on(tmp_path):
    folder(tmp_path / "data")
    folder(tmp_path / "more", stems="ax")
    for validation in (tmp_path / "more", str(tmp_path / "more")):
        train, kept, _, notes = open_dataset(tmp_path / "data", validation=validation)
        assert [sample.name for sample in kept] == ["val_a", "x"]
        assert [sample.name for sample in train] == list("bcde")
        assert any("left out: a" in note for note in notes)


def test_a_folder_below_the_data_is_held_out(tmp_path):
    folder(tmp_path, stems="abc")
    folder(tmp_path, stems="de", sub="hold")
    train, kept, _, _ = open_dataset(tmp_path, validation="hold")
    assert [sample.name for sample in train] == list("abc")
    assert [sample.name for sample in kept] == list("de")


def test_the_val_folder_may_be_named_too(tmp_path):
    folder(tmp_path, stems="abc", sub="train")
    folder(tmp_path, stems="de", sub="val")
    train, kept, _, notes = open_dataset(tmp_path, validation="val")
    assert [sample.name for sample in train] == list("abc")
    assert [sample.name for sample in kept] == list("de")
    assert not any("left out" in note for note in notes)


def test_a_held_out_folder_that_is_the_data_leaves_nothing_to_train_on(tmp_path, monkeypatch):
    folder(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(DataError, match="nothing is left to train on"):
        open_dataset(tmp_path.name, validation=str(tmp_path))


def test_errors_stop_before_training(tmp_path):
    folder(tmp_path)
    save(tmp_path / "masks" / "c.png", mask()[1:])
    with pytest.raises(DataError, match=r"c.png: 23 x 32 pixels, but .* has 24 x 32; export it again"):
        open_dataset(tmp_path)


def test_images_in_which_nothing_counts_are_no_validation_set(tmp_path):
    folder(tmp_path, stems="abc")
    save(tmp_path / "masks" / "b.png", np.full((24, 32), 7, np.uint8))
    with pytest.raises(DataError, match=r"no pixel of the images to validate with counts \(b\)"):
        open_dataset(tmp_path, validation="b", ignore=7)
    with pytest.raises(DataError, match=r"no pixel of the images to train on counts \(b\)"):
        open_dataset(tmp_path, validation="a,c", ignore=7)
    assert len(open_dataset(tmp_path, validation="a", ignore=7)[0]) == 2


def test_load_samples_names_the_file_of_an_unknown_value(tmp_path):
    folder(tmp_path, stems="ab")
    coding = infer_coding([read_labels(tmp_path / "masks" / "a.png")])
    save(tmp_path / "masks" / "b.png", mask(9))
    with pytest.raises(DataError, match=r"b.png: a mask holds 9, which is none of the classes"):
        load_samples(find_pairs(tmp_path), coding)


def test_pixel_size_comes_along(tmp_path):
    for i in range(2):
        save(tmp_path / "masks" / f"{i}.png", mask())
        (tmp_path / "images").mkdir(exist_ok=True)
        tifffile.imwrite(
            tmp_path / "images" / f"{i}.tif",
            noise(i),
            imagej=True,
            resolution=(2.0, 4.0),
            metadata={"unit": "um"},
        )
    train, _, _, _ = open_dataset(tmp_path)
    assert train[0].pixel_size_um == pytest.approx((0.25, 0.5))


@pytest.mark.data
def test_isbi_2012_opens_with_both_kinds_of_slices_held_out(data_dir):
    """Slices 0 to 14 are clean, those from 15 on noisy: a validation set needs both."""
    train, kept, classes, _ = open_dataset(data_dir / "isbi2012", validation="0.2")
    assert (len(train), len(kept)) == (19, 5)
    numbers = [int(sample.name[len("train-volume[") : -1]) for sample in kept]
    assert min(numbers) < 15 <= max(numbers)
    assert [(info.name, info.value) for info in classes] == [("membrane", 0), ("cell", 255)]
    labels = tifffile.imread(data_dir / "isbi2012" / "train-labels.tif")
    for sample, number in zip(kept, numbers, strict=True):
        assert np.array_equal(sample.classes, labels[number] // 255)
        assert 40 < sample.objects.max() < 1000


@pytest.mark.data
def test_hela_cells_open_by_frame_number(data_dir):
    dataset = find_pairs(data_dir / "DIC-C2DH-HeLa")
    _, kept = split(dataset.pairs, "31,t067")
    coding = infer_coding(read_labels(pair.mask.path) for pair in kept)
    samples = load_samples(replace(dataset, pairs=tuple(kept)), coding)
    assert [sample.name for sample in samples] == ["01_t031", "01_t067"]
    assert [int(sample.objects.max()) for sample in samples] == [13, 18]  # frame 67 from silver truth
