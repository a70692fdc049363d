"""BiSeNetV1, in every wiring that published weights exist for.

Paper: BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation,
https://arxiv.org/abs/1808.00897
Original: https://github.com/ycszen/TorchSeg model/bisenet (the author's; wiring `author`).

The published networks share figure 2 of the paper and differ in details that change every output:
how features are upsampled, how the fusion module gates, how wide the heads are. `WIRINGS` lists
them by name. Deviation from all of them: any image size works. Where the original refuses a size,
features are resized to the size of the map they meet, and logits straight to the image's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddleseg_ext.common.errors import nearest_name
from paddleseg_ext.models.layers import (
    ConvBN,
    ConvBNReLU,
    global_average,
    initialize,
    resize_bilinear,
    resize_nearest,
    spatial_size_hw,
)

CONTEXT_CHANNELS = 128
FUSED_CHANNELS = 256


@dataclass(frozen=True)
class Wiring:
    """What tells one published BiSeNetV1 from another."""

    head_channels: tuple[int, int, int]
    """Width of the main head and of the auxiliary heads at 1/8 and 1/16."""
    aux_names: tuple[str, str]
    """What the original calls the auxiliary heads at 1/8 and 1/16."""
    spatial_path: bool = True
    """False: the backbone's features at 1/8 take the spatial path's place."""
    activation: str = "relu"
    """After each norm layer; `leaky_relu` where InPlaceABN was used with its default."""
    context_upsampling: str = "nearest"
    """`nearest`, or `bilinear` with aligned corners."""
    arm_gate_relu: bool = False
    """A ReLU before the sigmoid of the attention refinement: no channel is weakened below half."""
    ffm_gate: str = "two_convs"
    """`two_convs`: 1x1, ReLU, 1x1. `conv_bn`: one with a norm. `conv_bn_relu`: and a ReLU.
    `two_conv_bn_relu`: two of those. `two_biased_convs`: as `two_convs`, with biases."""
    ffm_reduction: int = 4
    """The first convolution of a two-convolution gate has this many times fewer channels."""
    head_bias: bool = True
    """Whether the last convolution of a head has a bias."""
    head_upsampling: str = "aligned"
    """`aligned` or `half_pixel` bilinear (align_corners True or False), or `pixel_shuffle`."""
    dropout: float = 0.0
    """Probability that a head drops a channel in front of its classifier, in training."""
    published_stride: int | None = None
    """Where the original enlarges by a factor and not to the image's size: the stride of that."""
    width: int = 1
    """All of the network but the backbone has this many times the paper's channels."""

    @property
    def context_channels(self) -> int:
        """Width of the context path, and of what the spatial path ends in."""
        return CONTEXT_CHANNELS * self.width

    @property
    def fused_channels(self) -> int:
        """Width of the fusion module."""
        return FUSED_CHANNELS * self.width


WIRINGS = {
    # TorchSeg, cityscapes.bisenet.R18
    "author": Wiring(
        head_channels=(64, 256, 256),
        aux_names=("aux1_8", "aux0_16"),
        context_upsampling="bilinear",
        ffm_reduction=1,
        published_stride=1,
    ),
    # TorchSeg, cityscapes.bisenet.R101: a main head of 256
    "author_r101": Wiring(
        head_channels=(256, 256, 256),
        aux_names=("aux1_8", "aux0_16"),
        context_upsampling="bilinear",
        ffm_reduction=1,
        published_stride=1,
    ),
    # TorchSeg, cityscapes.bisenet.X39: auxiliary heads of 128
    "author_x39": Wiring(
        head_channels=(64, 128, 128),
        aux_names=("aux1_8", "aux0_16"),
        context_upsampling="bilinear",
        ffm_reduction=1,
        published_stride=1,
    ),
    # TorchSeg, *.speed: the same, trained and scored at 1/8
    "author_speed": Wiring(
        head_channels=(64, 128, 128),
        aux_names=("aux1_8", "aux0_16"),
        context_upsampling="bilinear",
        ffm_reduction=1,
        published_stride=8,
    ),
    # CoinCheung/BiSeNet since 13 July 2021
    "coincheung": Wiring(
        head_channels=(256, 64, 64),
        aux_names=("aux16", "aux32"),
        ffm_gate="conv_bn",
        head_upsampling="half_pixel",
    ),
    # CoinCheung/BiSeNet, 7 to 13 July 2021 (model_final_v1_city.pth)
    "coincheung_202107": Wiring(
        head_channels=(256, 64, 64),
        aux_names=("aux16", "aux32"),
        head_upsampling="half_pixel",
    ),
    # CoinCheung/BiSeNet, September 2020 to July 2021
    "coincheung_202009": Wiring(
        head_channels=(256, 64, 64),
        aux_names=("aux16", "aux32"),
        head_upsampling="pixel_shuffle",
    ),
    # CoinCheung/BiSeNet, August 2020
    "coincheung_202008": Wiring(
        head_channels=(256, 64, 64),
        aux_names=("aux16", "aux32"),
        head_bias=False,
    ),
    # CoinCheung/BiSeNet, March 2019 to 2020, InPlaceABN everywhere (backbone: leaky_relu too)
    "coincheung_2019": Wiring(
        head_channels=(256, 64, 64),
        aux_names=("aux16", "aux32"),
        activation="leaky_relu",
        head_bias=False,
    ),
    # CoinCheung/BiSeNet diss/: coincheung_2019 without the spatial path
    "coincheung_2019_diss": Wiring(
        head_channels=(256, 64, 64),
        aux_names=("aux16", "aux32"),
        spatial_path=False,
        activation="leaky_relu",
        head_bias=False,
    ),
    # zllrunning/face-parsing.PyTorch: coincheung_2019_diss with plain norms
    "face_parsing": Wiring(
        head_channels=(256, 64, 64),
        aux_names=("aux16", "aux32"),
        spatial_path=False,
        head_bias=False,
    ),
    # open-mmlab/mmsegmentation, configs/_base_/models/bisenetv1_r18-d32.py
    "mmseg": Wiring(
        head_channels=(256, 64, 64),
        aux_names=("aux0", "aux1"),
        ffm_gate="conv_bn_relu",
        head_upsampling="half_pixel",
        dropout=0.1,
    ),
    # The same, configs/bisenetv1/bisenetv1_r50-d32_*.py and r101: four times as wide
    "mmseg_wide": Wiring(
        head_channels=(1024, 256, 256),
        aux_names=("aux0", "aux1"),
        ffm_gate="conv_bn_relu",
        head_upsampling="half_pixel",
        dropout=0.1,
        width=4,
    ),
    # PaddleSeg's BiseNetV1, on ResNet18_vd at output stride 8
    "paddleseg": Wiring(
        head_channels=(64, 128, 128),
        aux_names=("aux1", "aux0"),
        context_upsampling="bilinear",
        arm_gate_relu=True,
        ffm_gate="two_conv_bn_relu",
        ffm_reduction=1,
        published_stride=1,
    ),
}


class SpatialPath(nn.Sequential):
    """Three convolutions of stride 2 keep detail at 1/8 (section 3.1)."""

    def __init__(self, wiring: Wiring):
        channels, activation = 64 * wiring.width, wiring.activation
        super().__init__(
            ConvBNReLU(3, channels, 7, stride=2, activation=activation),
            ConvBNReLU(channels, channels, 3, stride=2, activation=activation),
            ConvBNReLU(channels, channels, 3, stride=2, activation=activation),
            ConvBNReLU(channels, wiring.context_channels, 1, activation=activation),
        )


class AttentionRefinement(nn.Layer):
    """ARM (section 3.2, figure 2b), after a 3x3 convolution to the context path's width."""

    def __init__(self, in_channels: int, wiring: Wiring):
        super().__init__()
        channels = wiring.context_channels
        self.conv = ConvBNReLU(in_channels, channels, 3, activation=wiring.activation)
        gate = ConvBNReLU if wiring.arm_gate_relu else ConvBN
        self.gate = gate(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x)
        return features * F.sigmoid(self.gate(global_average(features)))


class ContextPath(nn.Layer):
    """Refined features of the backbone at 1/16 and 1/8, with a global average as the tail."""

    def __init__(self, channels: Sequence[int], wiring: Wiring):
        super().__init__()
        _, channels16, channels32 = channels
        width, activation = wiring.context_channels, wiring.activation
        self.global_context = ConvBNReLU(channels32, width, 1, activation=activation)
        self.arm32 = AttentionRefinement(channels32, wiring)
        self.arm16 = AttentionRefinement(channels16, wiring)
        self.refine32 = ConvBNReLU(width, width, 3, activation=activation)
        self.refine16 = ConvBNReLU(width, width, 3, activation=activation)
        self._bilinear = wiring.context_upsampling == "bilinear"

    def forward(
        self, feature8: Tensor, feature16: Tensor, feature32: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Context at 1/8 and at 1/16, (N, 128, H/8, W/8) and (N, 128, H/16, W/16)."""
        tail = self.global_context(global_average(feature32))  # (N, 128, 1, 1)
        context16 = self.refine32(self._upsample(self.arm32(feature32) + tail, feature16))
        context8 = self.refine16(self._upsample(self.arm16(feature16) + context16, feature8))
        return context8, context16

    def _upsample(self, x: Tensor, like: Tensor) -> Tensor:
        if self._bilinear:
            return resize_bilinear(x, spatial_size_hw(like), align_corners=True)
        return resize_nearest(x, spatial_size_hw(like))


def _make_ffm_gate(wiring: Wiring) -> nn.Layer:
    channels = wiring.fused_channels
    reduced = channels // wiring.ffm_reduction
    if wiring.ffm_gate in ("two_convs", "two_biased_convs"):
        bias = None if wiring.ffm_gate == "two_biased_convs" else False
        return nn.Sequential(
            nn.Conv2D(channels, reduced, 1, bias_attr=bias),
            nn.ReLU(),
            nn.Conv2D(reduced, channels, 1, bias_attr=bias),
        )
    if wiring.ffm_gate == "conv_bn":
        return ConvBN(channels, channels, 1)
    if wiring.ffm_gate == "conv_bn_relu":
        return ConvBNReLU(channels, channels, 1)
    return nn.Sequential(ConvBNReLU(channels, reduced, 1), ConvBNReLU(reduced, channels, 1))


class FeatureFusion(nn.Layer):
    """FFM (section 3.3, figure 2c)."""

    def __init__(self, in_channels: int, wiring: Wiring):
        super().__init__()
        channels = wiring.fused_channels
        self.conv = ConvBNReLU(in_channels, channels, 1, activation=wiring.activation)
        self.gate = _make_ffm_gate(wiring)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        features = self.conv(paddle.concat([spatial, context], axis=1))
        return features + features * F.sigmoid(self.gate(global_average(features)))


class SegmentationHead(nn.Layer):
    """3x3 convolution, perhaps dropout, classifier, enlargement.

    Args:
        stride: of the features; what pixel shuffle multiplies the size by.
    """

    def __init__(
        self, in_channels: int, channels: int, num_classes: int, stride: int, wiring: Wiring
    ):
        super().__init__()
        self._stride = stride
        self._mode = wiring.head_upsampling
        self._published_stride = wiring.published_stride
        planes = stride**2 if self._mode == "pixel_shuffle" else 1
        self.conv = ConvBNReLU(in_channels, channels, 3, activation=wiring.activation)
        self.dropout = nn.Dropout2D(wiring.dropout) if wiring.dropout else nn.Identity()
        self.classifier = nn.Conv2D(
            channels, num_classes * planes, 1, bias_attr=None if wiring.head_bias else False
        )

    def forward(self, x: Tensor, size_hw: Sequence[int]) -> Tensor:
        """Logits (N, classes, *size_hw)."""
        x = self.classifier(self.dropout(self.conv(x)))
        if self._mode == "pixel_shuffle":
            height, width = size_hw
            return F.pixel_shuffle(x, self._stride)[:, :, :height, :width]
        return resize_bilinear(x, size_hw, align_corners=self._mode == "aligned")

    def as_published(self, x: Tensor, size_hw: Sequence[int]) -> Tensor:
        """Logits at the size the original gives them for an image of `size_hw`."""
        if self._published_stride is not None:
            factor = self._stride // self._published_stride
            height, width = spatial_size_hw(x)
            size_hw = (height * factor, width * factor)
        return self(x, size_hw)


class BiSeNetV1(nn.Layer):
    """Bilateral Segmentation Network (figure 2).

    Args:
        num_classes: number of classes.
        backbone: gives features at 1/8, 1/16 and 1/32 and has their `channels`. With PaddleSeg's
            wiring it is ResNet18_vd, dilated, which gives all three at 1/8.
        wiring: a name of `WIRINGS`.
    """

    def __init__(self, num_classes: int, backbone: nn.Layer, wiring: str = "author"):
        super().__init__()
        if wiring not in WIRINGS:
            raise ValueError(f"unknown wiring '{wiring}'{nearest_name(wiring, WIRINGS)}")
        if len(getattr(backbone, "channels", ())) != 3:
            raise ValueError(
                f"the backbone must give features at 1/8, 1/16 and 1/32 and have their `channels`; "
                f"{type(backbone).__name__} does not. Use ResNet18, ResNet101, Xception39 or "
                "ResNet18_vd"
            )
        self.wiring = WIRINGS[wiring]
        self.backbone = backbone
        self.spatial_path = SpatialPath(self.wiring) if self.wiring.spatial_path else None
        self.context_path = ContextPath(backbone.channels, self.wiring)
        context, fused = self.wiring.context_channels, self.wiring.fused_channels
        spatial_channels = context if self.spatial_path else backbone.channels[0]
        self.ffm = FeatureFusion(spatial_channels + context, self.wiring)
        # A dilated backbone gives what is called 1/16 here at 1/8.
        coarse_stride = min(16, getattr(backbone, "output_stride", 32))
        main, aux8, aux16 = self.wiring.head_channels
        self.head = SegmentationHead(fused, main, num_classes, 8, self.wiring)
        self.aux_head8 = SegmentationHead(context, aux8, num_classes, 8, self.wiring)
        self.aux_head16 = SegmentationHead(context, aux16, num_classes, coarse_stride, self.wiring)
        for part in (self.spatial_path, self.context_path, self.ffm):
            if part is not None:
                initialize(part)
        for head in (self.head, self.aux_head8, self.aux_head16):
            initialize(head)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the three heads read: fused (N, 256, H/8, W/8), context at 1/8 and 1/16."""
        feature8, feature16, feature32 = self.backbone(images)
        context8, context16 = self.context_path(feature8, feature16, feature32)
        spatial = feature8 if self.spatial_path is None else self.spatial_path(images)
        return self.ffm(spatial, context8), context8, context16

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits (N, num_classes, H, W): the main head's, in training also the auxiliary ones'.

        Args:
            images: (N, 3, H, W) float32, normalised; any H and W.
        """
        fused, context8, context16 = self._features(images)
        size_hw = spatial_size_hw(images)
        logits = [self.head(fused, size_hw)]
        if self.training:
            logits.append(self.aux_head8(context8, size_hw))
            logits.append(self.aux_head16(context16, size_hw))
        return logits

    def heads(self, images: Tensor) -> dict[str, Tensor]:
        """Every head's logits, at the size and under the name of the original."""
        fused, context8, context16 = self._features(images)
        size_hw = spatial_size_hw(images)
        aux8, aux16 = self.wiring.aux_names
        return {
            "logits": self.head.as_published(fused, size_hw),
            aux8: self.aux_head8.as_published(context8, size_hw),
            aux16: self.aux_head16.as_published(context16, size_hw),
        }
