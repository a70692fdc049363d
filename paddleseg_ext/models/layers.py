"""Layers and resizing that more than one network uses."""

from collections.abc import Sequence

import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.nn import initializer

ACTIVATIONS = {
    "relu": nn.ReLU,
    # InPlaceABN's default activation, in the checkpoints that were trained with it.
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
}


def make_activation(name: str) -> nn.Layer:
    """The activation that follows a norm layer.

    Raises:
        ValueError: `name` is not one of `ACTIVATIONS`.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]()


class ConvBN(nn.Layer):
    """A convolution without bias and its batch norm, padded to keep the size at stride 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ):
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2 * dilation,
            dilation=dilation,
            groups=groups,
            bias_attr=False,
        )
        self.bn = nn.BatchNorm2D(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class ConvBNReLU(ConvBN):
    """`ConvBN` and an activation (ReLU in all networks but those trained with InPlaceABN)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        activation: str = "relu",
    ):
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation, groups)
        self.activation = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        # Not super().forward(x): Paddle 2.6 cannot trace that.
        return self.activation(self.bn(self.conv(x)))


def global_average(x: Tensor) -> Tensor:
    """Mean over height and width: (N, C, H, W) -> (N, C, 1, 1)."""
    return F.adaptive_avg_pool2d(x, 1)


def spatial_size_hw(x: Tensor) -> Sequence[int]:
    """Height and width of (N, C, H, W); tensors while a graph with dynamic sizes is traced."""
    return x.shape[2:]


def resize_bilinear(x: Tensor, size_hw: Sequence[int], align_corners: bool) -> Tensor:
    """Bilinear resize; PyTorch's arithmetic for either value of `align_corners`."""
    return F.interpolate(x, size=size_hw, mode="bilinear", align_corners=align_corners)


def resize_nearest(x: Tensor, size_hw: Sequence[int]) -> Tensor:
    """Nearest resize: target index i reads source index floor(i * in / out)."""
    return F.interpolate(x, size=size_hw, mode="nearest")


def initialize(network: nn.Layer) -> None:
    """Kaiming-normal (fan in) weights and zero biases for every convolution and linear layer.

    Norm layers start at Paddle's weight 1 and bias 0. `fan in` counts the channels of one group,
    which Paddle's own default for convolutions does not.

    Source: He et al. 2015, section 2.2; TorchSeg (utils/init_func.py) starts BiSeNet like this.
    """
    for layer in network.sublayers(include_self=True):
        if isinstance(layer, nn.Conv2D | nn.Linear):
            initializer.KaimingNormal()(layer.weight)
            if layer.bias is not None:
                initializer.Constant(0.0)(layer.bias)
