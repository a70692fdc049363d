"""CoinCheung's BiSeNets, in the generations whose checkpoints were published.

https://github.com/CoinCheung/BiSeNet; the dates are those of the commits that changed the layout.
zllrunning/face-parsing.PyTorch descends from it and has its layout.
"""

from collections.abc import Callable

from paddleseg_ext.published.generation import (
    Generation,
    Shapes,
    all_of,
    has,
    lacks,
    shaped,
)
from paddleseg_ext.published.mapping import Rule


def _v1_rules(abn: bool = False) -> tuple[Rule, ...]:
    """`abn`: every norm layer is an InPlaceABN."""
    names = {
        r"sp\.conv1": "spatial_path.0",
        r"sp\.conv2": "spatial_path.1",
        r"sp\.conv3": "spatial_path.2",
        r"sp\.conv_out": "spatial_path.3",
        r"cp\.conv_avg": "context_path.global_context",
        r"cp\.conv_head(16|32)": r"context_path.refine\1",
        r"cp\.arm(16|32)\.conv": r"context_path.arm\1.conv",
        r"ffm\.convblk": "ffm.conv",
        r"conv_out\.conv": "head.conv",
        r"conv_out16\.conv": "aux_head8.conv",
        r"conv_out32\.conv": "aux_head16.conv",
    }
    blocks = [Rule(rf"{old}\.conv", f"{new}.conv") for old, new in names.items()]
    norms = [Rule(rf"{old}\.bn", f"{new}.bn", fold_abn=abn) for old, new in names.items()]
    return (
        # A norm of the ResNet is bn1, bn2 or the second layer of a downsample.
        Rule(r"cp\.resnet\.((?:.+\.)?(?:bn\d|downsample\.1))", r"backbone.\1", fold_abn=abn),
        Rule(r"cp\.resnet\.(.+)", r"backbone.\1"),
        *blocks,
        *norms,
        Rule(r"cp\.arm(16|32)\.conv_atten", r"context_path.arm\1.gate.conv"),
        Rule(r"cp\.arm(16|32)\.bn_atten", r"context_path.arm\1.gate.bn", fold_abn=abn),
        Rule(r"ffm\.(conv|bn)", r"ffm.gate.\1"),
        Rule(r"ffm\.conv1", "ffm.gate.0"),
        Rule(r"ffm\.conv2", "ffm.gate.2"),
        Rule(r"conv_out\.conv_out", "head.classifier"),
        Rule(r"conv_out16\.conv_out", "aux_head8.classifier"),
        Rule(r"conv_out32\.conv_out", "aux_head16.classifier"),
    )


def _is_pixel_shuffle(shapes: Shapes) -> bool:
    """Pixel shuffle by 8 and 16: the second classifier has four times the channels."""
    main, coarse = "conv_out.conv_out.weight", "conv_out32.conv_out.weight"
    return main in shapes and coarse in shapes and shapes[coarse][0] == 4 * shapes[main][0]


_V1 = has("cp.arm16.conv_atten.weight", "cp.conv_head16.conv.weight", "conv_out16.conv_out.weight")
_R18 = shaped("cp.resnet.layer1.0.conv2.weight", 64, 64, 3, 3)
_GATE_OF_TWO = has("ffm.conv1.weight", "ffm.conv2.weight")
_BIAS = "conv_out.conv_out.bias"
_SPATIAL_PATH = "sp.conv1.conv.weight"


def _v1(
    name: str,
    title: str,
    variant: str,
    matches: Callable[[Shapes], bool],
    abn: bool = False,
    system: str = "coincheung",
) -> Generation:
    backbone = {"type": "ResNet18"} | ({"activation": "leaky_relu"} if abn else {})
    model = {"type": "BiSeNetV1", "backbone": backbone, "variant": variant}
    return Generation(system, name, title, model, _v1_rules(abn), all_of(_V1, _R18, matches))


_OLD = all_of(_GATE_OF_TWO, lacks(_BIAS))
_OLD_BISENET = all_of(_OLD, has(_SPATIAL_PATH))
_OLD_WITHOUT_SPATIAL = all_of(_OLD, lacks(_SPATIAL_PATH))

V1_GENERATIONS = (
    _v1(
        "v1",
        "BiSeNetV1 since 13 July 2021",
        "coincheung",
        has("ffm.conv.weight", "ffm.bn.weight", _SPATIAL_PATH),
    ),
    _v1(
        "v1_202107",
        "BiSeNetV1, 7 to 13 July 2021",
        "coincheung_202107",
        all_of(
            _GATE_OF_TWO, has(_BIAS, _SPATIAL_PATH), lambda shapes: not _is_pixel_shuffle(shapes)
        ),
    ),
    _v1(
        "v1_202009",
        "BiSeNetV1, September 2020 to July 2021 (pixel shuffle heads)",
        "coincheung_202009",
        all_of(_GATE_OF_TWO, has(_BIAS, _SPATIAL_PATH), _is_pixel_shuffle),
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


def _gather_rules(old: str, new: str) -> list[Rule]:
    """A gather-and-expansion layer: convolutions and norms are numbered in the original."""
    rules = [
        Rule(rf"{old}\.conv1\.conv", f"{new}.conv.conv"),
        Rule(rf"{old}\.conv1\.bn", f"{new}.conv.bn"),
    ]
    for theirs, ours in (
        ("dwconv", "depthwise"),
        ("dwconv1", "depthwise1"),
        ("dwconv2", "depthwise2"),
        ("conv2", "project"),
        ("shortcut", "shortcut.0"),
    ):
        rules.append(Rule(rf"{old}\.{theirs}\.0", f"{new}.{ours}.conv"))
        rules.append(Rule(rf"{old}\.{theirs}\.1", f"{new}.{ours}.bn"))
    rules.append(Rule(rf"{old}\.shortcut\.2", f"{new}.shortcut.1.conv"))
    rules.append(Rule(rf"{old}\.shortcut\.3", f"{new}.shortcut.1.bn"))
    return rules


_V2_BODY = (
    Rule(r"detail\.S(\d)\.(\d)\.(conv|bn)", r"detail.stage\1.\2.\3"),
    Rule(r"segment\.S1S2\.(conv|left\.\d|fuse)\.(conv|bn)", r"semantic.stem.\1.\2"),
    *_gather_rules(r"segment\.S(3|4)\.(\d)", r"semantic.stage\1.\2"),
    *_gather_rules(r"segment\.S5_4\.(\d)", r"semantic.stage5.\1"),
    Rule(r"segment\.S5_5\.bn", "semantic.context.bn"),
    Rule(r"segment\.S5_5\.(conv_gap|conv_last)\.(conv|bn)", r"semantic.context.\1.\2"),
    Rule(r"bga\.left1\.0", "bga.detail_keep.0.conv"),
    Rule(r"bga\.left1\.1", "bga.detail_keep.0.bn"),
    Rule(r"bga\.left1\.2", "bga.detail_keep.1"),
    Rule(r"bga\.left2\.0", "bga.detail_down.conv"),
    Rule(r"bga\.left2\.1", "bga.detail_down.bn"),
    Rule(r"bga\.right1\.0", "bga.semantic_up.conv"),
    Rule(r"bga\.right1\.1", "bga.semantic_up.bn"),
    Rule(r"bga\.right2\.0", "bga.semantic_keep.0.conv"),
    Rule(r"bga\.right2\.1", "bga.semantic_keep.0.bn"),
    Rule(r"bga\.right2\.2", "bga.semantic_keep.1"),
    Rule(r"bga\.conv\.0", "bga.conv.conv"),
    Rule(r"bga\.conv\.1", "bga.conv.bn"),
)
_V2_AUX = {"aux2": 0, "aux3": 1, "aux4": 2, "aux5_4": 3}


def _v2(
    name: str,
    title: str,
    variant: str,
    head: str,
    aux: str,
    expand: str | None,
    matches: Callable[[Shapes], bool],
) -> Generation:
    """`head`, `aux`: the classifiers in the original; `expand`: what widens an auxiliary head."""
    rules = [
        Rule(r"head\.conv\.(conv|bn)", r"head.conv.\1"),
        Rule(rf"head\.{head}", "head.classifier"),
    ]
    for old, index in _V2_AUX.items():
        rules.append(Rule(rf"{old}\.conv\.(conv|bn)", rf"aux_heads.{index}.conv.\1"))
        rules.append(Rule(rf"{old}\.{aux}", f"aux_heads.{index}.classifier"))
        if expand is not None:
            rules.append(Rule(rf"{old}\.{expand}\.(conv|bn)", rf"aux_heads.{index}.expand.\1"))
    model = {"type": "BiSeNetV2", "variant": variant}
    return Generation("coincheung", name, title, model, (*_V2_BODY, *rules), matches)


_V2 = has("detail.S1.0.conv.weight", "bga.left1.0.weight")

V2_GENERATIONS = (
    _v2(
        "v2",
        "BiSeNetV2 since July 2021",
        "coincheung",
        r"conv_out\.1",
        r"conv_out\.1",
        r"conv_out\.0\.1",
        all_of(_V2, has("aux2.conv_out.0.1.conv.weight")),
    ),
    _v2(
        "v2_202009",
        "BiSeNetV2, September 2020 to July 2021 (pixel shuffle heads)",
        "coincheung_202009",
        r"conv_out\.0",
        r"conv_out\.1",
        r"conv_out\.0",
        all_of(_V2, has("aux2.conv_out.0.conv.weight", "head.conv_out.0.weight")),
    ),
    _v2(
        "v2_202008",
        "BiSeNetV2, August 2020",
        "coincheung_202008",
        "conv_out",
        "conv_out",
        None,
        all_of(_V2, has("head.conv_out.weight")),
    ),
    Generation(
        "coincheung",
        "v2_backbone",
        "BiSeNetV2 without its heads (backbone_v2.pth)",
        {"type": "BiSeNetV2"},
        _V2_BODY,
        all_of(_V2, lacks("head.conv.conv.weight")),
        part="body",
    ),
)
