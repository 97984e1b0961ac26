"""The U-Net of 2015 written a second time, in NumPy alone, as an oracle.

Weights come as a dict of arrays, `<layer>.weight` and `<layer>.bias`. Layers are named as in the authors'
released network: `conv_d0a-b` is the convolution from `d0a` to `d0b`; d goes down, u up; see `layer_names`.
"""

import numpy as np


def unet(image, weights, *, depth=4, released=False):
    """Logits (K, h, w) of one image (C, H, W) of a valid size, in the precision of its arguments."""
    skips = []
    x = image
    for level in range(depth + 1):
        x = relu(convolve(x, weights, f"conv_d{level}a-b"))
        x = relu(convolve(x, weights, f"conv_d{level}b-c"))
        skips.append(x)
        if level < depth:
            x = max_pool(x)
    for level in reversed(range(depth)):
        x = up_convolve(x, weights, up_name(level, depth))
        if released:
            x = relu(x)
        skip = centre(skips[level], x.shape[1:])
        x = np.concatenate([x, skip] if released else [skip, x])
        x = relu(convolve(x, weights, f"conv_u{level}b-c"))
        x = relu(convolve(x, weights, f"conv_u{level}c-d"))
    return convolve(x, weights, "conv_u0d-score")


def layer_names(depth=4):
    """Names of all layers with weights: the contracting path from the top, the rest from below."""
    down = [f"conv_d{level}{step}" for level in range(depth + 1) for step in ("a-b", "b-c")]
    up = []
    for level in reversed(range(depth)):
        up += [up_name(level, depth), f"conv_u{level}b-c", f"conv_u{level}c-d"]
    return [*down, *up, "conv_u0d-score"]


def up_name(level, depth):
    below = f"d{depth}c" if level == depth - 1 else f"u{level + 1}d"
    return f"upconv_{below}_u{level}a"


def convolve(x, weights, name):
    """Correlate (C, H, W) with (K, C, k, k) where the kernel lies wholly inside, one product per tap."""
    kernels, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    k = kernels.shape[-1]
    height, width = x.shape[1] - k + 1, x.shape[2] - k + 1
    y = np.broadcast_to(bias[:, None, None], (len(kernels), height, width)).copy()
    for i in range(k):
        for j in range(k):
            y += np.tensordot(kernels[:, :, i, j], x[:, i : i + height, j : j + width], axes=1)
    return y


def up_convolve(x, weights, name):
    """Each pixel of (C, H, W) becomes a 2x2 block through weights (C, K, 2, 2); blocks do not overlap."""
    kernels, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    _, height, width = x.shape
    y = np.empty((kernels.shape[1], 2 * height, 2 * width), x.dtype)
    for i in range(2):
        for j in range(2):
            y[:, i::2, j::2] = np.tensordot(kernels[:, :, i, j].T, x, axes=1) + bias[:, None, None]
    return y


def relu(x):
    return np.where(x > 0, x, 0)


def max_pool(x):
    channels, height, width = x.shape
    if height % 2 or width % 2:
        raise ValueError(f"a 2x2 pooling met {height} x {width}")
    return x.reshape(channels, height // 2, 2, width // 2, 2).max((2, 4))


def centre(x, size):
    surplus = [have - want for have, want in zip(x.shape[1:], size, strict=True)]
    if any(s % 2 for s in surplus):
        raise ValueError(f"{x.shape[1:]} has no centre of {size}")
    top, left = (s // 2 for s in surplus)
    return x[:, top : top + size[0], left : left + size[1]]
