"""TensorRT as far as it goes without a GPU: what is asked of Paddle is recorded, not run."""

import re
import sys
from dataclasses import replace
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.inference.bundle import Bundle, read_bundle
from paddleseg_ext.inference.engines import tensorrt
from paddleseg_ext.inference.engines.paddle_inference import build_config
from paddleseg_ext.inference.engines.tensorrt import shapes_of
from paddleseg_ext.inference.runtime import RuntimeSpec, ShapeRange, TensorRtOptions

LEGACY = Path(__file__).resolve().parents[2] / "data" / "paddle26_gate"
SHAPES = ShapeRange((1, 3, 32, 48), (2, 3, 64, 96), (2, 3, 64, 128))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    model, params = tmp_path / "model.json", tmp_path / "model.pdiparams"
    model.write_text("{}")
    params.write_bytes(b"weights")
    return Bundle(tmp_path / "deploy.yaml", model, params, [], [-1, 3, -1, -1], "none", None)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """Stands in for `paddle.tensorrt`, which the CPU build does not have; keeps what was asked."""
    asked: list[SimpleNamespace] = []

    class PrecisionMode(Enum):
        FP32 = "FP32"
        FP16 = "FP16"

    def convert(model: str, config: Any) -> None:
        asked.append(SimpleNamespace(model=model, **vars(config)))
        graph = f"{tensorrt.ENGINE_OPERATOR} " * (config.min_subgraph_size < 10)
        Path(config.save_model_dir + ".json").write_text(graph)
        Path(config.save_model_dir + ".pdiparams").write_bytes(b"weights")

    module: Any = ModuleType("paddle.tensorrt.export")
    module.Input = module.TensorRTConfig = SimpleNamespace
    module.PrecisionMode, module.convert = PrecisionMode, convert
    monkeypatch.setitem(sys.modules, "paddle.tensorrt", ModuleType("paddle.tensorrt"))
    monkeypatch.setitem(sys.modules, "paddle.tensorrt.export", module)
    return asked


def test_paddle_3_converts_once_and_loads_what_came_of_it(
    bundle: Bundle, conversions: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paddle import inference

    loaded: list[tuple[str, ...]] = []

    class Config:
        def __init__(self, *files: str):
            loaded.append(files)

        def __getattr__(self, name: str) -> Any:
            return lambda *values: None

    monkeypatch.setattr(inference, "Config", Config)
    options = RuntimeSpec("paddle", "fp16", "gpu", tensorrt=TensorRtOptions(SHAPES))
    for _ in range(2):
        build_config(bundle, options)
    (asked,) = conversions
    assert asked.model == str(bundle.model_file) and asked.precision_mode.value == "FP16"
    shapes = [data.shape for data in asked.inputs[0].warmup_data]
    assert shapes == [SHAPES.least, SHAPES.typical, SHAPES.most]
    assert (
        loaded[0]
        == loaded[1]
        == (
            asked.save_model_dir + ".json",
            asked.save_model_dir + ".pdiparams",
        )
    )
    assert Path(asked.save_model_dir).parent.parent == bundle.deploy_file.parent / "tensorrt"


@pytest.mark.parametrize("change", ["weights", "shapes", "precision", "subgraph"])
def test_engines_are_not_shared_by_what_differs(bundle: Bundle, change: str) -> None:
    options, precision = TensorRtOptions(SHAPES), "fp16"
    before = tensorrt.engine_folder(bundle, options, precision)
    assert before == tensorrt.engine_folder(bundle, options, precision)
    if change == "weights":
        assert bundle.params_file is not None
        bundle.params_file.write_bytes(b"heights")
    elif change == "shapes":
        options = TensorRtOptions(replace(SHAPES, most=(4, 3, 64, 128)))
    elif change == "precision":
        precision = "fp32"
    else:
        options = TensorRtOptions(SHAPES, min_subgraph_size=5)
    assert tensorrt.engine_folder(bundle, options, precision) != before


def test_a_graph_without_engines_is_no_tensorrt(bundle: Bundle, conversions: list) -> None:
    options = TensorRtOptions(SHAPES, min_subgraph_size=50)
    with pytest.raises(UsageError, match=r"nothing of model\.json went into a TensorRT engine"):
        tensorrt.convert(bundle, options, "fp32")


def test_paddle_without_tensorrt(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paddle.tensorrt", None)
    with pytest.raises(UsageError, match="this PaddlePaddle has no TensorRT"):
        tensorrt.convert(bundle, TensorRtOptions(SHAPES), "fp32")


def test_int8_is_refused_before_anything_is_converted(bundle: Bundle, conversions: list) -> None:
    options = RuntimeSpec("paddle", "int8", "gpu", tensorrt=TensorRtOptions(SHAPES))
    with pytest.raises(UsageError, match=r"Paddle 2\.6"):
        build_config(bundle, options)
    assert not conversions


def test_shapes_come_from_the_images_and_the_transforms(bundle: Bundle) -> None:
    sizes = [(100, 200), (60, 300), (100, 200)]
    assert shapes_of(bundle, sizes, 4) == ShapeRange(
        (1, 3, 60, 200), (4, 3, 100, 200), (4, 3, 100, 300)
    )
    resizing = replace(bundle, transforms=[{"type": "Resize", "target_size": [64, 32]}])
    assert (
        shapes_of(resizing, sizes, 1).least == shapes_of(resizing, sizes, 1).most == (1, 3, 32, 64)
    )


def test_every_shape_inside_a_graph_is_collected(tmp_path: Path) -> None:
    """By Paddle itself, on its graph; and its `Config` takes the file."""
    from paddle import inference

    one_size = ShapeRange((1, 3, 32, 48), (1, 3, 32, 48), (1, 3, 32, 48))
    for shapes in (SHAPES, one_size):
        graph, params = tensorrt.prepare_legacy(
            read_bundle(LEGACY), TensorRtOptions(shapes, cache_dir=tmp_path), "fp16"
        )
        text = (graph.parent / tensorrt.SHAPES_FILE).read_text()
        for kind, shape in zip(
            ("min", "max", "opt"), (shapes.least, shapes.most, shapes.typical), strict=True
        ):
            sides = "".join(f"  {kind}_shape: {side}\n" for side in shape)
            assert re.search(rf'name: "images"\n(  \w+: \d+\n)*{sides}', text), (kind, text)
        assert 'name: "conv2d_0.tmp_0"' in text  # one inside the graph
        config = inference.Config(str(graph), str(params))
        config.enable_tuned_tensorrt_dynamic_shape(str(graph.parent / tensorrt.SHAPES_FILE), True)
        assert config.tuned_tensorrt_dynamic_shape() and config.trt_allow_build_at_runtime()


def test_what_paddle_2_6_leaves_is_counted(tmp_path: Path) -> None:
    graph, cache = tmp_path / "model.pdmodel", tmp_path / tensorrt.LEGACY_CACHE
    assert tensorrt.count_legacy_engines(graph) == 0 and not tensorrt.is_calibrated(graph)
    cache.mkdir()
    (cache / "trt_calib_1").touch()
    (cache / "trt_serialized_1").touch()
    (cache / "trt_serialized_2").touch()
    assert tensorrt.count_legacy_engines(graph) == 2 and tensorrt.is_calibrated(graph)


def test_a_fixed_bundle_needs_no_shapes(bundle: Bundle) -> None:
    fixed = replace(bundle, input_shape=[1, 3, 32, 64])
    assert tensorrt.resolve_shapes(fixed, TensorRtOptions()).most == (1, 3, 32, 64)
    with pytest.raises(UsageError, match="export with --input_shape"):
        tensorrt.resolve_shapes(bundle, TensorRtOptions())
