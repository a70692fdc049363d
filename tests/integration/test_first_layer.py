"""The first layer that differs, in the graphs of the networks: planted faults, and none."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("paddle2onnx")
pytest.importorskip("onnxruntime")

from paddleseg_ext.config import load_config  # noqa: E402
from paddleseg_ext.inference.bundle import Bundle  # noqa: E402
from paddleseg_ext.parity.int8_layers import MOST_ERROR, Int8Parts  # noqa: E402
from paddleseg_ext.parity.layers import first_layer_between, first_layer_in  # noqa: E402
from paddleseg_ext.parity.onnx_layers import OnnxGraph  # noqa: E402
from tests.planted_faults import Fault, faults_of  # noqa: E402

PROJECT = Path(__file__).resolve().parents[2]
NETWORKS = {
    "BiSeNetV1": "bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml",
    "BiSeNetV2": "bisenetv2/bisenetv2_coincheung_cityscapes_1024x512_150k.yml",
    "STDC1-Seg": "stdcseg/stdc1_seg_cityscapes_1024x512_60k.yml",
    "STDC2-Seg": "stdcseg/stdc2_seg_cityscapes_1024x512_60k.yml",
    "DABNet R18": "dabnet/dabnet_r18_cityscapes_1024x1024_80k.yml",
    "DABNet EffB1": "dabnet/dabnet_efficientnetb1_cityscapes_1024x1024_80k.yml",
}
SHAPE = (1, 3, 64, 128)


def image() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


def network_of(name: str) -> Any:
    """A network with random weights."""
    import paddle

    from paddleseg_ext.models.build import build_model

    paddle.seed(0)
    model = build_model(load_config(PROJECT / "configs" / NETWORKS[name]), 19)
    model.train()
    for _ in range(3):  # batch statistics of such images
        model(paddle.to_tensor(np.repeat(image(), 2, axis=0)))
    model.eval()
    return model


def graph_of(name: str, folder: Path, is_fixed: bool = True) -> Any:
    """The ONNX graph of a network with random weights."""
    from paddleseg_ext.export.onnx_conversion import fold_sizes, write_onnx
    from paddleseg_ext.export.options import ExportOptions
    from paddleseg_ext.export.tracing import write_graph

    model = network_of(name)
    options = ExportOptions(folder, input_shape=SHAPE if is_fixed else (-1, 3, -1, -1))
    write_graph(model, options, None, folder / "model")
    file = folder / "model.onnx"
    write_onnx(folder / "model.json", folder / "model.pdiparams", file)
    fold_sizes(file, options.input_shape, "float32")
    return onnx.load(str(file))


def placed(fault: Fault, reference: Any) -> str:
    found = first_layer_between(OnnxGraph(fault.model), OnnxGraph(reference), image())
    return found.output if found else ""


def test_a_few_faults_of_a_network_and_no_false_alarm(tmp_path: Path) -> None:
    model = graph_of("BiSeNetV1", tmp_path, is_fixed=False)
    faults = {fault.name: fault for fault in faults_of(model)}
    for name in ("Conv weight", "MaxPool padding", "Concat order"):
        assert placed(faults[name], model) == faults[name].output, name
    assert first_layer_between(OnnxGraph(model), OnnxGraph(model), image()) is None
    pytest.importorskip("openvino")
    assert first_layer_in(OnnxGraph(model), image(), "openvino") is None


@pytest.mark.slow
def test_every_planted_fault_is_placed_and_no_network_is_an_alarm(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    total, wrong, kinds = 0, [], Counter[str]()
    for name in NETWORKS:
        folder = tmp_path / name
        folder.mkdir()
        model = graph_of(name, folder)
        assert first_layer_between(OnnxGraph(model), OnnxGraph(model), image()) is None, name
        assert first_layer_in(OnnxGraph(model), image(), "openvino") is None, name
        for fault in faults_of(model):
            total += 1
            kinds[fault.name] += 1
            found = placed(fault, model)
            if found != fault.output:
                wrong.append(f"{name}: {fault.name} at {fault.output}, placed at {found or 'none'}")
    print(total, dict(kinds))
    assert not wrong
    assert total >= 50


def paddle_bundle(model: Any, folder: Path, is_plain: bool) -> Bundle:
    """The graph of a network, as this project traces it or as Paddle does."""
    import paddle

    from paddleseg_ext.export.options import ExportOptions
    from paddleseg_ext.export.tracing import write_graph

    folder.mkdir()
    if is_plain:
        static = paddle.jit.to_static(
            model,
            input_spec=[paddle.static.InputSpec([None, 3, None, None], "float32", "images")],
            full_graph=True,
        )
        paddle.jit.save(static, str(folder / "model"))
    else:
        write_graph(model, ExportOptions(folder), None, folder / "model")
    files = folder / "model.json", folder / "model.pdiparams"
    return Bundle(folder / "deploy.yaml", *files, [], [-1, 3, -1, -1], "none", None)


# The operator that oneDNN computes wrongly in a graph of Paddle's own, at a size no stride divides.
WRONG = {
    "BiSeNetV1": "bilinear_interp",
    "BiSeNetV2": "nearest_interp",
    "STDC1-Seg": "nearest_interp",
    "STDC2-Seg": "nearest_interp",
    "DABNet R18": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_what_onednn_computes_wrongly_is_named(name: str, tmp_path: Path) -> None:
    from paddleseg_ext.parity.paddle_layers import PaddleGraph

    model = network_of(name)
    odd = np.random.default_rng(1).standard_normal((1, 3, 58, 116)).astype(np.float32)
    sound = PaddleGraph(paddle_bundle(model, tmp_path / "sound", is_plain=False))
    for engine in ("paddle", "paddle_onednn"):
        assert first_layer_in(sound, odd, engine) is None, engine
    plain = PaddleGraph(paddle_bundle(model, tmp_path / "plain", is_plain=True))
    assert first_layer_between(plain, sound, odd) is None
    assert first_layer_in(plain, odd, "paddle") is None
    found = first_layer_in(plain, odd, "paddle_onednn")
    print(name, found and found.text)
    assert (found.kind if found else "") == WRONG[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["BiSeNetV1", "STDC1-Seg", "STDC2-Seg"])
def test_a_wrong_scale_in_int8_is_placed_and_no_network_is_an_alarm(
    name: str, tmp_path: Path
) -> None:
    from paddleseg_ext.parity.controls import WEIGHT_FACTOR
    from paddleseg_ext.parity.weights import change_scales
    from paddleseg_ext.quantization.graph import QuantizableGraph

    pytest.importorskip("openvino")
    model = graph_of(name, tmp_path)
    (tmp_path / "work").mkdir()
    quantizable = QuantizableGraph(tmp_path / "model.onnx", tmp_path / "work")
    quantizable.calibrate([image()])
    file = tmp_path / "model_int8.onnx"
    quantizable.write(file, quantizable.layers)
    given = OnnxGraph(model)
    for engine in ("onnxruntime", "openvino"):
        errors = Int8Parts(OnnxGraph(file), given).errors(engine, image())
        most = max(errors, key=lambda each: each.error)
        print(name, engine, len(errors), f"{most.error:.1%}", most.node.kind, most.output)
        assert most.error < MOST_ERROR
    changed = len(quantizable.layers) // 3
    count = iter(range(len(quantizable.layers)))
    change_scales(file, lambda scale: scale * (WEIGHT_FACTOR if next(count) == changed else 1))
    errors = Int8Parts(OnnxGraph(file), given).errors("onnxruntime", image())
    wrong = [each for each in errors if each.error > MOST_ERROR]
    assert len(wrong) == 1, [(each.output, each.error) for each in wrong]
    convolutions = [node for node in given.layers if node.kind == "Conv"]
    assert wrong[0].node is convolutions[changed]
