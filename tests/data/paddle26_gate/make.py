"""Made the files beside it, with Paddle 2.6.2: a graph on which a oneDNN pass is wrong.

A 1x1 convolution without bias, ReLU, sigmoid: the attention of PaddleSeg's BiSeNetV1. With oneDNN
on, the pass that fuses convolution and activation drops the ReLU. `expected.npy` is the eager
result.

    python make.py    # in an environment with paddlepaddle==2.6.2
"""

import zlib  # noqa: F401 - libpaddle 2.6 exports a zlib of its own; the real one must come first
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.base.proto import framework_pb2
from paddle.nn import functional as F

FOLDER = Path(__file__).resolve().parent
INPUT_SHAPE = (1, 3, 12, 20)


class Gate(nn.Layer):
    """Features times their own gate, at the input's size."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 4, 3, stride=2, padding=1)
        self.gate = nn.Conv2D(4, 4, 1, bias_attr=False)

    def forward(self, images):
        """(N, 3, H, W) -> (N, 4, H, W)."""
        features = self.conv(images)
        gate = F.sigmoid(F.relu(self.gate(features.mean([2, 3], keepdim=True))))
        return F.interpolate(features * gate, paddle.shape(images)[2:], mode="bilinear")


def main() -> None:
    """Export, and write input and result."""
    paddle.seed(0)
    network = Gate()
    network.eval()
    spec = [paddle.static.InputSpec([None, 3, None, None], "float32")]
    static = paddle.jit.to_static(network, input_spec=spec, full_graph=True)
    images = np.random.default_rng(0).standard_normal(INPUT_SHAPE).astype("float32")
    np.save(FOLDER / "input.npy", images)
    np.save(FOLDER / "expected.npy", network(paddle.to_tensor(images)).numpy())
    paddle.jit.save(static, str(FOLDER / "model"))
    (FOLDER / "model.pdiparams.info").unlink()
    strip_call_stacks(FOLDER / "model.pdmodel")


def strip_call_stacks(path: Path) -> None:
    """Operators carry where they were made, with the paths of the machine: take that out."""
    program = framework_pb2.ProgramDesc.FromString(path.read_bytes())
    for op in (op for block in program.blocks for op in block.ops):
        kept = [attribute for attribute in op.attrs if attribute.name != "op_callstack"]
        del op.attrs[:]
        op.attrs.extend(kept)
    path.write_bytes(program.SerializeToString())


if __name__ == "__main__":
    main()
