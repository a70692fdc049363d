"""Layers and resizing that more than one network uses."""

from collections.abc import Sequence

import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.nn import initializer

from paddleseg_ext.common.errors import check_choice


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
    """`ConvBN` and an activation: ReLU, except in networks trained with InPlaceABN."""

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


ACTIVATIONS = {
    "relu": nn.ReLU,
    # InPlaceABN's default activation, in the checkpoints that were trained with it.
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
}


def make_activation(name: str) -> nn.Layer:
    """Returns the activation that follows a norm layer.

    Raises:
        UsageError: `name` is not one of `ACTIVATIONS`.
    """
    check_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def global_average(x: Tensor) -> Tensor:
    """Mean over height and width: (N, C, H, W) -> (N, C, 1, 1)."""
    return F.adaptive_avg_pool2d(x, 1)


def spatial_size_hw(x: Tensor) -> Sequence[int]:
    """Height and width of (N, C, H, W); tensors while a graph with dynamic sizes is traced."""
    return x.shape[2:]


def resize(x: Tensor, size_hw: Sequence[int], mode: str) -> Tensor:
    """Resizes (N, C, H, W) to `size_hw`.

    Args:
        x: the features or logits.
        size_hw: height and width of the result.
        mode: the source position of target index i along a side. `nearest`: floor(i * in / out).
            Bilinear, with PyTorch's arithmetic: `aligned` (align_corners=True),
            i * (in - 1) / (out - 1); `half_pixel`, (i + 0.5) * in / out - 0.5. Bilinear as in
            TensorFlow 1: `asymmetric`, i * in / out.
    """
    if mode == "nearest":
        return F.interpolate(x, size=size_hw, mode="nearest")
    if mode == "asymmetric":
        return F.interpolate(x, size=size_hw, mode="bilinear", align_mode=1)
    return F.interpolate(x, size=size_hw, mode="bilinear", align_corners=mode == "aligned")


def upsample_logits(
    logits: Tensor, size_hw: Sequence[int] | None, mode: str, stride: int
) -> Tensor:
    """Logits at the image's size, (N, classes, *size_hw).

    Args:
        logits: the classifier's output.
        size_hw: the image's; None keeps the native size.
        mode: one of `resize`, or `pixel_shuffle`, which makes stride^2 pixels of as many channels.
        stride: of `logits`.
    """
    if mode == "pixel_shuffle":
        logits = F.pixel_shuffle(logits, stride)
        return logits if size_hw is None else logits[:, :, : size_hw[0], : size_hw[1]]
    return logits if size_hw is None else resize(logits, size_hw, mode)


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
