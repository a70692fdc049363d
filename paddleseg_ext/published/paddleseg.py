"""PaddleSeg's own classes (2.8): BiseNetV1 (of the reproduced project), BiSeNetV2 and STDCSeg."""

from paddleseg_ext.published.generation import (
    Generation,
    all_of,
    has,
    lacks,
    shaped,
)
from paddleseg_ext.published.mapping import Rule
from paddleseg_ext.published.stdc import VARIANTS, backbone_rules, last_blocks


def block(old: str, new: str) -> tuple[Rule, Rule]:
    """A convolution and its norm as PaddleSeg's `ConvBN...` layers name them."""
    return Rule(rf"{old}\._conv", f"{new}.conv"), Rule(rf"{old}\._batch_norm", f"{new}.bn")


def _resnet_vd_rules(prefix: str, target: str) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for index in range(3):
        rules += block(rf"{prefix}conv1_{index + 1}", f"{target}stem.{index}")
    for stage in range(4):
        old, new = rf"{prefix}bb_{stage}_(\d)", rf"{target}layer{stage + 1}.\1"
        rules += block(rf"{old}\.conv0", rf"{new}.conv1")
        rules += block(rf"{old}\.conv1", rf"{new}.conv2")
        rules += block(rf"{old}\.short", rf"{new}.shortcut")
    return tuple(rules)


BISENETV1_RULES = (
    *_resnet_vd_rules(r"backbone\.", "backbone."),
    *block(r"spatial_path\.conv_7x7", "spatial_path.0"),
    *block(r"spatial_path\.conv_3x3_1", "spatial_path.1"),
    *block(r"spatial_path\.conv_3x3_2", "spatial_path.2"),
    *block(r"spatial_path\.conv_1x1", "spatial_path.3"),
    *block(r"global_context\.1", "context_path.global_context"),
    *block(r"arms\.0\.conv_3x3", "context_path.arm32.conv"),
    *block(r"arms\.0\.channel_attention\.1", "context_path.arm32.gate"),
    *block(r"arms\.1\.conv_3x3", "context_path.arm16.conv"),
    *block(r"arms\.1\.channel_attention\.1", "context_path.arm16.gate"),
    *block(r"refines\.0", "context_path.refine32"),
    *block(r"refines\.1", "context_path.refine16"),
    *block(r"ffm\.conv_1x1", "ffm.conv"),
    *block(r"ffm\.channel_attention\.1", "ffm.gate.0"),
    *block(r"ffm\.channel_attention\.2", "ffm.gate.1"),
    *block(r"heads\.0\.conv_3x3", "aux_head16.conv"),
    Rule(r"heads\.0\.conv_1x1", "aux_head16.classifier"),
    *block(r"heads\.1\.conv_3x3", "aux_head8.conv"),
    Rule(r"heads\.1\.conv_1x1", "aux_head8.classifier"),
    *block(r"heads\.2\.conv_3x3", "head.conv"),
    Rule(r"heads\.2\.conv_1x1", "head.classifier"),
)


def _gather_rules() -> tuple[Rule, ...]:
    """The gather-and-expansion layers of PaddleSeg's semantic branch."""
    rules: list[Rule] = []
    for stage, new in (("stage3", "stage3"), ("stage4", "stage4"), ("stage5_4", "stage5")):
        old, new = rf"sb\.{stage}\.(\d)", rf"semantic.{new}.\1"
        rules += block(rf"{old}\.conv\.0", f"{new}.conv")
        rules += block(rf"{old}\.conv\.1\.depthwise_conv", f"{new}.depthwise")
        rules += block(rf"{old}\.conv\.2", f"{new}.project")
        rules += block(rf"{old}\.branch_1\.0", f"{new}.conv")
        rules += block(rf"{old}\.branch_1\.1\.depthwise_conv", f"{new}.depthwise1")
        rules += block(rf"{old}\.branch_1\.2\.depthwise_conv", f"{new}.depthwise2")
        rules += block(rf"{old}\.branch_1\.3", f"{new}.project")
        rules += block(rf"{old}\.branch_2\.0\.depthwise_conv", f"{new}.shortcut.0")
        rules += block(rf"{old}\.branch_2\.1", f"{new}.shortcut.1")
    return tuple(rules)


def _detail_rules() -> tuple[Rule, ...]:
    """Eight convolutions in a row; ours are grouped in stages of two, three and three."""
    places = [(1, 0), (1, 1), *((2, i) for i in range(3)), *((3, i) for i in range(3))]
    rules: list[Rule] = []
    for index, (stage, place) in enumerate(places):
        rules += block(rf"db\.convs\.{index}", f"detail.stage{stage}.{place}")
    return tuple(rules)


def _head_rules() -> tuple[Rule, ...]:
    rules = [*block(r"head\.conv_3x3\.0", "head.conv"), Rule(r"head\.conv_1x1", "head.classifier")]
    for index in range(4):
        old, new = f"aux_head{index + 1}", f"aux_heads.{index}"
        rules += block(rf"{old}\.conv_3x3\.0", f"{new}.conv")
        rules.append(Rule(rf"{old}\.conv_1x1", f"{new}.classifier"))
    return tuple(rules)


BISENETV2_RULES = (
    *_detail_rules(),
    *block(r"sb\.stem\.(conv|left\.\d|fuse)", r"semantic.stem.\1"),
    *_gather_rules(),
    Rule(r"sb\.ce\.bn", "semantic.context.bn"),
    *block(r"sb\.ce\.conv_1x1", "semantic.context.conv_gap"),
    Rule(r"sb\.ce\.conv_3x3", "semantic.context.conv_last"),
    *block(r"bga\.db_branch_keep\.0\.depthwise_conv", "bga.detail_keep.0"),
    Rule(r"bga\.db_branch_keep\.1", "bga.detail_keep.1"),
    *block(r"bga\.db_branch_down\.0", "bga.detail_down"),
    *block(r"bga\.sb_branch_keep\.0\.depthwise_conv", "bga.semantic_keep.0"),
    Rule(r"bga\.sb_branch_keep\.1", "bga.semantic_keep.1"),
    *block(r"bga\.sb_branch_up", "bga.semantic_up"),
    *block(r"bga\.conv", "bga.conv"),
    *_head_rules(),
)


def _stdc_rules(depths: tuple[int, int, int]) -> tuple[Rule, ...]:
    """Its convolutions before a norm have biases; ours have none."""
    rules: list[Rule] = [*backbone_rules(r"cp\.backbone\.", "backbone.", depths)]
    for old, new in (
        (r"cp\.conv_avg", "context_path.global_context"),
        (r"cp\.conv_head(16|32)", r"context_path.refine\1"),
        (r"cp\.arm(16|32)\.conv", r"context_path.arm\1.conv"),
        (r"ffm\.convblk", "ffm.conv"),
        (r"conv_out\.conv", "head.conv"),
        (r"conv_out8\.conv", "aux_head16.conv"),
        (r"conv_out16\.conv", "aux_head32.conv"),
        (r"conv_out_sp(2|4|8)\.conv", r"detail_head\1.conv"),
    ):
        optional = "_sp" in old
        rules += [
            Rule(rf"{old}\._conv", f"{new}.conv", fold_bias=f"{new}.bn", optional=optional),
            Rule(rf"{old}\._batch_norm", f"{new}.bn", optional=optional),
        ]
    gate = r"context_path.arm\1.gate"
    return (
        *rules,
        Rule(r"cp\.arm(16|32)\.conv_atten", f"{gate}.conv", fold_bias=f"{gate}.bn"),
        Rule(r"cp\.arm(16|32)\.bn_atten", f"{gate}.bn"),
        Rule(r"ffm\.conv1", "ffm.gate.0"),
        Rule(r"ffm\.conv2", "ffm.gate.2"),
        Rule(r"conv_out\.conv_out", "head.classifier"),
        Rule(r"conv_out8\.conv_out", "aux_head16.classifier"),
        Rule(r"conv_out16\.conv_out", "aux_head32.classifier"),
        Rule(r"conv_out_sp(2|4|8)\.conv_out", r"detail_head\1.classifier", optional=True),
        Rule(r"conv_out_sp16\..+", None, "the original builds it and never reads it"),
    )


def _stdc(name: str, backbone: str, depths: tuple[int, int, int]) -> Generation:
    last, beyond = last_blocks("cp.backbone.", depths)
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
        all_of(has(last, "conv_out_sp8.conv._conv.bias"), lacks(beyond)),
    )


GENERATIONS = (
    *(_stdc(name, backbone, depths) for name, (backbone, depths) in VARIANTS.items()),
    Generation(
        "paddleseg",
        "bisenetv2",
        "PaddleSeg's BiSeNetV2",
        {"type": "BiSeNetV2", "variant": "paddleseg"},
        BISENETV2_RULES,
        has("db.convs.0._conv.weight", "sb.ce.conv_3x3.weight", "bga.sb_branch_up._conv.weight"),
    ),
    Generation(
        "paddleseg",
        "bisenetv1",
        "PaddleSeg's BiseNetV1 on ResNet18_vd (the reproduced Paddle project)",
        {"type": "BiSeNetV1", "backbone": {"type": "ResNet18_vd"}, "variant": "paddleseg"},
        BISENETV1_RULES,
        all_of(
            has("arms.0.conv_3x3._conv.weight", "refines.1._conv.weight"),
            shaped("backbone.bb_3_1.conv1._conv.weight", 512, 512, 3, 3),
        ),
    ),
    Generation(
        "paddleseg",
        "resnet18_vd",
        "Paddle's ResNet18_vd, ImageNet",
        {"backbone": {"type": "ResNet18_vd"}},
        (
            *_resnet_vd_rules("", ""),
            Rule(r"(?:fc|out)", None, "the classifier"),
        ),
        all_of(has("conv1_1._conv.weight"), shaped("bb_3_1.conv1._conv.weight", 512, 512, 3, 3)),
        part="backbone",
    ),
)
