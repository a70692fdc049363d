"""ResNet at output stride 32, with torchvision's layer names.

Paper: Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385
Original: https://github.com/pytorch/vision torchvision/models/resnet.py; the stride of a bottleneck
is on its 3x3 convolution, as there and not as in the paper. With the stem of ResNet-C
(https://arxiv.org/abs/1812.01187, section 4.1): TorchSeg furnace/base_model/resnet.py.
"""

from paddle import Tensor, nn

from paddleseg_ext.models.layers import initialize, make_activation


class ResNet(nn.Layer):
    """The features of the last three stages, without the classifier.

    Args:
        block: the class of the stages' blocks.
        depths: number of blocks per stage.
        activation: after the norms inside a block and the stem's.
        deep_stem_channels: width of ResNet-C's stem; None: the 7x7 convolution to 64.

    Attributes:
        channels: of the features at 1/8, 1/16 and 1/32.
    """

    def __init__(
        self,
        block: "type[BasicBlock] | type[Bottleneck]",
        depths: tuple[int, int, int, int],
        activation: str = "relu",
        deep_stem_channels: int | None = None,
    ):
        super().__init__()
        in_channels = deep_stem_channels or 64
        self.conv1 = (
            _make_deep_stem(deep_stem_channels)
            if deep_stem_channels
            else nn.Conv2D(3, in_channels, 7, stride=2, padding=3, bias_attr=False)
        )
        self.bn1 = nn.BatchNorm2D(in_channels)
        self.activation = make_activation(activation)
        self.maxpool = nn.MaxPool2D(3, stride=2, padding=1)

        stages = []
        for index, depth in enumerate(depths):
            channels = 64 << index
            blocks = []
            for i in range(depth):
                stride = 2 if index > 0 and i == 0 else 1
                blocks.append(block(in_channels, channels, stride, activation))
                in_channels = channels * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = tuple(c * block.expansion for c in (128, 256, 512))
        initialize(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) -> features at 1/8, 1/16, 1/32."""
        x = self.activation(self.bn1(self.conv1(images)))  # (N, 64 or 128, H/2, W/2)
        x = self.layer1(self.maxpool(x))  # (N, 64, H/4, W/4) before the expansion
        feature8 = self.layer2(x)
        feature16 = self.layer3(feature8)
        feature32 = self.layer4(feature16)
        return feature8, feature16, feature32


class BasicBlock(nn.Layer):
    """Two 3x3 convolutions and a shortcut (figure 5, left)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, activation: str):
        super().__init__()
        self.conv1 = nn.Conv2D(in_channels, channels, 3, stride=stride, padding=1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(channels)
        self.activation = make_activation(activation)
        self.conv2 = nn.Conv2D(channels, channels, 3, padding=1, bias_attr=False)
        self.bn2 = nn.BatchNorm2D(channels)
        self.downsample = _make_shortcut(in_channels, channels * self.expansion, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.activation(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        return self.relu(self.downsample(x) + residual)


class Bottleneck(nn.Layer):
    """1x1, 3x3, 1x1 convolutions and a shortcut (figure 5, right)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, activation: str):
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2D(in_channels, channels, 1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(channels)
        self.conv2 = nn.Conv2D(channels, channels, 3, stride=stride, padding=1, bias_attr=False)
        self.bn2 = nn.BatchNorm2D(channels)
        self.conv3 = nn.Conv2D(channels, out_channels, 1, bias_attr=False)
        self.bn3 = nn.BatchNorm2D(out_channels)
        self.activation = make_activation(activation)
        self.downsample = _make_shortcut(in_channels, out_channels, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.activation(self.bn1(self.conv1(x)))
        residual = self.activation(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return self.relu(self.downsample(x) + residual)


def _make_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Layer:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2D(in_channels, out_channels, 1, stride=stride, bias_attr=False),
        nn.BatchNorm2D(out_channels),
    )


def _make_deep_stem(channels: int) -> nn.Sequential:
    """Three 3x3 convolutions in place of the 7x7 one; the norm of the last is the network's bn1."""
    half = channels // 2
    return nn.Sequential(
        nn.Conv2D(3, half, 3, stride=2, padding=1, bias_attr=False),
        nn.BatchNorm2D(half),
        nn.ReLU(),
        nn.Conv2D(half, half, 3, padding=1, bias_attr=False),
        nn.BatchNorm2D(half),
        nn.ReLU(),
        nn.Conv2D(half, channels, 3, padding=1, bias_attr=False),
    )


class ResNet18(ResNet):
    """18 layers (table 1).

    Args:
        activation: after the norms inside a block and the stem's; `leaky_relu` is for weights that
            were trained with InPlaceABN. After an addition it is always ReLU.
    """

    def __init__(self, activation: str = "relu"):
        super().__init__(BasicBlock, (2, 2, 2, 2), activation)


class ResNet50(ResNet):
    """50 layers (table 1)."""

    def __init__(self) -> None:
        super().__init__(Bottleneck, (3, 4, 6, 3))


class ResNet101(ResNet):
    """101 layers (table 1)."""

    def __init__(self) -> None:
        super().__init__(Bottleneck, (3, 4, 23, 3))


class ResNet101_v1c(ResNet):
    """101 layers with the stem of ResNet-C, twice as wide: TorchSeg's."""

    def __init__(self) -> None:
        super().__init__(Bottleneck, (3, 4, 23, 3), deep_stem_channels=128)
