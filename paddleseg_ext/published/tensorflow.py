"""TensorFlow's BiSeNetV2 and BiSeNetV1: https://github.com/MaybeShewill-CV/bisenetv2-tensorflow.

A training checkpoint contains each trainable variable twice, as it is and averaged. The tools of
BiSeNetV2 restore the averages. Of BiSeNetV1's tools, freezing restores the averages and testing the
variables as they are: two layouts. A frozen graph contains one of them, and no auxiliary heads.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from paddleseg_ext.published.generation import Check, Generation, Shapes, has
from paddleseg_ext.published.mapping import Rule, layers, unused

SYSTEM = "tf2"
_AVERAGE = "moving_avg/{}/ExponentialMovingAverage"
_NOT_WEIGHTS = ("Momentum", "global_step", "val_global_step")
# TensorFlow's names of a layer's tensors -> PyTorch's, which the rules read.
_LEAVES = {
    "W": "weight",
    "b": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "depthwise_filter_w": "depthwise.weight",
    "pointwise_filter_w": "pointwise.weight",
}


def to_layers(
    variables: Mapping[str, np.ndarray], averages: bool = True
) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
    """The variables as tensors of layers, and name and reason of each that was left out.

    Args:
        variables: of the file, in TensorFlow's layouts: convolutions are (h, w, in, out), depthwise
            ones (h, w, in, multiplier).
        averages: take the moving average of a variable that has one.
    """
    tensors: dict[str, np.ndarray] = {}
    dropped = []
    for name, value in variables.items():
        if name.endswith("/ExponentialMovingAverage"):
            dropped.append(
                (name, "taken in place of the variable" if averages else "not asked for")
            )
            continue
        module, _, leaf = name.rpartition("/")
        if leaf in _NOT_WEIGHTS:
            dropped.append((name, "a state of the training"))
            continue
        if averages:
            value = variables.get(_AVERAGE.format(name), value)
        tensors[f"{module}/{_LEAVES.get(leaf, leaf)}".replace("/", ".")] = _to_paddle(leaf, value)
        # A norm that a ReLU follows is saved without its scale, which is 1.
        if leaf == "beta" and f"{module}/gamma" not in variables:
            tensors[f"{module}/weight".replace("/", ".")] = np.ones_like(value)
    return tensors, dropped


def _to_paddle(leaf: str, value: np.ndarray) -> np.ndarray:
    if value.ndim != 4:
        return value
    if leaf == "depthwise_filter_w":  # output channel i * m + j comes from input channel i
        height, width, channels, multiplier = value.shape
        value = value.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    else:
        value = value.transpose(3, 2, 0, 1)
    return np.ascontiguousarray(value)


# --- BiSeNetV2 ----------------------------------------------------------------------------------

_GE = "gather_expansion_block"


def _expansion_stage(number: int) -> dict[str, str]:
    """Gather-and-expansion layers of a stage; the first has stride 2 and two depthwise ones."""
    old, new = f"BiseNetV2.semantic_branch.stage_{number}", f"semantic.stage{number}"
    first = f"{old}.ge_block_1_repeat_1.{_GE}.stride_equal_two_module"
    table = {
        f"{first}.3x3_conv_block": f"{new}.0.conv",
        f"{first}.depthwise_conv_block_(1|2).depthwise": f"{new}.0.depthwise*.conv",
        f"{first}.dw_bn_(1|2)": f"{new}.0.depthwise*.bn",
        f"{first}.1x1_conv_block": f"{new}.0.project",
        f"{first}.input_project_dw_conv_block.depthwise": f"{new}.0.shortcut.0.conv",
        f"{first}.input_project_bn": f"{new}.0.shortcut.0.bn",
        f"{first}.input_project_1x1_conv_block": f"{new}.0.shortcut.1",
    }
    other = f"{old}.ge_block_2_repeat_#.{_GE}.stride_equal_one_module"
    return table | {
        f"{other}.3x3_conv_block": f"{new}.*.conv",
        f"{other}.depthwise_conv_block.depthwise": f"{new}.*.depthwise.conv",
        f"{other}.dw_bn": f"{new}.*.depthwise.bn",
        f"{other}.1x1_conv_block": f"{new}.*.project",
    }


_STEM = "BiseNetV2.semantic_branch.stage_1.se_block_1_repeat_1.stem_block"
_CONTEXT = "BiseNetV2.semantic_branch.stage_5.ce_block_3_repeat_1.context_embedding_block"
_AGGREGATION = "BiseNetV2.aggregation_branch.guided_aggregation_block"
_BOOSTERS = ("stage_1.block_1", "stage_3.block_2", "stage_4.block_2", "stage_5.block_3")
SEMANTIC_BRANCH = {
    f"{_STEM}.conv_block_1": "semantic.stem.conv",
    f"{_STEM}.downsample_branch_left.1x1_conv_block": "semantic.stem.left.0",
    f"{_STEM}.downsample_branch_left.3x3_conv_block": "semantic.stem.left.1",
    f"{_STEM}.final_conv_block": "semantic.stem.fuse",
    **_expansion_stage(3),
    **_expansion_stage(4),
    **_expansion_stage(5),
    f"{_CONTEXT}.bn": "semantic.context.bn",
    f"{_CONTEXT}.conv_block_1": "semantic.context.conv_gap",
    f"{_CONTEXT}.final_conv_block": "semantic.context.conv_last",
    **{
        f"BiseNetV2.semantic_branch.{name}_seg_head_block.{old}": f"aux_heads.{i}.{new}"
        for i, name in enumerate(_BOOSTERS)
        for old, new in (("3x3_conv_block", "conv"), ("1x1_conv_block", "classifier"))
    },
}
BISENETV2 = {
    **{
        f"BiseNetV2.detail_branch.stage_(1|2|3).conv_block_{old}.3x3_conv": f"detail.stage*.{i}"
        for i, old in enumerate(("1_repeat_1", "2_repeat_1", "2_repeat_2"))
    },
    **SEMANTIC_BRANCH,
    **{
        f"{_AGGREGATION}.{branch}_branch.{old}": f"bga.{branch}_{new}"
        for branch, scaled in (("detail", "down"), ("semantic", "up"))
        for old, new in (
            ("3x3_dw_conv_block.depthwise", "keep.0.conv"),
            ("bn_1", "keep.0.bn"),
            ("1x1_conv_block", "keep.1"),
            ("3x3_conv_block", scaled),
        )
    },
    f"{_AGGREGATION}.aggregation_features.aggregation_feature_output": "bga.conv",
    "BiseNetV2.logits.3x3_conv_block": "head.conv",
    "BiseNetV2.logits.1x1_conv_block": "head.classifier",
}

# --- BiSeNetV1 on Xception ----------------------------------------------------------------------

_XCEPTION = "BiseNet.context_path.xception"
_SEPARABLE = "separate_conv_block_{}.xception_separate_conv"


def _separable(old: str, number: int, new: str) -> dict[str, str]:
    unit = f"{old}.{_SEPARABLE.format(number)}"
    return {f"{unit}.(depthwise|pointwise)": f"{new}.*", f"{unit}_bn": f"{new}.bn"}


def _xception_table() -> dict[str, str]:
    entry, exit_flow = f"{_XCEPTION}.entry_flow", f"{_XCEPTION}.exit_flow"
    table = {f"{entry}.stage_1.conv_block_(1|2)": "xception.conv*"}
    for i in range(3):
        table[f"{entry}.stage_{i + 1}.residual_block"] = f"xception.entry_shortcuts.{i}"
        for n in (1, 2):
            table |= _separable(f"{entry}.stage_{i + 2}", n, f"xception.entry.{i}.{n - 1}")
    for block in range(8):
        for n in (1, 2, 3):
            stack = f"{_XCEPTION}.middle_flow.repeat_stack_{block + 1}"
            table |= _separable(stack, n, f"xception.middle.{block}.{n - 1}")
    table[f"{exit_flow}.stage_1.residual_block"] = "xception.exit_shortcut"
    for i, (stage, n) in enumerate(((1, 1), (1, 2), (2, 1), (2, 2))):
        table |= _separable(f"{exit_flow}.stage_{stage}", n, f"xception.exit.{i}")
    return table


_PATH = "BiseNet.context_path"
BISENETV1 = {
    **{f"BiseNet.spatial_path.spatial_conv_block_{i + 1}": f"spatial_path.{i}" for i in range(4)},
    **_xception_table(),
    f"{_PATH}.downsamle_(16|32)_attention_refine_module.attention_project": "arm*.project",
    f"{_PATH}.downsamle_(16|32)_attention_refine_module": "arm*.gate",
    f"{_PATH}.global_avg_pool_conv_block": "global_context",
    f"{_PATH}.upsample_16_conv_block": "refine32",
    f"{_PATH}.upsample_8_conv_block": "refine16",
    "BiseNet.ffm_module.conv_block_1": "ffm_conv",
    "BiseNet.ffm_module.conv_block_2": "ffm_gate.0",
    "BiseNet.ffm_module.conv_block_3": "ffm_gate.2",
    "BiseNet.logits": "head",
    "BiseNet.context_(8|16)_conv_block": "aux_head*.conv",
    "BiseNet.context_(8|16)_logits": "aux_head*.classifier",
}


def _has_averages(shapes: Shapes) -> bool:
    return _AVERAGE.format("BiseNet/logits/W") in shapes


def _bisenetv1(name: str, title: str, averages: bool, *checks: Check) -> Generation:
    rules: tuple[Rule, ...] = (
        unused(f"{_XCEPTION}.exit_flow.stage_3.final_logits", "the ImageNet classifier, not read"),
        *layers(BISENETV1),
    )
    return Generation(
        SYSTEM,
        name,
        title,
        {"type": "BiSeNetV1Xception"},
        rules,
        (has("BiseNet/ffm_module/conv_block_3/W"), *checks),
        convert=partial(to_layers, averages=averages),
        bgr_inputs=("spatial_path.0.conv.weight", "xception.conv1.conv.weight"),
        training_only=("aux_head",),
    )


GENERATIONS = (
    Generation(
        SYSTEM,
        "v2",
        "BiSeNetV2 in TensorFlow 1, averaged weights where the file has them",
        {"type": "BiSeNetV2", "variant": "tf2"},
        layers(BISENETV2),
        (has("BiseNetV2/aggregation_branch/guided_aggregation_block/detail_branch/bn_1/gamma"),),
        convert=to_layers,
        training_only=("aux_heads.",),
    ),
    _bisenetv1(
        "v1_xception",
        "BiSeNetV1 on Xception in TensorFlow 1, averaged weights where the file has them, as the "
        "original freezes it",
        True,
    ),
    _bisenetv1(
        "v1_xception_raw",
        "the same with the weights as they are, as the original tests it",
        False,
        _has_averages,
    ),
)
