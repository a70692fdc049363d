"""STDC-Seg: BiSeNetV1's decoder on STDCNet, with detail guidance in place of the spatial path.

Paper: Rethinking BiSeNet For Real-time Semantic Segmentation, https://arxiv.org/abs/2104.13188
Original: https://github.com/MichaelFan01/STDC-Seg models/model_stages.py

`VARIANTS` names the published decoders. Deviations: none in the arithmetic. Detail heads that
the yml does not ask for are not built; the original builds all four and leaves some untrained. The
head at 1/16 is never read there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from paddle import Tensor, nn

from paddleseg_ext.models.bisenetv1 import (
    AttentionRefinement,
    ContextPath,
    FeatureFusion,
    SegmentationHead,
)
from paddleseg_ext.models.bisenetv1_variants import (
    CONTEXT_CHANNELS,
    BiSeNetV1Variant,
)
from paddleseg_ext.models.layers import (
    ConvBN,
    ConvBNReLU,
    global_average,
    initialize,
    resize,
    spatial_size_hw,
)
from paddleseg_ext.models.variant import find_variant

DETAIL_CHANNELS = 64
# Convolutions of at least this many input channels are the heavy ones.
HEAVY_CHANNELS = 128


@dataclass(frozen=True)
class STDCSegVariant(BiSeNetV1Variant):
    """Details of one published STDC-Seg."""

    detail_name: str = "detail{stride}"
    """The original's name of a detail map."""
    detail_planes: int = 1
    """Channels of a detail map: 1, or 2 for "no boundary" and "boundary"."""


class STDCSeg(nn.Layer):
    """STDC-Seg (figure 4).

    Args:
        num_classes: number of classes.
        backbone: STDCNet813 (STDC1) or STDCNet1446 (STDC2).
        use_boundary_2: a detail head on the feature at 1/2.
        use_boundary_4: a detail head on the feature at 1/4.
        use_boundary_8: a detail head on the feature at 1/8, the paper's.
        separable: depthwise-separable convolutions for the heavy ones of the decoder, as the
            README of a fork describes its "DW". The code that it published has none.
        variant: a name of `VARIANTS`.

    Attributes:
        upsampling: how native logits come to the image's size: `aligned`.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: nn.Layer,
        use_boundary_2: bool = False,
        use_boundary_4: bool = False,
        use_boundary_8: bool = True,
        separable: bool = False,
        variant: str = "original",
    ):
        super().__init__()
        channels = tuple(getattr(backbone, "channels", ()))
        if len(channels) not in (4, 5):
            raise ValueError(
                "the backbone must give features at 1/2 ... 1/16 or 1/32 and have their "
                f"`channels`; {type(backbone).__name__} does not. Use STDCNet813 or STDCNet1446"
            )
        self.variant = v = find_variant(VARIANTS, variant)
        self.upsampling = v.head_upsampling
        self.backbone = backbone
        self.context_path: nn.Layer
        if len(channels) == 5:
            self.context_path = ContextPath(channels[2:], v)
        else:
            self.context_path = ShallowContextPath(channels[3], v)
        self.ffm = FeatureFusion(channels[2] + CONTEXT_CHANNELS, v)
        main, aux16, aux32 = v.head_channels
        self.head = SegmentationHead(v.fused_channels, main, num_classes, 8, v)
        aux = replace(v, head_upsampling=v.aux_upsampling or v.head_upsampling)
        self.aux_head16 = SegmentationHead(CONTEXT_CHANNELS, aux16, num_classes, 8, aux)
        self.aux_head32 = (
            SegmentationHead(CONTEXT_CHANNELS, aux32, num_classes, 16, aux)
            if len(channels) == 5
            else None
        )
        wanted = {2: use_boundary_2, 4: use_boundary_4, 8: use_boundary_8}
        self._detail_strides = [stride for stride, use in wanted.items() if use]
        for index, stride in enumerate(wanted):
            if wanted[stride]:
                self.add_sublayer(f"detail_head{stride}", DetailHead(channels[index], v))
        for name, part in self.named_children():
            if name != "backbone":
                if separable:
                    separate_heavy_convolutions(part)
                initialize(part)

    def forward(self, images: Tensor, upsample: bool = True) -> list[Tensor]:
        """Logits (N, num_classes, H, W); in training also the auxiliary heads' and detail maps.

        Args:
            images: (N, 3, H, W) float32, normalised; any H and W.
            upsample: False returns the logits at their native size.

        Returns:
            The main head's logits; in training then those of the two auxiliary heads, and the
            detail maps at their native size, finest first.
        """
        fused, context8, context16, features = self._features(images)
        size_hw = spatial_size_hw(images) if upsample else None
        logits = [self.head(fused, size_hw)]
        if self.training:
            logits += list(self._auxiliary(context8, context16, size_hw).values())
            logits += list(self._details(features).values())
        return logits

    def heads(self, images: Tensor) -> dict[str, Tensor]:
        """Output of every head, at the size and under the name of the original."""
        fused, context8, context16, features = self._features(images)
        size_hw = spatial_size_hw(images)
        outputs = {"logits": self.head(fused, size_hw)}
        if self.variant.native_outputs:
            outputs |= {"head_s8": self.head(fused), **self._auxiliary(context8, context16, None)}
        else:
            outputs |= self._auxiliary(context8, context16, size_hw)
        return outputs | self._details(features)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None, list[Tensor]]:
        """Fused (N, 256, H/8, W/8), context at 1/8 and 1/16, and the backbone's features."""
        features = self.backbone(images)
        feature8 = features[2]
        if self.aux_head32 is None:
            context8, context16 = self.context_path(feature8, features[3]), None
        else:
            context8, context16 = self.context_path(feature8, features[3], features[4])
        return self.ffm(feature8, context8), context8, context16, features

    def _auxiliary(
        self, context8: Tensor, context16: Tensor | None, size_hw: Sequence[int] | None
    ) -> dict[str, Tensor]:
        fine, coarse = self.variant.aux_names
        logits = {fine: self.aux_head16(context8, size_hw)}
        if self.aux_head32 is not None:
            logits[coarse] = self.aux_head32(context16, size_hw)
        return logits

    def _details(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Detail maps (N, 1, H/s, W/s) by name, finest first."""
        return {
            self.variant.detail_name.format(stride=stride): getattr(self, f"detail_head{stride}")(
                features[stride.bit_length() - 2]
            )
            for stride in self._detail_strides
        }


class ShallowContextPath(nn.Layer):
    """The context path of a backbone that ends at 1/16 ("delNet" of a fork)."""

    def __init__(self, channels16: int, variant: BiSeNetV1Variant):
        super().__init__()
        self.global_context = ConvBNReLU(channels16, CONTEXT_CHANNELS, 1)
        self.arm16 = AttentionRefinement(channels16, variant)
        self.refine16 = ConvBNReLU(CONTEXT_CHANNELS, CONTEXT_CHANNELS, 3)

    def forward(self, feature8: Tensor, feature16: Tensor) -> Tensor:
        """Context at 1/8, (N, 128, H/8, W/8)."""
        context = self.arm16(feature16) + self.global_context(global_average(feature16))
        return self.refine16(resize(context, spatial_size_hw(feature8), "nearest"))


class DetailHead(nn.Layer):
    """Predicts from one shallow feature where the labels change (section 3.2)."""

    def __init__(self, in_channels: int, variant: STDCSegVariant):
        super().__init__()
        self.conv = ConvBNReLU(in_channels, DETAIL_CHANNELS, 3)
        self.classifier = nn.Conv2D(
            DETAIL_CHANNELS,
            variant.detail_planes,
            1,
            bias_attr=None if variant.head_bias else False,
        )
        initialize(self)

    def forward(self, feature: Tensor) -> Tensor:
        return self.classifier(self.conv(feature))


def separate_heavy_convolutions(network: nn.Layer) -> None:
    """Replaces every heavy 3x3 convolution of stride 1 by a depthwise and a 1x1 convolution."""
    for layer in network.sublayers(include_self=True):
        if not isinstance(layer, ConvBN) or not isinstance(layer.conv, nn.Conv2D):
            continue
        channels, in_channels, height, _ = layer.conv.weight.shape
        if height == 3 and in_channels >= HEAVY_CHANNELS:
            layer.conv = nn.Sequential(
                nn.Conv2D(
                    in_channels, in_channels, 3, padding=1, groups=in_channels, bias_attr=False
                ),
                nn.Conv2D(in_channels, channels, 1, bias_attr=False),
            )


_ORIGINAL = STDCSegVariant(
    head_channels=(256, 64, 64),
    aux_names=("aux16", "aux32"),
    spatial_path=False,
    head_bias=False,
)

VARIANTS = {
    # MichaelFan01/STDC-Seg; the decoder descends from CoinCheung's BiSeNet of August 2020
    "original": _ORIGINAL,
    # chen1234520/STDC-Seg, "cutNet" and "delNet": half of the tail. delNet's backbone ends at 1/16
    "half_tail": replace(_ORIGINAL, head_channels=(128, 64, 64), fusion_share=0.5),
    # PaddleSeg 2.8, paddleseg/models/stdcseg.py; its backbone: pool_counts_padding=False
    "paddleseg": replace(_ORIGINAL, ffm_gate="two_biased_convs", head_bias=True),
    # open-mmlab/mmsegmentation, configs/_base_/models/stdc.py
    "mmseg": replace(
        _ORIGINAL,
        aux_names=("aux0", "aux1"),
        head_bias=True,
        aux_upsampling="half_pixel",
        dropout=0.1,
        native_outputs=True,
        detail_name="detail",
        detail_planes=2,
    ),
}
