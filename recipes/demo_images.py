"""Make the sample images inside the package from the BBBC038 / DSB 2018 nuclei set (CC0).

    python recipes/demo_images.py FOLDER [--output src/ushape/demo_images]

FOLDER holds ``images/*.png`` (8-bit grey) and ``masks/*.png`` (object ids), one pair per image, named by the
first 16 digits of the image's id in BBBC038. The names are hashes, so their order is a random order: within
each kind the first images by name are taken, nobody chooses. The same command measures the baseline that
`ushape demo` compares with, on the whole set and on the sample, and writes all of it into the card.
"""

import argparse
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from ushape.demo import SMALLEST_PX, otsu_objects
from ushape.metrics import Matching, match, total

SMALL, BIG = ((256, 256), (360, 360)), ((520, 696),)  # frames of 94 % of the images
# Kind, frames, number for training, number held out.
PLAN = (
    ("large", SMALL, 2, 1),
    ("large", BIG, 1, 1),
    ("dim", SMALL, 2, 1),
    ("dim", BIG, 1, 1),
    ("crowded", SMALL, 2, 1),
    ("crowded", BIG, 1, 1),
    ("sparse", SMALL, 3, 2),  # hardly any in big frames
)
MOST_NUCLEI = 200  # one more crowded would outweigh all others in a sum over nuclei
KINDS = {
    "large": "median nucleus of 800 px or more",
    "dim": "none of the above, 99.8th percentile of the grey values below 80 of 255",
    "crowded": "none of the above, one pixel contact between nuclei, or more, per nucleus",
    "sparse": "none of the above",
}


@dataclass(frozen=True)
class Candidate:
    """One image of the source set with what is needed to choose and to judge it."""

    name: str
    image: np.ndarray  # (H, W) uint8
    ids: np.ndarray  # (H, W) uint16, 0 = background
    otsu: Matching
    otsu_cleaned: Matching

    @property
    def nuclei(self) -> int:
        return len(np.unique(self.ids[self.ids > 0]))

    @property
    def kind(self) -> str:
        areas = np.bincount(self.ids.ravel())[1:]
        if np.median(areas[areas > 0]) >= 800:
            return "large"
        if np.percentile(self.image, 99.8) < 80:
            return "dim"
        return "crowded" if contacts(self.ids) >= self.nuclei else "sparse"


def contacts(ids: np.ndarray) -> int:
    """Number of pairs of neighbouring pixels (4-neighbourhood) that belong to two nuclei."""
    pairs = ((ids[1:], ids[:-1]), (ids[:, 1:], ids[:, :-1]))
    return sum(int(((a != b) & (a > 0) & (b > 0)).sum()) for a, b in pairs)


def candidates(folder: Path) -> Iterator[Candidate]:
    """Read the source set in order of name."""
    for path in sorted((folder / "images").glob("*.png")):
        image = np.asarray(Image.open(path))
        ids = np.asarray(Image.open(folder / "masks" / path.name)).astype(np.uint16)
        otsu = match(otsu_objects(image, smallest_px=0), ids)
        cleaned = match(otsu_objects(image, smallest_px=SMALLEST_PX), ids)
        yield Candidate(path.name, image, ids, otsu, cleaned)


def choose(pool: list[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Pick the images for training and the held-out ones."""
    training: list[Candidate] = []
    held_out: list[Candidate] = []
    for kind, frames, train, val in PLAN:
        matching = [
            c for c in pool if c.kind == kind and c.image.shape in frames and c.nuclei <= MOST_NUCLEI
        ][: train + val]
        training += matching[:train]
        held_out += matching[train:]
    return training, held_out


def smallest_png(array: np.ndarray) -> bytes:
    """Encode without loss in the fewest bytes that zlib's strategies and PNG's filters give."""
    settings = product((0, 1, 2, 3), (0x08, 0x10, 0x20, 0x40, 0x80, 0xF8))
    encoded = [imagecodecs.png_encode(array, level=9, strategy=s, filter=f) for s, f in settings]
    best: bytes = min(encoded, key=len)
    assert np.array_equal(imagecodecs.png_decode(best), array)
    return best


def write_pairs(chosen: list[Candidate], folder: Path) -> None:
    """Write images/NAME.png and masks/NAME.png."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for one in chosen:
        (folder / "images" / one.name).write_bytes(smallest_png(one.image))
        (folder / "masks" / one.name).write_bytes(smallest_png(one.ids))


def baseline_row(label: str, group: Iterable[Candidate]) -> str:
    """One row of the card's table of Otsu's scores."""
    group = list(group)
    cells = [label, str(len(group)), str(sum(c.nuclei for c in group))]
    for counts in ([c.otsu for c in group], [c.otsu_cleaned for c in group]):
        mean = float(np.mean([c.average_precision for c in counts]))
        cells += [f"{total(counts).average_precision:.3f}", f"{mean:.3f}"]
    return "| " + " | ".join(cells) + " |"


def listing(folder: str, chosen: list[Candidate]) -> Iterator[str]:
    """Rows of the card that name each file."""
    for c in chosen:
        height, width = c.image.shape
        digest = hashlib.sha256(c.image.tobytes()).hexdigest()[:12]
        score = f"{c.otsu_cleaned.average_precision:.2f}"
        cells = (folder, c.name, c.kind, f"{height} x {width}", str(c.nuclei), score, digest)
        yield "| " + " | ".join(cells) + " |"


def card(pool: list[Candidate], training: list[Candidate], held_out: list[Candidate]) -> str:
    """Write down where the images come from, how they were chosen, and how hard they are."""
    frames = [c for c in pool if c.image.shape in SMALL + BIG]
    share = {kind: sum(c.kind == kind for c in pool) for kind in KINDS}
    kinds = "\n".join(f"- **{kind}** ({share[kind]} of {len(pool)}): {rule}" for kind, rule in KINDS.items())
    files = "\n".join([*listing("train", training), *listing("val", held_out)])
    scores = "\n".join(
        [
            baseline_row("the whole set", pool),
            baseline_row("its images in the sample's frame sizes", frames),
            baseline_row("sample, train", training),
            baseline_row("sample, val (held out)", held_out),
        ]
    )
    return CARD.format(
        kinds=kinds,
        files=files,
        scores=scores,
        smallest=SMALLEST_PX,
        most=MOST_NUCLEI,
        train=len(training),
        val=len(held_out),
        total=len(pool),
    )


CARD = """\
# Demo images

Fluorescence micrographs of cell nuclei with every nucleus outlined by biologists: {train} images to learn
from (`train/`), {val} held out (`val/`). `ushape demo` uses them; `ushape train` takes this folder as it is.

- **Source**: BBBC038v1, the stage 1 training set of the 2018 Data Science Bowl, Broad Bioimage Benchmark
  Collection, <https://bbbc.broadinstitute.org/BBBC038>. Caicedo et al., Nature Methods 16, 1247-1253 (2019),
  <https://doi.org/10.1038/s41592-019-0612-7>.
- **Licence**: [CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/), public domain.
- **Files**: `images/NAME.png` 8-bit grey; `masks/NAME.png` 16-bit, 0 = background, 1 to n = one nucleus each.
  NAME is the first 16 digits of the image's id in BBBC038. Pixels are untouched; the PNG compression is new.
- **Made by** `recipes/demo_images.py`, which also wrote this card.

## How they were chosen

The {total} fluorescence images at hand fall into four kinds of about equal number:

{kinds}

The names are hashes, so their order is a random order. Within each kind the first images by name were
taken, three for training, then two to be held out; small frames, and one of 520 x 696 in each part (sparse
images hardly occur in that size). Images of more than {most} nuclei were passed over: one of them would
outweigh all others and make the sample far harder for the baseline below than the whole set is. No other
score had a say. Fields of one plate can lie in both parts, as in any random split of this set.

## How hard they are

Otsu's global threshold and 4-connected components, no training. AP(0.5) = TP / (TP + FP + FN) at an
intersection over union of 0.5: summed over all nuclei, and as the mean over images. "Cleaned" drops
components smaller than {smallest} px, which are mostly single noisy pixels.

| images | number | nuclei | AP(0.5) summed | per image | cleaned, summed | cleaned, per image |
|---|---|---|---|---|---|---|
{scores}

## Files

The last two columns: AP(0.5) of Otsu, cleaned; first 12 digits of the SHA-256 of the raw pixels.

| part | file | kind | height x width | nuclei | Otsu | pixels |
|---|---|---|---|---|---|---|
{files}
"""


def main() -> None:
    """Read the command line, make the sample."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=Path("src/ushape/demo_images"))
    options = parser.parse_args()
    pool = list(candidates(options.folder))
    training, held_out = choose(pool)
    shutil.rmtree(options.output, ignore_errors=True)
    write_pairs(training, options.output / "train")
    write_pairs(held_out, options.output / "val")
    text = card(pool, training, held_out)
    (options.output / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
