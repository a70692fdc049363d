"""The weights that a new network begins with, where a recipe's are not those of `models.layers`.

They matter for what no file of weights covers: heads, attention, all of it in a run from scratch.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from paddleseg_ext.common.errors import check_choice

if TYPE_CHECKING:
    from paddle import nn

DEFAULT = "default"
Fan = Literal["in", "out"]


@dataclass(frozen=True)
class Initialization:
    """Normal weights of convolutions and zero biases.

    Attributes:
        fan: the variance is `variance` over the connections of an input or an output.
        variance: 2 keeps the variance over a ReLU, 1 over no activation.
        truncated: weights are cut at two standard deviations, and scaled to the same variance.
        backbone: `fan` of the backbone, whose `variance` is 2; None keeps its weights.
        classifier_std: standard deviation of the heads' last convolutions; None: as all others.
        uniform: part of the network that keeps PyTorch's default, for weights and biases uniform
            up to 1 over the root of the inputs.
        zero_norms: last parts of names of norms whose scale is 0, so that a residual block begins
            as its shortcut.
    """

    fan: Fan
    variance: float
    truncated: bool = False
    backbone: Fan | None = None
    classifier_std: float | None = None
    uniform: str | None = None
    zero_norms: tuple[str, ...] = ()


_MMSEG = Initialization(
    "out", 2.0, backbone="out", classifier_std=0.01, zero_norms=(".bn3", ".bn2")
)
INITIALIZATIONS = {
    # CoinCheung's BiSeNetV1, face parsing: kaiming_normal_(a=1); the backbone is read from a file
    "coincheung_v1": Initialization("in", 1.0),
    # CoinCheung's BiSeNetV2: kaiming_normal_(mode="fan_out"), `last_bn`
    "coincheung_v2": Initialization("out", 2.0, zero_norms=(".project.bn",)),
    # STDC-Seg: as CoinCheung's BiSeNetV1; nets/stdcnet.py init_params
    "stdc": Initialization("in", 1.0, backbone="out"),
    # mmsegmentation: mmcv's kaiming_init, `init_cfg` of decode_head.py, `zero_init_residual`
    "mmseg": _MMSEG,
    # DABNet: mmsegmentation's, but for its exchange modules
    "dabnet": Initialization(**{**vars(_MMSEG), "uniform": "exchanges."}),
    # bisenetv2-tensorflow: tf.variance_scaling_initializer
    "tf2": Initialization("in", 1.0, truncated=True),
}
NAMES = (DEFAULT, *INITIALIZATIONS)
# Standard deviation of a standard normal distribution that is cut at -2 and 2.
_STD_OF_TRUNCATED = 0.87962566103423978


def initialize_as(model: "nn.Layer", name: str) -> None:
    """Give a new network the first weights of a published system; `default` keeps its own.

    Raises:
        UsageError: an unknown name.
    """
    from paddle import nn

    check_choice("initialization", name, NAMES)
    if name == DEFAULT:
        return
    rule = INITIALIZATIONS[name]
    layers = dict(model.named_sublayers())
    for path, layer in layers.items():
        if isinstance(layer, nn.Conv2D):
            _draw(layer, path, rule)
        elif path.endswith(rule.zero_norms or ("\0",)):
            is_inner = path.endswith(".bn2") and f"{path[:-1]}3" in layers
            if not is_inner:  # the middle of a bottleneck
                layer.weight.set_value(layer.weight * 0.0)


def _draw(layer: Any, path: str, rule: Initialization) -> None:
    """Draw the weights of one convolution anew."""
    from paddle.nn import initializer

    if rule.uniform is not None and path.startswith(rule.uniform):
        bound = 1 / math.sqrt(_connections(layer, "in"))
        for parameter in (layer.weight, layer.bias):
            initializer.Uniform(-bound, bound)(parameter)
        return
    is_backbone = path.startswith("backbone.")
    fan = rule.backbone if is_backbone else rule.fan
    if fan is None:
        return
    std = math.sqrt((2.0 if is_backbone else rule.variance) / _connections(layer, fan))
    if rule.classifier_std is not None and path.endswith(".classifier"):
        std = rule.classifier_std
    if rule.truncated:
        wide = std / _STD_OF_TRUNCATED
        initializer.TruncatedNormal(std=wide, a=-2 * wide, b=2 * wide)(layer.weight)
    else:
        initializer.Normal(std=std)(layer.weight)
    if layer.bias is not None:
        initializer.Constant(0.0)(layer.bias)


def _connections(layer: Any, fan: Fan) -> int:
    """Weights of an output (`in`), or outputs times the kernel's size, as PyTorch counts them."""
    out_channels, in_channels, height, width = layer.weight.shape
    return (in_channels if fan == "in" else out_channels) * height * width
