"""The published BiSeNetV1 networks, and the details in which they differ."""

from dataclasses import dataclass, replace
from typing import Literal

from paddleseg_ext.models.variant import Variant

CONTEXT_CHANNELS = 128
FUSED_CHANNELS = 256


@dataclass(frozen=True)
class BiSeNetV1Variant(Variant):
    """Details of one published BiSeNetV1; of its parts in STDC-Seg and DABNet, too."""

    head_channels: tuple[int, int, int]
    """Width of the main head and of the auxiliary heads at 1/8 and 1/16."""
    aux_names: tuple[str, str]
    """The original's names of the auxiliary heads at 1/8 and 1/16."""
    spatial_path: bool = True
    """False: the backbone's features at 1/8 replace the spatial path."""
    activation: Literal["relu", "leaky_relu"] = "relu"
    """After each norm layer; `leaky_relu` where InPlaceABN was used with its default."""
    context_upsampling: Literal["nearest", "aligned"] = "nearest"
    """A mode of `layers.resize`."""
    arm_gate_relu: bool = False
    """A ReLU before the sigmoid of the attention refinement: no channel is scaled below half."""
    ffm_gate: Literal[
        "two_convs", "two_biased_convs", "conv_bn", "conv_bn_relu", "two_conv_bn_relu"
    ] = "two_convs"
    """`two_convs`: 1x1, ReLU, 1x1. `two_biased_convs`: the same with biases. `conv_bn`: one with a
    norm. `conv_bn_relu`: and a ReLU. `two_conv_bn_relu`: two of those."""
    ffm_reduction: int = 4
    """The first convolution of a two-convolution gate has this many times fewer channels."""
    head_bias: bool = True
    """Whether the last convolution of a head has a bias."""
    head_upsampling: Literal["aligned", "half_pixel", "pixel_shuffle"] = "aligned"
    """A bilinear mode of `layers.resize`, or `pixel_shuffle`."""
    dropout: float = 0.0
    """Probability that a head drops a channel before its classifier, in training."""
    published_stride: int | None = None
    """Stride of the original's logits, where it upsamples by a factor and not to a size."""
    native_outputs: bool = False
    """The original returns auxiliary logits as they are, and its loss resizes them."""
    aux_upsampling: Literal["half_pixel"] | None = None
    """Of the auxiliary logits, where it differs from `head_upsampling`."""
    width: int = 1
    """All of the network but the backbone has this many times the paper's channels."""
    fusion_share: float = 1.0
    """Of the fusion module's channels, the share that is left."""

    @property
    def context_channels(self) -> int:
        """Width of the context path, and of the spatial path's output."""
        return CONTEXT_CHANNELS * self.width

    @property
    def fused_channels(self) -> int:
        """Width of the fusion module."""
        return int(FUSED_CHANNELS * self.width * self.fusion_share)


_AUTHOR = BiSeNetV1Variant(
    head_channels=(64, 256, 256),
    aux_names=("aux1_8", "aux0_16"),
    context_upsampling="aligned",
    ffm_reduction=1,
    published_stride=1,
)
_COINCHEUNG = BiSeNetV1Variant(head_channels=(256, 64, 64), aux_names=("aux16", "aux32"))
_MMSEG = BiSeNetV1Variant(
    head_channels=(256, 64, 64),
    aux_names=("aux0", "aux1"),
    ffm_gate="conv_bn_relu",
    head_upsampling="half_pixel",
    dropout=0.1,
    native_outputs=True,
)

VARIANTS = {
    # TorchSeg, cityscapes.bisenet.R18
    "author": _AUTHOR,
    # TorchSeg, cityscapes.bisenet.R101: a main head of 256
    "author_r101": replace(_AUTHOR, head_channels=(256, 256, 256)),
    # TorchSeg, cityscapes.bisenet.X39: auxiliary heads of 128
    "author_x39": replace(_AUTHOR, head_channels=(64, 128, 128)),
    # TorchSeg, *.speed: the same, trained and scored at 1/8
    "author_speed": replace(_AUTHOR, head_channels=(64, 128, 128), published_stride=8),
    # CoinCheung/BiSeNet since 13 July 2021
    "coincheung": replace(_COINCHEUNG, ffm_gate="conv_bn", head_upsampling="half_pixel"),
    # CoinCheung/BiSeNet, 7 to 13 July 2021 (model_final_v1_city.pth)
    "coincheung_202107": replace(_COINCHEUNG, head_upsampling="half_pixel"),
    # CoinCheung/BiSeNet, September 2020 to July 2021
    "coincheung_202009": replace(_COINCHEUNG, head_upsampling="pixel_shuffle"),
    # CoinCheung/BiSeNet, August 2020
    "coincheung_202008": replace(_COINCHEUNG, head_bias=False),
    # CoinCheung/BiSeNet, March 2019 to 2020, InPlaceABN everywhere (backbone: leaky_relu too)
    "coincheung_2019": replace(_COINCHEUNG, head_bias=False, activation="leaky_relu"),
    # CoinCheung/BiSeNet diss/: coincheung_2019 without the spatial path
    "coincheung_2019_diss": replace(
        _COINCHEUNG, head_bias=False, activation="leaky_relu", spatial_path=False
    ),
    # zllrunning/face-parsing.PyTorch: coincheung_2019_diss with plain norms
    "face_parsing": replace(_COINCHEUNG, head_bias=False, spatial_path=False),
    # open-mmlab/mmsegmentation, configs/_base_/models/bisenetv1_r18-d32.py
    "mmseg": _MMSEG,
    # The same repository, configs/bisenetv1/bisenetv1_r50-d32_*.py and r101: four times as wide
    "mmseg_wide": replace(_MMSEG, head_channels=(1024, 256, 256), width=4),
    # PaddleSeg's BiseNetV1, on ResNet18_vd at output stride 8
    "paddleseg": BiSeNetV1Variant(
        head_channels=(64, 128, 128),
        aux_names=("aux1", "aux0"),
        context_upsampling="aligned",
        arm_gate_relu=True,
        ffm_gate="two_conv_bn_relu",
        ffm_reduction=1,
        published_stride=1,
    ),
}
