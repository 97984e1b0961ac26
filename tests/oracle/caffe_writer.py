"""Writes a U-Net as a Caffe network: prototxt as text, weights in protobuf's wire format, without Caffe.

Field numbers are those of `caffe.proto`: NetParameter 1 name, 100 layer; LayerParameter 1 name, 2 type,
7 blobs; BlobProto 7 shape, 5 data; BlobShape 1 dim. A field on the wire is a key (number * 8 + wire type) and
a value: type 0 an integer, type 2 a length and so many bytes.
"""

from numpy_unet import up_name


def caffemodel(weights):
    """Bytes of a NetParameter with the arrays of `weights` (`<layer>.weight`, `<layer>.bias`)."""
    layers = []
    for name in [key.removesuffix(".weight") for key in weights if key.endswith(".weight")]:
        kind = b"Deconvolution" if name.startswith("upconv") else b"Convolution"
        blobs = [_field(7, _blob(weights[f"{name}.{part}"])) for part in ("weight", "bias")]
        layers.append(_field(1, name.encode()) + _field(2, kind) + b"".join(blobs))
    return _field(1, b"u-net") + b"".join(_field(100, layer) for layer in layers)


def _blob(array):
    shape = _field(1, b"".join(map(_varint, array.shape)))
    return _field(7, shape) + _field(5, array.astype("<f4").tobytes())


def _field(number, payload):
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value):
    """Seven bits per byte, the lowest first; the top bit says that more follow."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def prototxt(weights, *, height, width, depth=4):
    """Text of the released network for one input size: ReLU after up-convs, dropout, [up, skip]."""
    in_channels = weights["conv_d0a-b.weight"].shape[1]
    text = [f'name: "u-net" input: "d0a" input_dim: 1 input_dim: {in_channels}']
    text += [f"input_dim: {height} input_dim: {width}"]
    for level in range(depth + 1):
        a, b, c = (f"d{level}{step}" for step in "abc")
        text += _conv(weights, a, b) + _relu(b) + _conv(weights, b, c) + _relu(c)
        if level >= depth - 1:
            text += [_layer("Dropout", f"dropout_{c}", [c], c, "dropout_param { dropout_ratio: 0.5 }")]
        if level < depth:
            pool = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
            text += [_layer("Pooling", f"pool_{c}", [c], f"d{level + 1}a", pool)]
    below = f"d{depth}c"
    for level in reversed(range(depth)):
        a, b, c, d = (f"u{level}{step}" for step in "abcd")
        up, skip = up_name(level, depth), f"d{level}c"
        kernel = _kernel(weights[f"{up}.weight"].shape[1], size=2, stride=2)
        text += [_layer("Deconvolution", up, [below], a, kernel), *_relu(a)]
        crop = f"crop_param {{ axis: 2 offset: {_crop_offset(level, depth)} }}"
        text += [_layer("Crop", f"crop_{skip}", [skip, a], f"{skip}_cropped", crop)]
        text += [_layer("Concat", f"concat_{b}", [a, f"{skip}_cropped"], b, "concat_param { axis: 1 }")]
        text += _conv(weights, b, c) + _relu(c) + _conv(weights, c, d) + _relu(d)
        below = d
    return "\n".join(text + _conv(weights, "u0d", "score"))


def _conv(weights, bottom, top):
    name = f"conv_{bottom}-{top if top == 'score' else top[-1]}"
    kernels = weights[f"{name}.weight"]
    kernel = _kernel(kernels.shape[0], size=kernels.shape[2], stride=1)
    return [_layer("Convolution", name, [bottom], top, kernel)]


def _kernel(channels, *, size, stride):
    return f"convolution_param {{ num_output: {channels} kernel_size: {size} stride: {stride} pad: 0 }}"


def _relu(blob):
    return [_layer("ReLU", f"relu_{blob}", [blob], blob, "")]


def _layer(kind, name, bottoms, top, parameters):
    inputs = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {inputs} top: "{top}" {parameters} }}'


def _crop_offset(level, depth):
    """Pixels that the detour below `level` loses on each side: two 3x3 convolutions at every stop."""
    offset = 2 * 2
    for _ in range(level + 1, depth):
        offset = 2 * (2 + offset + 2)
    return offset
