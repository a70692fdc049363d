"""STDC-Seg's networks and ImageNet classifiers: https://github.com/MichaelFan01/STDC-Seg.

A checkpoint contains every block of the backbone twice (`features.*` and `x2.*` ... `x32.*` are one
module under two names) and, in segmentation, a classifier that the network never reads.
"""

from collections.abc import Mapping

from paddleseg_ext.published.coincheung import decoder_rules
from paddleseg_ext.published.generation import Check, Generation, has, lacks
from paddleseg_ext.published.mapping import Rule, layers, unused

Depths = tuple[int, int, int]

VARIANTS: Mapping[str, tuple[str, Depths]] = {
    "stdc813": ("STDCNet813", (2, 2, 2)),
    "stdc1446": ("STDCNet1446", (4, 5, 3)),
}
DETAIL_HEADS = {
    "conv_out_sp(2|4|8).conv": "detail_head*.conv",
    "conv_out_sp(2|4|8).conv_out": "detail_head*.classifier",
}
_NEVER_READ = "the original builds it and never reads it"
UNUSED_HEAD = unused("conv_out_sp16.**", _NEVER_READ)


def backbone_rules(prefix: str, target: str, depths: Depths) -> tuple[Rule, ...]:
    """Rules for an STDCNet's blocks, under both of their names."""
    names = [("x2", f"{target}stage2"), ("x4", f"{target}stage4")]
    for stage, depth in enumerate(depths):
        names += [(f"x{8 << stage}", f"{target}stages.{stage}.{i}") for i in range(depth)]
    table, downsampling = {}, {}
    for number, (alias, new) in enumerate(names):
        for old in (f"{prefix}features.{number}", f"{prefix}{alias}.0.{number}"):
            table[old] = new
            table |= {f"{old}.conv_list.{i}": f"{new}.conv{i + 1}" for i in range(4)}
            downsampling[f"{old}.avd_layer"] = f"{new}.down"
    return (*layers(table), *layers(downsampling, "0", "1"))


def _segmentation_rules(depths: Depths, abn: bool) -> tuple[Rule, ...]:
    """`abn`: the norms outside the backbone are InPlaceABNs."""
    auxiliary = {
        "conv_out(16|32).conv": "aux_head*.conv",
        "conv_out(16|32).conv_out": "aux_head*.classifier",
    }
    return (
        *backbone_rules("cp.backbone.", "backbone.", depths),
        *layers({"cp.backbone.conv_last": "backbone.conv_last"}, optional=True),
        unused("cp.backbone.(fc|bn|linear)", "the ImageNet classifier, not read"),
        *decoder_rules(fold_abn=abn),
        *layers(auxiliary, fold_abn=abn),
        *layers(DETAIL_HEADS, fold_abn=abn, optional=True),
        UNUSED_HEAD,
    )


def has_depths(prefix: str, depths: Depths) -> tuple[Check, Check]:
    """Checks that the last block of this STDCNet exists, and the next one of a deeper does not."""
    last = 1 + sum(depths)
    key = f"{prefix}features.{{}}.conv_list.0.conv.weight"
    return has(key.format(last)), lacks(key.format(last + 1))


def _segmentation(name: str, norm: str, norm_title: str) -> Generation:
    backbone, depths = VARIANTS[name]
    return Generation(
        "stdc",
        f"{name}_{norm}",
        f"STDC-Seg on {backbone}, {norm_title} outside the backbone",
        {"type": "STDCSeg", "backbone": {"type": backbone}, "variant": "original"},
        _segmentation_rules(depths, abn=norm == "abn"),
        (has("conv_out_sp8.conv.conv.weight"), *has_depths("cp.backbone.", depths)),
    )


def _imagenet(name: str) -> Generation:
    backbone, depths = VARIANTS[name]
    return Generation(
        "stdc",
        f"{name}_imagenet",
        f"{backbone}, ImageNet",
        {"backbone": {"type": backbone}},
        (
            *backbone_rules("", "", depths),
            *layers({"conv_last": "conv_last"}, optional=True),
            unused("(fc|bn|linear)", "the classifier"),
        ),
        (has("fc.weight", "linear.weight"), *has_depths("", depths)),
        part="backbone",
    )


def classifier_generation(name: str) -> Generation:
    """The layout of an ImageNet checkpoint, mapped to the whole classifier and not its backbone."""
    backbone, depths = VARIANTS[name]
    return Generation(
        "stdc",
        f"{name}_classifier",
        f"{backbone} with its classifier",
        {"type": "STDCClassifier", "backbone": {"type": backbone}},
        (
            *backbone_rules("", "backbone.", depths),
            *layers({"conv_last": "conv_last"}),
            *layers({"(fc|linear)": "*"}, transpose=True),
            unused("bn", _NEVER_READ),
        ),
        (has("linear.weight"), *has_depths("", depths)),
    )


GENERATIONS = tuple(
    generation
    for name in VARIANTS
    for generation in (
        # These two differ in nothing but num_batches_tracked.
        _segmentation(name, "abn", "InPlaceABN"),
        _segmentation(name, "bn", "BatchNorm"),
        _imagenet(name),
    )
)
