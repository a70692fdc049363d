"""CoinCheung's BiSeNets, in the generations whose checkpoints were published.

https://github.com/CoinCheung/BiSeNet; the dates are those of the commits that changed the layout.
zllrunning/face-parsing.PyTorch descends from it and has its layout. So does STDC-Seg's decoder.
"""

from typing import Any

from paddleseg_ext.published.generation import Check, Generation, Shapes, has, lacks, shaped
from paddleseg_ext.published.mapping import Rule, layers

_DECODER = {
    "cp.conv_avg": "context_path.global_context",
    "cp.conv_head(16|32)": "context_path.refine*",
    "cp.arm(16|32).conv": "context_path.arm*.conv",
    "ffm.convblk": "ffm.conv",
    "ffm.conv1": "ffm.gate.0",
    "ffm.conv2": "ffm.gate.2",
    "conv_out.conv": "head.conv",
    "conv_out.conv_out": "head.classifier",
}


def decoder_rules(conv: str = "conv", norm: str = "bn", **options: Any) -> tuple[Rule, ...]:
    """Rules for context path, feature fusion and main head of BiSeNetV1; see `mapping.layers`."""
    gates = {"cp.arm(16|32)": "context_path.arm*.gate"}
    return (
        *layers(_DECODER, conv, norm, **options),
        *layers(gates, "conv_atten", "bn_atten", **options),
    )


_V1_LAYERS = {
    "cp.resnet.**": "backbone.*",
    "sp.conv1": "spatial_path.0",
    "sp.conv2": "spatial_path.1",
    "sp.conv3": "spatial_path.2",
    "sp.conv_out": "spatial_path.3",
    "ffm": "ffm.gate",  # since 13 July 2021; the decoder's rules know the two convolutions before
    "conv_out16.conv": "aux_head8.conv",
    "conv_out16.conv_out": "aux_head8.classifier",
    "conv_out32.conv": "aux_head16.conv",
    "conv_out32.conv_out": "aux_head16.classifier",
}


def _is_pixel_shuffle(shapes: Shapes) -> bool:
    """Pixel shuffle by 8 and 16: the second classifier has four times the channels."""
    main, coarse = "conv_out.conv_out.weight", "conv_out32.conv_out.weight"
    return main in shapes and coarse in shapes and shapes[coarse][0] == 4 * shapes[main][0]


_V1 = (
    has("cp.arm16.conv_atten.weight", "cp.conv_head16.conv.weight", "conv_out16.conv_out.weight"),
    shaped("cp.resnet.layer1.0.conv2.weight", 64, 64, 3, 3),
)
_GATE_OF_TWO = has("ffm.conv1.weight", "ffm.conv2.weight")
_BIAS = "conv_out.conv_out.bias"
_COUNTER = "cp.arm16.bn_atten.num_batches_tracked"
_SPATIAL_PATH = "sp.conv1.conv.weight"
_OLD_BISENET = (_GATE_OF_TWO, lacks(_BIAS), has(_SPATIAL_PATH))
_OLD_WITHOUT_SPATIAL = (_GATE_OF_TWO, lacks(_BIAS, _SPATIAL_PATH))


def _v1(
    name: str,
    title: str,
    variant: str,
    checks: tuple[Check, ...],
    abn: bool = False,
    system: str = "coincheung",
) -> Generation:
    """`abn`: every norm is an InPlaceABN."""
    backbone = {"type": "ResNet18"} | ({"activation": "leaky_relu"} if abn else {})
    model = {"type": "BiSeNetV1", "backbone": backbone, "variant": variant}
    rules = (*layers(_V1_LAYERS, fold_abn=abn), *decoder_rules(fold_abn=abn))
    # InPlaceABN has no counters. A file of plain norms whose counters are gone looks the same.
    sign = lacks(_COUNTER) if abn else has(_COUNTER)
    return Generation(system, name, title, model, rules, (*_V1, *checks), signs=(sign,))


V1_GENERATIONS = (
    _v1(
        "v1",
        "BiSeNetV1 since 13 July 2021",
        "coincheung",
        (has("ffm.conv.weight", "ffm.bn.weight", _SPATIAL_PATH),),
    ),
    _v1(
        "v1_202107",
        "BiSeNetV1, 7 to 13 July 2021",
        "coincheung_202107",
        (_GATE_OF_TWO, has(_BIAS, _SPATIAL_PATH), lambda shapes: not _is_pixel_shuffle(shapes)),
    ),
    _v1(
        "v1_202009",
        "BiSeNetV1, September 2020 to July 2021 (pixel shuffle heads)",
        "coincheung_202009",
        (_GATE_OF_TWO, has(_BIAS, _SPATIAL_PATH), _is_pixel_shuffle),
    ),
    # The next two differ in nothing but num_batches_tracked, and so do the two after them.
    _v1("v1_202008", "BiSeNetV1, August 2020", "coincheung_202008", _OLD_BISENET),
    _v1("v1_2019abn", "BiSeNet of 2019, InPlaceABN", "coincheung_2019", _OLD_BISENET, abn=True),
    _v1(
        "v1_2019diss",
        "BiSeNet of 2019 without spatial path (diss/), InPlaceABN",
        "coincheung_2019_diss",
        _OLD_WITHOUT_SPATIAL,
        abn=True,
    ),
    _v1(
        "face_parsing",
        "face-parsing.PyTorch",
        "face_parsing",
        _OLD_WITHOUT_SPATIAL,
        system="face_parsing",
    ),
)


def _numbered_gather_layers(old: str, new: str) -> dict[str, str]:
    """Gather-and-expansion layers whose convolution and norm are `0` and `1`."""
    return {
        f"{old}.dwconv": f"{new}.depthwise",
        f"{old}.dwconv1": f"{new}.depthwise1",
        f"{old}.dwconv2": f"{new}.depthwise2",
        f"{old}.conv2": f"{new}.project",
        f"{old}.shortcut": f"{new}.shortcut.0",
    }


_V2_NAMED = {
    "detail.S#.#": "detail.stage*.*",
    "segment.S1S2.(conv|fuse)": "semantic.stem.*",
    "segment.S1S2.left.#": "semantic.stem.left.*",
    "segment.S(3|4).#.conv1": "semantic.stage*.*.conv",
    "segment.S5_4.#.conv1": "semantic.stage5.*.conv",
    "segment.S5_5.bn": "semantic.context.bn",
    "segment.S5_5.(conv_gap|conv_last)": "semantic.context.*",
}
_V2_NUMBERED = {
    **_numbered_gather_layers("segment.S(3|4).#", "semantic.stage*.*"),
    **_numbered_gather_layers("segment.S5_4.#", "semantic.stage5.*"),
    "bga.left1": "bga.detail_keep.0",
    "bga.left1.2": "bga.detail_keep.1",
    "bga.left2": "bga.detail_down",
    "bga.right1": "bga.semantic_up",
    "bga.right2": "bga.semantic_keep.0",
    "bga.right2.2": "bga.semantic_keep.1",
    "bga.conv": "bga.conv",
}
_V2_SHORTCUTS = {
    "segment.S(3|4).#.shortcut": "semantic.stage*.*.shortcut.1",
    "segment.S5_4.#.shortcut": "semantic.stage5.*.shortcut.1",
}
_V2_BODY = (
    *layers(_V2_NAMED),
    *layers(_V2_NUMBERED, "0", "1"),
    *layers(_V2_SHORTCUTS, "2", "3"),
)


def _v2(
    name: str, title: str, variant: str, classifiers: tuple[str, str, str | None], check: Check
) -> Generation:
    """`classifiers`: of the main head and the auxiliary heads, and the block that widens these."""
    main, aux, expand = classifiers
    heads = {"head.conv": "head.conv", f"head.{main}": "head.classifier"}
    for index, old in enumerate(("aux2", "aux3", "aux4", "aux5_4")):
        heads[f"{old}.conv"] = f"aux_heads.{index}.conv"
        heads[f"{old}.{aux}"] = f"aux_heads.{index}.classifier"
        if expand is not None:
            heads[f"{old}.{expand}"] = f"aux_heads.{index}.expand"
    model = {"type": "BiSeNetV2", "variant": variant}
    return Generation("coincheung", name, title, model, (*_V2_BODY, *layers(heads)), (_V2, check))


_V2 = has("detail.S1.0.conv.weight", "bga.left1.0.weight")

V2_GENERATIONS = (
    _v2(
        "v2",
        "BiSeNetV2 since July 2021",
        "coincheung",
        ("conv_out.1", "conv_out.1", "conv_out.0.1"),
        has("aux2.conv_out.0.1.conv.weight"),
    ),
    _v2(
        "v2_202009",
        "BiSeNetV2, September 2020 to July 2021 (pixel shuffle heads)",
        "coincheung_202009",
        ("conv_out.0", "conv_out.1", "conv_out.0"),
        has("aux2.conv_out.0.conv.weight", "head.conv_out.0.weight"),
    ),
    _v2(
        "v2_202008",
        "BiSeNetV2, August 2020",
        "coincheung_202008",
        ("conv_out", "conv_out", None),
        has("head.conv_out.weight"),
    ),
    Generation(
        "coincheung",
        "v2_backbone",
        "BiSeNetV2 without its heads (backbone_v2.pth)",
        {"type": "BiSeNetV2"},
        _V2_BODY,
        (_V2, lacks("head.conv.conv.weight")),
        part="body",
    ),
)
