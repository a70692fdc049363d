"""Graphs that end in native logits, which post-processing upsamples (`--upsample host`).

Post-processing interpolates only where classes meet, and the graph's output is smaller by the
square of the stride: less to compute, and less to copy. Our networks return native logits
themselves, and their `upsampling` names the interpolation; one that pads its input has a
`native_stride`, by which the logits come to the padded size, which is then cut. Another network
(PaddleSeg's) is traced as it is, and its last interpolation is cut from the written graph.
"""

from pathlib import Path
from typing import Any

import paddle
from paddle import Tensor, nn

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.export.onednn_safe import RESAMPLING

PROBED_HW = (128, 192)
INTERPOLATION = "pd_op.bilinear_interp"
HOST_UPSAMPLINGS = ("half_pixel", "aligned")


class MainHead(nn.Layer):
    """A network's main head.

    Args:
        model: the network.
        options: keywords of its `forward`, such as `upsample=False`.
    """

    def __init__(self, model: nn.Layer, **options: bool):
        super().__init__()
        self.model = model
        self._options = options

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.model(images, **self._options)[0]]


def upsampling_of(model: nn.Layer, channels: int = 3) -> str:
    """How the native logits of a network come to the image's size: `half_pixel` or `aligned`.

    Raises:
        UsageError: not by a bilinear interpolation alone.
    """
    if hasattr(model, "upsampling"):
        upsampling = model.upsampling
    else:
        upsampling = _upsampling_traced(model, channels)
    if upsampling not in HOST_UPSAMPLINGS:
        raise UsageError(
            f"--upsample host: {type(model).__name__} does not end in a bilinear interpolation to "
            "the image's size; use --upsample graph"
        )
    return upsampling


def _upsampling_traced(model: nn.Layer, channels: int) -> str | None:
    """The interpolation that ends a network, read in its graph; None where another step does."""
    model.eval()
    with paddle.no_grad():
        logits = model(paddle.zeros([1, channels, *PROBED_HW]))[0]
    if list(logits.shape[2:]) != list(PROBED_HW):
        return None
    shape = [None, channels, None, None]
    static = paddle.jit.to_static(  # changes the layer that it is given
        MainHead(model), input_spec=[paddle.static.InputSpec(shape)], full_graph=True
    )
    output = paddle.utils.flatten(static.forward.concrete_program.outputs)[0]
    if not hasattr(output, "get_defining_op"):
        raise UsageError(
            f"--upsample host: the graph of {type(model).__name__} can only be cut with Paddle 3; "
            f"this is {paddle.__version__}; use --upsample graph"
        )
    last = output.get_defining_op()
    if last.name() != INTERPOLATION:
        return None
    attributes = last.attrs()
    if attributes["align_corners"]:
        return "aligned"
    return "half_pixel" if attributes["align_mode"] == 0 else None


def cut_upsampling(path: Path, network: str) -> None:
    """Rewrites a graph so that it ends before the interpolation that makes its output.

    Args:
        path: the written graph, without suffix.
        network: its name, for messages.

    Raises:
        UsageError: no interpolation ends the graph.
    """
    paddle.enable_static()
    try:
        with paddle.static.scope_guard(paddle.static.Scope()):
            executor = paddle.static.Executor(paddle.CPUPlace())
            program, _, outputs = paddle.static.load_inference_model(str(path), executor)
            native = _interpolated_input(outputs[0])
            if native is None:
                raise UsageError(
                    f"--upsample host: the graph of {network} cannot be cut before its last "
                    "interpolation; use --upsample graph"
                )
            operators = program.global_block().ops
            images = next(op.result(0) for op in operators if op.name() == "pd_op.data")
            paddle.static.save_inference_model(
                str(path), [images], [native], executor, program=program
            )
    finally:
        paddle.disable_static()


def _interpolated_input(output: Any) -> Any:
    """The value of a graph that was interpolated to `output`; None where it was not."""
    operator = output.get_defining_op()
    if operator.name() == INTERPOLATION:
        return operator.operand_source(0)
    value = output
    for name, operand in RESAMPLING:  # in place of an interpolation that oneDNN gets wrong
        operator = value.get_defining_op()
        if operator.name() != f"pd_op.{name}":
            return None
        value = operator.operand_source(operand)
    return value
