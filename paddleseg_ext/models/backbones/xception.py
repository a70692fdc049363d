"""Xception39, the light backbone of BiSeNetV1.

Paper: BiSeNet, https://arxiv.org/abs/1808.00897 (section 4.1), after
Xception: Deep Learning with Depthwise Separable Convolutions, https://arxiv.org/abs/1610.02357
Original: https://github.com/ycszen/TorchSeg furnace/base_model/xception.py
"""

from paddle import Tensor, nn

from paddleseg_ext.models.layers import ConvBN, ConvBNReLU, initialize


class Xception39(nn.Layer):
    """39 layers, without the classifier.

    Attributes:
        channels: of the features at 1/8, 1/16 and 1/32.
    """

    channels = (64, 128, 256)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBNReLU(3, 8, 3, stride=2)
        self.maxpool = nn.MaxPool2D(3, stride=2, padding=1)
        in_channels = 8
        stages = []
        for depth, channels in ((4, 16), (8, 32), (4, 64)):
            blocks = []
            for i in range(depth):
                blocks.append(XceptionBlock(in_channels, channels, first=i == 0))
                in_channels = 4 * channels
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        initialize(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) -> features at 1/8, 1/16, 1/32."""
        x = self.maxpool(self.conv1(images))  # (N, 8, H/4, W/4)
        feature8 = self.layer1(x)
        feature16 = self.layer2(feature8)
        feature32 = self.layer3(feature16)
        return feature8, feature16, feature32


class XceptionBlock(nn.Layer):
    """Three separable convolutions and a shortcut."""

    def __init__(self, in_channels: int, channels: int, first: bool):
        super().__init__()
        stride = 2 if first else 1
        self.residual_branch = nn.Sequential(
            SeparableConvBN(in_channels, channels, stride),
            SeparableConvBN(channels, channels),
            SeparableConvBN(channels, 4 * channels, relu=False),
        )
        self.proj = (
            SeparableConvBN(in_channels, 4 * channels, stride, relu=False)
            if first
            else nn.Identity()
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.proj(x) + self.residual_branch(x))


class SeparableConvBN(nn.Layer):
    """3x3 depthwise convolution without norm or activation, then 1x1 convolution and norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, relu: bool = True):
        super().__init__()
        self.conv1 = nn.Conv2D(
            in_channels,
            in_channels,
            3,
            stride=stride,
            padding=1,
            groups=in_channels,
            bias_attr=False,
        )
        self.point_wise_cbr = (ConvBNReLU if relu else ConvBN)(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_wise_cbr(self.conv1(x))
