"""Around the demonstration: the baseline, the verdict on each object, and what is shown at the end."""

from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from small_model import make_model

from ushape import demo
from ushape.checkpoint import save_model
from ushape.errors import OutputError
from ushape.metrics import Matching

TRUTH = np.zeros((20, 30), np.int32)
TRUTH[2:8, 2:8], TRUTH[12:18, 2:8] = 1, 2


def test_otsu_separates_bright_from_dark_and_drops_specks() -> None:
    grey = np.full((20, 30), 10, np.uint8)
    grey[2:8, 2:8], grey[12:18, 20:26], grey[10, 15] = 200, 180, 220
    everything, cleaned = demo.otsu_objects(grey), demo.otsu_objects(grey, smallest_px=2)
    assert (everything.max(), cleaned.max()) == (3, 2)
    assert np.array_equal(cleaned > 0, (grey > 100) & (grey != 220))


def test_a_constant_image_has_no_objects() -> None:
    assert not demo.otsu_objects(np.full((8, 8), 3, np.uint8)).any()


def test_found_invented_and_missed_objects_differ_in_colour() -> None:
    ids = np.where(TRUTH == 1, 1, 0)
    ids[2:8, 20:26] = 2
    picture = demo.verdicts(demo.Annotated("a", np.zeros((1, 20, 30), np.uint8), TRUTH), ids)
    assert tuple(picture[2, 4]) == demo.FOUND
    assert tuple(picture[2, 22]) == demo.INVENTED
    assert tuple(picture[12, 4]) == demo.MISSED
    # Inside its outline an object is tinted by three tenths of its colour.
    for place, color in (((4, 4), demo.FOUND), ((4, 22), demo.INVENTED), ((14, 4), demo.MISSED)):
        assert np.abs(picture[place] - 0.3 * np.array(color)).max() <= 0.5
    assert not picture[10].any()


@pytest.fixture
def result() -> demo.DemoResult:
    def method(name: str, *counts: tuple[int, int, int]) -> demo.Method:
        return demo.Method(name, tuple(Matching(0.5, *c) for c in counts))

    return demo.DemoResult(
        network=method("U-Net", (8, 1, 1), (1, 0, 1)),
        otsu=method("Otsu", (4, 6, 2)),
        otsu_cleaned=method("Otsu cleaned", (4, 2, 2)),
        model=Path("out/model.safetensors"),
        report=Path("out/report.html"),
        pictures=(),
        steps=100,
        seconds=75.4,
    )


def test_scores_are_summed_and_averaged(result: demo.DemoResult) -> None:
    assert result.network.row() == ("U-Net", 9, 1, 2, 9 / 12, (8 / 10 + 1 / 2) / 2)
    assert [row[0] for row in result.rows] == ["Otsu", "Otsu cleaned", "U-Net"]


def test_what_is_shown_at_the_end_says_what_to_do_next(result: demo.DemoResult) -> None:
    screen = StringIO()
    Console(file=screen, width=200).print(demo.render(result))
    shown = screen.getvalue()
    assert "AP(0.5) is 0.75: +0.42 against Otsu's threshold, +0.25 if" in shown
    for words in ("0.333", "0.650", "Done in 75 s", "report.html", "ushape train my-data", "ushape predict"):
        assert words in shown


def test_a_demonstration_replaces_no_other_model(tmp_path: Path) -> None:
    network, header = make_model()
    save_model(tmp_path / "model.safetensors", network, header)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(
        OutputError, match="holds a model that is not of a demonstration; give another folder"
    ):
        demo.run_demo(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    save_model(tmp_path / "model.safetensors", network, header.model_copy(update={"name": "demo nuclei"}))
    demo._require_own(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_text("no model")
    with pytest.raises(OutputError):
        demo._require_own(tmp_path / "model.safetensors")


def test_a_demonstration_that_is_stopped_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = SimpleNamespace(model=tmp_path / "none", steps=3, stop_asked=True)
    monkeypatch.setattr("ushape.training.train", lambda *_, **__: stopped)
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(tmp_path / "out")
    assert not (tmp_path / "out").exists()
