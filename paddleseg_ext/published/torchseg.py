"""TorchSeg's BiSeNet (the paper's author): https://github.com/ycszen/TorchSeg model/bisenet."""

from typing import Any

from paddleseg_ext.published.generation import (
    Generation,
    all_of,
    has,
    lacks,
    shaped,
)
from paddleseg_ext.published.mapping import Rule

RULES = (
    # Xception39 has its convolutions and norms in pairs, as our ConvBN has; ResNet as torchvision.
    Rule(r"context_path\.(.+)", r"backbone.\1"),
    Rule(r"spatial_path\.conv_7x7\.(conv|bn)", r"spatial_path.0.\1"),
    Rule(r"spatial_path\.conv_3x3_1\.(conv|bn)", r"spatial_path.1.\1"),
    Rule(r"spatial_path\.conv_3x3_2\.(conv|bn)", r"spatial_path.2.\1"),
    Rule(r"spatial_path\.conv_1x1\.(conv|bn)", r"spatial_path.3.\1"),
    Rule(r"global_context\.1\.(conv|bn)", r"context_path.global_context.\1"),
    Rule(r"arms\.0\.conv_3x3\.(conv|bn)", r"context_path.arm32.conv.\1"),
    Rule(r"arms\.0\.channel_attention\.1\.(conv|bn)", r"context_path.arm32.gate.\1"),
    Rule(r"arms\.1\.conv_3x3\.(conv|bn)", r"context_path.arm16.conv.\1"),
    Rule(r"arms\.1\.channel_attention\.1\.(conv|bn)", r"context_path.arm16.gate.\1"),
    Rule(r"refines\.0\.(conv|bn)", r"context_path.refine32.\1"),
    Rule(r"refines\.1\.(conv|bn)", r"context_path.refine16.\1"),
    Rule(r"ffm\.conv_1x1\.(conv|bn)", r"ffm.conv.\1"),
    Rule(r"ffm\.channel_attention\.1\.conv", r"ffm.gate.0"),
    Rule(r"ffm\.channel_attention\.2\.conv", r"ffm.gate.2"),
    Rule(r"heads\.0\.conv_3x3\.(conv|bn)", r"aux_head16.conv.\1"),
    Rule(r"heads\.0\.conv_1x1", r"aux_head16.classifier"),
    Rule(r"heads\.1\.conv_3x3\.(conv|bn)", r"aux_head8.conv.\1"),
    Rule(r"heads\.1\.conv_1x1", r"aux_head8.classifier"),
    Rule(r"heads\.2\.conv_3x3\.(conv|bn)", r"head.conv.\1"),
    Rule(r"heads\.2\.conv_1x1", r"head.classifier"),
)


def _generation(
    name: str, title: str, variant: str, backbone: str, channels32: int, aux_channels: int
) -> Generation:
    model: dict[str, Any] = {
        "type": "BiSeNetV1",
        "backbone": {"type": backbone},
        "variant": variant,
    }
    matches = all_of(
        has("refines.0.conv.weight", "ffm.channel_attention.2.conv.weight"),
        shaped("arms.0.conv_3x3.conv.weight", 128, channels32, 3, 3),
        shaped("heads.0.conv_3x3.conv.weight", aux_channels, 128, 3, 3),
    )
    return Generation("torchseg", name, f"TorchSeg BiSeNet, {title}", model, RULES, matches)


GENERATIONS = (
    _generation("r18", "R18", "author", "ResNet18", 512, 256),
    _generation("r18speed", "R18.speed", "author_speed", "ResNet18", 512, 128),
    _generation("r101", "R101", "author_r101", "ResNet101_v1c", 2048, 256),
    # These two have the same tensors: only the factor of the heads' upsampling differs.
    _generation("x39", "X39", "author_x39", "Xception39", 256, 128),
    _generation("x39speed", "X39.speed", "author_speed", "Xception39", 256, 128),
    Generation(
        "torchseg",
        "resnet101_v1c",
        "TorchSeg ResNet101 with the stem of ResNet-C, ImageNet",
        {"backbone": {"type": "ResNet101_v1c"}},
        (Rule(r"fc", None, "the classifier"), Rule(r"((?:conv1\.\d|bn1|layer\d\..+))", r"\1")),
        all_of(has("conv1.6.weight", "layer3.22.conv1.weight"), lacks("layer3.23.conv1.weight")),
        part="backbone",
    ),
)
