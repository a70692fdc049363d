"""PaddleSeg's own classes (2.8): the main seed's BiseNetV1."""

from paddleseg_ext.checkpoints.torch_import.generation import Generation, all_of, has, shaped
from paddleseg_ext.checkpoints.torch_import.mapping import Rule


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

GENERATIONS = (
    Generation(
        "paddleseg",
        "bisenetv1",
        "PaddleSeg's BiseNetV1 on ResNet18_vd (the reproduced Paddle project)",
        {"type": "BiSeNetV1", "backbone": {"type": "ResNet18_vd"}, "wiring": "paddleseg"},
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
