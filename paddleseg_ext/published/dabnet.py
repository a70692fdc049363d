"""DABNet's checkpoints, and the ImageNet weights from which its EfficientNet starts.

https://github.com/isyangshu/DABNet (an mmsegmentation 0.19), timm's EfficientNet-B1.
"""

from paddleseg_ext.published.generation import Check, Generation, has, lacks, shaped
from paddleseg_ext.published.mapping import Rule, layers, unused
from paddleseg_ext.published.mmseg import FFM_AND_HEADS, resnet_v1c_rules

_SPATIAL_BRANCH = {"backbone.(sp|cp)_#": "spatial.*_*"}
_SPATIAL_PATH = {"backbone.sp_#": "spatial.*"}
_REST = {
    "backbone.SIM_#.**": "exchanges.*.*",
    "backbone.arm(16|32).conv_layer": "arm*.conv",
    "backbone.arm(16|32).atten_conv_layer.1": "arm*.gate",
    "backbone.conv_head(16|32)": "refine*",
    **FFM_AND_HEADS,
}


_RESNET = resnet_v1c_rules("backbone.backbone.", "backbone.")
_EFFICIENTNET = layers({"backbone.backbone.**": "backbone.*"})
_BRANCH = "backbone.cp_1.conv.weight"  # of the spatial branch alone
_MODULE = "backbone.SIM_{}.h2l_0.weight"


def _exchanges(count: int) -> tuple[Check, ...]:
    """Checks that this is a DABNet of whose stages the first `count` have an exchange module."""
    modules = [_MODULE.format(i) for i in range(5)]
    common = "backbone.arm32.conv_layer.conv.weight", "backbone.backbone.stem.0.weight"
    return has(*common, *modules[:count]), lacks(modules[count])


def _generation(
    name: str, backbone: str, rules: tuple[Rule, ...], channels: int, width: int, patch_size: int
) -> Generation:
    """`channels` and `width` are those of the first exchange module."""
    model = {"type": "DABNet", "backbone": {"type": backbone}, "patch_size": patch_size}
    return Generation(
        "dabnet",
        name,
        f"DABNet on {backbone}, patch size {patch_size}",
        {**model, "variant": "original"},
        (*rules, *layers(_SPATIAL_BRANCH | _REST)),
        (
            shaped(_MODULE.format(0), width, channels * patch_size**2, 3, 3),
            has("backbone.SIM_0.l2l_p1.weight", _MODULE.format(3), _BRANCH),
        ),
    )


def _ablation(variant: str, *checks: Check) -> Generation:
    """A variant on ResNet-18 with patch size 2."""
    model = {"type": "DABNet", "backbone": {"type": "ResNet18_v1c"}, "patch_size": 2}
    path = _SPATIAL_PATH if variant == "baseline" else _SPATIAL_BRANCH
    return Generation(
        "dabnet",
        f"r18_{variant}",
        f"DABNet on ResNet18_v1c, its ablation {variant}",
        {**model, "variant": variant},
        (*_RESNET, *layers(path | _REST)),
        checks,
    )


_HAS_BRANCH, _NO_PATH = has(_BRANCH), lacks(_BRANCH, "backbone.sp_0.conv.weight")

GENERATIONS = (
    *(
        _generation(f"r18_p{patch}", "ResNet18_v1c", _RESNET, 64, 32, patch)
        for patch in (1, 2, 4, 8, 16)
    ),
    _generation("e", "EfficientNetB1", _EFFICIENTNET, 24, 24, 2),
    *(
        _ablation(name, shaped(_MODULE.format(0), 32, channels, 3, 3), *_exchanges(4), only)
        for name, channels, only in (
            ("channel", 256, lacks("backbone.SIM_0.l2l_p1.weight")),
            ("spatial", 64, lacks("backbone.SIM_0.l2l_p1.weight")),
            ("pce", 256, _NO_PATH),
        )
    ),
    _ablation("pce0", *_exchanges(1), _HAS_BRANCH),
    _ablation("pce01", *_exchanges(2), _HAS_BRANCH),
    _ablation("pce02", *_exchanges(3), _HAS_BRANCH),
    _ablation("image", *_exchanges(0), _HAS_BRANCH),
    _ablation("fcn", *_exchanges(0), _NO_PATH),
    _ablation("baseline", *_exchanges(0), has("backbone.sp_3.conv.weight")),
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
