"""mmsegmentation's BiSeNetV1, BiSeNetV2 and STDC: https://github.com/open-mmlab/mmsegmentation.

The names are those of mmseg/models/backbones/bisenetv1.py, bisenetv2.py and stdc.py and of the FCN
heads in configs/_base_/models.
"""

from collections.abc import Sequence

from paddleseg_ext.published.generation import Check, Generation, has, lacks, shaped
from paddleseg_ext.published.mapping import Rule, layers, unused


def resnet_v1c_rules(prefix: str, target: str) -> tuple[Rule, ...]:
    """Rules for a ResNetV1c, whose stem is three numbered convolutions, norms and ReLUs."""
    rules: list[Rule] = []
    for i in range(3):
        rules += layers({f"{prefix}stem": f"{target}convs.{i}"}, str(3 * i), str(3 * i + 1))
    stages = {f"{prefix}layer{i + 1}.**": f"{target}layers.{i}.*" for i in range(4)}
    return (*rules, *layers(stages))


# The feature fusion and the heads, which BiSeNet and DABNet share in mmsegmentation.
FFM_AND_HEADS = {
    "backbone.ffm.conv1": "ffm.conv",
    "backbone.ffm.conv_atten.0": "ffm.gate",
    "decode_head.convs.0": "head.conv",
    "decode_head.conv_seg": "head.classifier",
    "auxiliary_head.0.convs.0": "aux_head8.conv",
    "auxiliary_head.0.conv_seg": "aux_head8.classifier",
    "auxiliary_head.1.convs.0": "aux_head16.conv",
    "auxiliary_head.1.conv_seg": "aux_head16.classifier",
}
BISENETV1 = {
    "backbone.context_path.backbone.**": "backbone.*",
    "backbone.spatial_path.layer1": "spatial_path.0",
    "backbone.spatial_path.layer2": "spatial_path.1",
    "backbone.spatial_path.layer3": "spatial_path.2",
    "backbone.spatial_path.layer4": "spatial_path.3",
    "backbone.context_path.arm(16|32).conv_layer": "context_path.arm*.conv",
    "backbone.context_path.arm(16|32).atten_conv_layer.1": "context_path.arm*.gate",
    "backbone.context_path.conv_head(16|32)": "context_path.refine*",
    "backbone.context_path.gap_conv.1": "context_path.global_context",
    **FFM_AND_HEADS,
}


def _semantic_stage(old: str, new: str) -> dict[str, str]:
    """Gather-and-expansion layers; the first of a stage has stride 2 and two depthwise ones."""
    return {
        f"{old}.0.dwconv.0": f"{new}.0.depthwise1",
        f"{old}.0.dwconv.1": f"{new}.0.depthwise2",
        f"{old}.0.shortcut.0.depthwise_conv": f"{new}.0.shortcut.0",
        f"{old}.0.shortcut.0.pointwise_conv": f"{new}.0.shortcut.1",
        f"{old}.#.conv1": f"{new}.*.conv",
        f"{old}.#.dwconv.0": f"{new}.*.depthwise",
        f"{old}.#.conv2.0": f"{new}.*.project",
    }


BISENETV2 = {
    "backbone.detail.detail_branch.0.#": "detail.stage1.*",
    "backbone.detail.detail_branch.1.#": "detail.stage2.*",
    "backbone.detail.detail_branch.2.#": "detail.stage3.*",
    "backbone.semantic.stage1.conv_first": "semantic.stem.conv",
    "backbone.semantic.stage1.convs.#": "semantic.stem.left.*",
    "backbone.semantic.stage1.fuse_last": "semantic.stem.fuse",
    **_semantic_stage("backbone.semantic.stage2", "semantic.stage3"),
    **_semantic_stage("backbone.semantic.stage3", "semantic.stage4"),
    **_semantic_stage("backbone.semantic.stage4", "semantic.stage5"),
    "backbone.semantic.stage4_CEBlock.gap.1": "semantic.context.bn",
    "backbone.semantic.stage4_CEBlock.(conv_gap|conv_last)": "semantic.context.*",
    "backbone.bga.detail_dwconv.0.depthwise_conv": "bga.detail_keep.0",
    "backbone.bga.detail_dwconv.0.pointwise_conv.conv": "bga.detail_keep.1",
    "backbone.bga.detail_down.0": "bga.detail_down",
    "backbone.bga.semantic_conv.0": "bga.semantic_up",
    "backbone.bga.semantic_dwconv.0.depthwise_conv": "bga.semantic_keep.0",
    "backbone.bga.semantic_dwconv.0.pointwise_conv.conv": "bga.semantic_keep.1",
    "backbone.bga.conv": "bga.conv",
    "decode_head.convs.0": "head.conv",
    "decode_head.conv_seg": "head.classifier",
    "auxiliary_head.#.convs.0": "aux_heads.*.conv",
    "auxiliary_head.#.convs.1": "aux_heads.*.expand",
    "auxiliary_head.#.conv_seg": "aux_heads.*.classifier",
}


STDC = {
    "backbone.arms.0.conv_layer": "context_path.arm32.conv",
    "backbone.arms.0.atten_conv_layer.1": "context_path.arm32.gate",
    "backbone.arms.1.conv_layer": "context_path.arm16.conv",
    "backbone.arms.1.atten_conv_layer.1": "context_path.arm16.gate",
    "backbone.convs.0": "context_path.refine32",
    "backbone.convs.1": "context_path.refine16",
    "backbone.conv_avg": "context_path.global_context",
    "backbone.ffm.conv0": "ffm.conv",
    "backbone.ffm.attention.1.conv": "ffm.gate.0",
    "backbone.ffm.attention.2.conv": "ffm.gate.2",
    "decode_head.convs.0": "head.conv",
    "decode_head.conv_seg": "head.classifier",
    "auxiliary_head.0.convs.0": "aux_head16.conv",
    "auxiliary_head.0.conv_seg": "aux_head16.classifier",
    "auxiliary_head.1.convs.0": "aux_head32.conv",
    "auxiliary_head.1.conv_seg": "aux_head32.classifier",
    "auxiliary_head.2.convs.0": "detail_head8.conv",
    "auxiliary_head.2.conv_seg": "detail_head8.classifier",
}


def _stdc_blocks(depths: Sequence[int]) -> dict[str, str]:
    """The backbone: two convolutions, then STDC modules, whose convolutions are `layers`."""
    prefix = "backbone.backbone.stages"
    table = {f"{prefix}.0": "backbone.stage2", f"{prefix}.1": "backbone.stage4"}
    for stage in range(len(depths)):
        old, new = f"{prefix}.{stage + 2}.#", f"backbone.stages.{stage}.*"
        table |= {f"{old}.layers.{i}": f"{new}.conv{i + 1}" for i in range(4)}
        table[f"{old}.downsample"] = f"{new}.down"
    return table


def _stdc(name: str, backbone: str, depths: tuple[int, int, int]) -> Generation:
    block = "backbone.backbone.stages.2.{}.layers.0.conv.weight"
    return Generation(
        "mmseg",
        name,
        f"mmsegmentation STDC-Seg on {backbone}",
        {"type": "STDCSeg", "backbone": {"type": backbone}, "variant": "mmseg"},
        (
            Rule("auxiliary_head.2", None, "a constant of the loss"),
            *layers(_stdc_blocks(depths)),
            *layers(STDC),
        ),
        (
            has("backbone.arms.0.conv_layer.conv.weight", block.format(depths[0] - 1)),
            lacks(block.format(depths[0])),
        ),
    )


def _bisenetv1(backbone: str, variant: str, channels: tuple[int, int], depth16: int) -> Generation:
    """`channels`: of the context path and of the backbone at 1/32; `depth16`: blocks at 1/16."""
    context = "backbone.context_path"
    return Generation(
        "mmseg",
        f"bisenetv1_{backbone.lower().replace('esnet', '')}",
        f"mmsegmentation BiSeNetV1 on {backbone}",
        {"type": "BiSeNetV1", "backbone": {"type": backbone}, "variant": variant},
        layers(BISENETV1),
        (
            has(f"{context}.gap_conv.1.conv.weight"),
            has(f"{context}.backbone.layer3.{depth16 - 1}.conv1.weight"),
            lacks(f"{context}.backbone.layer3.{depth16}.conv1.weight"),
            shaped(f"{context}.arm32.conv_layer.conv.weight", *channels, 3, 3),
        ),
    )


def _is_v1c(depth16: int, channels32: int) -> tuple[Check, ...]:
    """An ImageNet ResNet with the stem of ResNet-C; `depth16`: blocks at 1/16."""
    return (
        has("stem.6.weight", f"layer3.{depth16 - 1}.conv1.weight"),
        lacks(f"layer3.{depth16}.conv1.weight"),
        shaped("fc.weight", None, channels32),
    )


def _without_stem(backbone: str, depth16: int, channels32: int) -> Generation:
    """The layers of these files: the stem of mmsegmentation's BiSeNetV1 is another one."""
    return Generation(
        "mmseg",
        f"{backbone.lower()}_v1c_layers",
        f"{backbone}-v1c without its stem, ImageNet: BiSeNetV1 starts from it",
        {"backbone": {"type": backbone}},
        (
            unused("fc", "the classifier"),
            unused("stem.**", "the network has another stem, which starts fresh"),
            *layers({"layer#.**": "layer*.*"}),
        ),
        _is_v1c(depth16, channels32),
        training_only=("conv1.", "bn1."),
        part="backbone",
    )


GENERATIONS = (
    _bisenetv1("ResNet18", "mmseg", (128, 512), 2),
    _bisenetv1("ResNet50", "mmseg_wide", (512, 2048), 6),
    _bisenetv1("ResNet101", "mmseg_wide", (512, 2048), 23),
    Generation(
        "mmseg",
        "bisenetv2",
        "mmsegmentation BiSeNetV2",
        {"type": "BiSeNetV2", "variant": "mmseg"},
        layers(BISENETV2),
        (
            has("backbone.semantic.stage4_CEBlock.gap.1.weight"),
            has("auxiliary_head.3.convs.1.conv.weight"),
        ),
    ),
    _stdc("stdc1", "STDCNet813", (2, 2, 2)),
    _stdc("stdc2", "STDCNet1446", (4, 5, 3)),
    Generation(
        "mmseg",
        "resnet18_v1c",
        "ResNet-18 with the stem of ResNet-C, ImageNet: DABNet starts from it",
        {"backbone": {"type": "ResNet18_v1c"}},
        (unused("fc", "the classifier"), *resnet_v1c_rules("", "")),
        (*_is_v1c(2, 512), has("layer3.1.conv2.weight")),
        signs=(has("stem.6.weight"),),
        part="backbone",
    ),
    _without_stem("ResNet18", 2, 512),
    _without_stem("ResNet50", 6, 2048),
    _without_stem("ResNet101", 23, 2048),
)
