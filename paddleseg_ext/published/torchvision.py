"""torchvision's ImageNet ResNets, from which context paths start."""

from paddleseg_ext.published.generation import Generation, has, lacks, shaped
from paddleseg_ext.published.mapping import layers, unused

RULES = (
    unused("fc", "the classifier"),
    *layers({"(conv1|bn1)": "*", "layer#.**": "layer*.*"}),
)


def _resnet(name: str, backbone: str, channels32: int, depth16: int) -> Generation:
    return Generation(
        "torchvision",
        name,
        f"torchvision {backbone}, ImageNet",
        {"backbone": {"type": backbone}},
        RULES,
        (
            has("conv1.weight", f"layer3.{depth16 - 1}.conv1.weight"),
            lacks(f"layer3.{depth16}.conv1.weight"),
            shaped("fc.weight", None, channels32),
        ),
        part="backbone",
    )


GENERATIONS = (
    _resnet("resnet18", "ResNet18", 512, 2),
    _resnet("resnet50", "ResNet50", 2048, 6),
    _resnet("resnet101", "ResNet101", 2048, 23),
)
