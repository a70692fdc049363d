"""BiSeNetV1, in every variant that published weights exist for.

Paper: BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation,
https://arxiv.org/abs/1808.00897
Original: https://github.com/ycszen/TorchSeg model/bisenet (the author's; variant `author`).

The published networks share figure 2 of the paper and differ in details that change every output:
how features are upsampled, how the fusion module gates, how wide the heads are.
`bisenetv1_variants.py` lists them by name. Deviation from all of them: any image size works. Where
the original refuses a size, features are resized to the size of the map they meet, and logits
straight to the image's size.
"""

from collections.abc import Sequence
from typing import ClassVar

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddleseg_ext.models.bisenetv1_variants import VARIANTS, BiSeNetV1Variant
from paddleseg_ext.models.layers import (
    ConvBN,
    ConvBNReLU,
    global_average,
    initialize,
    resize,
    spatial_size_hw,
    upsample_logits,
)
from paddleseg_ext.models.variant import find_variant


class BiSeNetV1(nn.Layer):
    """Bilateral Segmentation Network (figure 2).

    Args:
        num_classes: number of classes.
        backbone: returns features at 1/8, 1/16 and 1/32 and has their `channels`. The variant
            `paddleseg` uses ResNet18_vd, dilated, which returns all three at 1/8.
        variant: a name of `bisenetv1_variants.VARIANTS`.

    Attributes:
        upsampling: how native logits come to the image's size: `aligned`, `half_pixel` or
            `pixel_shuffle`.
    """

    def __init__(self, num_classes: int, backbone: nn.Layer, variant: str = "author"):
        super().__init__()
        if len(getattr(backbone, "channels", ())) != 3:
            raise ValueError(
                f"the backbone must give features at 1/8, 1/16 and 1/32 and have their `channels`; "
                f"{type(backbone).__name__} does not. Use ResNet18, ResNet101, Xception39 or "
                "ResNet18_vd"
            )
        self.variant = v = find_variant(VARIANTS, variant)
        self.upsampling = v.head_upsampling
        self.backbone = backbone
        self.spatial_path = SpatialPath(v) if v.spatial_path else None
        self.context_path = ContextPath(backbone.channels, v)
        context, fused = v.context_channels, v.fused_channels
        spatial_channels = context if self.spatial_path else backbone.channels[0]
        self.ffm = FeatureFusion(spatial_channels + context, v)
        # A dilated backbone returns the features called 1/16 here at 1/8.
        coarse_stride = min(16, getattr(backbone, "output_stride", 32))
        main, aux8, aux16 = v.head_channels
        self.head = SegmentationHead(fused, main, num_classes, 8, v)
        self.aux_head8 = SegmentationHead(context, aux8, num_classes, 8, v)
        self.aux_head16 = SegmentationHead(context, aux16, num_classes, coarse_stride, v)
        for name, part in self.named_children():
            if name != "backbone":
                initialize(part)

    def forward(self, images: Tensor, upsample: bool = True) -> list[Tensor]:
        """Logits (N, num_classes, H, W) of the main head, in training also of the auxiliary heads.

        Args:
            images: (N, 3, H, W) float32, normalised; any H and W.
            upsample: False returns the logits at their native size.
        """
        fused, context8, context16 = self._features(images)
        size_hw = spatial_size_hw(images) if upsample else None
        logits = [self.head(fused, size_hw)]
        if self.training:
            logits.append(self.aux_head8(context8, size_hw))
            logits.append(self.aux_head16(context16, size_hw))
        return logits

    def heads(self, images: Tensor) -> dict[str, Tensor]:
        """Logits of every head, at the size and under the name of the original."""
        fused, context8, context16 = self._features(images)
        size_hw = spatial_size_hw(images)
        aux8, aux16 = self.variant.aux_names
        if self.variant.native_outputs:
            return {
                "logits": self.head(fused, size_hw),
                "head_s8": self.head(fused),
                aux8: self.aux_head8(context8),
                aux16: self.aux_head16(context16),
            }
        return {
            "logits": self.head.as_published(fused, size_hw),
            aux8: self.aux_head8.as_published(context8, size_hw),
            aux16: self.aux_head16.as_published(context16, size_hw),
        }

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of the three heads: fused (N, 256, H/8, W/8), context at 1/8 and at 1/16."""
        feature8, feature16, feature32 = self.backbone(images)
        context8, context16 = self.context_path(feature8, feature16, feature32)
        spatial = feature8 if self.spatial_path is None else self.spatial_path(images)
        return self.ffm(spatial, context8), context8, context16


class SpatialPath(nn.Sequential):
    """Three convolutions of stride 2 keep detail at 1/8 (section 3.1)."""

    def __init__(self, variant: BiSeNetV1Variant):
        channels, activation = 64 * variant.width, variant.activation
        super().__init__(
            ConvBNReLU(3, channels, 7, stride=2, activation=activation),
            ConvBNReLU(channels, channels, 3, stride=2, activation=activation),
            ConvBNReLU(channels, channels, 3, stride=2, activation=activation),
            ConvBNReLU(channels, variant.context_channels, 1, activation=activation),
        )


class ContextPath(nn.Layer):
    """Refined features of the backbone at 1/16 and 1/8, with a global average as the tail."""

    def __init__(self, channels: Sequence[int], variant: BiSeNetV1Variant):
        super().__init__()
        _, channels16, channels32 = channels
        width, activation = variant.context_channels, variant.activation
        self.global_context = ConvBNReLU(channels32, width, 1, activation=activation)
        self.arm32 = AttentionRefinement(channels32, variant)
        self.arm16 = AttentionRefinement(channels16, variant)
        self.refine32 = ConvBNReLU(width, width, 3, activation=activation)
        self.refine16 = ConvBNReLU(width, width, 3, activation=activation)
        self._upsampling = variant.context_upsampling

    def forward(
        self, feature8: Tensor, feature16: Tensor, feature32: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Context at 1/8 and at 1/16, (N, 128, H/8, W/8) and (N, 128, H/16, W/16)."""
        tail = self.global_context(global_average(feature32))  # (N, 128, 1, 1)
        context = self.arm32(feature32) + tail
        context16 = self.refine32(resize(context, spatial_size_hw(feature16), self._upsampling))
        context = self.arm16(feature16) + context16
        context8 = self.refine16(resize(context, spatial_size_hw(feature8), self._upsampling))
        return context8, context16


class AttentionRefinement(nn.Layer):
    """ARM (section 3.2, figure 2b), after a 3x3 convolution to the context path's width."""

    GATES: ClassVar = {"": ("conv", "gate")}  # see `evaluation.explain.gates_of`

    def __init__(self, in_channels: int, variant: BiSeNetV1Variant):
        super().__init__()
        channels = variant.context_channels
        self.conv = ConvBNReLU(in_channels, channels, 3, activation=variant.activation)
        gate = ConvBNReLU if variant.arm_gate_relu else ConvBN
        self.gate = gate(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x)
        return features * F.sigmoid(self.gate(global_average(features)))


class FeatureFusion(nn.Layer):
    """FFM (section 3.3, figure 2c)."""

    GATES: ClassVar = {"": ("conv", "gate")}

    def __init__(self, in_channels: int, variant: BiSeNetV1Variant):
        super().__init__()
        channels = variant.fused_channels
        self.conv = ConvBNReLU(in_channels, channels, 1, activation=variant.activation)
        self.gate = _make_ffm_gate(variant)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        features = self.conv(paddle.concat([spatial, context], axis=1))
        return features + features * F.sigmoid(self.gate(global_average(features)))


def _make_ffm_gate(variant: BiSeNetV1Variant) -> nn.Layer:
    channels = variant.fused_channels
    reduced = channels // variant.ffm_reduction
    if variant.ffm_gate == "conv_bn":
        return ConvBN(channels, channels, 1)
    if variant.ffm_gate == "conv_bn_relu":
        return ConvBNReLU(channels, channels, 1)
    if variant.ffm_gate == "two_conv_bn_relu":
        return nn.Sequential(ConvBNReLU(channels, reduced, 1), ConvBNReLU(reduced, channels, 1))
    bias = None if variant.ffm_gate == "two_biased_convs" else False
    return nn.Sequential(
        nn.Conv2D(channels, reduced, 1, bias_attr=bias),
        nn.ReLU(),
        nn.Conv2D(reduced, channels, 1, bias_attr=bias),
    )


class SegmentationHead(nn.Layer):
    """3x3 convolution, dropout where the variant has one, classifier, upsampling.

    Args:
        in_channels: of the features.
        channels: of the 3x3 convolution.
        num_classes: number of classes.
        stride: of the features; pixel shuffle multiplies their size by it.
        variant: of the network.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_classes: int,
        stride: int,
        variant: BiSeNetV1Variant,
    ):
        super().__init__()
        self._stride = stride
        self._upsampling = variant.head_upsampling
        self._published_stride = variant.published_stride
        planes = stride**2 if self._upsampling == "pixel_shuffle" else 1
        self.conv = ConvBNReLU(in_channels, channels, 3, activation=variant.activation)
        self.dropout = nn.Dropout2D(variant.dropout) if variant.dropout else nn.Identity()
        self.classifier = nn.Conv2D(
            channels, num_classes * planes, 1, bias_attr=None if variant.head_bias else False
        )

    def forward(self, x: Tensor, size_hw: Sequence[int] | None = None) -> Tensor:
        """Logits (N, classes, *size_hw), without `size_hw` at their native size."""
        x = self.classifier(self.dropout(self.conv(x)))
        return upsample_logits(x, size_hw, self._upsampling, self._stride)

    def as_published(self, x: Tensor, size_hw: Sequence[int]) -> Tensor:
        """Logits at the size that the original's have for an image of `size_hw`."""
        if self._published_stride is not None:
            factor = self._stride // self._published_stride
            height, width = spatial_size_hw(x)
            size_hw = (height * factor, width * factor)
        return self(x, size_hw)
