"""PaddleSeg's own classes (2.8): BiseNetV1 (of the reproduced project), BiSeNetV2 and STDCSeg."""

from paddleseg_ext.published import stdc, torchseg
from paddleseg_ext.published.coincheung import decoder_rules
from paddleseg_ext.published.generation import Generation, has, lacks, shaped
from paddleseg_ext.published.mapping import Rule, layers, unused

# Names of a convolution and its norm in PaddleSeg's `ConvBN...` layers.
_CONV, _NORM = "_conv", "_batch_norm"


def _resnet_vd(prefix: str, target: str) -> dict[str, str]:
    table = {f"{prefix}conv1_{i + 1}": f"{target}stem.{i}" for i in range(3)}
    for stage in range(4):
        old, new = f"{prefix}bb_{stage}_#", f"{target}layer{stage + 1}.*"
        table |= {
            f"{old}.conv0": f"{new}.conv1",
            f"{old}.conv1": f"{new}.conv2",
            f"{old}.short": f"{new}.shortcut",
        }
    return table


BISENETV1 = {
    **_resnet_vd("backbone.", "backbone."),
    **torchseg.LAYERS,
    "ffm.channel_attention.1": "ffm.gate.0",
    "ffm.channel_attention.2": "ffm.gate.1",
}


def _semantic_stage(old: str, new: str) -> dict[str, str]:
    """Gather-and-expansion layers; those of stride 2 have `branch_1` and `branch_2`."""
    return {
        f"{old}.conv.0": f"{new}.conv",
        f"{old}.conv.1.depthwise_conv": f"{new}.depthwise",
        f"{old}.conv.2": f"{new}.project",
        f"{old}.branch_1.0": f"{new}.conv",
        f"{old}.branch_1.1.depthwise_conv": f"{new}.depthwise1",
        f"{old}.branch_1.2.depthwise_conv": f"{new}.depthwise2",
        f"{old}.branch_1.3": f"{new}.project",
        f"{old}.branch_2.0.depthwise_conv": f"{new}.shortcut.0",
        f"{old}.branch_2.1": f"{new}.shortcut.1",
    }


# PaddleSeg's detail branch is eight convolutions in a row; ours has stages of two, three and three.
_DETAIL = ("1.0", "1.1", "2.0", "2.1", "2.2", "3.0", "3.1", "3.2")

BISENETV2 = {
    **{f"db.convs.{i}": f"detail.stage{place}" for i, place in enumerate(_DETAIL)},
    "sb.stem.(conv|fuse)": "semantic.stem.*",
    "sb.stem.left.#": "semantic.stem.left.*",
    **_semantic_stage("sb.stage(3|4).#", "semantic.stage*.*"),
    **_semantic_stage("sb.stage5_4.#", "semantic.stage5.*"),
    "sb.ce.bn": "semantic.context.bn",
    "sb.ce.conv_1x1": "semantic.context.conv_gap",
    "sb.ce.conv_3x3": "semantic.context.conv_last",
    "bga.db_branch_keep.0.depthwise_conv": "bga.detail_keep.0",
    "bga.db_branch_keep.1": "bga.detail_keep.1",
    "bga.db_branch_down.0": "bga.detail_down",
    "bga.sb_branch_keep.0.depthwise_conv": "bga.semantic_keep.0",
    "bga.sb_branch_keep.1": "bga.semantic_keep.1",
    "bga.sb_branch_up": "bga.semantic_up",
    "bga.conv": "bga.conv",
    "head.conv_3x3.0": "head.conv",
    "head.conv_1x1": "head.classifier",
    **{f"aux_head{i + 1}.conv_3x3.0": f"aux_heads.{i}.conv" for i in range(4)},
    **{f"aux_head{i + 1}.conv_1x1": f"aux_heads.{i}.classifier" for i in range(4)},
}


def _stdc_rules(depths: stdc.Depths) -> tuple[Rule, ...]:
    """PaddleSeg's convolutions before a norm have biases; ours have none."""
    auxiliary = {
        "conv_out8.conv": "aux_head16.conv",
        "conv_out8.conv_out": "aux_head16.classifier",
        "conv_out16.conv": "aux_head32.conv",
        "conv_out16.conv_out": "aux_head32.classifier",
    }
    return (
        *stdc.backbone_rules("cp.backbone.", "backbone.", depths),
        *decoder_rules(_CONV, _NORM, fold_bias=True),
        *layers(auxiliary, _CONV, _NORM, fold_bias=True),
        *layers(stdc.DETAIL_HEADS, _CONV, _NORM, fold_bias=True, optional=True),
        stdc.UNUSED_HEAD,
    )


def _stdc(name: str, backbone: str, depths: stdc.Depths) -> Generation:
    return Generation(
        "paddleseg",
        name,
        f"PaddleSeg's STDCSeg on {backbone}",
        {
            "type": "STDCSeg",
            "backbone": {"type": backbone, "pool_counts_padding": False},
            "variant": "paddleseg",
        },
        _stdc_rules(depths),
        (has("conv_out_sp8.conv._conv.bias"), *stdc.has_depths("cp.backbone.", depths)),
    )


def _stdc_backbone(name: str, backbone: str, depths: stdc.Depths) -> Generation:
    return Generation(
        "paddleseg",
        f"{name}_backbone",
        f"PaddleSeg's {backbone}, ImageNet",
        {"backbone": {"type": backbone, "pool_counts_padding": False}},
        (
            *stdc.backbone_rules("", "", depths),
            unused("(conv_last.conv|conv_last.bn|fc|bn)", "the classifier"),
        ),
        (lacks("linear.weight"), *stdc.has_depths("", depths)),
        part="backbone",
    )


GENERATIONS = (
    *(_stdc_backbone(name, backbone, depths) for name, (backbone, depths) in stdc.VARIANTS.items()),
    *(_stdc(name, backbone, depths) for name, (backbone, depths) in stdc.VARIANTS.items()),
    Generation(
        "paddleseg",
        "bisenetv2",
        "PaddleSeg's BiSeNetV2",
        {"type": "BiSeNetV2", "variant": "paddleseg"},
        layers(BISENETV2, _CONV, _NORM),
        (has("db.convs.0._conv.weight", "sb.ce.conv_3x3.weight", "bga.sb_branch_up._conv.weight"),),
    ),
    Generation(
        "paddleseg",
        "bisenetv1",
        "PaddleSeg's BiseNetV1 on ResNet18_vd (the reproduced Paddle project)",
        {"type": "BiSeNetV1", "backbone": {"type": "ResNet18_vd"}, "variant": "paddleseg"},
        layers(BISENETV1, _CONV, _NORM),
        (
            has("arms.0.conv_3x3._conv.weight", "refines.1._conv.weight"),
            shaped("backbone.bb_3_1.conv1._conv.weight", 512, 512, 3, 3),
        ),
    ),
    Generation(
        "paddleseg",
        "resnet18_vd",
        "Paddle's ResNet18_vd, ImageNet",
        {"backbone": {"type": "ResNet18_vd"}},
        (*layers(_resnet_vd("", ""), _CONV, _NORM), unused("(fc|out)", "the classifier")),
        (has("conv1_1._conv.weight"), shaped("bb_3_1.conv1._conv.weight", 512, 512, 3, 3)),
        part="backbone",
    ),
)
