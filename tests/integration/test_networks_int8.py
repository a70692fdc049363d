"""The networks: logits upsampled by post-processing, and INT8 in both runtimes."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from commands import PROJECT

pytestmark = pytest.mark.slow
SIZE_WH = (256, 128)
NUM_SCENES = 4
# Not STDC2: with random weights, rounding alone exceeds what export allows.
NETWORKS = {
    "BiSeNetV1": "bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml",
    "BiSeNetV2": "bisenetv2/bisenetv2_coincheung_cityscapes_1024x512_150k.yml",
    "STDC1": "stdcseg/stdc1_seg_cityscapes_1024x512_60k.yml",
}


def write_scenes(folder: Path) -> list[Path]:
    """Drawn street scenes with labels, and their list."""
    from paddleseg_ext.images.scenes import draw_scene

    images = []
    for seed in range(NUM_SCENES):
        image, label = draw_scene(seed=seed, size_wh=SIZE_WH)[:2]
        images.append(folder / f"{seed}.png")
        cv2.imwrite(str(images[-1]), image[:, :, ::-1])
        cv2.imwrite(str(folder / f"{seed}_label.png"), label)
    lines = [f"{seed}.png {seed}_label.png\n" for seed in range(NUM_SCENES)]
    (folder / "val.list").write_text("".join(lines))
    return images


@pytest.mark.parametrize("name", NETWORKS)
def test_host_upsampling_and_int8(name: str, tmp_path: Path) -> None:
    pytest.importorskip("paddle2onnx")
    pytest.importorskip("openvino")
    from paddleseg_ext.config import load_config
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions
    from paddleseg_ext.images.reading import read_image
    from paddleseg_ext.inference.bundle import read_bundle
    from paddleseg_ext.quantization.graph import QuantizableGraph
    from paddleseg_ext.quantization.quantize import QuantizeOptions, rank_layers

    scenes = write_scenes(tmp_path)
    yml = {
        "_base_": str(PROJECT / "configs" / NETWORKS[name]),
        "val_dataset": {
            "_inherited_": False,
            "type": "ListDataset",
            "dataset_root": str(tmp_path),
            "val_path": "val.list",
            "mode": "val",
            "num_classes": 19,
            "transforms": [{"type": "Normalize"}],
        },
    }
    (tmp_path / "network.yml").write_text(yaml.safe_dump(yml))
    config = load_config(tmp_path / "network.yml")
    weights = tmp_path / "model.pdparams"
    benchmark = runpy.run_path(str(PROJECT / "benchmarks/parity_networks.py"))
    benchmark["make_weights"](config, weights, seed=1)

    options = ExportOptions(tmp_path / "bundle", onnx=True, upsample="host")
    bundle = read_bundle(export(config, str(weights), options))
    assert bundle.postprocess().upsampling != "graph"

    preprocess = bundle.preprocess()
    batch = np.stack([preprocess(read_image(scene))[0] for scene in scenes])
    (tmp_path / "work").mkdir()
    graph = QuantizableGraph(bundle.onnx_file(), tmp_path / "work")
    graph.calibrate(batch[i : i + 1] for i in range(NUM_SCENES))
    ranking = {
        name: rank_layers(
            graph,
            bundle,
            [batch[:1]],
            QuantizeOptions(backend=[name], cpu_threads=1),
            tmp_path / "work",
        )
        for name in ("onnxruntime", "openvino")
    }
    errors = {name: {e.layer: e.error for e in entries} for name, entries in ranking.items()}
    most = max(errors["onnxruntime"].values())
    wrong = {layer: error for layer, error in errors["openvino"].items() if error > 2 * most}
    assert not wrong
