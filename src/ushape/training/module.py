"""What one optimiser step is: loss, optimiser, schedule and the running average of the weights."""

import math
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ushape.augment import generator
from ushape.backends import training_format
from ushape.errors import ConfigError
from ushape.loss import weighted_cross_entropy
from ushape.models import UNet
from ushape.training.budget import Budget, annealed
from ushape.training.processes import total
from ushape.training.recipe import Recipe


class TrainingModule(LightningModule):
    """The network under training.

    Parameters
    ----------
    network : UNet
        A network of unpadded convolutions; trained in place.
    recipe : Recipe
        Optimiser, schedule and averaging.
    budget : Budget
        Tells how far along the run is; the schedule is annealed to it.
    seed : int
        Dropout of each step is drawn from (seed, number of its first sample).
    """

    def __init__(self, network: UNet, recipe: Recipe, budget: Budget, *, seed: int) -> None:
        super().__init__()
        self.network, self.recipe, self.budget, self.seed = network, recipe, budget, seed
        self.average = AveragedModel(network, avg_fn=self._average, use_buffers=True) if recipe.ema else None
        if self.average is not None:
            self.average.requires_grad_(False)  # DDP would wait for its gradients
        self.last_loss = float("nan")
        self._losses, self._num_losses = 0.0, 0

    @property
    def best_weights(self) -> UNet:
        """The network to validate and save: the running average where the recipe has one."""
        return self.network if self.average is None else cast(UNet, self.average.module)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Weighted cross-entropy of the tiles of one step, those of other processes included."""
        # Keyed, not running on: a resumed run draws the same dropout as one that was not interrupted.
        torch.manual_seed(int(generator(self.seed, int(batch["number"][0]), stream=1).integers(2**62)))
        logits = self.network(batch["image"].contiguous(memory_format=training_format(self.device)))
        loss = weighted_cross_entropy(logits, batch["classes"], batch["weights"], total=total)
        self.last_loss = float(loss.detach())
        if not math.isfinite(self.last_loss):
            raise ConfigError(
                f"training diverged: the loss is {self.last_loss} at step {self.global_step + 1}; "
                "try --recipe fast, or another --seed"
            )
        self.log("train/loss", loss)
        self._losses += self.last_loss
        self._num_losses += 1
        return loss

    def mean_loss(self) -> float:
        """Mean loss of the steps since this was last asked for."""
        mean = self._losses / max(1, self._num_losses)
        self._losses, self._num_losses = 0.0, 0
        return mean

    def on_train_start(self) -> None:
        """Lay restored moments out in memory as the weights are: the fused kernel walks both side by side."""
        for parameter, state in self.trainer.optimizers[0].state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[name] = torch.empty_like(parameter).copy_(value)

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        """Set the learning rate for the share of the budget that is spent."""
        factor = annealed(self.budget.progress(self.global_step), self.recipe.warmup)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.recipe.learning_rate * factor

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Take the step, then follow the weights with their running average."""
        super().optimizer_step(*arguments, **options)
        if self.average is not None:
            self.average.update_parameters(self.network)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add how much of the budget is spent, and the losses not yet reported."""
        checkpoint["budget"] = self.budget.state()
        checkpoint["losses"] = [self._losses, self._num_losses]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting where the interrupted run was."""
        self.budget.resume(checkpoint["budget"])
        self._losses, self._num_losses = checkpoint["losses"]

    def require_same_network(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint whose network is not this one.

        Raises
        ------
        ConfigError
            If names or shapes of weights differ.
        """
        before, now = (
            {n: tuple(t.shape) for n, t in d.items()} for d in (checkpoint["state_dict"], self.state_dict())
        )
        odd = next((name for name in {**now, **before} if before.get(name) != now.get(name)), None)
        if odd is not None:
            raise ConfigError(
                f"--resume: the run holds another network than the options describe (`{odd}` has shape "
                f"{before.get(odd)}, here {now.get(odd)}); give the options of that run, or another --output"
            )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the optimiser of the recipe; no decay of biases and norms, and nothing of what is frozen."""
        recipe = self.recipe
        trained = [p for p in self.network.parameters() if p.requires_grad]
        decayed, free = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ]
        if recipe.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999), fused=True)

    def _average(self, average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not current.is_floating_point():
            return current
        # A young average must not remember the random start.
        decay = min(self.recipe.ema, (1 + int(count)) / (10 + int(count)))
        return torch.lerp(current, average, decay)
