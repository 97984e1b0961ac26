"""The same tiles from the same draws, made by PyTorch where the network is: on a GPU, on the CPU in tests.

Coordinates, mirrored border and interpolation are those of `tile.py`, without its rounding of coordinates to
1/32 pixel. Only the noise is another one: it is drawn on the device.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ushape.augment.deformation import Deformation, axis_basis
from ushape.augment.grey_values import PATCHES, SURROUNDINGS_PX, GreyValues, GreyVariation, depth
from ushape.augment.tile import Interpolation


def describe_positions(
    deformation: Deformation, center: tuple[float, float], size: int
) -> tuple[Tensor, Tensor]:
    """Describe by two small matrices where each pixel of a tile comes from: all that goes to the device.

    Parameters
    ----------
    deformation : Deformation
        What was drawn for the tile.
    center : tuple of float
        Point (y, x) of the image at the tile's centre, before the deformation's shift.
    size : int
        Height and width of the tile in pixels.

    Returns
    -------
    rows : Tensor of float64, shape (J, 2, size)
    columns : Tensor of float64, shape (J, size)
        See `positions`; J is the number of basis functions.
    """
    basis = axis_basis(size, deformation.displacements.shape[-1], deformation.spline)
    core = deformation.core
    core[:, -1, -1] += center
    rows = np.einsum("iy,aij->jay", basis, core)
    return torch.from_numpy(rows), torch.from_numpy(basis.astype(np.float64))


def positions(rows: Tensor, columns: Tensor) -> Tensor:
    """Where each pixel of each tile comes from.

    Parameters
    ----------
    rows : Tensor of float64, shape (N, J, 2, size)
    columns : Tensor of float64, shape (N, J, size)
        Of each tile, as `describe_positions` returns them.

    Returns
    -------
    Tensor of float64, shape (N, 2, size, size)
        Position (y, x) in the image, in pixels. Not float32: GPUs may multiply that with the ten bits of
        TF32, which is a quarter of a pixel at 572.
    """
    return torch.einsum("njay,njx->nayx", rows, columns)


def resample(image: Tensor, at: Tensor, interpolation: Interpolation) -> Tensor:
    """Look up grey values of an image; beyond its border it is mirrored as often as needed.

    Parameters
    ----------
    image : Tensor of float32, shape (C, H, W)
    at : Tensor of float64, shape (2, h, w)
        Positions (y, x) in pixels.
    interpolation : {"linear", "cubic"}

    Returns
    -------
    Tensor of float32, shape (C, h, w)
    """
    # `grid_sample` wants (x, y), with the first and the last pixel of an axis at -1 and 1.
    y, x = (2 / max(length - 1, 1) * p - 1 for p, length in zip(at, image.shape[1:], strict=True))
    grid = torch.stack([x, y], dim=-1).float()
    mode = {"linear": "bilinear", "cubic": "bicubic"}[interpolation]
    return F.grid_sample(image[None], grid[None], mode, padding_mode="reflection", align_corners=True)[0]


def look_up(objects: Tensor, at: Tensor) -> Tensor:
    """Look up object ids at the nearest pixels, mirrored as in `resample`.

    Parameters
    ----------
    objects : Tensor of int, shape (H, W)
    at : Tensor of float64, shape (2, h, w)
        Positions (y, x) in pixels.

    Returns
    -------
    Tensor of the type of `objects`, shape (h, w)
    """
    y, x = (_mirrored(p.round().long(), length) for p, length in zip(at, objects.shape, strict=True))
    return objects[y, x]


def _mirrored(position: Tensor, length: int) -> Tensor:
    period = max(2 * (length - 1), 1)
    return torch.minimum(position % period, -position % period)


def describe_variation(variation: GreyVariation) -> Tensor:
    """Lay out what was drawn for the grey values of a tile as one tensor of float32, shape (C, 8)."""
    columns = (variation.curve, variation.contrast, variation.brightness, variation.noise)
    return torch.from_numpy(np.column_stack(columns).astype(np.float32))


def describe_patches(variation: GreyVariation) -> Tensor:
    """Lay out what was drawn for the patches of a tile: float32, blur and fade, then the places of each."""
    strengths = np.array([variation.blur_px, variation.fade], np.float32)
    return torch.from_numpy(np.concatenate([strengths, variation.patches.ravel()]))


def vary_grey_values(
    images: Tensor,
    variations: Tensor,
    patches: Tensor,
    noise_keys: list[int],
    *,
    strengths: GreyValues = GreyValues(),  # noqa: B008
) -> Tensor:
    """Change grey values of tiles as `augment.vary_grey_values` does, with noise of the device.

    Parameters
    ----------
    images : Tensor of float32, shape (N, C, H, W)
        Not modified.
    variations : Tensor of float32, shape (N, C, 8)
        Of each tile, as `describe_variation` returns them.
    patches : Tensor of float32, shape (N, 2 + 2 * PATCHES**2)
        Of each tile, as `describe_patches` returns them.
    noise_keys : list of int
        Of the generator of each tile's noise, which depends on nothing else, so not on the batch. At least
        0 and below 2**63.
    strengths : GreyValues
        What all of it was drawn from. It says what need not be computed, which `patches` could only say by
        making the CPU wait for the device.

    Returns
    -------
    Tensor of float32, shape (N, C, H, W)
    """
    *curve, contrast, brightness, noise_std = variations[..., None, None].unbind(2)
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    span = torch.where(high > low, high - low, 1.0)
    position = (images - low) / span
    value = curve[4].expand_as(images)
    for coefficient in curve[3::-1]:
        value = torch.addcmul(coefficient, value, position)
    varied = (value * span + low) * contrast + brightness
    if strengths.blur_px or strengths.fade:
        varied = _blur_and_fade(varied, patches, strengths)
    return torch.addcmul(varied, _noise(varied, noise_keys), noise_std)


def _noise(images: Tensor, keys: list[int]) -> Tensor:
    noise = torch.empty_like(images)
    for tile, key in zip(noise, keys, strict=True):
        tile.normal_(generator=torch.Generator(images.device).manual_seed(key))
    return noise


def _blur_and_fade(images: Tensor, patches: Tensor, strengths: GreyValues) -> Tensor:
    blur_px, fade, fields = patches[:, 0], patches[:, 1], patches[:, 2:].reshape(-1, 2, PATCHES, PATCHES)
    large = F.interpolate(fields, images.shape[2:], mode="bilinear", align_corners=False)
    blurred, faded = depth(large)[:, :, None].unbind(1)
    if strengths.blur_px:
        blur = _blurred(images, blur_px[:, None].expand(images.shape[:2]), strengths.blur_px)
        images = torch.lerp(images, blur, blurred * (blur_px > 0)[:, None, None, None])
    if strengths.fade:
        padded = _pad_mirrored(images, SURROUNDINGS_PX // 2)
        across = F.avg_pool2d(padded, (1, SURROUNDINGS_PX), stride=1)
        surroundings = F.avg_pool2d(across, (SURROUNDINGS_PX, 1), stride=1)
        images = torch.lerp(images, surroundings, faded * fade[:, None, None, None])
    return images


def _blurred(images: Tensor, blur_px: Tensor, largest_px: float) -> Tensor:
    num_tiles, channels, height, width = images.shape
    reach = _blur_reach(torch.tensor(largest_px)).int().item()
    offset = torch.arange(-reach, reach + 1, device=images.device)
    sigma = blur_px.reshape(-1, 1).clamp_min(0.01)
    window = torch.exp(-(offset**2) / (2 * sigma**2)) * (offset.abs() <= _blur_reach(sigma))
    window /= window.sum(1, keepdim=True)
    flat = images.reshape(1, -1, height, width)
    padded = _pad_mirrored(flat, int(reach))
    groups = num_tiles * channels
    across = F.conv2d(padded, window[:, None, None, :], groups=groups)
    return F.conv2d(across, window[:, None, :, None], groups=groups).reshape(images.shape)


def _blur_reach(sigma: Tensor) -> Tensor:
    """Pixels per side of OpenCV's window: it is as wide as 8 standard deviations, rounded, then made odd."""
    return (8 * sigma + 1).round().div(2, rounding_mode="floor")


def _pad_mirrored(images: Tensor, reach: int) -> Tensor:
    y, x = (
        _mirrored(torch.arange(-reach, length + reach, device=images.device), length)
        for length in images.shape[2:]
    )
    return images[:, :, y[:, None], x]
