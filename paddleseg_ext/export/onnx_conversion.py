"""An exported graph as ONNX, by paddle2onnx, its manners mended.

paddle2onnx optimises what it wrote with a tool that it installs by pip if need be, which moves
other packages to versions that do not fit; so it is told not to. Where it fails it ends the whole
process, by an abort even; so it has one of its own.
"""

import signal
import subprocess
import sys
from importlib import metadata
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


def require_paddle2onnx() -> None:
    """See that what a conversion needs is there: ONNX Runtime, too, which checks what was written.

    Raises:
        UsageError: one of them is not installed.
    """
    with optional_imports("--onnx True", "onnx"):
        import onnxruntime  # noqa: F401
        import paddle2onnx  # noqa: F401


def write_onnx(model_file: Path, params_file: Path, onnx_file: Path) -> dict[str, Any]:
    """Convert a graph of Paddle's; sides that are free stay free.

    Returns:
        What the manifest says of the file: its name, opset and maker.

    Raises:
        UsageError: paddle2onnx is not installed.
        CheckFailed: it cannot convert the graph; its own reason, in one line.
    """
    require_paddle2onnx()
    files = [str(path.resolve()) for path in (model_file, params_file, onnx_file)]
    # -P: a file of the current folder is no module of the program's.
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, *files, str(OPSET)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", check=False,
    )  # fmt: skip
    maker = f"paddle2onnx {metadata.version('paddle2onnx')}"
    if done.returncode or not onnx_file.is_file():
        onnx_file.unlink(missing_ok=True)  # what an interrupted conversion left
        raise CheckFailed(
            f"{maker} cannot convert the graph: {_reason(done.stdout)} ({_ending(done.returncode)})"
        )
    return {"file": onnx_file.name, "opset": OPSET, "made_by": maker}


def _reason(output: str) -> str:
    """The first error that paddle2onnx names, or else the last thing it says."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix(ERROR_MARK) for line in lines if line.startswith(ERROR_MARK)]
    said = (errors or lines[-1:] or ["it says nothing"])[0]
    return said.removeprefix(MAKERS_MARK).strip().rstrip(".")


def _ending(status: int) -> str:
    if status < 0:
        return f"its process ended by {signal.Signals(-status).name}"
    return f"status {status}, and no file" if status == 0 else f"status {status}"
