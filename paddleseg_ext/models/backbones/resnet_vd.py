"""ResNet-D, dilated to a smaller output stride: the backbone of PaddleSeg's BiSeNetV1.

Paper: Bag of Tricks for Image Classification with Convolutional Neural Networks,
https://arxiv.org/abs/1812.01187 (section 4.1: the three-convolution stem of ResNet-C and the
average pool in the shortcut of ResNet-D).
Source: PaddleSeg 2.8.0, paddleseg/models/backbones/resnet_vd.py, for the dilations.
"""

from paddle import Tensor, nn

from paddleseg_ext.models.layers import ConvBN, ConvBNReLU, initialize

# Output stride -> dilation of the four stages. A dilated stage keeps the size of its input.
DILATIONS = {8: (1, 1, 2, 4), 16: (1, 1, 1, 2), 32: (1, 1, 1, 1)}


class ResNet18_vd(nn.Layer):
    """ResNet18-D without the classifier.

    Args:
        output_stride: of the last stage: 8, 16 or 32. At 8 the features of the last three stages
            are all at 1/8, as in PaddleSeg's BiSeNetV1.

    Attributes:
        channels: of the features of the last three stages.
        output_stride: of the last stage.
    """

    channels = (128, 256, 512)

    def __init__(self, output_stride: int = 8):
        super().__init__()
        if output_stride not in DILATIONS:
            raise ValueError(f"output_stride is 8, 16 or 32, got {output_stride}")
        self.output_stride = output_stride
        self.stem = nn.Sequential(
            ConvBNReLU(3, 32, 3, stride=2), ConvBNReLU(32, 32, 3), ConvBNReLU(32, 64, 3)
        )
        self.maxpool = nn.MaxPool2D(3, stride=2, padding=1)
        in_channels = 64
        stages = []
        for index, dilation in enumerate(DILATIONS[output_stride]):
            channels = 64 << index
            stride = 2 if index > 0 and dilation == 1 else 1
            stages.append(
                nn.Sequential(
                    DilatedBlock(in_channels, channels, stride, dilation, first=True),
                    DilatedBlock(channels, channels, 1, dilation, first=False),
                )
            )
            in_channels = channels
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        initialize(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) -> features of the last three stages, 128, 256 and 512 channels."""
        x = self.layer1(self.maxpool(self.stem(images)))  # (N, 64, H/4, W/4)
        second = self.layer2(x)  # (N, 128, H/8, W/8)
        third = self.layer3(second)
        fourth = self.layer4(third)
        return second, third, fourth


class DilatedBlock(nn.Layer):
    """Two 3x3 convolutions; where the size shrinks, the shortcut averages before its 1x1."""

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int, first: bool):
        super().__init__()
        self.conv1 = ConvBNReLU(in_channels, channels, 3, stride=stride, dilation=dilation)
        self.conv2 = ConvBN(channels, channels, 3, dilation=dilation)
        self.pool = nn.AvgPool2D(2, stride=2, ceil_mode=True) if stride == 2 else nn.Identity()
        # The first block of every stage has a convolution here, even where the shape stays.
        self.shortcut = ConvBN(in_channels, channels, 1) if first else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv2(self.conv1(x))
        return self.relu(self.shortcut(self.pool(x)) + residual)
