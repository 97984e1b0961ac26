"""The recipe `paper` is pinned by its first losses: whatever changes one of its choices changes them.

`python tests/contract/test_golden_losses.py` writes the golden file anew; the commit says what changed.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ushape.backends import PyTorchBackend, training_format
from ushape.data import open_dataset
from ushape.demo import IMAGES
from ushape.training import PAPER
from ushape.training.budget import Budget
from ushape.training.feed import TileData
from ushape.training.header import describe, initial_network
from ushape.training.loop import trainer_for, without_chatter
from ushape.training.module import TrainingModule
from ushape.training.tiles import TileDataset

GOLDEN = Path(__file__).parents[1] / "golden" / "paper_losses.json"
STEPS, WIDTH, SEED = 50, 4, 0


class Recorded(TrainingModule):
    """Keeps every loss, and ends the run."""

    def on_train_batch_end(self, *_: Any) -> None:
        self.losses = [*getattr(self, "losses", []), self.last_loss]
        self.trainer.should_stop = self.global_step >= STEPS


def losses_of_the_recipe(folder: Path) -> list[float]:
    """Losses of a run of 50 steps on the nuclei in the package, as `ushape train` takes them, in float32."""
    samples, _, infos, _ = open_dataset(IMAGES / "train", validation="0.2", seed=SEED)
    header = describe(PAPER, "auto", WIDTH, None, samples, infos)
    network = initial_network(header, None, SEED)
    backend = PyTorchBackend(network, "cpu", "fp32")
    network.train().to(memory_format=training_format(backend))
    tiles = TileDataset(samples, PAPER, network.geometry, header.normalization, seed=SEED)
    module = Recorded(network, PAPER, Budget(STEPS, None), seed=SEED)
    with without_chatter():
        trainer_for(folder, backend, [], devices=1, nodes=1).fit(module, TileData(tiles, workers=0))
    return module.losses


def test_the_first_fifty_losses_are_those_of_the_golden_file(tmp_path):
    """Within 1e-3: another processor adds in another order, and 50 steps of momentum 0.99 carry that on."""
    losses = losses_of_the_recipe(tmp_path)
    np.testing.assert_allclose(losses, json.loads(GOLDEN.read_text()), rtol=1e-3)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10]), "it does not learn"


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(
            json.dumps([round(loss, 6) for loss in losses_of_the_recipe(Path(folder))], indent=1) + "\n"
        )
