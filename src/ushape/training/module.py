"""What one optimiser step is: loss, optimiser, schedule and the running average of the weights."""

import copy
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import chain
from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from ushape.augment import generator
from ushape.errors import ConfigError
from ushape.loss import Counted, counted, segmentation_loss
from ushape.models import EncoderUNet, Member
from ushape.training.budget import Budget, annealed
from ushape.training.processes import total
from ushape.training.recipe import Recipe

LOG_EVERY = 10
"""Steps from one loss in the TensorBoard events to the next."""

_DIVERGED = "training diverged: {}; try --recipe fast, or another --seed"


class TrainingModule(LightningModule):
    """The network under training.

    Parameters
    ----------
    network : UNet or EncoderUNet
        Trained in place.
    recipe : Recipe
        Optimiser, schedule and averaging.
    budget : Budget
        Tells how far along the run is; the schedule is annealed to it.
    seed : int
        Dropout of each step is drawn from (seed, number of its first sample).
    compiled : bool
        Whether the network is compiled by `torch.compile`, in the first step.
    """

    def __init__(
        self, network: Member, recipe: Recipe, budget: Budget, *, seed: int, compiled: bool = False
    ) -> None:
        super().__init__()
        self.network, self.recipe, self.budget, self.seed = network, recipe, budget, seed
        # Not to be trained, or DDP would wait for its gradients.
        self.average = copy.deepcopy(network).requires_grad_(False) if recipe.ema else None
        # A function, not a module: weights keep their names, and whole images are not compiled for.
        forward: Callable[[Tensor], Any] = network.forward
        if isinstance(network, EncoderUNet) and len(network.coarse_scores):
            forward = network.supervise
        self._compute = torch.compile(forward) if compiled else forward
        self.automatic_optimization = False
        self.last_loss = float("nan")
        self._losses, self._num_losses = 0.0, 0
        self._unread: deque[tuple[int, Tensor]] = deque()

    @property
    def network_to_keep(self) -> Member:
        """The network to validate and save: the running average where the recipe has one."""
        return self.network if self.average is None else self.average

    def training_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Take a step on a batch of tiles, in as many parts as the recipe says."""
        self._seed_dropout(int(batch["number"][0]))
        optimizer = cast(LightningOptimizer, self.optimizers())
        optimizer.zero_grad()
        loss = self._gradients(optimizer, batch["image"], batch["classes"], batch["weights"])
        self._unread.append((self.global_step + 1, loss))
        # Reading a number waits for the device: on a GPU a step late, so that it has the next one to do.
        self._read_losses(but=0 if self.device.type == "cpu" else 1)
        optimizer.step()
        if self.average is not None:
            self._follow(self.average)

    def _seed_dropout(self, number: int) -> None:
        """Keyed, not running on: a resumed run draws the same dropout as one that was not interrupted."""
        seed = int(generator(self.seed, number, stream=1).integers(2**62))
        # Not `torch.manual_seed`: it notes a seed, and the stack, for each kind of device that is not in use.
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)

    def _gradients(self, optimizer: LightningOptimizer, *batch: Tensor) -> Tensor:
        """Add up the gradients of the loss of a step, part by part; return the loss.

        The step is that of all processes: its loss is the same in each, the gradients are averaged.
        """
        whole, losses = counted(*batch[1:]), []
        parts = list(zip(*(t.chunk(self.recipe.accumulate) for t in batch), strict=True))
        for number, (image, classes, weights) in enumerate(parts, start=1):
            # Processes exchange gradients once, when those of the last part have been added.
            is_last = number == len(parts)
            with nullcontext() if is_last else optimizer.toggle_model(sync_grad=False):
                logits = self._compute(image)
                loss = self._loss(logits, classes, weights, whole)
                self.manual_backward(loss)
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _loss(self, logits: Any, classes: Tensor, weights: Tensor, whole: Counted) -> Tensor:
        """Compute the loss of a part; of a network with deep supervision that of all levels.

        Each coarser level counts half as much as the one above it, and all together as much as one.
        """
        levels = logits if isinstance(logits, list) else [logits]
        shares = [0.5**level for level in range(len(levels))]
        losses = [
            segmentation_loss(self.recipe.loss, one, classes, weights, whole=whole, total=total) * share
            for one, share in zip(levels, shares, strict=True)
        ]
        return torch.stack(losses).sum() / sum(shares)

    def _read_losses(self, *, but: int = 0) -> None:
        while len(self._unread) > but:
            step, loss = self._unread.popleft()
            self.last_loss = float(loss)
            if not math.isfinite(self.last_loss):
                raise ConfigError(_DIVERGED.format(f"the loss is {self.last_loss} at step {step}"))
            if step % LOG_EVERY == 0:
                for logger in self.loggers:
                    logger.log_metrics({"train/loss": self.last_loss}, step)
            self._losses += self.last_loss
            self._num_losses += 1

    def require_finite(self) -> None:
        """Refuse weights that overflowed in the last step: the loss is that of the weights before it.

        Raises
        ------
        ConfigError
        """
        tensors = _tensors(self.network_to_keep)
        if not torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
            raise ConfigError(_DIVERGED.format(f"there are infinite weights after step {self.global_step}"))

    def mean_loss(self) -> float:
        """Mean loss of the steps since this was last asked for."""
        self._read_losses()
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
            group["lr"] = self.recipe.learning_rate * factor * group["share"]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add how much of the budget is spent, and the losses not yet reported."""
        self._read_losses()
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
        recipe, network = self.recipe, self.network
        slow = set()
        if isinstance(network, EncoderUNet) and network.is_pretrained:
            slow = {id(p) for p in network.encoder.parameters()}
        groups: list[dict[str, Any]] = []
        for share, is_slow in ((1.0, False), (recipe.encoder_share, True)):
            trained = [p for p in network.parameters() if p.requires_grad and (id(p) in slow) == is_slow]
            for decay, is_decayed in ((recipe.weight_decay, True), (0.0, False)):
                weights = [p for p in trained if (p.ndim > 1) == is_decayed]
                groups.append({"params": weights, "weight_decay": decay, "share": share})
        groups = [group for group in groups if group["params"]]
        if recipe.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999), fused=True)

    @torch.no_grad()
    def _follow(self, average: Member) -> None:
        """Move the running average towards the weights."""
        # Not `torch.optim.swa_utils`, which reads its counter from the device once for every tensor.
        before = self.global_step - 1
        # A young average must not remember the random start.
        decay = min(self.recipe.ema, (1 + before) / (10 + before)) if before else 0.0
        for mean, current in zip(_tensors(average), _tensors(self.network), strict=True):
            if current.is_floating_point():
                torch.lerp(current, mean, decay, out=mean)
            else:
                mean.copy_(current)


def _tensors(network: Member) -> Iterator[Tensor]:
    return chain(network.parameters(), network.buffers())
