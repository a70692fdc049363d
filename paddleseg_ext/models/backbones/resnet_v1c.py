"""ResNet-18 with the three-convolution stem of ResNet-C, stage by stage: DABNet's backbone.

Paper: Bag of Tricks for Image Classification with Convolutional Neural Networks,
https://arxiv.org/abs/1812.01187 (section 4.1)
Original: mmsegmentation's ResNetV1c, https://github.com/open-mmlab/mmsegmentation
"""

from paddle import Tensor, nn

from paddleseg_ext.models.backbones.resnet import BasicBlock
from paddleseg_ext.models.layers import ConvBNReLU, initialize


class ResNet18_v1c(nn.Layer):
    """Five stages; a network can put layers of its own between them.

    Attributes:
        channels: of the features at 1/2 (the stem's), 1/4, 1/8, 1/16 and 1/32.
        exchange_channels: width of DABNet's exchange modules at 1/4 to 1/32.
        spatial_channels: width of DABNet's spatial branch at 1/4.
    """

    channels = (64, 64, 128, 256, 512)
    exchange_channels = (32, 64, 64, 64)
    spatial_channels = 64

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvBNReLU(3, 32, 3, stride=2), ConvBNReLU(32, 32, 3), ConvBNReLU(32, 64, 3)
        )
        self.maxpool = nn.MaxPool2D(3, stride=2, padding=1)
        in_channels, stages = 64, []
        for index in range(4):
            channels, stride = 64 << index, 2 if index else 1
            stages.append(
                nn.Sequential(
                    BasicBlock(in_channels, channels, stride, "relu"),
                    BasicBlock(channels, channels, 1, "relu"),
                )
            )
            in_channels = channels
        self.layers = nn.LayerList(stages)
        initialize(self)

    def stem(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 64, H/2, W/2)."""
        return self.convs(images)

    def stage(self, index: int, x: Tensor) -> Tensor:
        """Output of stage 0 to 3: the feature at half the size of `x`."""
        return self.layers[index](self.maxpool(x) if index == 0 else x)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> features at 1/2, 1/4, 1/8, 1/16, 1/32."""
        features = [self.stem(images)]
        for index in range(4):
            features.append(self.stage(index, features[-1]))
        return features
