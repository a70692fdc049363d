"""STDCNet: short-term dense concatenation.

Paper: Rethinking BiSeNet For Real-time Semantic Segmentation, https://arxiv.org/abs/2104.13188
(section 3.1, figure 3, table 2)
Original: https://github.com/MichaelFan01/STDC-Seg nets/stdcnet.py
"""

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddleseg_ext.models.layers import ConvBN, ConvBNReLU, global_average, initialize

STAGE_CHANNELS = (256, 512, 1024)
CLASSIFIER_CHANNELS = 1024


class STDCNet(nn.Layer):
    """The features of every stage, without the classifier.

    Args:
        last_stage: False ends at 1/16, as STDCNet813Del of a fork ("delNet").
        conv_last: add the classifier's 1x1 convolution after the last stage.
        pool_counts_padding: average pools divide by 9 at the border too. PaddleSeg's do not.

    Attributes:
        channels: of the features at 1/2, 1/4, 1/8, 1/16 and 1/32.
        depths: numbers of STDC modules at 1/8, 1/16 and 1/32.
    """

    depths: tuple[int, int, int]

    def __init__(
        self,
        last_stage: bool = True,
        conv_last: bool = False,
        pool_counts_padding: bool = True,
    ):
        super().__init__()
        widths = STAGE_CHANNELS[: 3 if last_stage else 2]
        self.stage2 = ConvBNReLU(3, 32, 3, stride=2)
        self.stage4 = ConvBNReLU(32, 64, 3, stride=2)
        in_channels, stages = 64, []
        for depth, channels in zip(self.depths, widths, strict=False):
            blocks = [CatBottleneck(in_channels, channels, 2, pool_counts_padding)]
            blocks += [CatBottleneck(channels, channels, 1) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            in_channels = channels
        self.stages = nn.LayerList(stages)
        self.channels = (32, 64, *widths)
        self.conv_last = None
        if conv_last:
            self.conv_last = ConvBNReLU(in_channels, max(CLASSIFIER_CHANNELS, in_channels), 1)
            self.channels = (*self.channels[:-1], max(CLASSIFIER_CHANNELS, in_channels))
        initialize(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> features at 1/2, 1/4, 1/8, 1/16, 1/32."""
        features = [self.stage2(images)]
        features.append(self.stage4(features[-1]))
        for stage in self.stages:
            features.append(stage(features[-1]))
        if self.conv_last is not None:
            features[-1] = self.conv_last(features[-1])
        return features


class CatBottleneck(nn.Layer):
    """STDC module: four convolutions, each half as wide as the one before, and all concatenated.

    At stride 2 the first convolution's output is average-pooled for the concatenation, and passes
    a depthwise convolution before the second (figure 3c).
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, pool_counts_padding: bool = True
    ):
        super().__init__()
        half, quarter, eighth = (out_channels // n for n in (2, 4, 8))
        self.conv1 = ConvBNReLU(in_channels, half, 1)
        self.down = ConvBN(half, half, 3, stride=2, groups=half) if stride == 2 else nn.Identity()
        self.pool = (
            nn.AvgPool2D(3, stride=2, padding=1, exclusive=not pool_counts_padding)
            if stride == 2
            else nn.Identity()
        )
        self.conv2 = ConvBNReLU(half, quarter, 3)
        self.conv3 = ConvBNReLU(quarter, eighth, 3)
        self.conv4 = ConvBNReLU(eighth, eighth, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(x)
        second = self.conv2(self.down(first))
        third = self.conv3(second)
        fourth = self.conv4(third)
        return paddle.concat([self.pool(first), second, third, fourth], axis=1)


class STDCClassifier(nn.Layer):
    """The ImageNet classifier around a backbone, by which its published weights are checked.

    Args:
        num_classes: number of classes.
        backbone: an `STDCNet` without `conv_last`, which is part of the classifier here.
        dropout: probability that a channel is dropped in training.
    """

    def __init__(self, num_classes: int, backbone: STDCNet, dropout: float = 0.2):
        super().__init__()
        self.backbone = backbone
        self.conv_last = ConvBNReLU(backbone.channels[-1], CLASSIFIER_CHANNELS, 1)
        self.fc = nn.Linear(CLASSIFIER_CHANNELS, CLASSIFIER_CHANNELS, bias_attr=False)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(CLASSIFIER_CHANNELS, num_classes, bias_attr=False)
        for layer in (self.conv_last, self.fc, self.linear):
            initialize(layer)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (N, num_classes)."""
        return self._classify(self.backbone(images)[-1])

    def _classify(self, feature32: Tensor) -> Tensor:
        # The original squares before it averages, which gives strong responses more weight.
        x = global_average(self.conv_last(feature32) ** 2).flatten(1)
        return self.linear(self.dropout(F.relu(self.fc(x))))

    def heads(self, images: Tensor) -> dict[str, Tensor]:
        """The features of every stage and the class logits (N, num_classes, 1, 1)."""
        features = self.backbone(images)
        outputs = {f"feat{2 << i}": feature for i, feature in enumerate(features)}
        outputs["class_logits"] = self._classify(features[-1]).unsqueeze([2, 3])
        return outputs


class STDCNet813(STDCNet):
    """STDC1."""

    depths = (2, 2, 2)


class STDCNet1446(STDCNet):
    """STDC2."""

    depths = (4, 5, 3)
