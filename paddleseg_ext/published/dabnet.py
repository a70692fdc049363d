"""DABNet's checkpoints, and the ImageNet weights from which its EfficientNet starts.

https://github.com/isyangshu/DABNet (an mmsegmentation 0.19), timm's EfficientNet-B1.
"""

from paddleseg_ext.published.generation import Generation, has, shaped
from paddleseg_ext.published.mapping import Rule, layers, unused
from paddleseg_ext.published.mmseg import FFM_AND_HEADS, resnet_v1c_rules

_REST = {
    "backbone.SIM_#.**": "exchanges.*.*",
    "backbone.(sp|cp)_#": "spatial.*_*",
    "backbone.arm(16|32).conv_layer": "arm*.conv",
    "backbone.arm(16|32).atten_conv_layer.1": "arm*.gate",
    "backbone.conv_head(16|32)": "refine*",
    **FFM_AND_HEADS,
}


def _generation(
    name: str, backbone: str, rules: tuple[Rule, ...], channels: int, width: int, patch_size: int
) -> Generation:
    """`channels` and `width` are those of the first exchange module."""
    return Generation(
        "dabnet",
        name,
        f"DABNet on {backbone}, patch size {patch_size}",
        {"type": "DABNet", "backbone": {"type": backbone}, "patch_size": patch_size},
        (*rules, *layers(_REST)),
        (shaped("backbone.SIM_0.h2l_0.weight", width, channels * patch_size**2, 3, 3),),
    )


_RESNET = resnet_v1c_rules("backbone.backbone.", "backbone.")
_EFFICIENTNET = layers({"backbone.backbone.**": "backbone.*"})

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
        (unused("(conv_head|bn2|classifier)", "the classifier"), *layers({"**": "*"})),
        (has("conv_stem.weight"), shaped("blocks.6.1.conv_pwl.weight", 320, 1920, 1, 1)),
        part="backbone",
    ),
)
