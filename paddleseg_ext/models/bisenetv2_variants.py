"""The published BiSeNetV2 networks, and the details in which they differ."""

from dataclasses import dataclass
from typing import Literal

from paddleseg_ext.models.variant import Variant


@dataclass(frozen=True)
class BiSeNetV2Variant(Variant):
    """Details of one published BiSeNetV2. The defaults are CoinCheung's since July 2021."""

    head: Literal["expanded", "widened", "two_convs", "plain"] = "expanded"
    """`expanded`: an auxiliary head doubles its features' size and widens them to stride^2
    channels. `widened`: it only widens them. `two_convs`: it has a second convolution of the same
    width. `plain`: it has none of these."""
    head_channels: tuple[int, int, int, int, int] = (1024, 128, 128, 128, 128)
    """Width of the main head and of the auxiliary heads at 1/4, 1/8, 1/16, 1/32."""
    aux_names: tuple[str, str, str, str] = ("aux2", "aux3", "aux4", "aux5_4")
    """The original's names of the auxiliary heads, from 1/4 to 1/32."""
    native_outputs: bool = False
    """The original returns auxiliary logits as they are, and its loss resizes them."""
    published_factors: bool = False
    """The original multiplies the features' size by whole numbers instead of naming a size."""
    head_upsampling: Literal["half_pixel", "aligned", "asymmetric", "pixel_shuffle"] = "half_pixel"
    """A bilinear mode of `layers.resize`, or `pixel_shuffle`."""
    head_bias: bool = True
    """Whether a classifier has a bias."""
    aggregation: Literal["nearest", "aligned", "half_pixel", "asymmetric"] = "nearest"
    """Upsampling in the aggregation layer, a mode of `layers.resize`."""
    aggregation_relu: bool = True
    """A ReLU after the aggregation layer."""
    semantic_channels: tuple[int, int, int, int] = (16, 32, 64, 128)
    """Width of the semantic branch at 1/4, 1/8, 1/16 and 1/32 (table 1)."""
    expansion: int = 6
    """How much wider a gather-and-expansion layer is inside (table 1)."""
    detail_relu: bool = True
    """A ReLU after the detail branch's last norm."""
    depthwise_relu: bool = True
    """A ReLU after the last depthwise convolution of a gather-and-expansion layer."""
    context_norm: bool = True
    """Norm and ReLU after the context embedding's last convolution."""
    conv_bias: bool = False
    """Every convolution has a bias, also before a norm."""
    keep_bias: bool = False
    """The 1x1 convolutions of the aggregation layer, which no norm follows, have a bias."""
    same_padding: bool = False
    """Stride-2 convolutions pad as in TensorFlow: right and below only, where that suffices."""
    same_pooling: bool = False
    """Poolings pad as in TensorFlow, too."""
    pool_counts_padding: bool = True
    """The aggregation layer's average pool divides by 9 at the border, too."""
    norm_epsilon: float = 1e-5
    """Of every batch norm."""


VARIANTS = {
    # CoinCheung/BiSeNet since July 2021
    "coincheung": BiSeNetV2Variant(),
    # CoinCheung/BiSeNet, September 2020 to July 2021
    "coincheung_202009": BiSeNetV2Variant(head="widened", head_upsampling="pixel_shuffle"),
    # CoinCheung/BiSeNet, August 2020
    "coincheung_202008": BiSeNetV2Variant(
        head="plain", head_upsampling="aligned", aggregation="aligned"
    ),
    # PaddleSeg 2.8, paddleseg/models/bisenet.py
    "paddleseg": BiSeNetV2Variant(
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
    "mmseg": BiSeNetV2Variant(
        head="two_convs",
        head_channels=(1024, 16, 64, 256, 1024),
        aux_names=("aux0", "aux1", "aux2", "aux3"),
        native_outputs=True,
        aggregation="half_pixel",
        keep_bias=True,
    ),
    # MaybeShewill-CV/bisenetv2-tensorflow
    "tf2": BiSeNetV2Variant(
        head="plain",
        head_channels=(256, 32, 64, 128, 256),
        aux_names=("boost_stage_1", "boost_stage_3", "boost_stage_4", "boost_stage_5"),
        published_factors=True,
        head_upsampling="asymmetric",
        head_bias=False,
        aggregation="asymmetric",
        detail_relu=False,
        depthwise_relu=False,
        context_norm=False,
        same_padding=True,
        same_pooling=True,
        pool_counts_padding=False,
        norm_epsilon=1e-3,
    ),
}
