"""DABNet's checkpoints, and the ImageNet weights that its EfficientNet starts from.

https://github.com/isyangshu/DABNet (an mmsegmentation 0.19), timm's EfficientNet-B1.
"""

from typing import Any

from paddleseg_ext.published.generation import Generation, all_of, has, shaped
from paddleseg_ext.published.mapping import Rule
from paddleseg_ext.published.mmseg import FFM_AND_HEADS, V1C_STEM

_RESNET = (
    *(
        Rule(rf"backbone\.backbone\.stem\.{old}", f"backbone.convs.{new}")
        for old, new in V1C_STEM.items()
    ),
    *(
        Rule(rf"backbone\.backbone\.layer{i + 1}\.(.+)", rf"backbone.layers.{i}.\1")
        for i in range(4)
    ),
)
_EFFICIENTNET = (Rule(r"backbone\.backbone\.(.+)", r"backbone.\1"),)
_REST = (
    Rule(r"backbone\.SIM_(\d)\.(\w+)", r"exchanges.\1.\2"),
    Rule(r"backbone\.((?:sp|cp)_\d)\.(conv|bn)", r"spatial.\1.\2"),
    Rule(r"backbone\.arm(16|32)\.conv_layer\.(conv|bn)", r"arm\1.conv.\2"),
    Rule(r"backbone\.arm(16|32)\.atten_conv_layer\.1\.(conv|bn)", r"arm\1.gate.\2"),
    Rule(r"backbone\.conv_head(16|32)\.(conv|bn)", r"refine\1.\2"),
    *FFM_AND_HEADS,
)


def _generation(
    name: str, backbone: str, rules: tuple[Rule, ...], channels: int, width: int, patch_size: int
) -> Generation:
    """`channels` and `width` are those of the first exchange module."""
    model: dict[str, Any] = {
        "type": "DABNet",
        "backbone": {"type": backbone},
        "patch_size": patch_size,
    }
    matches = shaped("backbone.SIM_0.h2l_0.weight", width, channels * patch_size**2, 3, 3)
    title = f"DABNet on {backbone}, patch size {patch_size}"
    return Generation("dabnet", name, title, model, (*rules, *_REST), matches)


GENERATIONS = (
    *(
        _generation(f"r18_p{patch}", "ResNet18_v1c", _RESNET, 64, 32, patch)
        for patch in (1, 2, 4, 8, 16)
    ),
    _generation("e", "EfficientNetB1", _EFFICIENTNET, 24, 24, 2),
    Generation(
        "timm",
        "efficientnet_b1",
        "timm EfficientNet-B1, ImageNet",
        {"backbone": {"type": "EfficientNetB1"}},
        (
            Rule(r"conv_head|bn2|classifier", None, "the classifier"),
            Rule(r"(.+)", r"\1"),
        ),
        all_of(has("conv_stem.weight"), shaped("blocks.6.1.conv_pwl.weight", 320, 1920, 1, 1)),
        part="backbone",
    ),
)
