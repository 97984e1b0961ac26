"""Layouts: which image belongs to which mask, in every form that the command line accepts."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ushape.data import Pair, Source, find_pairs
from ushape.data.pairing import numbers, pair_up
from ushape.errors import ConfigError, DataError

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def save(path: Path, array: np.ndarray = GREY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        Image.fromarray(array).save(path)
    return path


def ids(count: int) -> np.ndarray:
    """Label image with `count` objects of one pixel."""
    plane = np.zeros(64, np.uint16)
    plane[:count] = np.arange(1, count + 1)
    return plane.reshape(8, 8)


def paired(images: list[str], masks: list[str]) -> dict[str, str | None]:
    pairing = pair_up([Path(name) for name in images], [Path(name) for name in masks])
    return {image.name: mask and mask.name for image, mask in pairing.partners}


def names(dataset) -> list[str]:
    return [pair.name for pair in dataset.pairs]


def test_numbers_are_read_as_numbers():
    assert numbers("t031_z02") == (31, 2)
    assert numbers("cell") == ()


@pytest.mark.parametrize(
    ("images", "masks", "how"),
    [
        (["a.png", "b.jpg"], ["b.png", "a.tif"], "equal stems"),
        (["cat.png", "dog.png"], ["cat_mask.png", "dog_mask.png"], "but for the letters that all share"),
        (["img_a10.png", "img_a20.png"], ["gt_a20_x.png", "gt_a10_x.png"], "but for the letters"),
        (["f7_s2.png", "g8_s3.png"], ["007-2.png", "x8y3.png"], "the numbers in their names"),
        (["s1_t1a.png", "s1_t2b.png"], ["t1c_ch3.png", "t2d_ch3.png"], "the numbers that vary"),
        (["t031.tif", "t032.tif"], ["man2_seg032.tif", "man2_seg031.tif"], "letters that all share"),
        (["21_training.tif", "22_x1.tif"], ["22_manual1.gif", "21_manual1.gif"], "the first number"),
    ],
)
def test_ways_to_pair(images, masks, how):
    pairing = pair_up([Path(name) for name in images], [Path(name) for name in masks])
    assert how in pairing.how
    assert pairing.count == 2
    assert pairing.orphans == ()


def test_zeros_at_the_end_of_numbers_are_not_taken_for_shared_letters():
    assert paired(["a10.png", "a20.png"], ["m1.png", "m2.png"]) == {"a10.png": None, "a20.png": None}


def test_a_key_that_occurs_twice_pairs_nothing():
    assert paired(["x1.png", "y1.png"], ["z1.png", "w2.png"]) == {"x1.png": None, "y1.png": None}


def test_a_missing_mask_does_not_loosen_how_names_are_read():
    images, masks = ["x_1.png", "x_2.png", "x_3.png"], ["x_1.png", "x_2.png", "y_3.png"]
    assert paired(images, masks) == {"x_1.png": "x_1.png", "x_2.png": "x_2.png", "x_3.png": None}


def test_images_and_masks_of_equal_stems(tmp_path):
    for name in ("b", "a"):
        save(tmp_path / "images" / f"{name}.png")
        save(tmp_path / "masks" / f"{name}.tif")
    (tmp_path / "images" / "Thumbs.db").write_text("not an image")
    (tmp_path / "images" / ".hidden.png").write_text("not an image")
    dataset = find_pairs(tmp_path)
    assert dataset.layout == "folder"
    assert names(dataset) == ["a", "b"]
    assert dataset.pairs[0].mask == Source(tmp_path / "masks" / "a.tif")
    assert dataset.pairs[0].split is None
    assert dataset.faults == dataset.notes == ()


def test_train_and_val_folders(tmp_path):
    for split, stems in {"train": "ab", "val": "bc"}.items():
        for stem in stems:
            save(tmp_path / split / "images" / f"{stem}.png")
            save(tmp_path / split / "masks" / f"{stem}.png")
    dataset = find_pairs(tmp_path)
    assert [(pair.split, pair.image.path.stem) for pair in dataset.pairs] == [
        ("train", "a"),
        ("train", "b"),
        ("val", "b"),
        ("val", "c"),
    ]
    assert len(set(names(dataset))) == 4


@pytest.mark.parametrize(
    ("images", "masks"),
    [("imgs", "masks"), ("Images", "Labels"), ("image", "label"), ("imagesTr", "labelsTr")],
)
def test_folders_of_other_programs_are_known(images, masks, tmp_path):
    save(tmp_path / images / "a.png")
    save(tmp_path / masks / "a.png")
    dataset = find_pairs(tmp_path)
    assert (dataset.layout, names(dataset), dataset.faults) == ("folder", ["a"], ())


def test_the_usual_names_go_before_others(tmp_path):
    for folder in ("images", "imgs", "masks", "labels"):
        save(tmp_path / folder / "a.png")
    (pair,) = find_pairs(tmp_path).pairs
    assert (pair.image.path.parent.name, pair.mask.path.parent.name) == ("images", "masks")


def test_train_and_val_may_lie_under_images_and_masks(tmp_path):
    for split in ("train", "valid"):
        for half in ("images", "labels"):
            save(tmp_path / half / split / f"{split}.png")
    found = [(pair.name, pair.split) for pair in find_pairs(tmp_path).pairs]
    assert found == [("train", "train"), ("valid", "val")]


def test_half_of_train_beside_a_whole_val_is_a_fault(tmp_path):
    for folder in ("train/images", "val/images", "val/masks"):
        save(tmp_path / folder / "a.png")
    (fault,) = find_pairs(tmp_path).faults
    assert fault.severity == "error"
    train = tmp_path / "train"
    what = f"there is no folder {train / 'masks'} to go with it; add it, or move this one away"
    assert str(fault) == f"{train / 'images'}: {what}"
    (train / "images" / "a.png").unlink()
    assert find_pairs(tmp_path).faults == (), "an empty folder is no half"


def test_names_pair_whichever_way_their_letters_are_written(tmp_path):
    """As when masks were drawn on a Mac."""
    save(tmp_path / "images" / "Gr\u00f6\u00dfe 1.png")
    save(tmp_path / "images" / "Gr\u00f6\u00dfe 2.png")
    save(tmp_path / "masks" / "Gro\u0308\u00dfe 1.png")
    save(tmp_path / "masks" / "Gro\u0308\u00dfe 2.png")
    dataset = find_pairs(tmp_path)
    assert all(pair.mask is not None for pair in dataset.pairs)
    assert dataset.faults == dataset.notes == ()


def test_a_folder_may_stand_for_its_files(tmp_path):
    for half in ("raw", "seg"):
        for stem in "ab":
            save(tmp_path / half / f"{stem}.png")
    assert names(find_pairs(tmp_path, images="raw", masks="seg")) == ["a", "b"]


def test_what_may_not_be_read_is_one_line(tmp_path, monkeypatch):
    save(tmp_path / "images" / "a.png")
    save(tmp_path / "masks" / "a.png")
    inside = Path.iterdir

    def closed(folder):  # for root no folder is
        if folder.name == "masks":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return inside(folder)

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(DataError, match=r"masks cannot be read: Permission denied; check its permissions"):
        find_pairs(tmp_path)


def test_a_folder_of_an_impossible_name_is_refused():
    with pytest.raises(DataError, match=r"no such folder: x{300}; give the folder"):
        find_pairs("x" * 300)


def test_a_train_folder_alone_is_split_later(tmp_path):
    save(tmp_path / "train" / "images" / "a.png")
    save(tmp_path / "train" / "masks" / "a.png")
    assert [pair.split for pair in find_pairs(tmp_path).pairs] == [None]


def test_missing_partners_are_faults_that_name_the_file(tmp_path):
    for stem in ("a", "b", "lonely"):
        save(tmp_path / "images" / f"{stem}.png")
    for stem in ("a", "b", "orphan"):
        save(tmp_path / "masks" / f"{stem}.png")
    dataset = find_pairs(tmp_path)
    assert {(fault.file.name, fault.severity) for fault in dataset.faults} == {
        ("lonely.png", "error"),
        ("orphan.png", "error"),
    }
    assert [pair.name for pair in dataset.pairs if pair.mask is None] == ["lonely"]


def test_two_files_of_one_name_are_a_fault(tmp_path):
    for path in ("images/a.png", "images/a.tif", "images/b.png", "masks/a.png", "masks/b.png"):
        save(tmp_path / path)
    faults = find_pairs(tmp_path).faults
    assert any(fault.file.name == "a.tif" and "same name" in fault.what for fault in faults)


def test_isbi_2012_slices(tmp_path):
    save(tmp_path / "train-volume.tif", np.stack([GREY + i for i in range(3)]))
    save(tmp_path / "train-labels.tif", np.zeros((3, 8, 8), np.uint8))
    save(tmp_path / "test-volume.tif", np.zeros((2, 8, 8), np.uint8))
    dataset = find_pairs(tmp_path)
    assert dataset.layout == "ISBI 2012"
    assert names(dataset) == ["train-volume[0]", "train-volume[1]", "train-volume[2]"]
    assert dataset.pairs[2] == Pair(
        "train-volume[2]",
        Source(tmp_path / "train-volume.tif", 2),
        Source(tmp_path / "train-labels.tif", 2),
        number=2,
    )


def test_stacks_of_unequal_length_are_a_fault(tmp_path):
    save(tmp_path / "train-volume.tif", np.zeros((3, 8, 8), np.uint8))
    save(tmp_path / "train-labels.tif", np.zeros((2, 8, 8), np.uint8))
    (fault,) = find_pairs(tmp_path).faults
    assert fault.file.name == "train-labels.tif"
    assert "2 planes" in fault.what
    assert "has 3" in fault.what


def test_stacks_in_folders_become_slices_too(tmp_path):
    save(tmp_path / "images" / "s7.tif", np.zeros((2, 8, 8), np.uint8))
    save(tmp_path / "masks" / "s7.tif", np.zeros((2, 8, 8), np.uint8))
    assert [(pair.name, pair.number) for pair in find_pairs(tmp_path).pairs] == [("s7[0]", 0), ("s7[1]", 1)]


def tracking(root: Path, *, gold: dict[int, int], silver: dict[int, int], markers: dict[int, int]) -> Path:
    """A sequence of six frames; numbers of objects by frame."""
    for frame in range(6):
        save(root / "01" / f"t{frame:03d}.tif")
    for folder, prefix, counts in (
        ("01_GT/SEG", "man_seg", gold),
        ("01_ST/SEG", "man_seg", silver),
        ("01_GT/TRA", "man_track", markers),
    ):
        for frame, count in counts.items():
            save(root / folder / f"{prefix}{frame:03d}.tif", ids(count))
    return root


def test_cell_tracking_challenge_takes_gold_where_it_is_complete(tmp_path):
    tracking(tmp_path, gold={1: 5, 3: 2}, silver={0: 5, 1: 5, 3: 6}, markers={})
    dataset = find_pairs(tmp_path)
    assert dataset.layout == "Cell Tracking Challenge"
    assert [(p.name, p.number, p.mask.path.parent.parent.name) for p in dataset.pairs] == [
        ("01_t000", 0, "01_ST"),
        ("01_t001", 1, "01_GT"),
        ("01_t003", 3, "01_ST"),
    ]
    assert "1 gold and 2 silver" in dataset.notes[0]
    assert "man_seg003.tif labels only 2 of 6 objects: silver truth taken" in dataset.notes[1]


def test_partial_gold_without_silver_is_left_out(tmp_path):
    tracking(tmp_path, gold={1: 19, 2: 3}, silver={}, markers={1: 20, 2: 20})
    dataset = find_pairs(tmp_path)
    assert names(dataset) == ["01_t001"]
    assert "labels only 3 of 20 objects: left out" in dataset.notes[1]


def test_truth_without_its_frame_is_a_fault(tmp_path):
    tracking(tmp_path, gold={1: 5, 9: 5}, silver={}, markers={})
    (fault,) = find_pairs(tmp_path).faults
    assert (fault.file.name, fault.severity) == ("man_seg009.tif", "error")


def test_slices_annotated_in_3d_sequences(tmp_path):
    save(tmp_path / "01" / "t004.tif", np.stack([GREY] * 3))
    save(tmp_path / "01_GT" / "SEG" / "man_seg_004_002.tif", ids(3))
    (pair,) = find_pairs(tmp_path).pairs
    assert pair.image == Source(tmp_path / "01" / "t004.tif", 2)
    assert pair.mask.plane is None


def test_gold_slices_take_their_place_in_silver_volumes(tmp_path):
    save(tmp_path / "01" / "t004.tif", np.stack([GREY] * 4))
    silver = np.stack([ids(5), ids(5), ids(6), ids(5)])
    save(tmp_path / "01_ST" / "SEG" / "man_seg004.tif", silver)
    save(tmp_path / "01_GT" / "SEG" / "man_seg_004_001.tif", ids(5))
    save(tmp_path / "01_GT" / "SEG" / "man_seg_004_002.tif", ids(2))
    dataset = find_pairs(tmp_path)
    assert [(p.name, p.mask.path.name, p.mask.plane) for p in dataset.pairs] == [
        ("01_t004[0]", "man_seg004.tif", 0),
        ("01_t004[1]", "man_seg_004_001.tif", None),
        ("01_t004[2]", "man_seg004.tif", 2),
        ("01_t004[3]", "man_seg004.tif", 3),
    ]
    assert [p.image.plane for p in dataset.pairs] == [0, 1, 2, 3]
    assert "man_seg_004_002.tif labels only 2 of 6 objects: silver truth taken" in dataset.notes[1]


def test_a_gold_slice_without_silver_is_compared_with_the_markers_of_its_slice(tmp_path):
    save(tmp_path / "01" / "t004.tif", np.stack([GREY] * 2))
    save(tmp_path / "01_GT" / "TRA" / "man_track004.tif", np.stack([ids(20), ids(3)]))
    for plane in (0, 1):
        save(tmp_path / "01_GT" / "SEG" / f"man_seg_004_{plane:03d}.tif", ids(3))
    dataset = find_pairs(tmp_path)
    assert names(dataset) == ["01_t004[1]"]
    assert "man_seg_004_000.tif labels only 3 of 20 objects: left out" in dataset.notes[1]


def test_a_slice_that_the_volume_has_not_is_a_fault(tmp_path):
    save(tmp_path / "01" / "t004.tif", np.stack([GREY] * 2))
    save(tmp_path / "01_GT" / "SEG" / "man_seg_004_007.tif", ids(3))
    save(tmp_path / "01_GT" / "SEG" / "man_seg_004_001.tif", ids(3))
    dataset = find_pairs(tmp_path)
    assert names(dataset) == ["01_t004[1]"]
    (fault,) = dataset.faults
    assert (fault.file.name, fault.severity) == ("man_seg_004_007.tif", "error")
    assert "of slice 7, but" in fault.what
    assert fault.what.endswith("t004.tif has 2 planes")


def test_a_pattern_that_is_none_says_how(tmp_path):
    save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"--images '\*\*.tif'"):
        find_pairs(tmp_path, images="**.tif", masks="*.tif")


def test_drive_pairs_by_leading_number_and_has_regions(tmp_path):
    for number in (21, 22):
        save(tmp_path / "training" / "images" / f"{number}_training.tif")
        save(tmp_path / "training" / "1st_manual" / f"{number}_manual1.gif")
        save(tmp_path / "training" / "mask" / f"{number}_training_mask.gif")
    dataset = find_pairs(tmp_path)
    assert dataset.layout == "DRIVE"
    assert [(p.number, p.mask.path.name, p.region.path.name) for p in dataset.pairs] == [
        (21, "21_manual1.gif", "21_training_mask.gif"),
        (22, "22_manual1.gif", "22_training_mask.gif"),
    ]


def test_globs_pair_by_digits_and_masks_are_not_images(tmp_path):
    for number in (1, 2):
        save(tmp_path / f"cell{number}.png")
        save(tmp_path / f"seg_0{number}_final.png")
    dataset = find_pairs(tmp_path, images="*.png", masks="seg_*.png")
    assert [(p.name, p.mask.path.name, p.number) for p in dataset.pairs] == [
        ("cell1", "seg_01_final.png", 1),
        ("cell2", "seg_02_final.png", 2),
    ]
    assert "number" in dataset.notes[0]


def test_globs_may_be_absolute_or_from_where_the_user_stands(tmp_path, monkeypatch):
    image, mask = save(tmp_path / "data" / "raw" / "x.png"), save(tmp_path / "data" / "seg" / "y.png")
    monkeypatch.chdir(tmp_path)
    absolute = find_pairs("data", images=str(tmp_path / "data" / "raw" / "*.png"), masks="seg/*")
    relative = find_pairs("data", images="data/raw/*.png", masks="data/seg/*.png")
    for dataset in (absolute, relative):
        (pair,) = dataset.pairs
        assert pair.image.path.resolve() == image
        assert pair.mask.path.resolve() == mask


def test_only_one_glob_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--masks is missing"):
        find_pairs(tmp_path, images="*.png")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no images and masks in .*; a data set is a folder with images/ and masks/"),
        (["a.png"], "holds 1 images but no known layout; move them into .*images"),
        (["a_img.png", "a_cp_masks.png"], r"in one folder; .* --images '\*' --masks '\*_cp_masks\.png'"),
        (["label/a.png", "raw/a.png"], r"--images 'raw/\*' --masks 'label/\*'"),
        (["img/a.png", "lab/a.png"], r"--images 'img/\*' --masks 'lab/\*'"),
        (["images/a.png", "masks/b.png"], "no image of .* has a mask of the same name: a.png, b.png"),
        (["images/a.png", "masks/readme.txt"], "a.png has no mask, nor has any other"),
        (["images/readme.txt", "masks/a.png"], "no images beside the masks of .*; put them into .*images"),
    ],
)
def test_what_is_no_data_set_is_said_with_a_fix(tmp_path, files, message):
    for name in files:
        if name.endswith(".txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("no image")
        else:
            save(tmp_path / name)
    with pytest.raises(DataError, match=message) as caught:
        find_pairs(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_and_a_file_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        find_pairs(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not a folder"):
        find_pairs(save(tmp_path / "a.png"))


def test_half_of_a_data_set_points_to_the_whole(tmp_path):
    save(tmp_path / "images" / "a.png")
    save(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match=f"holds only one half of the data; give {tmp_path}$"):
        find_pairs(tmp_path / "images")


def test_globs_that_match_nothing(tmp_path):
    save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"--masks 'm/\*' matches no image"):
        find_pairs(tmp_path, images="*.png", masks="m/*")
    with pytest.raises(DataError, match="matches nothing but masks"):
        find_pairs(tmp_path, images="*.png", masks="a*")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "layout", "count"),
    [
        ("dsb2018", "folder", 487),
        ("dsb2018-other", "folder", 111),
        ("isbi2012", "ISBI 2012", 24),
        ("DIC-C2DH-HeLa", "Cell Tracking Challenge", 84),
        ("drive", "DRIVE", 20),
        ("camvid", "folder", 160),
    ],
)
def test_real_data_sets_are_paired_without_options(data_dir, name, layout, count):
    dataset = find_pairs(data_dir / name)
    assert (dataset.layout, len(dataset.pairs), dataset.faults) == (layout, count, ())
    assert all(pair.mask is not None for pair in dataset.pairs)
    assert len(set(names(dataset))) == count


@pytest.mark.data
def test_partial_gold_frame_of_the_hela_cells_gives_way_to_silver(data_dir):
    dataset = find_pairs(data_dir / "DIC-C2DH-HeLa")
    truth = {pair.number: pair.mask.path.parent.parent.name for pair in dataset.pairs}
    gold = sorted(number for number, folder in truth.items() if folder == "01_GT")
    assert gold == [2, 5, 21, 31, 33, 34, 39, 54]
    assert any("man_seg067.tif labels only 3 of 18" in note for note in dataset.notes)
