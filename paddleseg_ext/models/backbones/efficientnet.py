"""EfficientNet-B1, stage by stage, with timm's layer names.

Paper: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks,
https://arxiv.org/abs/1905.11946 (table 1, scaled: depth 1.1, width 1.0)
Original: https://github.com/huggingface/pytorch-image-models timm/models/efficientnet.py, which
pads symmetrically where TensorFlow's does not.
"""

import paddle.nn.functional as F
from paddle import Tensor, nn

from paddleseg_ext.models.layers import global_average, initialize

STEM_CHANNELS = 32
# Blocks, output channels, kernel, stride and expansion of the seven stages.
STAGES = (
    (2, 16, 3, 1, 1),
    (3, 24, 3, 2, 6),
    (3, 40, 5, 2, 6),
    (4, 80, 3, 2, 6),
    (4, 112, 5, 1, 6),
    (5, 192, 5, 2, 6),
    (2, 320, 3, 1, 6),
)


class EfficientNetB1(nn.Layer):
    """Five stages; a network can put layers of its own between them.

    Attributes:
        channels: of the features at 1/2 (the stem's), 1/4, 1/8, 1/16 and 1/32.
        exchange_channels: width of DABNet's exchange modules at 1/4 to 1/32.
        spatial_channels: width of DABNet's spatial branch at 1/4.
    """

    channels = (16, 24, 40, 112, 320)
    exchange_channels = (24, 32, 32, 32)
    spatial_channels = 24
    # The paper's stages, of seven, that make each of ours after the stem.
    _groups = ((1,), (2,), (3, 4), (5, 6))

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _conv(3, STEM_CHANNELS, 3, stride=2)
        self.bn1 = nn.BatchNorm2D(STEM_CHANNELS)
        in_channels, stages = STEM_CHANNELS, []
        for depth, channels, kernel_size, stride, expansion in STAGES:
            blocks: list[nn.Layer] = []
            for i in range(depth):
                step = stride if i == 0 else 1
                if expansion == 1:
                    blocks.append(DepthwiseSeparable(in_channels, channels, kernel_size, step))
                else:
                    blocks.append(
                        InvertedResidual(in_channels, channels, kernel_size, step, expansion)
                    )
                in_channels = channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.LayerList(stages)
        initialize(self)

    def stem(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 16, H/2, W/2)."""
        return self.blocks[0](F.silu(self.bn1(self.conv_stem(images))))

    def stage(self, index: int, x: Tensor) -> Tensor:
        """Output of stage 0 to 3: the feature at half the size of `x`."""
        for number in self._groups[index]:
            x = self.blocks[number](x)
        return x

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> features at 1/2, 1/4, 1/8, 1/16, 1/32."""
        features = [self.stem(images)]
        for index in range(4):
            features.append(self.stage(index, features[-1]))
        return features


class DepthwiseSeparable(nn.Layer):
    """The first stage's block: no expansion."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int):
        super().__init__()
        self._skips = stride == 1 and in_channels == out_channels
        self.conv_dw = _conv(in_channels, in_channels, kernel_size, stride, groups=in_channels)
        self.bn1 = nn.BatchNorm2D(in_channels)
        self.se = SqueezeExcite(in_channels, in_channels // 4)
        self.conv_pw = _conv(in_channels, out_channels, 1)
        self.bn2 = nn.BatchNorm2D(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.se(F.silu(self.bn1(self.conv_dw(x))))
        y = self.bn2(self.conv_pw(y))
        return x + y if self._skips else y


class InvertedResidual(nn.Layer):
    """Expand, filter each channel, gate, project."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expansion: int
    ):
        super().__init__()
        self._skips = stride == 1 and in_channels == out_channels
        expanded = in_channels * expansion
        self.conv_pw = _conv(in_channels, expanded, 1)
        self.bn1 = nn.BatchNorm2D(expanded)
        self.conv_dw = _conv(expanded, expanded, kernel_size, stride, groups=expanded)
        self.bn2 = nn.BatchNorm2D(expanded)
        # A quarter of the block's input channels, not of the expanded ones.
        self.se = SqueezeExcite(expanded, in_channels // 4)
        self.conv_pwl = _conv(expanded, out_channels, 1)
        self.bn3 = nn.BatchNorm2D(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.bn1(self.conv_pw(x)))
        y = self.se(F.silu(self.bn2(self.conv_dw(y))))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self._skips else y


class SqueezeExcite(nn.Layer):
    """One gate per channel, from the global average."""

    def __init__(self, channels: int, reduced: int):
        super().__init__()
        self.conv_reduce = nn.Conv2D(channels, reduced, 1)
        self.conv_expand = nn.Conv2D(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.sigmoid(self.conv_expand(F.silu(self.conv_reduce(global_average(x)))))


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Conv2D:
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=groups,
        bias_attr=False,
    )
