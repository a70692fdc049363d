"""STDC-Seg's networks and ImageNet classifiers: https://github.com/MichaelFan01/STDC-Seg.

Also "cutNet" and "delNet" of its fork https://github.com/chen1234520/STDC-Seg, whose "DW" is the
plain network: its layout is `stdc813_bn` or `stdc1446_bn`.

A checkpoint contains every block of the backbone twice (`features.*` and `x2.*` ... `x32.*` are one
module under two names) and, in segmentation, a classifier that the network never reads.
"""

from collections.abc import Mapping, Sequence

from paddleseg_ext.published.coincheung import decoder_rules
from paddleseg_ext.published.generation import Check, Generation, has, lacks, shaped
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


def backbone_rules(prefix: str, target: str, depths: Sequence[int]) -> tuple[Rule, ...]:
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


def _segmentation_rules(depths: Sequence[int], abn: bool) -> tuple[Rule, ...]:
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


_MAIN_HEAD = "conv_out.conv.conv.weight"
_DETAIL_HEAD = has("conv_out_sp8.conv.conv.weight")
# InPlaceABN has no counters. The backbone's norms are plain in both layouts.
_COUNTERS = "conv_out.conv.bn.num_batches_tracked"
_BACKBONE_COUNTERS = "cp.backbone.features.0.bn.num_batches_tracked"


def _segmentation(name: str, norm: str, norm_title: str) -> Generation:
    backbone, depths = VARIANTS[name]
    return Generation(
        "stdc",
        f"{name}_{norm}",
        f"STDC-Seg on {backbone}, {norm_title} outside the backbone",
        {"type": "STDCSeg", "backbone": {"type": backbone}, "variant": "original"},
        _segmentation_rules(depths, abn=norm == "abn"),
        (_DETAIL_HEAD, shaped(_MAIN_HEAD, 256, 256, 3, 3), *has_depths("cp.backbone.", depths)),
        signs=((lacks(_COUNTERS), has(_BACKBONE_COUNTERS)) if norm == "abn" else (has(_COUNTERS),)),
    )


def _cutnet(name: str) -> Generation:
    backbone, depths = VARIANTS[name]
    return Generation(
        "stdc",
        f"{name}_cutnet",
        f"cutNet of a fork: STDC-Seg on {backbone} with half of the tail",
        {"type": "STDCSeg", "backbone": {"type": backbone}, "variant": "half_tail"},
        _segmentation_rules(depths, abn=False),
        (
            has("cp.arm32.conv.conv.weight"),
            shaped(_MAIN_HEAD, 128, 128, 3, 3),
            *has_depths("cp.backbone.", depths),
        ),
    )


_DELNET = Generation(
    "stdc",
    "stdc813_delnet",
    "delNet of a fork: STDC-Seg on STDCNet813 without the stage at 1/32, with half of the tail",
    {
        "type": "STDCSeg",
        "backbone": {"type": "STDCNet813", "last_stage": False},
        "variant": "half_tail",
    },
    (
        unused("cp.backbone.features.(6|7).**", _NEVER_READ),
        unused("cp.backbone.conv_last.**", _NEVER_READ),
        *_segmentation_rules((2, 2), abn=False),
    ),
    (
        lacks("cp.arm32.conv.conv.weight"),
        shaped(_MAIN_HEAD, 128, 128, 3, 3),
        *has_depths("cp.backbone.", (2, 2, 2)),
    ),
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


GENERATIONS = (
    *(
        generation
        for name in VARIANTS
        for generation in (
            # The first two differ in nothing but num_batches_tracked.
            _segmentation(name, "abn", "InPlaceABN"),
            _segmentation(name, "bn", "BatchNorm"),
            _cutnet(name),
            _imagenet(name),
        )
    ),
    _DELNET,
)
