"""Interpolation as matrix products is the interpolation it stands for."""

from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddleseg_ext.export.onednn_safe import (
    _interpolate_exactly,
    _pool_exactly,
    traced_operators,
)
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.table import open_engine
from paddleseg_ext.inference.runtime import RuntimeSpec

side = st.integers(1, 24)


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(side, side), target=st.tuples(side, side), seed=st.integers(0, 9))
def test_any_size_to_any_size(size: tuple, target: tuple, seed: int) -> None:
    x = paddle.to_tensor(np.random.default_rng(seed).standard_normal((2, 3, *size)), "float32")
    for options in ({"align_corners": True}, {"align_corners": False, "align_mode": 1}):
        expected = F.interpolate(x, size=target, mode="bilinear", **options)
        got = _interpolate_exactly(x, size=target, mode="bilinear", **options)
        np.testing.assert_allclose(got.numpy(), expected.numpy(), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(side, side), target=st.tuples(side, side))
def test_nearest_to_any_size(size: tuple, target: tuple) -> None:
    x = paddle.arange(size[0] * size[1], dtype="float32").reshape([1, 1, *size])
    expected = F.interpolate(x, size=target, mode="nearest")
    got = _interpolate_exactly(x, size=target, mode="nearest")
    np.testing.assert_array_equal(got.numpy(), expected.numpy())


def test_a_scale_factor_gives_the_same_size() -> None:
    x = paddle.rand([1, 2, 5, 7])
    for factor in (2, 2.5, [3, 2]):
        expected = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)
        got = _interpolate_exactly(x, scale_factor=factor, mode="bilinear", align_corners=True)
        np.testing.assert_allclose(got.numpy(), expected.numpy(), atol=2e-6)


@pytest.mark.parametrize("factor", [8, 2.5])
def test_a_scale_factor_gives_the_same_size_where_onednn_runs_the_graph(
    factor: float, tmp_path: Path
) -> None:
    """Sizes that are computed in float32 lose one to oneDNN's floor."""

    class Network(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.conv = paddle.nn.Conv2D(3, 4, 3, stride=8, padding=1)
            self.up = paddle.nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=True)

        def forward(self, images):
            return self.up(self.conv(images))

    check_under_onednn(Network(), tmp_path)


def test_a_pooled_map_is_upsampled_where_onednn_runs_the_graph(tmp_path: Path) -> None:
    """The global context of PaddleSeg's BiSeNetV1."""

    class Network(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.conv = paddle.nn.Conv2D(3, 16, 3, stride=8, padding=1)
            self.pooled = paddle.nn.Sequential(
                paddle.nn.AdaptiveAvgPool2D(1), paddle.nn.Conv2D(16, 16, 1), paddle.nn.ReLU()
            )

        def forward(self, images):
            x = self.conv(images)
            size = paddle.shape(x)[2:]
            context = self.pooled(x)
            return x + F.interpolate(context, size, mode="bilinear", align_corners=True)

    check_under_onednn(Network(), tmp_path)


@pytest.mark.parametrize("cells", [2, 4, (3, 5)])
def test_pooling_takes_other_sizes_after_the_first_where_onednn_runs_the_graph(
    cells: int | tuple[int, int], tmp_path: Path
) -> None:
    """The context module of PP-LiteSeg."""

    class Network(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.conv = paddle.nn.Conv2D(3, 16, 3, stride=32, padding=1)
            self.pool = paddle.nn.AdaptiveAvgPool2D(cells)

        def forward(self, images):
            return self.pool(self.conv(images))

    check_under_onednn(Network(), tmp_path)


@pytest.mark.parametrize("affine", [None, False])
def test_a_norm_of_parameters_alone_can_be_loaded(affine: bool | None, tmp_path: Path) -> None:
    """The class nodes of PaddleSeg's GINet; Paddle's folding of constants fails at the operator."""

    class Network(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.nodes = paddle.create_parameter([5, 4], "float32")
            self.nodes.stop_gradient = True
            self.norm = paddle.nn.BatchNorm1D(4, weight_attr=affine, bias_attr=affine)
            self.images = paddle.nn.BatchNorm2D(3)

        def forward(self, images):
            return self.images(images) * self.norm(self.nodes).max()

    network = Network()
    network(paddle.randn([2, 3, 8, 8]))  # other statistics than zero and one
    check_under_onednn(network, tmp_path)


cells = st.integers(1, 9)


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(side, side), pooled=st.tuples(cells, cells))
def test_pooling_of_any_size(size: tuple, pooled: tuple) -> None:
    x = paddle.randn([2, 3, *size])
    expected = F.adaptive_avg_pool2d(x, pooled)
    np.testing.assert_allclose(_pool_exactly(x, pooled).numpy(), expected.numpy(), atol=1e-5)


def check_under_onednn(network: paddle.nn.Layer, folder: Path) -> None:
    network.eval()
    spec = [paddle.static.InputSpec([None, 3, None, None], "float32")]
    with traced_operators():
        static = paddle.jit.to_static(network, input_spec=spec, full_graph=True)
        paddle.jit.save(static, str(folder / "model"))
    files = folder / "model.json", folder / "model.pdiparams"
    bundle = Bundle(folder / "deploy.yaml", *files, [], [-1, 3, -1, -1], "none", None)
    backend = open_engine(bundle, RuntimeSpec("paddle_onednn", threads=1))
    for height, width in ((256, 512), (96, 64), (200, 328), (32, 40)):
        images = paddle.randn([2, 3, height, width])
        expected = network(images).numpy()
        np.testing.assert_allclose(backend.run(images.numpy()), expected, rtol=0, atol=1e-4)


def test_other_interpolations_are_left_alone_and_the_swap_is_undone() -> None:
    x, before = paddle.rand([1, 2, 5, 7]), (F.interpolate, F.adaptive_avg_pool2d)
    expected = F.interpolate(x, size=[9, 9], mode="bicubic").numpy()
    with traced_operators():
        assert F.interpolate is not before[0]
        np.testing.assert_array_equal(F.interpolate(x, [9, 9], mode="bicubic").numpy(), expected)
    assert (F.interpolate, F.adaptive_avg_pool2d) == before
