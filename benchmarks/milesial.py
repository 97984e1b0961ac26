"""The most copied U-Net, github.com/milesial/Pytorch-UNet, written anew from what its code and README say.

Zero-padded convolutions with batch norm, full width, transposed convolutions (its default, `bilinear=False`);
trained by its train.py's defaults in float32: RMSprop, cross entropy + Dice, batches of one whole image, no
augmentation.
"""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def double_conv(channels_in: int, channels_out: int) -> nn.Sequential:
    """Twice convolution, batch norm, ReLU; zero padding keeps the size."""
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        layers += [
            nn.Conv2d(channels, channels_out, 3, padding=1, bias=False),  # the norm has the bias
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class PaddedUNet(nn.Module):
    """The network: 31,036,546 parameters at 1 channel and 2 classes."""

    def __init__(self, channels: int = 1, classes: int = 2) -> None:
        super().__init__()
        widths = (64, 128, 256, 512, 1024)
        pairs = list(itertools.pairwise(widths))
        self.first = double_conv(channels, widths[0])
        self.down = nn.ModuleList(double_conv(a, b) for a, b in pairs)
        self.up_conv = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(pairs))
        self.up = nn.ModuleList(double_conv(b, a) for a, b in reversed(pairs))
        self.last = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes, H, W) of images (N, channels, H, W); H and W are multiples of 16."""
        x = self.first(x)
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(F.max_pool2d(x, 2))
        for up_conv, up in zip(self.up_conv, self.up, strict=True):
            x = up(torch.cat([skips.pop(), up_conv(x)], dim=1))
        return self.last(x)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Soft Dice over everything in the two tensors together."""
    return (2 * (a * b).sum() + 1e-6) / (a.sum() + b.sum() + 1e-6)


def loss_of(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross entropy plus Dice loss, unweighted."""
    truth = F.one_hot(classes, 2).permute(0, 3, 1, 2).float()
    return F.cross_entropy(logits, classes) + 1 - overlap(logits.softmax(1), truth)


@torch.inference_mode()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """P(cell) (N, H, W), whole slices one by one."""
    network.eval()
    cell = torch.cat([network(image[None]).softmax(1)[:, 1] for image in images])
    network.train()
    return cell


def train(network: nn.Module, images: Tensor, cells: Tensor, deadline: float) -> dict[str, Any]:
    """Train until `deadline` (of `time.monotonic`); the step under way then is finished.

    Optimiser, loss, clipping, schedule and the share and rhythm of validation are those of its train.py.
    """
    kept = len(images) - int(len(images) * 0.1)  # the rest is its own validation, the same for every seed
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    training, watched = order[:kept], order[kept:]
    optimizer = torch.optim.RMSprop(
        network.parameters(), lr=1e-5, weight_decay=1e-8, momentum=0.999, foreach=True
    )
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=5)
    steps, scores = 0, []
    for sample in epochs(training):
        loss = loss_of(network(images[sample, None]), cells[sample, None].long())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        steps += 1
        if steps % (len(training) // 5) == 0:
            found = predict(network, images[watched]) > 0.5
            dice = [overlap(a.float(), b.float()) for a, b in zip(found, cells[watched], strict=True)]
            scores.append(float(sum(dice)) / len(dice))
            scheduler.step(scores[-1])
        if time.monotonic() > deadline:
            break
    return {"steps": steps, "validation_dice": scores, "learning_rate": scheduler.get_last_lr()[0]}


def epochs(samples: Tensor) -> Iterator[int]:
    """The samples for ever, in a new order each time round."""
    while True:
        yield from samples[torch.randperm(len(samples))].tolist()
