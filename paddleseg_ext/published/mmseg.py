"""mmsegmentation's BiSeNetV1 and BiSeNetV2: https://github.com/open-mmlab/mmsegmentation.

The names are those of mmseg/models/backbones/bisenetv1.py and bisenetv2.py and of the FCN heads in
configs/_base_/models.
"""

from paddleseg_ext.published.generation import (
    Generation,
    all_of,
    has,
    lacks,
    shaped,
)
from paddleseg_ext.published.mapping import Rule

# The three convolutions and norms of a ResNetV1c's stem, and ours.
V1C_STEM = {"0": "0.conv", "1": "0.bn", "3": "1.conv", "4": "1.bn", "6": "2.conv", "7": "2.bn"}

# The fusion module and the heads, as BiSeNet and DABNet have them in mmsegmentation.
FFM_AND_HEADS = (
    Rule(r"backbone\.ffm\.conv1\.(conv|bn)", r"ffm.conv.\1"),
    Rule(r"backbone\.ffm\.conv_atten\.0\.(conv|bn)", r"ffm.gate.\1"),
    Rule(r"decode_head\.convs\.0\.(conv|bn)", r"head.conv.\1"),
    Rule(r"decode_head\.conv_seg", "head.classifier"),
    Rule(r"auxiliary_head\.0\.convs\.0\.(conv|bn)", r"aux_head8.conv.\1"),
    Rule(r"auxiliary_head\.0\.conv_seg", "aux_head8.classifier"),
    Rule(r"auxiliary_head\.1\.convs\.0\.(conv|bn)", r"aux_head16.conv.\1"),
    Rule(r"auxiliary_head\.1\.conv_seg", "aux_head16.classifier"),
)

BISENETV1_RULES = (
    Rule(r"backbone\.context_path\.backbone\.(.+)", r"backbone.\1"),
    *(
        Rule(rf"backbone\.spatial_path\.layer{i + 1}\.(conv|bn)", rf"spatial_path.{i}.\1")
        for i in range(4)
    ),
    Rule(
        r"backbone\.context_path\.arm(16|32)\.conv_layer\.(conv|bn)",
        r"context_path.arm\1.conv.\2",
    ),
    Rule(
        r"backbone\.context_path\.arm(16|32)\.atten_conv_layer\.1\.(conv|bn)",
        r"context_path.arm\1.gate.\2",
    ),
    Rule(r"backbone\.context_path\.conv_head(16|32)\.(conv|bn)", r"context_path.refine\1.\2"),
    Rule(r"backbone\.context_path\.gap_conv\.1\.(conv|bn)", r"context_path.global_context.\1"),
    *FFM_AND_HEADS,
)


def _gather_rules() -> tuple[Rule, ...]:
    """Gather-and-expansion layers; the first of a stage has stride 2 and two depthwise ones."""
    rules = []
    for stage in (2, 3, 4):
        down = rf"backbone\.semantic\.stage{stage}\.0"
        old, new = rf"backbone\.semantic\.stage{stage}\.(\d)", f"semantic.stage{stage + 1}"
        rules += [
            Rule(rf"{down}\.dwconv\.0\.(conv|bn)", rf"{new}.0.depthwise1.\1"),
            Rule(rf"{down}\.dwconv\.1\.(conv|bn)", rf"{new}.0.depthwise2.\1"),
            Rule(rf"{down}\.shortcut\.0\.depthwise_conv\.(conv|bn)", rf"{new}.0.shortcut.0.\1"),
            Rule(rf"{down}\.shortcut\.0\.pointwise_conv\.(conv|bn)", rf"{new}.0.shortcut.1.\1"),
            Rule(rf"{old}\.conv1\.(conv|bn)", rf"{new}.\1.conv.\2"),
            Rule(rf"{old}\.dwconv\.0\.(conv|bn)", rf"{new}.\1.depthwise.\2"),
            Rule(rf"{old}\.conv2\.0\.(conv|bn)", rf"{new}.\1.project.\2"),
        ]
    return tuple(rules)


BISENETV2_RULES = (
    *(
        Rule(
            rf"backbone\.detail\.detail_branch\.{i}\.(\d)\.(conv|bn)",
            rf"detail.stage{i + 1}.\1.\2",
        )
        for i in range(3)
    ),
    Rule(r"backbone\.semantic\.stage1\.conv_first\.(conv|bn)", r"semantic.stem.conv.\1"),
    Rule(r"backbone\.semantic\.stage1\.convs\.(\d)\.(conv|bn)", r"semantic.stem.left.\1.\2"),
    Rule(r"backbone\.semantic\.stage1\.fuse_last\.(conv|bn)", r"semantic.stem.fuse.\1"),
    *_gather_rules(),
    Rule(r"backbone\.semantic\.stage4_CEBlock\.gap\.1", "semantic.context.bn"),
    Rule(
        r"backbone\.semantic\.stage4_CEBlock\.(conv_gap|conv_last)\.(conv|bn)",
        r"semantic.context.\1.\2",
    ),
    Rule(r"backbone\.bga\.detail_dwconv\.0\.depthwise_conv\.(conv|bn)", r"bga.detail_keep.0.\1"),
    Rule(r"backbone\.bga\.detail_dwconv\.0\.pointwise_conv\.conv", "bga.detail_keep.1"),
    Rule(r"backbone\.bga\.detail_down\.0\.(conv|bn)", r"bga.detail_down.\1"),
    Rule(r"backbone\.bga\.semantic_conv\.0\.(conv|bn)", r"bga.semantic_up.\1"),
    Rule(
        r"backbone\.bga\.semantic_dwconv\.0\.depthwise_conv\.(conv|bn)",
        r"bga.semantic_keep.0.\1",
    ),
    Rule(r"backbone\.bga\.semantic_dwconv\.0\.pointwise_conv\.conv", "bga.semantic_keep.1"),
    Rule(r"backbone\.bga\.conv\.(conv|bn)", r"bga.conv.\1"),
    Rule(r"decode_head\.convs\.0\.(conv|bn)", r"head.conv.\1"),
    Rule(r"decode_head\.conv_seg", "head.classifier"),
    Rule(r"auxiliary_head\.(\d)\.convs\.0\.(conv|bn)", r"aux_heads.\1.conv.\2"),
    Rule(r"auxiliary_head\.(\d)\.convs\.1\.(conv|bn)", r"aux_heads.\1.expand.\2"),
    Rule(r"auxiliary_head\.(\d)\.conv_seg", r"aux_heads.\1.classifier"),
)


def _bisenetv1(backbone: str, variant: str, channels: tuple[int, int], depth16: int) -> Generation:
    """`channels`: of the context path and of the backbone at 1/32; `depth16`: blocks at 1/16."""
    resnet = "backbone.context_path.backbone"
    return Generation(
        "mmseg",
        f"bisenetv1_{backbone.lower().replace('esnet', '')}",
        f"mmsegmentation BiSeNetV1 on {backbone}",
        {"type": "BiSeNetV1", "backbone": {"type": backbone}, "variant": variant},
        BISENETV1_RULES,
        all_of(
            has(
                "backbone.context_path.gap_conv.1.conv.weight",
                f"{resnet}.layer3.{depth16 - 1}.conv1.weight",
            ),
            lacks(f"{resnet}.layer3.{depth16}.conv1.weight"),
            shaped("backbone.context_path.arm32.conv_layer.conv.weight", *channels, 3, 3),
        ),
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
        BISENETV2_RULES,
        has(
            "backbone.semantic.stage4_CEBlock.gap.1.weight", "auxiliary_head.3.convs.1.conv.weight"
        ),
    ),
    Generation(
        "mmseg",
        "resnet18_v1c",
        "ResNet-18 with the stem of ResNet-C, ImageNet: DABNet starts from it",
        {"backbone": {"type": "ResNet18_v1c"}},
        (
            Rule(r"fc", None, "the classifier"),
            *(Rule(rf"stem\.{old}", f"convs.{new}") for old, new in V1C_STEM.items()),
            *(Rule(rf"layer{i + 1}\.(.+)", rf"layers.{i}.\1") for i in range(4)),
        ),
        all_of(
            has("stem.6.weight", "layer3.1.conv2.weight"),
            shaped("layer4.1.conv2.weight", 512, 512, 3, 3),
        ),
        part="backbone",
    ),
)
