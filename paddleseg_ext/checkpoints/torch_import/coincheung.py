"""CoinCheung's BiSeNets, in the generations whose checkpoints were published.

https://github.com/CoinCheung/BiSeNet; the dates are those of the commits that changed the layout.
zllrunning/face-parsing.PyTorch descends from it and has its layout.
"""

from collections.abc import Callable

from paddleseg_ext.checkpoints.torch_import.generation import (
    Generation,
    Shapes,
    all_of,
    has,
    lacks,
    shaped,
)
from paddleseg_ext.checkpoints.torch_import.mapping import Rule


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
    wiring: str,
    matches: Callable[[Shapes], bool],
    abn: bool = False,
    system: str = "coincheung",
) -> Generation:
    backbone = {"type": "ResNet18"} | ({"activation": "leaky_relu"} if abn else {})
    model = {"type": "BiSeNetV1", "backbone": backbone, "wiring": wiring}
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
