"""mmsegmentation's names reach every tensor of our networks, each with its shape.

The names are spelt out from the original's module structure, not from our rules. Numbers of its
code are compared in tests/parity, where a folder contains them.
"""

import numpy as np
import pytest

from paddleseg_ext.published.golden import build_for
from paddleseg_ext.published.mapping import rename
from paddleseg_ext.published.systems import recognise

State = dict[str, np.ndarray]


def add_norm(state: State, name: str, channels: int) -> None:
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        state[f"{name}.{leaf}"] = np.zeros(channels, np.float32)
    state[f"{name}.num_batches_tracked"] = np.zeros((), np.int64)


def add(state: State, name: str, *shape: int) -> None:
    """A ConvModule of mmcv: `conv` and `bn`."""
    state[f"{name}.conv.weight"] = np.zeros(shape, np.float32)
    add_norm(state, f"{name}.bn", shape[0])


def add_plain(state: State, name: str, *shape: int, bias: bool = False) -> None:
    state[f"{name}.weight"] = np.zeros(shape, np.float32)
    if bias:
        state[f"{name}.bias"] = np.zeros(shape[0], np.float32)


def add_head(state: State, name: str, in_channels: int, channels: int, convs: int) -> None:
    for i in range(convs):
        add(state, f"{name}.convs.{i}", channels, in_channels if i == 0 else channels, 3, 3)
    add_plain(state, f"{name}.conv_seg", 19, channels, 1, 1, bias=True)


def add_resnet(state: State, resnet: str, depths: tuple[int, ...], bottleneck: bool) -> None:
    add_plain(state, f"{resnet}.conv1", 64, 3, 7, 7)
    add_norm(state, f"{resnet}.bn1", 64)
    before = 64
    for i, depth in enumerate(depths):
        width = 64 << i
        out = 4 * width if bottleneck else width
        shapes = [(width, before, 3, 3), (width, width, 3, 3)]
        if bottleneck:
            shapes = [(width, before, 1, 1), (width, width, 3, 3), (out, width, 1, 1)]
        for block in range(depth):
            name = f"{resnet}.layer{i + 1}.{block}"
            for number, (channels, inner, *kernel) in enumerate(shapes, 1):
                inner = before if number == 1 else inner
                add_plain(state, f"{name}.conv{number}", channels, inner, *kernel)
                add_norm(state, f"{name}.bn{number}", channels)
            if before != out:
                add_plain(state, f"{name}.downsample.0", out, before, 1, 1)
                add_norm(state, f"{name}.downsample.1", out)
            before = out


def bisenetv1_state(depths: tuple[int, ...] = (2, 2, 2, 2), wide: int = 1) -> State:
    """`wide` 4 with the bottlenecks of ResNet50 and 101, as in the original's files."""
    state: State = {}
    context = "backbone.context_path"
    c = 128 * wide
    add_resnet(state, f"{context}.backbone", depths, bottleneck=wide == 4)
    for stride, channels in ((16, 256 * wide), (32, 512 * wide)):
        add(state, f"{context}.arm{stride}.conv_layer", c, channels, 3, 3)
        add(state, f"{context}.arm{stride}.atten_conv_layer.1", c, c, 1, 1)
        add(state, f"{context}.conv_head{stride}", c, c, 3, 3)
    add(state, f"{context}.gap_conv.1", c, 512 * wide, 1, 1)
    half = c // 2
    shapes = ((half, 3, 7, 7), (half, half, 3, 3), (half, half, 3, 3), (c, half, 1, 1))
    for i, shape in enumerate(shapes):
        add(state, f"backbone.spatial_path.layer{i + 1}", *shape)
    add(state, "backbone.ffm.conv1", 2 * c, 2 * c, 1, 1)
    add(state, "backbone.ffm.conv_atten.0", 2 * c, 2 * c, 1, 1)
    add_head(state, "decode_head", 2 * c, 2 * c, 1)
    add_head(state, "auxiliary_head.0", c, half, 1)
    add_head(state, "auxiliary_head.1", c, half, 1)
    return state


def bisenetv1_r50_state() -> State:
    return bisenetv1_state((3, 4, 6, 3), wide=4)


def bisenetv1_r101_state() -> State:
    return bisenetv1_state((3, 4, 23, 3), wide=4)


def add_separable(state: State, name: str, c: int, out: int, point_norm: bool) -> None:
    add(state, f"{name}.depthwise_conv", c, 1, 3, 3)
    # mmcv gives a convolution a bias where no norm follows it.
    add_plain(state, f"{name}.pointwise_conv.conv", out, c, 1, 1, bias=not point_norm)
    if point_norm:
        add_norm(state, f"{name}.pointwise_conv.bn", out)


def bisenetv2_state() -> State:
    state: State = {}
    before = 3
    for stage, channels in enumerate((64, 64, 128)):
        for i in range(2 if stage == 0 else 3):
            name = f"backbone.detail.detail_branch.{stage}.{i}"
            add(state, name, channels, before, 3, 3)
            before = channels
    stem = "backbone.semantic.stage1"
    add(state, f"{stem}.conv_first", 16, 3, 3, 3)
    add(state, f"{stem}.convs.0", 8, 16, 1, 1)
    add(state, f"{stem}.convs.1", 16, 8, 3, 3)
    add(state, f"{stem}.fuse_last", 16, 32, 3, 3)
    before = 16
    for stage, channels, depth in ((2, 32, 2), (3, 64, 2), (4, 128, 4)):
        for i in range(depth):
            name = f"backbone.semantic.stage{stage}.{i}"
            add(state, f"{name}.conv1", before, before, 3, 3)
            add(state, f"{name}.dwconv.0", 6 * before, 1, 3, 3)
            if i == 0:
                add(state, f"{name}.dwconv.1", 6 * before, 1, 3, 3)
                add_separable(state, f"{name}.shortcut.0", before, channels, point_norm=True)
            add(state, f"{name}.conv2.0", channels, 6 * before, 1, 1)
            before = channels
    context = "backbone.semantic.stage4_CEBlock"
    add_norm(state, f"{context}.gap.1", 128)
    add(state, f"{context}.conv_gap", 128, 128, 1, 1)
    add(state, f"{context}.conv_last", 128, 128, 3, 3)
    add_separable(state, "backbone.bga.detail_dwconv.0", 128, 128, point_norm=False)
    add(state, "backbone.bga.detail_down.0", 128, 128, 3, 3)
    add(state, "backbone.bga.semantic_conv.0", 128, 128, 3, 3)
    add_separable(state, "backbone.bga.semantic_dwconv.0", 128, 128, point_norm=False)
    add(state, "backbone.bga.conv", 128, 128, 3, 3)
    add_head(state, "decode_head", 128, 1024, 1)
    for i, (c, channels) in enumerate(((16, 16), (32, 64), (64, 256), (128, 1024))):
        add_head(state, f"auxiliary_head.{i}", c, channels, 2)
    return state


@pytest.mark.parametrize(
    "make", [bisenetv1_state, bisenetv1_r50_state, bisenetv1_r101_state, bisenetv2_state]
)
def test_every_tensor_of_our_network_is_reached(make) -> None:
    state = make()
    generation = recognise(state, "auto", None, "mmseg.pth")
    assert generation.system == "mmseg"
    network = build_for(generation, {"num_classes": 19}).state_dict()
    imported = rename(state, generation.rules, "mmseg.pth", wanted=network)
    got = {name: list(array.shape) for name, array in imported.arrays.items()}
    assert got == {name: list(tensor.shape) for name, tensor in network.items()}
