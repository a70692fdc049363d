"""BiSeNetV1 on the whole Xception, as a TensorFlow project has it.

Paper: BiSeNet, https://arxiv.org/abs/1808.00897, on
Xception: Deep Learning with Depthwise Separable Convolutions, https://arxiv.org/abs/1610.02357
Original: https://github.com/MaybeShewill-CV/bisenetv2-tensorflow bisenet_model/bisenet.py and
xception.py

Apart from `BiSeNetV1`, for nearly every layer differs: TensorFlow's padding and resizing, an
attention refinement without a 3x3 convolution, a main head that is one convolution. Deviation: any
image size works. Where the two paths disagree about the size at 1/8 (at sides that are no multiple
of 32, which the original refuses), the context is resized to the spatial path's.
"""

from collections.abc import Sequence
from typing import ClassVar

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddleseg_ext.models.layers import (
    global_average,
    initialize,
    resize,
    spatial_size_hw,
    upsample_logits,
)

UPSAMPLING = "asymmetric"
NORM_EPSILON = 1e-3
CONTEXT_CHANNELS = 128
FUSED_CHANNELS = 256
MIDDLE_BLOCKS = 8


class BiSeNetV1Xception(nn.Layer):
    """BiSeNetV1 with Xception as its context path.

    Args:
        num_classes: number of classes.

    Attributes:
        upsampling: how native logits come to the image's size: `asymmetric`.
    """

    upsampling = UPSAMPLING
    GATES: ClassVar = {"ffm": ("ffm_conv", "ffm_gate")}  # see `evaluation.explain.gates_of`

    def __init__(self, num_classes: int):
        super().__init__()
        c, fused = CONTEXT_CHANNELS, FUSED_CHANNELS
        self.spatial_path = nn.Sequential(
            SameConvBN(3, 64, 3, stride=2),
            SameConvBN(64, 64, 3, stride=2),
            SameConvBN(64, 64, 3, stride=2),
            SameConvBN(64, c, 1),
        )
        self.xception = Xception()
        self.global_context = SameConvBN(2048, c, 1)
        self.arm32 = ProjectedAttention(2048)
        self.arm16 = ProjectedAttention(512)
        self.refine32 = SameConvBN(c, c, 3)
        self.refine16 = SameConvBN(c, c, 3)
        self.ffm_conv = SameConvBN(2 * c, fused, 3)
        self.ffm_gate = nn.Sequential(
            nn.Conv2D(fused, fused, 1), nn.ReLU(), nn.Conv2D(fused, fused, 1)
        )
        self.head = nn.Conv2D(fused, num_classes, 1, bias_attr=False)
        self.aux_head8 = ContextHead(num_classes)
        self.aux_head16 = ContextHead(num_classes)
        initialize(self)

    def forward(self, images: Tensor, upsample: bool = True) -> list[Tensor]:
        """Logits (N, num_classes, H, W) of the main head, in training also of the auxiliary heads.

        Args:
            images: (N, 3, H, W) float32, normalised; any H and W.
            upsample: False returns the logits at their native size.
        """
        fused, context8, context16 = self._features(images)
        logits = [self.head(fused)]
        if self.training:
            logits += [self.aux_head8(context8), self.aux_head16(context16)]
        size_hw = spatial_size_hw(images) if upsample else None
        return [upsample_logits(x, size_hw, UPSAMPLING, 8) for x in logits]

    def heads(self, images: Tensor) -> dict[str, Tensor]:
        """Logits of every head, at the image's size and under the name of the original."""
        fused, context8, context16 = self._features(images)
        outputs = {
            "logits": self.head(fused),
            "aux8": self.aux_head8(context8),
            "aux16": self.aux_head16(context16),
        }
        size_hw = spatial_size_hw(images)
        return {name: resize(x, size_hw, UPSAMPLING) for name, x in outputs.items()}

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of the three heads: fused (N, 256, H/8, W/8), context at 1/8 and at 1/16."""
        spatial = self.spatial_path(images)
        feature16, feature32 = self.xception(images)
        context = self.arm32(feature32) + self.global_context(global_average(feature32))
        context16 = self.refine32(_resize_to(context, feature16))
        context = self.arm16(feature16) + context16
        context8 = self.refine16(_resize_to(context, spatial))
        fused = self.ffm_conv(paddle.concat([spatial, context8], axis=1))
        fused = fused + fused * F.sigmoid(self.ffm_gate(global_average(fused)))
        return fused, context8, context16


def _resize_to(x: Tensor, target: Tensor) -> Tensor:
    size_hw: Sequence[int] = spatial_size_hw(target)
    return resize(x, size_hw, UPSAMPLING)


class SameConvBN(nn.Layer):
    """Convolution, batch norm and, with `relu`, a ReLU; padded as in TensorFlow."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: str = "SAME",
        relu: bool = True,
    ):
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels, out_channels, kernel_size, stride, padding, bias_attr=False
        )
        self.bn = nn.BatchNorm2D(out_channels, epsilon=NORM_EPSILON)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


class ProjectedAttention(nn.Layer):
    """Attention refinement behind a 1x1 convolution to the context path's width."""

    GATES: ClassVar = {"": ("project", "gate")}

    def __init__(self, in_channels: int):
        super().__init__()
        self.project = SameConvBN(in_channels, CONTEXT_CHANNELS, 1)
        self.gate = SameConvBN(CONTEXT_CHANNELS, CONTEXT_CHANNELS, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        features = self.project(F.relu(x))
        return features * F.sigmoid(self.gate(global_average(features)))


class ContextHead(nn.Layer):
    """3x3 convolution and classifier; used in training."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv = SameConvBN(CONTEXT_CHANNELS, CONTEXT_CHANNELS, 3)
        self.classifier = nn.Conv2D(CONTEXT_CHANNELS, num_classes, 1, bias_attr=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.conv(x))


class Xception(nn.Layer):
    """Entry, middle and exit flow (figure 5 of Xception), without the classifier.

    As in the original, stages 3 and 4 of the entry flow read the branch before them, not the sum.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = SameConvBN(3, 32, 3, stride=2, padding="VALID")
        self.conv2 = SameConvBN(32, 64, 3, padding="VALID")
        self.entry_shortcuts = nn.LayerList(
            [Shortcut(64, 128), Shortcut(128, 256), Shortcut(256, 512)]
        )
        self.entry = nn.LayerList(
            [
                nn.Sequential(SeparableBN(before, channels), SeparableBN(channels, channels))
                for before, channels in ((64, 128), (128, 256), (256, 512))
            ]
        )
        self.middle = nn.LayerList(
            [
                nn.Sequential(*(SeparableBN(512, 512) for _ in range(3)))
                for _ in range(MIDDLE_BLOCKS)
            ]
        )
        self.exit_shortcut = Shortcut(512, 1024, bias=True)
        self.exit = nn.Sequential(
            SeparableBN(512, 512),
            SeparableBN(512, 1024),
            SeparableBN(1024, 1536),
            SeparableBN(1536, 2048),
        )
        self.pool = nn.MaxPool2D(3, stride=2, padding="SAME")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) -> features at 1/16, 512 channels, and at 1/32, 2048 channels."""
        x = self.conv2(self.conv1(images))
        shortcut2, shortcut3, shortcut4 = self.entry_shortcuts
        stage2, stage3, stage4 = self.entry
        residual = shortcut2(x)  # (N, 128, H/4, W/4)
        branch = self.pool(stage2[1](F.relu(stage2[0](x))))
        residual = shortcut3(residual + branch)
        branch = self.pool(_separable(stage3, branch))
        residual = shortcut4(residual + branch)  # (N, 512, H/16, W/16)
        x = residual + self.pool(_separable(stage4, branch))
        for block in self.middle:
            x = x + _separable(block, x)  # (N, 512, H/16, W/16)
        feature16 = F.relu(x)
        branch = self.pool(_separable(self.exit[:2], x))
        x = self.exit_shortcut(x) + branch
        return feature16, F.relu(self.exit[3](F.relu(self.exit[2](x))))


def _separable(layers: nn.Sequential, x: Tensor) -> Tensor:
    """The layers in turn, a ReLU before each."""
    for layer in layers:
        x = layer(F.relu(x))
    return x


class SeparableBN(nn.Layer):
    """Depthwise 3x3 convolution, 1x1 convolution and one norm."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.depthwise = nn.Conv2D(
            in_channels, in_channels, 3, padding="SAME", groups=in_channels, bias_attr=False
        )
        self.pointwise = nn.Conv2D(in_channels, out_channels, 1, bias_attr=False)
        self.bn = nn.BatchNorm2D(out_channels, epsilon=NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.pointwise(self.depthwise(x)))


class Shortcut(nn.Layer):
    """1x1 convolution of stride 2, a ReLU, and the norm behind it."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False):
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels, out_channels, 1, stride=2, bias_attr=None if bias else False
        )
        self.bn = nn.BatchNorm2D(out_channels, epsilon=NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(F.relu(self.conv(x)))
