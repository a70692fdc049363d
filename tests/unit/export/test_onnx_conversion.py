"""paddle2onnx is asked nicely, in a process of its own, and its failures become ours."""

import json
import sys
from pathlib import Path

import numpy as np
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


def test_another_python_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "python"
    helper.write_text('#!/bin/sh\ncase "$*" in *metadata*) echo 2.1.0;; *) echo x > "$6";; esac\n')
    helper.chmod(0o755)
    monkeypatch.setenv(onnx_conversion.HELPER, str(helper))
    monkeypatch.setitem(sys.modules, "paddle2onnx", None)
    made = write_onnx(tmp_path / "m.json", tmp_path / "m.pdiparams", tmp_path / "m.onnx")
    assert made == {"file": "m.onnx", "opset": 17, "made_by": "paddle2onnx 2.1.0"}
    assert (tmp_path / "m.onnx").is_file()


@pytest.mark.parametrize(
    ("helper", "words"),
    [("/no/python", "No such file"), ("false", "has no paddle2onnx"), ("/", "Permission denied")],
)
def test_another_python_that_cannot(
    helper: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(onnx_conversion.HELPER, helper)
    with pytest.raises(UsageError, match=f"^PADDLE2ONNX_PYTHON={helper}: .*{words}"):
        require_paddle2onnx()


def test_a_python_without_a_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_conversion, "find_spec", lambda name: None)
    monkeypatch.setattr(onnx_conversion, "NEWEST_PYTHON", (3, 10))
    with pytest.raises(UsageError, match=r"no wheel for Python 3.*make onnx-helper"):
        require_paddle2onnx()


@pytest.mark.parametrize("package", ["paddle2onnx", "onnxruntime"])
def test_what_is_not_installed(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_conversion, "NEWEST_PYTHON", (9, 9))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"{package} is not .* 'paddleseg_ext\[onnx\]'"):
        require_paddle2onnx()


@pytest.mark.parametrize(
    ("input_shape", "output_shape"),
    [
        ((1, 3, 32, 48), [1, 4, 32, 48]),
        ((-1, 3, 32, 48), [None, 4, 32, 48]),
        ((2, 3, -1, -1), [2, 4, None, None]),
        ((-1, 3, -1, -1), [None, None, None, None]),
    ],
)
@pytest.mark.parametrize("output_op", ["none", "argmax"])
def test_a_fixed_size_computes_no_shapes_and_names_its_outputs(
    input_shape: tuple[int, ...], output_shape: list[int | None], output_op: str, tmp_path: Path
) -> None:
    """The folded graph gives the bits of the unfolded one; one of free sizes stays as it is."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("paddle2onnx")
    paddle = pytest.importorskip("paddle")
    from paddleseg_ext.export.options import ExportOptions
    from paddleseg_ext.export.tracing import trace

    class Halved(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.conv = paddle.nn.Conv2D(3, 4, 3, stride=2, padding=1)

        def forward(self, images):  # type: ignore[no-untyped-def]
            sides = paddle.shape(images)[2:]
            return [paddle.nn.functional.interpolate(self.conv(images), sides, mode="bilinear")]

    options = ExportOptions(tmp_path, input_shape=input_shape, output_op=output_op)
    trace(Halved(), options, tmp_path / "model")
    graph = next(path for path in tmp_path.iterdir() if path.suffix in (".json", ".pdmodel"))
    onnx_conversion.write_onnx(graph, tmp_path / "model.pdiparams", tmp_path / "model.onnx")
    before = (tmp_path / "model.onnx").read_bytes()
    onnx_conversion.fold_sizes(tmp_path / "model.onnx", input_shape, "float32")
    after = (tmp_path / "model.onnx").read_bytes()
    if output_shape == [None] * 4:
        assert after == before
        return
    model = onnx.load_from_string(after)
    onnx.checker.check_model(model)
    dims = [dim.dim_value or None for dim in model.graph.output[0].type.tensor_type.shape.dim]
    assert dims == (output_shape if output_op == "none" else output_shape[:1] + output_shape[2:])
    if min(input_shape) > 0:
        assert not {node.op_type for node in model.graph.node} & {"Shape", "Range"}
    shape = [side if side > 0 else 32 for side in input_shape]
    images = np.random.default_rng(0).random(shape, np.float32)
    providers = ["CPUExecutionProvider"]
    outputs = []
    for content in (before, after):
        session = onnxruntime.InferenceSession(content, providers=providers)
        outputs.append(session.run(None, {session.get_inputs()[0].name: images})[0])
    np.testing.assert_array_equal(*outputs)
    assert [path.name for path in tmp_path.glob("folded*")] == []


@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_padding_of_an_average_becomes_a_node(ceil_mode: int) -> None:
    """With the bits as they were; where the last window is cut it stays."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    settings = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 1]}
    pool = helper.make_node(
        "AveragePool", ["x"], ["y"], count_include_pad=1, ceil_mode=ceil_mode, **settings
    )
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 5, None, None]) for name in "xy"
    ]
    graph = helper.make_graph([pool], "pooling", ends[:1], ends[1:])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", onnx_conversion.OPSET)], ir_version=8
    )
    before = model.SerializeToString()
    onnx_conversion.pad_before_averages(model)
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == (["AveragePool"] if ceil_mode else ["Pad", "AveragePool"])
    x = np.random.default_rng(0).standard_normal((2, 5, 8, 12), np.float32)
    outputs = []
    for content in (before, model.SerializeToString()):
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        outputs.append(session.run(None, {"x": x})[0])
    np.testing.assert_array_equal(*outputs)
