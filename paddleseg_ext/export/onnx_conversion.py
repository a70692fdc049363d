"""Conversion of an exported graph to ONNX, by paddle2onnx.

paddle2onnx can install an optimiser by pip, which moves other packages to versions that do not fit:
its optimisation is switched off. It can end its process when it fails, even by an abort: it runs in
a process of its own.
"""

import signal
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.common.packages import optional_imports

OPSET = 17
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
    return all(find_spec(name) is not None for name in ("paddle2onnx", "onnxruntime"))


def require_paddle2onnx() -> None:
    """Checks that paddle2onnx and ONNX Runtime, which runs the self-check, are installed.

    Raises:
        UsageError: one of them is not.
    """
    with optional_imports("--onnx True", "onnx"):
        import onnxruntime  # noqa: F401
        import paddle2onnx  # noqa: F401


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
    # -P: the program imports no module from the current folder.
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, *files, str(OPSET)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    maker = f"paddle2onnx {metadata.version('paddle2onnx')}"
    if done.returncode or not onnx_file.is_file():
        onnx_file.unlink(missing_ok=True)  # of an interrupted conversion
        raise CheckFailed(
            f"{maker} cannot convert the graph: {_reason(done.stdout)} ({_ending(done.returncode)})"
        )
    return {"file": onnx_file.name, "opset": OPSET, "made_by": maker}


def _reason(output: str) -> str:
    """The first error that paddle2onnx prints, or else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix(ERROR_MARK) for line in lines if line.startswith(ERROR_MARK)]
    reason = (errors or lines[-1:] or ["it prints nothing"])[0]
    return reason.removeprefix(MAKERS_MARK).strip().rstrip(".")


def _ending(status: int) -> str:
    if status < 0:
        return f"its process ended by {signal.Signals(-status).name}"
    return f"status {status}, and no file" if status == 0 else f"status {status}"
