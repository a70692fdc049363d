"""DABNet: two branches that exchange patches and convolutions.

Original: https://github.com/isyangshu/DABNet mmseg/models/backbones/dabnet.py, dabnet_eb.py, and
dabnet_*.py for its ablations, which `VARIANTS` names.

The exchange modules (SIM) refine every stage of the backbone, and the refined map feeds the next
stage. They cut a map into patches of P x P, so the original takes sizes in multiples of 32 P only.
Deviation: other sizes are padded with zeros (the mean colour) right and below, and the logits are
cropped back.
"""

from dataclasses import dataclass, replace
from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddleseg_ext.models.bisenetv1 import (
    AttentionRefinement,
    FeatureFusion,
    SegmentationHead,
    SpatialPath,
)
from paddleseg_ext.models.bisenetv1_variants import CONTEXT_CHANNELS, FUSED_CHANNELS
from paddleseg_ext.models.bisenetv1_variants import VARIANTS as BISENETV1_VARIANTS
from paddleseg_ext.models.layers import ConvBNReLU, initialize, resize, spatial_size_hw
from paddleseg_ext.models.variant import Variant, find_variant

PATCH_SIZES = (1, 2, 4, 8, 16)
LowStream = Literal["both", "channel", "spatial"]
# BiSeNetV1's refinement, fusion and heads as mmsegmentation has them.
PARTS = BISENETV1_VARIANTS["mmseg"]


@dataclass(frozen=True)
class DABNetVariant(Variant):
    """Details of DABNet or of one of its ablations."""

    exchanges: int = 4
    """The first stages, from 1/4 on, that an exchange module refines."""
    low_stream: LowStream = "both"
    """Input of an exchange module's low-resolution stream: the pixels of each patch side by side in
    the channels, their mean, or both."""
    spatial: Literal["guided", "path", "none"] = "guided"
    """The fusion's detail input at 1/8. `guided`: the spatial branch. `path`: BiSeNetV1's spatial
    path, from the image alone. `none`: the backbone's feature."""


VARIANTS = {
    "original": DABNetVariant(),
    "channel": DABNetVariant(low_stream="channel"),
    "spatial": DABNetVariant(low_stream="spatial"),
    "pce": DABNetVariant(spatial="none"),
    "pce0": DABNetVariant(exchanges=1),
    "pce01": DABNetVariant(exchanges=2),
    "pce02": DABNetVariant(exchanges=3),
    "image": DABNetVariant(exchanges=0),
    "fcn": DABNetVariant(exchanges=0, spatial="none"),
    "baseline": DABNetVariant(exchanges=0, spatial="path"),
}


class DABNet(nn.Layer):
    """DABNet.

    Args:
        num_classes: number of classes.
        backbone: ResNet18_v1c or EfficientNetB1.
        patch_size: of the exchange modules, one of `PATCH_SIZES`.
        exchange: False leaves the variant's exchange modules out.
        spatial: in place of the variant's `spatial`.
        variant: a name of `VARIANTS`: the network, or an ablation by the original's name.

    Attributes:
        upsampling: of the native logits, to the padded images' size.
        native_stride: the padded images' size over that of the native logits; what is then beyond
            the images' size, right and below, is cut off.
        size_multiple: sides in multiples of it need no padding.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: nn.Layer,
        patch_size: int = 2,
        exchange: bool = True,
        spatial: Literal["guided", "path", "none"] | None = None,
        variant: str = "original",
    ):
        super().__init__()
        if patch_size not in PATCH_SIZES:
            raise ValueError(f"patch_size is one of {PATCH_SIZES}, got {patch_size}")
        v = find_variant(VARIANTS, variant)
        v = replace(v, exchanges=v.exchanges * exchange, spatial=spatial or v.spatial)
        if not hasattr(backbone, "exchange_channels"):
            raise ValueError(
                f"the backbone is ResNet18_v1c or EfficientNetB1, got {type(backbone).__name__}"
            )
        self.upsampling = PARTS.head_upsampling
        self.native_stride = 8
        channels = backbone.channels
        # The coarsest map that is cut into patches is at 1/2^(exchanges + 1).
        self.size_multiple = max(32, patch_size << (v.exchanges + 1)) if v.exchanges else 32
        self.backbone = backbone
        widths = zip(channels[1:], backbone.exchange_channels, strict=True)
        self.exchanges = nn.LayerList(
            ExchangeModule(c, width, patch_size, v.low_stream) if i < v.exchanges else nn.Identity()
            for i, (c, width) in enumerate(widths)
        )
        self.spatial: nn.Layer | None = None
        if v.spatial == "guided":
            self.spatial = SpatialBranch(channels, backbone.spatial_channels)
        elif v.spatial == "path":
            self.spatial = SpatialPath(PARTS)
        self.arm32 = AttentionRefinement(channels[4], PARTS)
        self.arm16 = AttentionRefinement(channels[3], PARTS)
        self.refine32 = ConvBNReLU(CONTEXT_CHANNELS, CONTEXT_CHANNELS, 3)
        self.refine16 = ConvBNReLU(CONTEXT_CHANNELS, CONTEXT_CHANNELS, 3)
        spatial_channels = channels[2] if v.spatial == "none" else CONTEXT_CHANNELS
        self.ffm = FeatureFusion(spatial_channels + CONTEXT_CHANNELS, PARTS)
        main, aux8, aux16 = PARTS.head_channels
        self.head = SegmentationHead(FUSED_CHANNELS, main, num_classes, 8, PARTS)
        self.aux_head8 = SegmentationHead(CONTEXT_CHANNELS, aux8, num_classes, 8, PARTS)
        self.aux_head16 = SegmentationHead(CONTEXT_CHANNELS, aux16, num_classes, 16, PARTS)
        for name, part in self.named_children():
            if name != "backbone":
                initialize(part)

    def forward(self, images: Tensor, upsample: bool = True) -> list[Tensor]:
        """Logits (N, num_classes, H, W) of the main head, in training also of the auxiliary heads.

        Args:
            images: (N, 3, H, W) float32, normalised; any H and W.
            upsample: False returns the logits of the padded images at their native size.

        Returns:
            The main head's logits; in training then those of the context at 1/8 and 1/16.
        """
        padded = self._pad(images)
        fused, context8, context16 = self._features(padded)
        logits = [self.head(fused)]
        if self.training:
            logits.append(self.aux_head8(context8))
            logits.append(self.aux_head16(context16))
        if upsample:
            logits = [self._upsample(native, padded, images) for native in logits]
        return logits

    def heads(self, images: Tensor) -> dict[str, Tensor]:
        """Logits at the image's size, and every head's own under the name of the original."""
        padded = self._pad(images)
        fused, context8, context16 = self._features(padded)
        main = self.head(fused)
        return {
            "logits": self._upsample(main, padded, images),
            "head_s8": main,
            "aux0": self.aux_head8(context8),
            "aux1": self.aux_head16(context16),
        }

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of the three heads: fused (N, 256, H/8, W/8), context at 1/8 and at 1/16."""
        x2 = self.backbone.stem(images)
        features = [x2]
        for index, exchange in enumerate(self.exchanges):
            features.append(exchange(self.backbone.stage(index, features[-1])))
        _, x4, x8, x16, x32 = features
        context = resize(self.arm32(x32), spatial_size_hw(x16), "nearest")
        context16 = self.refine32(context)
        context = resize(self.arm16(x16) + context16, spatial_size_hw(x8), "nearest")
        context8 = self.refine16(context)
        if isinstance(self.spatial, SpatialBranch):
            spatial = self.spatial(images, x2, x4, x8)
        else:
            spatial = x8 if self.spatial is None else self.spatial(images)
        return self.ffm(spatial, context8), context8, context16

    def _pad(self, images: Tensor) -> Tensor:
        """Zeros right and below, to the next multiples of `size_multiple`."""
        height, width = spatial_size_hw(images)
        below, right = -height % self.size_multiple, -width % self.size_multiple
        return F.pad(images, [0, right, 0, below])

    def _upsample(self, logits: Tensor, padded: Tensor, images: Tensor) -> Tensor:
        """Logits at the padded images' size, cropped to the size of `images`."""
        height, width = spatial_size_hw(images)
        logits = resize(logits, spatial_size_hw(padded), PARTS.head_upsampling)
        return logits[:, :, :height, :width]


class ExchangeModule(nn.Layer):
    """SIM: a high and a low resolution stream, which exchange their features twice.

    Args:
        channels: of the feature, the high stream's input and output.
        width: of both streams.
        patch_size: side of the patches that the low stream sees as one pixel.
        low_stream: see `DABNetVariant`.
    """

    def __init__(self, channels: int, width: int, patch_size: int, low_stream: LowStream = "both"):
        super().__init__()
        self._patch_size, self._low_stream = patch_size, low_stream
        self.h2h_0 = _conv3x3(channels, width)
        self.bnh_0 = nn.BatchNorm2D(width)
        in_patch = 1 if low_stream == "spatial" else patch_size**2
        self.h2l_0 = _conv3x3(channels * in_patch, width)
        self.bnl_0 = nn.BatchNorm2D(width)
        if low_stream == "both":
            self.l2l_p1 = nn.Conv2D(width, width, 1)
            self.l2l_p2 = nn.Conv2D(channels, width, 1)
            self.l2l_bn = nn.BatchNorm2D(width)
        self.h2h_1 = _conv3x3(width, width)
        self.l2h_1 = _conv3x3(width, width)
        self.bnh_1 = nn.BatchNorm2D(width)
        self.l2l_1 = _conv3x3(width, width)
        self.h2l_1 = _conv3x3(width, width)
        self.bnl_1 = nn.BatchNorm2D(width)
        self.h2h_2 = _conv3x3(width, channels)
        self.l2h_2 = _conv3x3(width, channels)
        self.bnh_2 = nn.BatchNorm2D(channels)

    def forward(self, x: Tensor) -> Tensor:
        size_hw = spatial_size_hw(x)
        patch = self._patch_size

        high = F.relu(self.bnh_0(self.h2h_0(x)))
        low = self._low(x)

        from_low = self.l2h_1(resize(low, size_hw, "half_pixel"))
        from_high = self.h2l_1(F.avg_pool2d(high, patch))
        high = F.relu(self.bnh_1(self.h2h_1(high) + from_low))
        low = F.relu(self.bnl_1(self.l2l_1(low) + from_high))

        out = self.h2h_2(high) + self.l2h_2(resize(low, size_hw, "half_pixel"))
        return F.relu(self.bnh_2(out)) + x

    def _low(self, x: Tensor) -> Tensor:
        """The low stream's first map, (N, width, h/P, w/P)."""
        mean = F.avg_pool2d(x, self._patch_size)
        if self._low_stream == "spatial":
            return F.relu(self.bnl_0(self.h2l_0(mean)))
        # (N, P * P * C, h/P, w/P): the pixels of a patch side by side in the channels
        patches = pixel_unshuffle(x, self._patch_size)
        low = F.relu(self.bnl_0(self.h2l_0(patches)))
        if self._low_stream == "channel":
            return low
        return F.relu(self.l2l_bn(self.l2l_p1(low) + self.l2l_p2(mean)))


def pixel_unshuffle(x: Tensor, patch_size: int) -> Tensor:
    """(N, C, h, w) -> (N, C * P * P, h/P, w/P), channel-major, the rows of a patch first.

    Paddle's own operator cannot be traced for inputs of any size.
    """
    batch, channels, height, width = x.shape
    rows, columns = height // patch_size, width // patch_size
    x = x.reshape([batch, channels, rows, patch_size, columns, patch_size])
    x = x.transpose([0, 1, 3, 5, 2, 4])
    return x.reshape([batch, channels * patch_size**2, rows, columns])


def _conv3x3(in_channels: int, out_channels: int) -> nn.Conv2D:
    return nn.Conv2D(in_channels, out_channels, 3, padding=1)


class SpatialBranch(nn.Layer):
    """Detail at 1/8 from the image and the backbone's first three features."""

    def __init__(self, channels: tuple[int, ...], width: int):
        super().__init__()
        x2, x4, x8 = channels[:3]
        self.sp_0 = ConvBNReLU(3 + x2, width, 3, stride=2)
        self.cp_1 = ConvBNReLU(x4, width, 3)
        self.sp_1 = ConvBNReLU(width, 64, 3, stride=2)
        self.cp_2 = ConvBNReLU(x8, 64, 3)
        self.sp_2 = ConvBNReLU(64, CONTEXT_CHANNELS, 1)

    def forward(self, images: Tensor, x2: Tensor, x4: Tensor, x8: Tensor) -> Tensor:
        halved = F.avg_pool2d(images, 2)
        x = self.sp_0(paddle.concat([halved, x2], axis=1))  # (N, width, H/4, W/4)
        x = self.sp_1(x + self.cp_1(x4))  # (N, 64, H/8, W/8)
        return self.sp_2(x + self.cp_2(x8))  # (N, 128, H/8, W/8)
