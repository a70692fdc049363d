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
