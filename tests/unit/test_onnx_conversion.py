"""paddle2onnx is asked nicely, and its failures become ours."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from paddleseg_ext import onnx_conversion
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.onnx_conversion import write_onnx


def test_nothing_is_installed_while_converting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict = {}

    def export(model: str, params: str, target: str, **options: object) -> None:
        asked.update(options)
        Path(target).write_bytes(b"graph")

    monkeypatch.setattr(
        onnx_conversion, "import_paddle2onnx", lambda: SimpleNamespace(export=export)
    )
    told = write_onnx(tmp_path / "model.json", tmp_path / "model.pdiparams", tmp_path / "m.onnx")
    assert asked["optimize_tool"] is None
    assert told["file"] == "m.onnx" and told["opset"] == asked["opset_version"]


@pytest.mark.parametrize("ending", [SystemExit(1), RuntimeError("no such operator"), None])
def test_failures(
    ending: BaseException | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(*files: str, **options: object) -> None:
        if ending is not None:
            raise ending

    monkeypatch.setattr(
        onnx_conversion, "import_paddle2onnx", lambda: SimpleNamespace(export=export)
    )
    with pytest.raises(CheckFailed, match="paddle2onnx"):
        write_onnx(tmp_path / "model.json", tmp_path / "model.pdiparams", tmp_path / "m.onnx")


@pytest.mark.parametrize("package", ["paddle2onnx", "onnxruntime"])
def test_what_is_not_installed(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"{package} is not .* -r requirements-onnx\.txt"):
        onnx_conversion.import_paddle2onnx()
