"""BiSeNetV2, in the wirings that published weights exist for.

Paper: BiSeNet V2: Bilateral Network with Guided Aggregation for Real-time Semantic Segmentation,
https://arxiv.org/abs/2004.02147
Original: the authors published no code. Reference implementation:
https://github.com/CoinCheung/BiSeNet lib/models/bisenetv2.py (wiring `coincheung`).

`WIRINGS` lists by name how the published networks differ. Deviation from all of them: any image
size works; features are resized to the map they meet and logits straight to the image's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddleseg_ext.common.errors import nearest_name
from paddleseg_ext.models.layers import (
    global_average,
    initialize,
    resize_bilinear,
    resize_nearest,
    spatial_size_hw,
)

EXPANSION = 6
DROPOUT = 0.1
# Table 1: the semantic branch at 1/4, 1/8, 1/16, 1/32.
SEMANTIC_CHANNELS = (16, 32, 64, 128)
DETAIL_CHANNELS = 128


@dataclass(frozen=True)
class Wiring:
    """What tells one published BiSeNetV2 from another."""

    head: str = "expanded"
    """`expanded`: an auxiliary head doubles its features' size and widens them to stride^2.
    `pixel_shuffle`: it widens, and pixels come from channels. `two_convs`: it has a second
    convolution of its width. `plain`: it has none of these."""
    head_channels: tuple[int, int, int, int, int] = (1024, 128, 128, 128, 128)
    """Width of the main head and of the auxiliary heads at 1/4, 1/8, 1/16, 1/32."""
    head_upsampling: str = "half_pixel"
    """Bilinear enlargement to the image's size: `aligned`, `half_pixel` or `asymmetric`."""
    head_bias: bool = True
    """Whether a classifier has a bias."""
    aggregation: str = "nearest"
    """Enlargement in the aggregation layer: `nearest`, or bilinear as above."""
    aggregation_relu: bool = True
    """A ReLU behind the aggregation layer."""
    depthwise_relu: bool = True
    """A ReLU behind the last depthwise convolution of a gather-and-expansion layer."""
    context_norm: bool = True
    """Norm and ReLU behind the context embedding's last convolution."""
    conv_bias: bool = False
    """Every convolution has a bias, the ones before a norm too."""
    keep_bias: bool = False
    """The 1x1 convolutions of the aggregation layer, which no norm follows, have a bias."""
    same_padding: bool = False
    """Stride-2 convolutions pad as TensorFlow does: where one side suffices, right and below."""
    same_pooling: bool = False
    """Poolings pad like that too."""
    pool_counts_padding: bool = True
    """The aggregation layer's average pool divides by 9 at the border too."""
    norm_epsilon: float = 1e-5


WIRINGS = {
    # CoinCheung/BiSeNet since July 2021
    "coincheung": Wiring(),
    # CoinCheung/BiSeNet, September 2020 to July 2021
    "coincheung_202009": Wiring(head="pixel_shuffle"),
    # CoinCheung/BiSeNet, August 2020
    "coincheung_202008": Wiring(head="plain", head_upsampling="aligned", aggregation="aligned"),
    # PaddleSeg 2.8, paddleseg/models/bisenet.py
    "paddleseg": Wiring(
        head="plain",
        head_channels=(128, 16, 32, 64, 128),
        aggregation="half_pixel",
        aggregation_relu=False,
        depthwise_relu=False,
        context_norm=False,
        conv_bias=True,
        same_padding=True,
        pool_counts_padding=False,
    ),
    # open-mmlab/mmsegmentation, configs/_base_/models/bisenetv2.py
    "mmseg": Wiring(
        head="two_convs",
        head_channels=(1024, 16, 64, 256, 1024),
        aggregation="half_pixel",
        keep_bias=True,
    ),
    # MaybeShewill-CV/bisenetv2-tensorflow. Its TensorFlow checkpoints are not read, so this was
    # not compared with numbers of its code.
    "tf2": Wiring(
        head="plain",
        head_channels=(256, 32, 64, 128, 256),
        head_upsampling="asymmetric",
        head_bias=False,
        aggregation="asymmetric",
        depthwise_relu=False,
        context_norm=False,
        same_padding=True,
        same_pooling=True,
        pool_counts_padding=False,
        norm_epsilon=1e-3,
    ),
}


def resize(x: Tensor, size_hw: Sequence[int], mode: str) -> Tensor:
    """Bilinear resize; source position of i: `aligned` i * (in - 1) / (out - 1), `half_pixel`
    (i + 0.5) * in / out - 0.5, `asymmetric` i * in / out.
    """
    if mode == "asymmetric":
        return F.interpolate(x, size=size_hw, mode="bilinear", align_mode=1)
    return resize_bilinear(x, size_hw, align_corners=mode == "aligned")


class ConvNorm(nn.Layer):
    """Convolution, batch norm and, with `relu`, a ReLU."""

    def __init__(
        self,
        wiring: Wiring,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
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
            padding="SAME" if wiring.same_padding else kernel_size // 2,
            groups=groups,
            bias_attr=None if wiring.conv_bias else False,
        )
        self.bn = nn.BatchNorm2D(out_channels, epsilon=wiring.norm_epsilon)
        self.activation = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.bn(self.conv(x)))


class DetailBranch(nn.Layer):
    """Wide and shallow, to 1/8 (section 3.2)."""

    def __init__(self, wiring: Wiring):
        super().__init__()
        self.stage1 = nn.Sequential(
            ConvNorm(wiring, 3, 64, 3, stride=2), ConvNorm(wiring, 64, 64, 3)
        )
        self.stage2 = nn.Sequential(
            ConvNorm(wiring, 64, 64, 3, stride=2),
            ConvNorm(wiring, 64, 64, 3),
            ConvNorm(wiring, 64, 64, 3),
        )
        self.stage3 = nn.Sequential(
            ConvNorm(wiring, 64, 128, 3, stride=2),
            ConvNorm(wiring, 128, 128, 3),
            ConvNorm(wiring, 128, 128, 3),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.stage3(self.stage2(self.stage1(images)))  # (N, 128, H/8, W/8)


class Stem(nn.Layer):
    """Down to 1/4 by convolution and by pooling (figure 4a)."""

    def __init__(self, wiring: Wiring, channels: int):
        super().__init__()
        self.conv = ConvNorm(wiring, 3, channels, 3, stride=2)
        self.left = nn.Sequential(
            ConvNorm(wiring, channels, channels // 2, 1),
            ConvNorm(wiring, channels // 2, channels, 3, stride=2),
        )
        self.right = nn.MaxPool2D(3, stride=2, padding="SAME" if wiring.same_pooling else 1)
        self.fuse = ConvNorm(wiring, 2 * channels, channels, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images)
        return self.fuse(paddle.concat([self.left(x), self.right(x)], axis=1))


class GatherExpand(nn.Layer):
    """Gather-and-expansion layer at stride 1 (figure 5b)."""

    def __init__(self, wiring: Wiring, channels: int):
        super().__init__()
        expanded = EXPANSION * channels
        self.conv = ConvNorm(wiring, channels, channels, 3)
        self.depthwise = ConvNorm(
            wiring, channels, expanded, 3, groups=channels, relu=wiring.depthwise_relu
        )
        self.project = ConvNorm(wiring, expanded, channels, 1, relu=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.project(self.depthwise(self.conv(x))) + x)


class GatherExpandDown(nn.Layer):
    """Gather-and-expansion layer at stride 2 (figure 5c)."""

    def __init__(self, wiring: Wiring, in_channels: int, out_channels: int):
        super().__init__()
        expanded = EXPANSION * in_channels
        self.conv = ConvNorm(wiring, in_channels, in_channels, 3)
        self.depthwise1 = ConvNorm(
            wiring, in_channels, expanded, 3, stride=2, groups=in_channels, relu=False
        )
        self.depthwise2 = ConvNorm(
            wiring, expanded, expanded, 3, groups=expanded, relu=wiring.depthwise_relu
        )
        self.project = ConvNorm(wiring, expanded, out_channels, 1, relu=False)
        self.shortcut = nn.Sequential(
            ConvNorm(wiring, in_channels, in_channels, 3, 2, groups=in_channels, relu=False),
            ConvNorm(wiring, in_channels, out_channels, 1, relu=False),
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.depthwise2(self.depthwise1(self.conv(x)))
        return self.relu(self.project(residual) + self.shortcut(x))


class ContextEmbedding(nn.Layer):
    """Adds the global average to every pixel (figure 4b)."""

    def __init__(self, wiring: Wiring, channels: int):
        super().__init__()
        self.bn = nn.BatchNorm2D(channels, epsilon=wiring.norm_epsilon)
        self.conv_gap = ConvNorm(wiring, channels, channels, 1)
        self.conv_last = (
            ConvNorm(wiring, channels, channels, 3)
            if wiring.context_norm
            else nn.Conv2D(
                channels, channels, 3, padding=1, bias_attr=None if wiring.conv_bias else False
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_last(x + self.conv_gap(self.bn(global_average(x))))


class SemanticBranch(nn.Layer):
    """Narrow and deep, to 1/32 (section 3.3)."""

    def __init__(self, wiring: Wiring):
        super().__init__()
        c4, c8, c16, c32 = SEMANTIC_CHANNELS
        self.stem = Stem(wiring, c4)
        self.stage3 = nn.Sequential(GatherExpandDown(wiring, c4, c8), GatherExpand(wiring, c8))
        self.stage4 = nn.Sequential(GatherExpandDown(wiring, c8, c16), GatherExpand(wiring, c16))
        self.stage5 = nn.Sequential(
            GatherExpandDown(wiring, c16, c32),
            GatherExpand(wiring, c32),
            GatherExpand(wiring, c32),
            GatherExpand(wiring, c32),
        )
        self.context = ContextEmbedding(wiring, c32)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features at 1/4, 1/8, 1/16, 1/32, and the last with its context embedded."""
        features = [self.stem(images)]
        for stage in (self.stage3, self.stage4, self.stage5):
            features.append(stage(features[-1]))
        return features, self.context(features[-1])


class GuidedAggregation(nn.Layer):
    """BGA: each branch gates the other, at the scale of both (figure 6)."""

    def __init__(self, wiring: Wiring):
        super().__init__()
        c = DETAIL_CHANNELS
        self._upsampling = wiring.aggregation
        bias = None if wiring.conv_bias or wiring.keep_bias else False
        self.detail_keep = nn.Sequential(
            ConvNorm(wiring, c, c, 3, groups=c, relu=False), nn.Conv2D(c, c, 1, bias_attr=bias)
        )
        self.detail_down = ConvNorm(wiring, c, c, 3, stride=2, relu=False)
        self.pool = nn.AvgPool2D(
            3,
            stride=2,
            padding="SAME" if wiring.same_pooling else 1,
            exclusive=not wiring.pool_counts_padding,
        )
        self.semantic_up = ConvNorm(wiring, c, c, 3, relu=False)
        self.semantic_keep = nn.Sequential(
            ConvNorm(wiring, c, c, 3, groups=c, relu=False), nn.Conv2D(c, c, 1, bias_attr=bias)
        )
        self.conv = ConvNorm(wiring, c, c, 3, relu=wiring.aggregation_relu)

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        """(N, 128, H/8, W/8) and (N, 128, H/32, W/32) -> (N, 128, H/8, W/8)."""
        fine = self.detail_keep(detail)
        fine = fine * F.sigmoid(self._upsample(self.semantic_up(semantic), detail))
        coarse = self.pool(self.detail_down(detail)) * F.sigmoid(self.semantic_keep(semantic))
        return self.conv(fine + self._upsample(coarse, detail))

    def _upsample(self, x: Tensor, like: Tensor) -> Tensor:
        if self._upsampling == "nearest":
            return resize_nearest(x, spatial_size_hw(like))
        return resize(x, spatial_size_hw(like), self._upsampling)


class SegmentationHead(nn.Layer):
    """3x3 convolution, dropout, in auxiliary heads perhaps a widening, classifier, enlargement.

    Args:
        stride: of the features.
        main: whether it is the main head, which never widens.
    """

    def __init__(
        self,
        wiring: Wiring,
        in_channels: int,
        channels: int,
        num_classes: int,
        stride: int,
        main: bool = False,
    ):
        super().__init__()
        self._stride = stride
        self._shuffles = wiring.head == "pixel_shuffle"
        self._upsampling = wiring.head_upsampling
        self._doubles = wiring.head == "expanded" and not main
        self.conv = ConvNorm(wiring, in_channels, channels, 3)
        # mmsegmentation drops whole channels of what is classified.
        self._drops_last = wiring.head == "two_convs"
        self.dropout = nn.Dropout2D(DROPOUT) if self._drops_last else nn.Dropout(DROPOUT)
        width = channels if wiring.head == "two_convs" else stride**2
        self.expand = None
        if wiring.head != "plain" and not main:
            self.expand = ConvNorm(wiring, channels, width, 3)
        planes = stride**2 if self._shuffles else 1
        self.classifier = nn.Conv2D(
            channels if self.expand is None else width,
            num_classes * planes,
            1,
            bias_attr=None if wiring.head_bias else False,
        )

    def forward(self, x: Tensor, size_hw: Sequence[int]) -> Tensor:
        """Logits (N, classes, *size_hw)."""
        x = self.conv(x)
        if not self._drops_last:
            x = self.dropout(x)
        if self._doubles:
            height, width = spatial_size_hw(x)
            x = resize_nearest(x, (2 * height, 2 * width))
        if self.expand is not None:
            x = self.expand(x)
        if self._drops_last:
            x = self.dropout(x)
        x = self.classifier(x)
        if self._shuffles:
            height, width = size_hw
            return F.pixel_shuffle(x, self._stride)[:, :, :height, :width]
        return resize(x, size_hw, self._upsampling)


class BiSeNetV2(nn.Layer):
    """Bilateral network with guided aggregation (figure 3).

    Args:
        num_classes: number of classes.
        wiring: a name of `WIRINGS`.
    """

    def __init__(self, num_classes: int, wiring: str = "coincheung"):
        super().__init__()
        if wiring not in WIRINGS:
            raise ValueError(f"unknown wiring '{wiring}'{nearest_name(wiring, WIRINGS)}")
        w = WIRINGS[wiring]
        self.wiring = w
        self.detail = DetailBranch(w)
        self.semantic = SemanticBranch(w)
        self.bga = GuidedAggregation(w)
        main, *aux = w.head_channels
        self.head = SegmentationHead(w, DETAIL_CHANNELS, main, num_classes, 8, main=True)
        self.aux_heads = nn.LayerList(
            SegmentationHead(w, in_channels, channels, num_classes, stride)
            for in_channels, channels, stride in zip(
                SEMANTIC_CHANNELS, aux, (4, 8, 16, 32), strict=True
            )
        )
        initialize(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits (N, num_classes, H, W): the main head's, in training also the auxiliary ones'.

        Args:
            images: (N, 3, H, W) float32, normalised; any H and W.

        Returns:
            The main head's logits; in training then those at 1/4, 1/8, 1/16 and 1/32.
        """
        features, context = self.semantic(images)
        size_hw = spatial_size_hw(images)
        logits = [self.head(self.bga(self.detail(images), context), size_hw)]
        if self.training:
            # to_static, which training can ask for, knows no zip(strict=True).
            for head, feature in zip(self.aux_heads, features):  # noqa: B905
                logits.append(head(feature, size_hw))
        return logits

    def heads(self, images: Tensor) -> dict[str, Tensor]:
        """Every head's logits under the name of the original."""
        features, context = self.semantic(images)
        size_hw = spatial_size_hw(images)
        outputs = {"logits": self.head(self.bga(self.detail(images), context), size_hw)}
        for name, head, feature in zip(
            ("aux2", "aux3", "aux4", "aux5_4"), self.aux_heads, features, strict=True
        ):
            outputs[name] = head(feature, size_hw)
        return outputs
