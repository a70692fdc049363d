"""A network -> its static graph, as the options of an export ask for it."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paddle
from paddle import Tensor, nn

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.paddle2_types import types_for
from paddleseg_ext.export.folding import fold_normalize
from paddleseg_ext.export.host_upsampling import MainHead, cut_upsampling, upsampling_of
from paddleseg_ext.export.onednn_safe import traced_operators
from paddleseg_ext.export.options import ExportOptions
from paddleseg_ext.inference.preprocess import ImageNormalize

GRAPH_NAME = "model"
# Paddle's release -> operators that its oneDNN cannot run (Paddle#77340) or crashes at;
# docs/platform.md.
BROKEN_OPERATORS = {"3.3": ("bilinear_interp", "leaky_relu")}
TESTED_PADDLE = "3.2.2"


def write_graph(
    model: nn.Layer, options: ExportOptions, normalize: ImageNormalize | None, path: Path
) -> str:
    """Writes the static graph of `model` to `path` plus Paddle's suffixes.

    Args:
        model: the network, in inference mode.
        options: of the export.
        normalize: the transform that the graph contains; None: it takes normalised images.
        path: without suffix.

    Returns:
        Where the logits are upsampled: in the `graph`, or afterwards (`half_pixel`, `aligned`).

    Raises:
        UsageError: the logits cannot be upsampled afterwards, as the options ask; or oneDNN of the
            installed Paddle cannot run an operator of the graph.
    """
    upsampling, deployed = "graph", model
    channels = options.input_shape[1]
    cut = options.upsample == "host" and not hasattr(model, "upsampling")
    if options.upsample == "host":
        upsampling = upsampling_of(model, channels)
        deployed = model if cut else MainHead(model, upsample=False)
    if normalize is not None:
        deployed = fold_normalize(deployed, normalize, channels)
    trace(deployed, options, path)
    if cut:
        cut_upsampling(path, type(model).__name__)
    refuse_broken_operators(path, type(model).__name__)
    return upsampling


def refuse_broken_operators(path: Path, network: str) -> None:
    """Checks a graph for operators that oneDNN of the installed Paddle cannot run.

    Args:
        path: of the graph, without suffix.
        network: its name, for the message.

    Raises:
        UsageError: it has one.
    """
    version = paddle.__version__
    graph = path.with_suffix(".json")
    for operator in BROKEN_OPERATORS.get(".".join(version.split(".")[:2]), ()):
        if f'.{operator}"' in graph.read_text(encoding="utf-8"):
            raise UsageError(
                f"{network}: oneDNN of PaddlePaddle {version} cannot run its {operator}; export it "
                f"with another release: pip install paddlepaddle=={TESTED_PADDLE}"
            )


def trace(model: nn.Layer, options: ExportOptions, path: Path) -> None:
    """Writes the static graph of `model` in inference mode to `path` plus Paddle's suffixes.

    Raises:
        CheckFailed: Paddle cannot convert the network; the message has its reason, in one line.
    """
    shape = [side if side > 0 else None for side in options.input_shape]
    network = _DeployNetwork(model, options.output_op)
    network.eval()
    conversion = _conversion(model, options)
    operators = traced_operators()
    with conversion, without_call_stacks(), finite_loops(), operators, types_for(network.model):
        static = paddle.jit.to_static(
            network,
            input_spec=[paddle.static.InputSpec(shape, options.input_dtype, "images")],
            full_graph=True,
        )
        paddle.jit.save(static, str(path))


@contextmanager
def without_call_stacks() -> Iterator[None]:
    """A context in which Paddle notes no call stack of the operators that it adds to a graph.

    It asks Python for one each time, two thirds of the time of a graph with thousands of operators
    (MaskFormer), and does not save it.
    """
    extract = traceback.extract_stack
    try:
        traceback.extract_stack = lambda *args, **kwargs: traceback.StackSummary()
        yield
    finally:
        traceback.extract_stack = extract


@contextmanager
def finite_loops() -> Iterator[None]:
    """A context in which a loop over as many items as the input decides is an error.

    Python would read items from 0 on without end: no index is beyond an unknown length.
    """
    value = getattr(getattr(paddle, "pir", None), "Value", None)
    if value is None:  # Paddle 2
        yield
        return
    before = value.__dict__.get("__iter__")
    try:
        value.__iter__ = _items
        yield
    finally:
        if before is None:
            del value.__iter__
        else:
            value.__iter__ = before


def _items(value: Any) -> Iterator[Any]:
    if not value.shape or value.shape[0] < 0:
        raise ValueError("a loop in Python over as many items as the input decides")
    return (value[number] for number in range(value.shape[0]))


@contextmanager
def _conversion(model: nn.Layer, options: ExportOptions) -> Iterator[None]:
    """A conversion in which whatever the network and Paddle raise becomes one line."""
    try:
        yield
    except (UsageError, CheckFailed, OSError):
        raise
    # A network's own code runs here, under Paddle's rules for static graphs: any error is possible.
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reasons = [line for line in lines if "Error:" in line] or [
            line for line in lines if "http" not in line
        ]
        reason = reasons[-1] if reasons else type(error).__name__
        remedy = ""
        if any(side < 0 for side in options.input_shape):
            remedy = "; if its graph depends on the input's size, give it: --input_shape 1 3 H W"
        raise CheckFailed(
            f"{type(model).__name__} cannot be converted to a static graph: {reason}{remedy}"
        ) from error


class _DeployNetwork(nn.Layer):
    """The main head and the graph's last step."""

    def __init__(self, model: nn.Layer, output_op: str):
        super().__init__()
        self.model = model
        self.output_op = output_op

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)[0]
        if self.output_op == "argmax":
            return paddle.argmax(logits, axis=1, dtype="int32")
        if self.output_op == "softmax":
            return nn.functional.softmax(logits, axis=1)
        return logits
