"""paddle2onnx is asked nicely, in a process of its own, and its failures become ours."""

import json
import sys
from pathlib import Path

import pytest

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.export import onnx_conversion
from paddleseg_ext.export.onnx_conversion import require_paddle2onnx, write_onnx

WRITES = """
    import json
    with open(target, "w") as file:
        json.dump(options, file)
"""


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Converts with a paddle2onnx whose `export` has the given body."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(onnx_conversion, "require_paddle2onnx", lambda: None)
    monkeypatch.setattr(onnx_conversion.metadata, "version", lambda name: "2.1.0")

    def run(body: str) -> dict:
        source = f"import os, sys\ndef export(model, params, target, **options):\n{body}\n"
        (tmp_path / "paddle2onnx.py").write_text(source)
        return write_onnx(tmp_path / "m.json", tmp_path / "m.pdiparams", tmp_path / "m.onnx")

    return run


def test_nothing_is_installed_while_converting(convert, tmp_path: Path) -> None:
    told = convert(WRITES)
    asked = json.loads((tmp_path / "m.onnx").read_text())
    assert asked["optimize_tool"] is None
    assert told == {
        "file": "m.onnx",
        "opset": asked["opset_version"],
        "made_by": "paddle2onnx 2.1.0",
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "    print('[ERROR][Paddle2ONNX] [OP: pool2d] only static.', flush=True)\n"
            "    print('[ERROR][Paddle2ONNX] unsupported', flush=True)\n    os.abort()",
            r"graph: \[OP: pool2d\] only static \(its process ended by SIGABRT\)$",
        ),
        ("    print('no such operator')\n    sys.exit(3)", r"no such operator \(status 3\)$"),
        ("    raise RuntimeError('no shape')", r"graph: RuntimeError: no shape \(status 1\)$"),
        ("    pass", r"it prints nothing \(status 0, and no file\)$"),
    ],
)
def test_failures(convert, body: str, message: str) -> None:
    with pytest.raises(CheckFailed, match=message) as raised:
        convert(body)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("package", ["paddle2onnx", "onnxruntime"])
def test_what_is_not_installed(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"{package} is not .* 'paddleseg_ext\[onnx\]'"):
        require_paddle2onnx()
