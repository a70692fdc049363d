"""The first layer that differs, in small graphs of Paddle."""

from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from paddleseg_ext.export.onednn_safe import traced_operators
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.parity.layer_finder import LayerFinder
from paddleseg_ext.parity.layers import first_layer_between, first_layer_in
from paddleseg_ext.parity.paddle_layers import PaddleGraph

SHAPE = [1, 3, 16, 24]
IMAGE = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


class Small(nn.Layer):
    """Two branches that meet, the second one interpolated, and class ids where asked."""

    def __init__(self, activation: nn.Layer, epsilon: float = 1e-5, is_argmax: bool = False):
        super().__init__()
        paddle.seed(0)
        self.first, self.norm = nn.Conv2D(3, 8, 3, padding=1), nn.BatchNorm2D(8, epsilon=epsilon)
        self.second, self.last = nn.Conv2D(8, 8, 3, padding=1), nn.Conv2D(16, 5, 1)
        self.activation, self.is_argmax = activation, is_argmax

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        upper = self.activation(self.norm(self.first(images)))
        lower = self.second(F.max_pool2d(upper, 2))
        lower = F.interpolate(lower, scale_factor=2, mode="bilinear", align_corners=True)
        logits = self.last(paddle.concat([upper, lower], axis=1))
        return paddle.argmax(logits, axis=1, dtype="int32") if self.is_argmax else logits


def written(network: nn.Layer, folder: Path, is_safe: bool = True) -> Bundle:
    network.eval()
    spec = [paddle.static.InputSpec([None, 3, None, None], "float32", "images")]
    if is_safe:
        with traced_operators():
            paddle.jit.save(paddle.jit.to_static(network, spec), str(folder / "model"))
    else:
        paddle.jit.save(paddle.jit.to_static(network, spec), str(folder / "model"))
    files = folder / "model.json", folder / "model.pdiparams"
    return Bundle(folder / "deploy.yaml", *files, [], [-1, 3, -1, -1], "none", None)


def other_weight() -> nn.Layer:
    network = Small(nn.ReLU())
    weight = network.second.weight.numpy()
    weight[3, 2, 1, 1] += 1
    network.second.weight.set_value(weight)
    return network


FAULTS = {
    "weight": (other_weight, "conv2d_2", "conv2d 8x8x3x3 (parameter ", "differ in 1 of 576"),
    "epsilon": (lambda: Small(nn.ReLU(), 0.5), "batch_norm__1", "", "its epsilon is 0.5 instead"),
    "activation": (lambda: Small(nn.Sigmoid()), "relu_1", "", "it is a sigmoid instead"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_graph_is_placed(name: str, tmp_path: Path) -> None:
    make, output, *texts = FAULTS[name]
    reference = PaddleGraph(written(Small(nn.ReLU()), tmp_path / "right"))
    found = first_layer_between(PaddleGraph(written(make(), tmp_path / "wrong")), reference, IMAGE)
    assert found is not None and found.output == output, found
    assert all(text in found.text for text in texts), found.text


def test_equal_graphs_and_runtimes_are_no_alarm(tmp_path: Path) -> None:
    bundle = written(Small(nn.ReLU()), tmp_path / "one")
    other = PaddleGraph(written(Small(nn.ReLU()), tmp_path / "other"))
    assert first_layer_between(PaddleGraph(bundle), other, IMAGE) is None
    for engine in ("paddle", "paddle_onednn"):
        assert first_layer_in(PaddleGraph(bundle), IMAGE, engine) is None


@pytest.mark.parametrize("is_argmax", [False, True])
def test_an_interpolation_that_onednn_gets_wrong(is_argmax: bool, tmp_path: Path) -> None:
    network = Small(nn.ReLU(), is_argmax=is_argmax)
    bundle = written(network, tmp_path / "plain", is_safe=False)
    right = written(network, tmp_path / "right")
    find = LayerFinder(lambda: right)  # with other operators for the same: no difference
    found = find(bundle, RuntimeSpec("paddle_onednn"), IMAGE[0])
    assert found is not None and found.kind == "bilinear_interp", found
    assert "its output differs by up to" in found.text
    for engine in ("paddle", "static"):
        assert find(bundle, RuntimeSpec(engine), IMAGE[0]) is None
