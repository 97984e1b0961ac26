"""The first thing a newcomer types: it ends well, and the network beats the threshold."""

import re
from pathlib import Path


def test_the_demo_ends_with_a_page_and_beats_otsu(ushape, tmp_path: Path) -> None:
    done = ushape("demo", "--output", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:image/png") >= 20
    assert not re.search(r"""(src|href)=["']?http|url\((?!#)|@import""", page), "the page fetches something"
    assert len(list((tmp_path / "demo" / "pictures").glob("*.png"))) == 8
    assert (tmp_path / "demo" / "model.safetensors").exists()
    rows = (row_of(start, done.stdout) for start in ("Otsu", "U-Net,"))
    otsu, network = (float(row.split()[-2]) for row in rows)
    assert network >= otsu + 0.10


def row_of(start: str, text: str) -> str:
    """Row of the printed table that starts so: found, invented, missed, AP, AP per image."""
    lines = (line.strip() for line in text.splitlines())
    return next(line for line in lines if line.startswith(start) and re.search(r"\d+\.\d+$", line))
