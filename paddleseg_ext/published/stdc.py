"""STDC-Seg's networks and ImageNet classifiers: https://github.com/MichaelFan01/STDC-Seg.

A checkpoint holds every block of the backbone twice (`features.*` and `x2.*` ... `x32.*` are one
module under two names) and, in segmentation, the classifier that nobody reads.
"""

from collections.abc import Mapping
from typing import Any

from paddleseg_ext.published.generation import Generation, all_of, has, lacks
from paddleseg_ext.published.mapping import Rule


def backbone_rules(prefix: str, target: str, depths: tuple[int, int, int]) -> tuple[Rule, ...]:
    """An STDCNet's blocks, under both of their names."""
    names = [("x2", 0, f"{target}stage2"), ("x4", 1, f"{target}stage4")]
    index = 2
    for stage, depth in enumerate(depths):
        for block in range(depth):
            names.append((f"x{8 << stage}", index, f"{target}stages.{stage}.{block}"))
            index += 1
    rules = []
    for alias, number, new in names:
        old = rf"{prefix}(?:features|{alias}\.0)\.{number}"
        if number < 2:
            rules.append(Rule(rf"{old}\.(conv|bn)", rf"{new}.\1"))
            continue
        rules += [
            Rule(rf"{old}\.conv_list\.{i}\.(conv|bn)", rf"{new}.conv{i + 1}.\1") for i in range(4)
        ]
        rules.append(Rule(rf"{old}\.avd_layer\.0", f"{new}.down.conv"))
        rules.append(Rule(rf"{old}\.avd_layer\.1", f"{new}.down.bn"))
    return tuple(rules)


def _segmentation_rules(depths: tuple[int, int, int], abn: bool) -> tuple[Rule, ...]:
    """`abn`: the norms outside the backbone are InPlaceABN."""
    names = {
        r"cp\.conv_avg": "context_path.global_context",
        r"cp\.conv_head(16|32)": r"context_path.refine\1",
        r"cp\.arm(16|32)\.conv": r"context_path.arm\1.conv",
        r"ffm\.convblk": "ffm.conv",
        r"conv_out\.conv": "head.conv",
        r"conv_out(16|32)\.conv": r"aux_head\1.conv",
    }
    unused = "the original builds it and never reads it"
    optional = r"conv_out_sp(2|4|8)"
    return (
        *backbone_rules(r"cp\.backbone\.", "backbone.", depths),
        Rule(r"cp\.backbone\.conv_last\.(conv|bn)", r"backbone.conv_last.\1", optional=True),
        Rule(r"cp\.backbone\.(?:fc|bn|linear)", None, "the ImageNet classifier, not read"),
        *(Rule(rf"{old}\.conv", f"{new}.conv") for old, new in names.items()),
        *(Rule(rf"{old}\.bn", f"{new}.bn", fold_abn=abn) for old, new in names.items()),
        Rule(r"cp\.arm(16|32)\.conv_atten", r"context_path.arm\1.gate.conv"),
        Rule(r"cp\.arm(16|32)\.bn_atten", r"context_path.arm\1.gate.bn", fold_abn=abn),
        Rule(r"ffm\.conv1", "ffm.gate.0"),
        Rule(r"ffm\.conv2", "ffm.gate.2"),
        Rule(r"conv_out\.conv_out", "head.classifier"),
        Rule(r"conv_out(16|32)\.conv_out", r"aux_head\1.classifier"),
        Rule(rf"{optional}\.conv\.conv", r"detail_head\1.conv.conv", optional=True),
        Rule(rf"{optional}\.conv\.bn", r"detail_head\1.conv.bn", optional=True, fold_abn=abn),
        Rule(rf"{optional}\.conv_out", r"detail_head\1.classifier", optional=True),
        Rule(r"conv_out_sp16\..+", None, unused),
    )


def _classifier_rules(depths: tuple[int, int, int], target: str) -> tuple[Rule, ...]:
    """To the whole classifier (`target` is `backbone.`) or to the backbone alone."""
    rules = backbone_rules("", target, depths)
    if not target:
        return (
            *rules,
            Rule(r"conv_last\.(conv|bn)", r"conv_last.\1", optional=True),
            Rule(r"(?:fc|bn|linear)", None, "the classifier"),
        )
    return (
        *rules,
        Rule(r"conv_last\.(conv|bn)", r"conv_last.\1"),
        Rule(r"(fc|linear)", r"\1", transpose=True),
        Rule(r"bn", None, "the original builds it and never reads it"),
    )


VARIANTS: Mapping[str, tuple[str, tuple[int, int, int]]] = {
    "stdc813": ("STDCNet813", (2, 2, 2)),
    "stdc1446": ("STDCNet1446", (4, 5, 3)),
}


def last_blocks(prefix: str, depths: tuple[int, int, int]) -> tuple[str, str]:
    """The key of the last block, and the one that a deeper network would have next."""
    last = 1 + sum(depths)
    key = "{}features.{}.conv_list.0.conv.weight"
    return key.format(prefix, last), key.format(prefix, last + 1)


def _generations(name: str, backbone: str, depths: tuple[int, int, int]) -> list[Generation]:
    generations = []
    last, beyond = last_blocks("cp.backbone.", depths)
    model: dict[str, Any] = {
        "type": "STDCSeg",
        "backbone": {"type": backbone},
        "variant": "original",
    }
    # The two differ in nothing but num_batches_tracked.
    for norm, title in (("abn", "InPlaceABN"), ("bn", "BatchNorm")):
        generations.append(
            Generation(
                "stdc",
                f"{name}_{norm}",
                f"STDC-Seg on {backbone}, {title} outside the backbone",
                model,
                _segmentation_rules(depths, abn=norm == "abn"),
                all_of(has(last, "conv_out_sp8.conv.conv.weight"), lacks(beyond)),
            )
        )
    last, beyond = last_blocks("", depths)
    matches = all_of(has(last, "fc.weight", "linear.weight"), lacks(beyond))
    generations.append(
        Generation(
            "stdc",
            f"{name}_imagenet",
            f"{backbone}, ImageNet",
            {"backbone": {"type": backbone}},
            _classifier_rules(depths, ""),
            matches,
            part="backbone",
        )
    )
    return generations


GENERATIONS = tuple(
    generation
    for name, (backbone, depths) in VARIANTS.items()
    for generation in _generations(name, backbone, depths)
)


def classifier_generation(name: str) -> Generation:
    """The layout of an ImageNet checkpoint, mapped to the whole classifier and not the backbone."""
    backbone, depths = VARIANTS[name]
    last, beyond = last_blocks("", depths)
    return Generation(
        "stdc",
        f"{name}_classifier",
        f"{backbone} with its classifier",
        {"type": "STDCClassifier", "backbone": {"type": backbone}},
        _classifier_rules(depths, "backbone."),
        all_of(has(last, "linear.weight"), lacks(beyond)),
    )
