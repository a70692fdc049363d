"""TorchSeg's BiSeNet (the paper's author): https://github.com/ycszen/TorchSeg model/bisenet."""

from paddleseg_ext.published.generation import Generation, has, lacks, shaped
from paddleseg_ext.published.mapping import layers, unused

# PaddleSeg's BiseNetV1 has these names, too.
LAYERS = {
    "spatial_path.conv_7x7": "spatial_path.0",
    "spatial_path.conv_3x3_1": "spatial_path.1",
    "spatial_path.conv_3x3_2": "spatial_path.2",
    "spatial_path.conv_1x1": "spatial_path.3",
    "global_context.1": "context_path.global_context",
    "arms.0.conv_3x3": "context_path.arm32.conv",
    "arms.0.channel_attention.1": "context_path.arm32.gate",
    "arms.1.conv_3x3": "context_path.arm16.conv",
    "arms.1.channel_attention.1": "context_path.arm16.gate",
    "refines.0": "context_path.refine32",
    "refines.1": "context_path.refine16",
    "ffm.conv_1x1": "ffm.conv",
    "heads.0.conv_3x3": "aux_head16.conv",
    "heads.0.conv_1x1": "aux_head16.classifier",
    "heads.1.conv_3x3": "aux_head8.conv",
    "heads.1.conv_1x1": "aux_head8.classifier",
    "heads.2.conv_3x3": "head.conv",
    "heads.2.conv_1x1": "head.classifier",
}
_GATE = {
    "ffm.channel_attention.1.conv": "ffm.gate.0",
    "ffm.channel_attention.2.conv": "ffm.gate.2",
}
# Xception39 pairs convolutions and norms as our `ConvBN` does; ResNet has torchvision's names.
RULES = layers({"context_path.**": "backbone.*"} | LAYERS | _GATE)


def _generation(
    name: str, title: str, variant: str, backbone: str, channels32: int, aux_channels: int
) -> Generation:
    return Generation(
        "torchseg",
        name,
        f"TorchSeg BiSeNet, {title}",
        {"type": "BiSeNetV1", "backbone": {"type": backbone}, "variant": variant},
        RULES,
        (
            has("refines.0.conv.weight", "ffm.channel_attention.2.conv.weight"),
            shaped("arms.0.conv_3x3.conv.weight", 128, channels32, 3, 3),
            shaped("heads.0.conv_3x3.conv.weight", aux_channels, 128, 3, 3),
        ),
    )


GENERATIONS = (
    _generation("r18", "R18", "author", "ResNet18", 512, 256),
    _generation("r18speed", "R18.speed", "author_speed", "ResNet18", 512, 128),
    _generation("r101", "R101", "author_r101", "ResNet101_v1c", 2048, 256),
    # These two have the same tensors: only the factor by which the heads upsample differs.
    _generation("x39", "X39", "author_x39", "Xception39", 256, 128),
    _generation("x39speed", "X39.speed", "author_speed", "Xception39", 256, 128),
    Generation(
        "torchseg",
        "resnet101_v1c",
        "TorchSeg ResNet101 with the stem of ResNet-C, ImageNet",
        {"backbone": {"type": "ResNet101_v1c"}},
        (
            unused("fc", "the classifier"),
            *layers({"conv1.#": "conv1.*", "bn1": "bn1", "layer#.**": "layer*.*"}),
        ),
        (has("conv1.6.weight", "layer3.22.conv1.weight"), lacks("layer3.23.conv1.weight")),
        part="backbone",
    ),
)
