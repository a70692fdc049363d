"""Conversion of an exported graph to ONNX, by paddle2onnx.

paddle2onnx can install an optimiser by pip, which moves other packages to versions that do not fit:
its optimisation is switched off. It can end its process when it fails, even by an abort: it runs in
a process of its own. That may be one of another Python, since it has no wheel for Python 3.13.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.inference.engines.onnx_providers import CPU, ERRORS_ONLY

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 17
# Optimisers of ONNX Runtime's that fold weights into others: the graph keeps the network's own.
CHANGE_ARITHMETIC = [
    "ConvAddFusion",
    "ConvBNFusion",
    "ConvMulFusion",
    "MatMulAddFusion",
    "MatMulBNFusion",
    "MatMulScaleFusion",
    "GemmSumFusion",
    "ReshapeFusion",
]
PADDING = ("pads", "auto_pad", "count_include_pad")  # attributes of a pooling
FREE_SIDES = ((1, 3, 256, 256), (2, 3, 320, 384))  # two shapes: sides that differ are free
# Names the interpreter of another environment, which has paddle2onnx.
HELPER = "PADDLE2ONNX_PYTHON"
NEWEST_PYTHON = (3, 12)  # with a wheel of paddle2onnx 2.1
PROGRAM = """
import sys
import paddle2onnx
model, params, target, opset = sys.argv[1:]
paddle2onnx.export(
    model, params, target, opset_version=int(opset), optimize_tool=None, verbose=False
)
"""
ERROR_MARK = "[ERROR]"
MAKERS_MARK = "[Paddle2ONNX]"


def has_paddle2onnx() -> bool:
    """Whether a conversion is possible here, with the check of its result."""
    converts = bool(os.environ.get(HELPER)) or find_spec("paddle2onnx") is not None
    return converts and find_spec("onnxruntime") is not None


def require_paddle2onnx() -> None:
    """Checks that paddle2onnx and ONNX Runtime, which runs the self-check, are installed.

    Raises:
        UsageError: one of them is not; or the interpreter that `HELPER` names has no paddle2onnx.
    """
    with optional_imports("--onnx True", "onnx"):
        import onnxruntime  # noqa: F401
    if os.environ.get(HELPER):
        _version()
        return
    if sys.version_info[:2] > NEWEST_PYTHON and find_spec("paddle2onnx") is None:
        raise UsageError(
            "--onnx True: paddle2onnx has no wheel for Python "
            f"{sys.version_info.major}.{sys.version_info.minor}: `make onnx-helper` in a checkout "
            f"makes an environment of Python 3.12 for it; set {HELPER}=.venv-onnx/bin/python"
        )
    with optional_imports("--onnx True", "onnx"):
        import paddle2onnx  # noqa: F401


def _version() -> str:
    """The version of paddle2onnx that converts.

    Raises:
        UsageError: the interpreter that `HELPER` names does not exist, or has no paddle2onnx.
    """
    helper = os.environ.get(HELPER)
    if not helper:
        return metadata.version("paddle2onnx")
    code = "from importlib import metadata; print(metadata.version('paddle2onnx'))"
    try:
        asked = [helper, "-P", "-c", code]
        done = subprocess.run(asked, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise UsageError(f"{HELPER}={helper}: {error.strerror}; a Python is expected") from None
    if done.returncode:
        raise UsageError(
            f"{HELPER}={helper}: this Python has no paddle2onnx; see `make onnx-helper`"
        )
    return done.stdout.strip()


def write_onnx(model_file: Path, params_file: Path, onnx_file: Path) -> dict[str, Any]:
    """Converts a graph of Paddle's; free sides stay free.

    Returns:
        The file's entry in the manifest: its name, opset and maker.

    Raises:
        UsageError: paddle2onnx is not installed.
        CheckFailed: it cannot convert the graph; the message has its reason, in one line.
    """
    require_paddle2onnx()
    files = [str(path.resolve()) for path in (model_file, params_file, onnx_file)]
    python = os.environ.get(HELPER) or sys.executable
    # -P: the program imports no module from the current folder.
    done = run_alone([python, "-P", "-c", PROGRAM, *files, str(OPSET)])
    maker = f"paddle2onnx {_version()}"
    if done.returncode or not onnx_file.is_file():
        onnx_file.unlink(missing_ok=True)  # of an interrupted conversion
        raise CheckFailed(
            f"{maker} cannot convert the graph: {reason_of(done.stdout)} "
            f"({ending_of(done.returncode)})"
        )
    return {"file": onnx_file.name, "opset": OPSET, "made_by": maker}


def run_alone(
    command: Sequence[str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A converter that ran in a process of its own; `stdout` has all that it printed.

    Args:
        command: with absolute paths where `folder` is given.
        folder: that it runs in, and may litter; None is the caller's.
    """
    return subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def fold_sizes(onnx_file: Path, input_shape: Sequence[int], input_dtype: str) -> None:
    """Rewrite a graph of a fixed size so that it computes no shapes, by ONNX Runtime's optimiser.

    OpenCV's DNN module and others want the sizes of a Resize as constants, and an output of known
    size. Only constants are folded; no arithmetic on images changes. A graph of free sizes stays as
    it is, and so does one that ONNX Runtime refuses, which the self-check reports.

    Args:
        onnx_file: replaced.
        input_shape: N, 3, H, W; -1 is any.
        input_dtype: of the graph's input.
    """
    if all(side < 0 for side in (input_shape[0], *input_shape[2:])):
        return
    import onnx
    import onnxruntime

    folded_file = onnx_file.with_name(f"folded-{onnx_file.name}")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded_file)
    options.log_severity_level = ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(
            str(onnx_file),
            options,
            providers=[CPU],
            disabled_optimizers=CHANGE_ARITHMETIC,
        )
        node = session.get_inputs()[0]
        shapes = []
        for free in FREE_SIDES:
            sides = [
                side if side > 0 else other for side, other in zip(input_shape, free, strict=True)
            ]
            shapes.append(session.run(None, {node.name: np.zeros(sides, input_dtype)})[0].shape)
        model = onnx.load(str(folded_file))
        # The optimiser declares every domain that it knows.
        used = {node.domain for node in model.graph.node}
        imports = [entry for entry in model.opset_import if entry.domain in used]
        del model.opset_import[:]
        model.opset_import.extend(imports)
        dims = model.graph.output[0].type.tensor_type.shape.dim
        for dim, side, other in zip(dims, *shapes, strict=True):
            if side == other:
                dim.dim_value = side
        pad_before_averages(model)
        onnx.save(model, str(onnx_file))
    # ONNX Runtime's exceptions have no common base but this one.
    except Exception as error:
        log(f"{onnx_file.name}: its shapes are not folded: {str(error).splitlines()[0]}")
    finally:
        folded_file.unlink(missing_ok=True)


def pad_before_averages(model: "ModelProto") -> None:
    """Give every AveragePool that counts its padding a Pad before it, in place.

    The values are the same. OpenCV's DNN module (4.14) leaves the padding out of such averages,
    whatever `count_include_pad` says.
    """
    from onnx import helper, numpy_helper

    nodes = []
    for node in model.graph.node:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        pads = list(attributes.get("pads", []))
        is_plain = attributes.get("count_include_pad") and not attributes.get("ceil_mode")
        if node.op_type == "AveragePool" and is_plain and any(pads):
            padded, sides = f"{node.output[0]}.padded", f"{node.output[0]}.pads"
            half = len(pads) // 2
            amounts = [0, 0, *pads[:half], 0, 0, *pads[half:]]  # of batch and channels, too
            constant = numpy_helper.from_array(np.array(amounts, np.int64), sides)
            model.graph.initializer.append(constant)
            nodes.append(helper.make_node("Pad", [node.input[0], sides], [padded]))
            node.input[0] = padded
            for attribute in [each for each in node.attribute if each.name in PADDING]:
                node.attribute.remove(attribute)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def reason_of(output: str) -> str:
    """The first error that a converter prints, or else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix(ERROR_MARK) for line in lines if line.startswith(ERROR_MARK)]
    reason = (errors or lines[-1:] or ["it prints nothing"])[0]
    return reason.removeprefix(MAKERS_MARK).strip().rstrip(".")


def ending_of(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        return f"its process ended by {signal.Signals(-status).name}"
    return f"status {status}, and no file" if status == 0 else f"status {status}"
