"""An exported graph as ONNX, by paddle2onnx, its manners mended.

paddle2onnx optimises what it wrote with a tool that it installs by pip if need be, which moves
other packages to versions that do not fit; so it is told not to. It also ends the process where it
fails.
"""

from importlib import metadata
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.common.packages import optional_imports

OPSET = 17


def import_paddle2onnx() -> Any:
    """The package; ONNX Runtime must be there as well, for what is written is checked in it.

    Raises:
        UsageError: one of them is not installed.
    """
    with optional_imports("--onnx True", "-r requirements-onnx.txt"):
        import onnxruntime  # noqa: F401
        import paddle2onnx
    return paddle2onnx


def write_onnx(model_file: Path, params_file: Path, onnx_file: Path) -> dict[str, Any]:
    """Convert a graph of Paddle's; sides that are free stay free.

    Returns:
        What the manifest says of the file: its name, opset and maker.

    Raises:
        UsageError: paddle2onnx is not installed.
        CheckFailed: it cannot convert the graph.
    """
    paddle2onnx = import_paddle2onnx()
    try:
        paddle2onnx.export(
            str(model_file),
            str(params_file),
            str(onnx_file),
            opset_version=OPSET,
            optimize_tool=None,
            verbose=False,
        )
    except (Exception, SystemExit) as error:
        raise CheckFailed(f"{model_file}: paddle2onnx cannot convert it: {error}") from error
    if not onnx_file.is_file():
        raise CheckFailed(f"{model_file}: paddle2onnx wrote nothing, and said no more")
    version = metadata.version("paddle2onnx")
    return {"file": onnx_file.name, "opset": OPSET, "made_by": f"paddle2onnx {version}"}
