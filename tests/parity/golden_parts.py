"""Golden cases of parts of networks, which no yml can name."""

from dataclasses import replace

import numpy as np

from paddleseg_ext.checkpoints.store import load_arrays_into
from paddleseg_ext.published.golden import CaseResult, compare_outputs
from paddleseg_ext.published.golden_data import GoldenCase, make_input, make_state_dict
from paddleseg_ext.published.mapping import layers, rename
from paddleseg_ext.published.tensorflow import SEMANTIC_BRANCH, to_layers
from paddleseg_ext.published.tensorflow_files import read_tensorflow

TINY_CHANNELS, TINY_EXPANSION = (4, 8, 16, 32), 2


def run_separable_head(case: GoldenCase) -> CaseResult:
    """The depthwise-separable head that the fork of STDC-Seg describes: `separable` of ours."""
    import paddle

    from paddleseg_ext.models.bisenetv1 import SegmentationHead
    from paddleseg_ext.models.stdcseg import VARIANTS, separate_heavy_convolutions

    arguments = case.meta["source"]["args"]
    head = SegmentationHead(
        arguments["in_chan"], arguments["mid_chan"], arguments["n_classes"], 8, VARIANTS["original"]
    )
    separate_heavy_convolutions(head)
    table = {
        "conv.conv_dw": "conv.conv.0",
        "conv.conv_point": "conv.conv.1",
        "conv.bn": "conv.bn",
        "conv_out": "classifier",
    }
    state = make_state_dict(case)
    imported = rename(state, layers(table), case.name, head.state_dict())
    load_arrays_into(head, imported.arrays, case.name)
    head.eval()
    with paddle.no_grad():
        logits = head(paddle.to_tensor(make_input(case)))
    return compare_outputs(case, {"logits": logits.numpy()})


def run_semantic_branch(case: GoldenCase) -> CaseResult:
    """The semantic branch of TensorFlow's BiSeNetV2 with a quarter of its channels.

    Its weights come out of the real checkpoint beside the case, where there is one.
    """
    import paddle
    from paddle import nn

    from paddleseg_ext.models.bisenetv2 import BiSeNetV2Head, SemanticBranch
    from paddleseg_ext.models.bisenetv2_variants import VARIANTS

    variant = replace(VARIANTS["tf2"], semantic_channels=TINY_CHANNELS, expansion=TINY_EXPANSION)

    class Branch(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.semantic = SemanticBranch(variant)
            num_classes = case.meta["source"]["args"]["classes"]
            self.aux_heads = nn.LayerList(
                BiSeNetV2Head(c, 2 * c, num_classes, stride, variant)
                for c, stride in zip(TINY_CHANNELS, (4, 8, 16, 32), strict=True)
            )

    files = case.meta["weights"].get("files")
    state = make_state_dict(case)
    if files is not None:
        stored = read_tensorflow(case.directory / files["prefix"])
        averaged, _ = to_layers(stored)
        generated, _ = to_layers(state)
        for name, tensor in generated.items():
            np.testing.assert_array_equal(averaged[name], tensor, name)
        state = stored
    branch = Branch()
    imported = rename(to_layers(state)[0], layers(SEMANTIC_BRANCH), case.name, branch.state_dict())
    load_arrays_into(branch, imported.arrays, case.name)
    branch.eval()
    images = make_input(case)
    with paddle.no_grad():
        features, context = branch.semantic(paddle.to_tensor(images))
        outputs = {"semantic": context.numpy()}
        for name, head, feature in zip(variant.aux_names, branch.aux_heads, features, strict=True):
            outputs[name] = head.as_published(feature, images.shape[2:]).numpy()
    return compare_outputs(case, outputs)


PARTS = {"chen_dwhead": run_separable_head, "tf_v2_semantic_tiny": run_semantic_branch}
