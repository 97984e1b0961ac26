"""segmentation_models.pytorch's Unet with a ResNet-34, from scratch, trained as its users do.

Adam at 2e-4, binary cross entropy + Dice, batches of two whole images, quarter turns and mirrors; images of
mean 0 and standard deviation 1 over the training set. The package is not a dependency of ours: README.md says
how to install it.
"""

import time
from typing import Any

import torch
from torch import Tensor, nn

from ushape.torchvision_operators import define_missing_operators


def network() -> nn.Module:
    """`smp.Unet("resnet34")` without pretrained weights; 1 channel, 1 sigmoid class."""
    define_missing_operators()  # of the torchvision beside a CPU build of torch
    import segmentation_models_pytorch as smp

    unet: nn.Module = smp.Unet("resnet34", encoder_weights=None, in_channels=1, classes=1)
    return unet


def standardize(images: Tensor, training: list[int]) -> Tensor:
    """Images (N, 1, H, W) to mean 0 and standard deviation 1 of the training images."""
    return (images - images[training].mean()) / images[training].std()


def turned(images: Tensor, cells: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One image (1, H, W) and its truth (H, W), both turned by a quarter and mirrored at random."""
    turns, flip = torch.randint(4, (2,), generator=generator).tolist()
    images, cells = (torch.rot90(x, turns, (-2, -1)) for x in (images, cells))
    return (images.flip(-1), cells.flip(-1)) if flip < 2 else (images, cells)


@torch.inference_mode()
def predict(unet: nn.Module, images: Tensor) -> Tensor:
    """P(cell) (N, H, W), whole slices one by one."""
    unet.eval()
    cell = torch.cat([unet(image[None]).sigmoid()[:, 0] for image in images])
    unet.train()
    return cell


def train(unet: nn.Module, images: Tensor, cells: Tensor, deadline: float, seed: int) -> dict[str, Any]:
    """Train until `deadline` (of `time.monotonic`); the step under way then is finished."""
    import segmentation_models_pytorch as smp

    dice, entropy = smp.losses.DiceLoss("binary"), nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(unet.parameters(), lr=2e-4)
    generator, steps = torch.Generator().manual_seed(seed), 0
    while time.monotonic() < deadline:
        chosen = torch.randperm(len(images), generator=generator)[:2]
        batch = [turned(images[i], cells[i].float(), generator) for i in chosen.tolist()]
        given, truth = (torch.stack(parts) for parts in zip(*batch, strict=True))
        logits = unet(given)
        loss = entropy(logits[:, 0], truth) + dice(logits, truth[:, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    return {"steps": steps}
