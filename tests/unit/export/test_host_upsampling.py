"""Graphs that end in native logits: our networks return them, PaddleSeg's graphs are cut."""

from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.export.host_upsampling import MainHead, upsampling_of
from paddleseg_ext.export.options import ExportOptions
from paddleseg_ext.export.tracing import GRAPH_NAME, write_graph
from paddleseg_ext.images.functional import resize_logits
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.preprocess import Geometry
from paddleseg_ext.models.backbones.resnet import ResNet18
from paddleseg_ext.models.backbones.resnet_v1c import ResNet18_v1c
from paddleseg_ext.models.bisenetv1 import BiSeNetV1
from paddleseg_ext.models.bisenetv2 import BiSeNetV2
from paddleseg_ext.models.dabnet import DABNet


@pytest.mark.parametrize(("variant", "kind"), [("author", "aligned"), ("coincheung", "half_pixel")])
def test_upsampling_the_native_logits_gives_the_logits(variant: str, kind: str) -> None:
    paddle.seed(1)
    model = BiSeNetV1(4, ResNet18(), variant)
    model.eval()
    assert upsampling_of(model) == kind
    images = paddle.rand([1, 3, 70, 90])
    with paddle.no_grad():
        logits = model(images)[0].numpy()[0]
        native = MainHead(model, upsample=False)(images)[0].numpy()[0]
    assert native.shape[1] < 12
    upsampled = resize_logits(native, (90, 70), align_corners=kind == "aligned")
    np.testing.assert_allclose(upsampled, logits, atol=1e-5 * np.abs(logits).max())


@pytest.mark.parametrize(
    "make",
    [
        lambda: BiSeNetV1(4, ResNet18(), "coincheung_202009"),  # pixel shuffle
        lambda: BiSeNetV2(4, "tf2"),  # asymmetric
    ],
)
def test_a_network_that_ends_in_another_step_is_refused_by_name(make) -> None:
    model = make()
    with pytest.raises(UsageError, match=f"{type(model).__name__} does not end in a bilinear"):
        upsampling_of(model)


@pytest.mark.parametrize("size_hw", [(64, 96), (75, 109), (128, 33)])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_network_that_pads_its_input_is_upsampled_and_cut(
    size_hw: tuple[int, int], sparse: bool
) -> None:
    paddle.seed(1)
    model = DABNet(4, ResNet18_v1c())
    model.eval()
    with paddle.no_grad():
        images = paddle.rand([1, 3, *size_hw])
        logits = model(images)[0].numpy()[0]
        native = MainHead(model, upsample=False)(images)[0].numpy()[0]
    postprocess = Postprocess(
        upsampling=upsampling_of(model), sparse=sparse, native_stride=model.native_stride
    )
    upsampled = postprocess.network_scores(native[None], size_hw)[0]
    np.testing.assert_allclose(upsampled, logits, atol=1e-5 * np.abs(logits).max())
    geometry = Geometry(size_hw, size_hw)
    for _ in range(2):  # the first image of a size goes the dense way
        label_map = postprocess.label_map(native, geometry)
        np.testing.assert_array_equal(label_map, upsampled.argmax(axis=0))
    np.testing.assert_array_equal(postprocess.full_logits(native, geometry), upsampled)


class Foreign(nn.Layer):
    """A network without `upsample`, as PaddleSeg's are; `last` makes its output."""

    def __init__(self, last):
        super().__init__()
        self.conv = nn.Conv2D(3, 5, 3, stride=4, padding=1)
        self.last = last

    def forward(self, images):
        return [self.last(self.conv(images), paddle.shape(images)[2:])]


def bilinear(**options):
    return lambda x, size: functional.interpolate(x, size, mode="bilinear", **options)


@pytest.mark.parametrize(
    ("last", "kind"),
    [(bilinear(), "half_pixel"), (bilinear(align_corners=True), "aligned")],
)
@pytest.mark.parametrize("shape", [(-1, 3, -1, -1), (2, 3, 64, 96)])
def test_the_last_interpolation_is_cut_from_the_graph(
    last, kind: str, shape: tuple, tmp_path: Path
) -> None:
    model = Foreign(last)
    model.eval()
    options = ExportOptions(tmp_path, shape, upsample="host")
    assert write_graph(model, options, None, tmp_path / GRAPH_NAME) == kind
    graph = paddle.jit.load(str(tmp_path / GRAPH_NAME))
    for size_hw in ((64, 96),) if shape[0] == 2 else ((64, 96), (70, 90)):
        images = paddle.rand([2, 3, *size_hw])
        with paddle.no_grad():
            expected = model.conv(images).numpy()
        np.testing.assert_allclose(graph(images).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    "last",
    [
        bilinear(align_mode=1),
        lambda x, size: functional.interpolate(x, size, mode="nearest"),
        lambda x, size: functional.softmax(functional.interpolate(x, size, mode="bilinear"), 1),
        lambda x, size: x,
    ],
)
def test_graphs_that_end_in_another_step_are_refused(last, tmp_path: Path) -> None:
    options = ExportOptions(tmp_path, upsample="host")
    with pytest.raises(UsageError, match=r"Foreign does not end in a .* --upsample graph"):
        write_graph(Foreign(last), options, None, tmp_path / GRAPH_NAME)


@pytest.mark.parametrize("name", ["half_pixel", "aligned"])
def test_networks_of_paddleseg_keep_host_upsampling(name: str, tmp_path: Path) -> None:
    from paddleseg.models import BiseNetV1, PPLiteSeg
    from paddleseg.models.backbones import STDC1, ResNet18_vd

    paddle.seed(0)
    model = PPLiteSeg(5, STDC1()) if name == "half_pixel" else BiseNetV1(5, ResNet18_vd())
    model.eval()
    options = ExportOptions(tmp_path, upsample="host")
    assert write_graph(model, options, None, tmp_path / GRAPH_NAME) == name
    images = paddle.rand([1, 3, 64, 96])
    with paddle.no_grad():
        expected = model(images)[0].numpy()[0]
        native = paddle.jit.load(str(tmp_path / GRAPH_NAME))(images).numpy()[0]
    assert native.shape == (5, 8, 12)
    upsampled = resize_logits(native, (96, 64), align_corners=name == "aligned")
    np.testing.assert_allclose(upsampled, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))
