"""torchvision's ImageNet ResNets, which the context paths start from."""

from paddleseg_ext.published.generation import (
    Generation,
    all_of,
    has,
    lacks,
    shaped,
)
from paddleseg_ext.published.mapping import Rule

RULES = (
    Rule(r"fc", None, "the classifier"),
    Rule(r"((?:conv1|bn1|layer\d\..+))", r"\1"),
)


def _resnet(name: str, backbone: str, channels32: int, depth16: int) -> Generation:
    return Generation(
        "torchvision",
        name,
        f"torchvision {backbone}, ImageNet",
        {"backbone": {"type": backbone}},
        RULES,
        all_of(
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
