"""BiSeNetV2, in the variants that published weights exist for.

Paper: BiSeNet V2: Bilateral Network with Guided Aggregation for Real-time Semantic Segmentation,
https://arxiv.org/abs/2004.02147
Original: the authors published no code. Reference implementation:
https://github.com/CoinCheung/BiSeNet lib/models/bisenetv2.py (variant `coincheung`).

`bisenetv2_variants.py` lists by name how the published networks differ. Deviation from all of them:
any image size works; features are resized to the map they meet and logits straight to the image's
size.
"""

from collections.abc import Sequence
from typing import ClassVar

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddleseg_ext.models.bisenetv2_variants import VARIANTS, BiSeNetV2Variant
from paddleseg_ext.models.layers import (
    global_average,
    initialize,
    resize,
    spatial_size_hw,
    upsample_logits,
)
from paddleseg_ext.models.variant import find_variant

DROPOUT = 0.1
DETAIL_CHANNELS = 128


class BiSeNetV2(nn.Layer):
    """Bilateral network with guided aggregation (figure 3).

    Args:
        num_classes: number of classes.
        variant: a name of `bisenetv2_variants.VARIANTS`.

    Attributes:
        upsampling: how native logits come to the image's size: `aligned`, `half_pixel`,
            `asymmetric` or `pixel_shuffle`.
    """

    def __init__(self, num_classes: int, variant: str = "coincheung"):
        super().__init__()
        self.variant = v = find_variant(VARIANTS, variant)
        self.upsampling = v.head_upsampling
        self.detail = DetailBranch(v)
        self.semantic = SemanticBranch(v)
        self.bga = GuidedAggregation(v)
        main, *aux = v.head_channels
        self.head = BiSeNetV2Head(DETAIL_CHANNELS, main, num_classes, 8, v, main=True)
        self.aux_heads = nn.LayerList(
            BiSeNetV2Head(in_channels, channels, num_classes, stride, v)
            for in_channels, channels, stride in zip(
                v.semantic_channels, aux, (4, 8, 16, 32), strict=True
            )
        )
        initialize(self)

    def forward(self, images: Tensor, upsample: bool = True) -> list[Tensor]:
        """Logits (N, num_classes, H, W) of the main head, in training also of the auxiliary heads.

        Args:
            images: (N, 3, H, W) float32, normalised; any H and W.
            upsample: False returns the logits at their native size.

        Returns:
            The main head's logits; in training then those at 1/4, 1/8, 1/16 and 1/32.
        """
        features, context = self.semantic(images)
        size_hw = spatial_size_hw(images) if upsample else None
        logits = [self.head(self.bga(self.detail(images), context), size_hw)]
        if self.training:
            # to_static, which training can ask for, knows no zip(strict=True).
            for head, feature in zip(self.aux_heads, features):  # noqa: B905
                logits.append(head(feature, size_hw))
        return logits

    def heads(self, images: Tensor) -> dict[str, Tensor]:
        """Logits of every head under the name of the original."""
        features, context = self.semantic(images)
        fused = self.bga(self.detail(images), context)
        size_hw = spatial_size_hw(images)
        auxiliary = dict(
            zip(self.variant.aux_names, zip(self.aux_heads, features, strict=True), strict=True)
        )
        if self.variant.native_outputs:
            outputs = {"logits": self.head(fused, size_hw), "head_s8": self.head(fused)}
            return outputs | {name: head(x) for name, (head, x) in auxiliary.items()}
        outputs = {"logits": self.head.as_published(fused, size_hw)}
        return outputs | {
            name: head.as_published(x, size_hw) for name, (head, x) in auxiliary.items()
        }


class DetailBranch(nn.Layer):
    """Wide and shallow, to 1/8 (section 3.2)."""

    def __init__(self, variant: BiSeNetV2Variant):
        super().__init__()
        self.stage1 = nn.Sequential(
            ConvNorm(3, 64, 3, variant, stride=2), ConvNorm(64, 64, 3, variant)
        )
        self.stage2 = nn.Sequential(
            ConvNorm(64, 64, 3, variant, stride=2),
            ConvNorm(64, 64, 3, variant),
            ConvNorm(64, 64, 3, variant),
        )
        self.stage3 = nn.Sequential(
            ConvNorm(64, 128, 3, variant, stride=2),
            ConvNorm(128, 128, 3, variant),
            ConvNorm(128, 128, 3, variant, relu=variant.detail_relu),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.stage3(self.stage2(self.stage1(images)))  # (N, 128, H/8, W/8)


class SemanticBranch(nn.Layer):
    """Narrow and deep, to 1/32 (section 3.3)."""

    def __init__(self, variant: BiSeNetV2Variant):
        super().__init__()
        c4, c8, c16, c32 = variant.semantic_channels
        self.stem = Stem(c4, variant)
        self.stage3 = nn.Sequential(GatherExpandDown(c4, c8, variant), GatherExpand(c8, variant))
        self.stage4 = nn.Sequential(GatherExpandDown(c8, c16, variant), GatherExpand(c16, variant))
        self.stage5 = nn.Sequential(
            GatherExpandDown(c16, c32, variant),
            GatherExpand(c32, variant),
            GatherExpand(c32, variant),
            GatherExpand(c32, variant),
        )
        self.context = ContextEmbedding(c32, variant)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features at 1/4, 1/8, 1/16, 1/32, and the last with its context embedded."""
        features = [self.stem(images)]
        for stage in (self.stage3, self.stage4, self.stage5):
            features.append(stage(features[-1]))
        return features, self.context(features[-1])


class Stem(nn.Layer):
    """Down to 1/4 by convolution and by pooling (figure 4a)."""

    def __init__(self, channels: int, variant: BiSeNetV2Variant):
        super().__init__()
        self.conv = ConvNorm(3, channels, 3, variant, stride=2)
        self.left = nn.Sequential(
            ConvNorm(channels, channels // 2, 1, variant),
            ConvNorm(channels // 2, channels, 3, variant, stride=2),
        )
        self.right = nn.MaxPool2D(3, stride=2, padding="SAME" if variant.same_pooling else 1)
        self.fuse = ConvNorm(2 * channels, channels, 3, variant)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images)
        return self.fuse(paddle.concat([self.left(x), self.right(x)], axis=1))


class GatherExpand(nn.Layer):
    """Gather-and-expansion layer at stride 1 (figure 5b)."""

    def __init__(self, channels: int, variant: BiSeNetV2Variant):
        super().__init__()
        expanded = variant.expansion * channels
        self.conv = ConvNorm(channels, channels, 3, variant)
        self.depthwise = ConvNorm(
            channels, expanded, 3, variant, groups=channels, relu=variant.depthwise_relu
        )
        self.project = ConvNorm(expanded, channels, 1, variant, relu=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.project(self.depthwise(self.conv(x))) + x)


class GatherExpandDown(nn.Layer):
    """Gather-and-expansion layer at stride 2 (figure 5c)."""

    def __init__(self, in_channels: int, out_channels: int, variant: BiSeNetV2Variant):
        super().__init__()
        expanded = variant.expansion * in_channels
        self.conv = ConvNorm(in_channels, in_channels, 3, variant)
        self.depthwise1 = ConvNorm(
            in_channels, expanded, 3, variant, stride=2, groups=in_channels, relu=False
        )
        self.depthwise2 = ConvNorm(
            expanded, expanded, 3, variant, groups=expanded, relu=variant.depthwise_relu
        )
        self.project = ConvNorm(expanded, out_channels, 1, variant, relu=False)
        self.shortcut = nn.Sequential(
            ConvNorm(in_channels, in_channels, 3, variant, 2, groups=in_channels, relu=False),
            ConvNorm(in_channels, out_channels, 1, variant, relu=False),
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.depthwise2(self.depthwise1(self.conv(x)))
        return self.relu(self.project(residual) + self.shortcut(x))


class ContextEmbedding(nn.Layer):
    """Adds the global average to every pixel (figure 4b)."""

    def __init__(self, channels: int, variant: BiSeNetV2Variant):
        super().__init__()
        self.bn = nn.BatchNorm2D(channels, epsilon=variant.norm_epsilon)
        self.conv_gap = ConvNorm(channels, channels, 1, variant)
        self.conv_last = (
            ConvNorm(channels, channels, 3, variant)
            if variant.context_norm
            else nn.Conv2D(
                channels, channels, 3, padding=1, bias_attr=None if variant.conv_bias else False
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_last(x + self.conv_gap(self.bn(global_average(x))))


class GuidedAggregation(nn.Layer):
    """BGA: each branch gates the other, at the scale of both (figure 6)."""

    GATES: ClassVar = {  # see `evaluation.explain.gates_of`
        "detail": ("detail_keep", "semantic_up"),
        "semantic": ("detail_down", "semantic_keep"),
    }

    def __init__(self, variant: BiSeNetV2Variant):
        super().__init__()
        c = DETAIL_CHANNELS
        self._upsampling = variant.aggregation
        bias = None if variant.conv_bias or variant.keep_bias else False
        self.detail_keep = nn.Sequential(
            ConvNorm(c, c, 3, variant, groups=c, relu=False), nn.Conv2D(c, c, 1, bias_attr=bias)
        )
        self.detail_down = ConvNorm(c, c, 3, variant, stride=2, relu=False)
        self.pool = nn.AvgPool2D(
            3,
            stride=2,
            padding="SAME" if variant.same_pooling else 1,
            exclusive=not variant.pool_counts_padding,
        )
        self.semantic_up = ConvNorm(c, c, 3, variant, relu=False)
        self.semantic_keep = nn.Sequential(
            ConvNorm(c, c, 3, variant, groups=c, relu=False), nn.Conv2D(c, c, 1, bias_attr=bias)
        )
        self.conv = ConvNorm(c, c, 3, variant, relu=variant.aggregation_relu)

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        """(N, 128, H/8, W/8) and (N, 128, H/32, W/32) -> (N, 128, H/8, W/8)."""
        fine = self.detail_keep(detail)
        gate = resize(self.semantic_up(semantic), spatial_size_hw(detail), self._upsampling)
        fine = fine * F.sigmoid(gate)
        coarse = self.pool(self.detail_down(detail)) * F.sigmoid(self.semantic_keep(semantic))
        return self.conv(fine + resize(coarse, spatial_size_hw(detail), self._upsampling))


class BiSeNetV2Head(nn.Layer):
    """3x3 convolution, dropout, in auxiliary heads a widening or a convolution, classifier.

    Args:
        in_channels: of the features.
        channels: of the 3x3 convolution.
        num_classes: number of classes.
        stride: of the features; pixel shuffle multiplies their size by it.
        variant: of the network.
        main: the main head, which is `plain` in every variant.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_classes: int,
        stride: int,
        variant: BiSeNetV2Variant,
        main: bool = False,
    ):
        super().__init__()
        self._stride = stride
        self._main = main
        self._published_factors = variant.published_factors
        self._upsampling = variant.head_upsampling
        self._doubles = variant.head == "expanded" and not main
        self.conv = ConvNorm(in_channels, channels, 3, variant)
        # mmsegmentation drops whole channels of the classifier's input.
        self._drops_last = variant.head == "two_convs"
        self.dropout = nn.Dropout2D(DROPOUT) if self._drops_last else nn.Dropout(DROPOUT)
        self.expand = None
        if variant.head != "plain" and not main:
            width = channels if variant.head == "two_convs" else stride**2
            self.expand = ConvNorm(channels, width, 3, variant)
            channels = width
        planes = stride**2 if self._upsampling == "pixel_shuffle" else 1
        self.classifier = nn.Conv2D(
            channels, num_classes * planes, 1, bias_attr=None if variant.head_bias else False
        )

    def forward(self, x: Tensor, size_hw: Sequence[int] | None = None) -> Tensor:
        """Logits (N, classes, *size_hw), without `size_hw` at their native size."""
        x = self.conv(x)
        if not self._drops_last:
            x = self.dropout(x)
        if self._doubles:
            height, width = spatial_size_hw(x)
            x = resize(x, (2 * height, 2 * width), "nearest")
        if self.expand is not None:
            x = self.expand(x)
        if self._drops_last:
            x = self.dropout(x)
        return upsample_logits(self.classifier(x), size_hw, self._upsampling, self._stride)

    def as_published(self, x: Tensor, size_hw: Sequence[int]) -> Tensor:
        """Logits at the size that the original's have for an image of `size_hw`."""
        if self._published_factors:
            height, width = spatial_size_hw(x)
            # The original multiplies both sides by how often the features' height fits in.
            factor = self._stride if self._main else size_hw[0] // height
            size_hw = (height * factor, width * factor)
        return self(x, size_hw)


class ConvNorm(nn.Layer):
    """Convolution, batch norm and, with `relu`, a ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        variant: BiSeNetV2Variant,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
    ):
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding="SAME" if variant.same_padding else kernel_size // 2,
            groups=groups,
            bias_attr=None if variant.conv_bias else False,
        )
        self.bn = nn.BatchNorm2D(out_channels, epsilon=variant.norm_epsilon)
        self.activation = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.bn(self.conv(x)))
