"""export_model.py: a bundle is right or it is not there."""

import contextlib
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from commands import PROJECT, call

from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.export.onnx_conversion import has_paddle2onnx
from paddleseg_ext.inference.bundle import read_bundle, record_calibration
from paddleseg_ext.inference.calibration import Calibration

CONFIG = PROJECT / "configs/bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of BiSeNetV1 as its author wired it, with fresh weights."""
    from paddleseg_ext.checkpoints.manifest import CheckpointManifest
    from paddleseg_ext.checkpoints.store import save_weights
    from paddleseg_ext.config import load_config
    from paddleseg_ext.models.build import build_model

    path = tmp_path_factory.mktemp("trained") / "model.pdparams"
    save_weights(build_model(load_config(CONFIG), 19), path, CheckpointManifest(iteration=0))
    return path


def export(checkpoint: Path, save_dir: Path, *flags: object):
    return call(
        "export_model.py",
        "--config",
        CONFIG,
        "--model_path",
        checkpoint,
        "--save_dir",
        save_dir,
        *flags,
    )


@pytest.mark.parametrize("output_op", ["none", "argmax"])
def test_a_bundle_says_what_it_is(trained: Path, tmp_path: Path, output_op: str) -> None:
    finished = export(trained, tmp_path, "--output_op", output_op)
    assert finished.status == 0, finished.err
    assert "loaded 183 of 183 tensors" in finished.out
    assert finished.out.count("self-check: Paddle Inference, oneDNN off") == 2
    assert finished.out.count("self-check: Paddle Inference, oneDNN on") == 2
    names = {"deploy.yaml", "model.json", "model.pdiparams", "MODEL_CARD.md"}
    names |= {"model.onnx"} if has_paddle2onnx() else set()
    assert {p.name for p in tmp_path.iterdir()} == names
    deploy = yaml.safe_load((tmp_path / "deploy.yaml").read_text())
    assert deploy["Deploy"]["output_op"] == output_op
    assert deploy["Deploy"]["transforms"] == [{"type": "Normalize"}]
    assert deploy["Manifest"]["variables"] == {"loaded": 183, "total": 183}
    assert deploy["Manifest"]["checkpoint"]["iteration"] == 0
    assert deploy["Manifest"]["postprocess"]["classes"]["class_names"][13] == "car"
    verified = read_bundle(tmp_path).verified
    engines = {"onnxruntime", "openvino"} if has_paddle2onnx() else set()
    assert set(verified) == {"paddle", "paddle_onednn"} | engines
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert card.startswith("# BiSeNetV1, 19 classes") and "183 of 183" in card
    assert "MODEL_CARD.md" not in deploy["Manifest"]["files"]
    assert set(re.findall(r"^\| (\w+) \| (?:identical|near-tie)", card, re.M)) == set(verified)
    for record in verified.values():
        assert record.passed and record.command == "export" and record.num_images == 4
        assert record.ratio is not None and record.ratio > 0


def test_without_the_converter_a_bundle_has_no_onnx(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddleseg_ext.export.exporter.has_paddle2onnx", lambda: False)
    assert export(trained, tmp_path).status == 0
    assert set(read_bundle(tmp_path).verified) == {"paddle", "paddle_onednn"}
    assert not (tmp_path / "model.onnx").exists()


def test_an_onnx_graph_that_nobody_asked_for_may_fail(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("paddle2onnx")
    from paddleseg_ext.export import self_check

    real = self_check._try

    def failing(name: str, *arguments: Any) -> Any:
        if name == "onnxruntime":
            raise CheckFailed("ONNX Runtime, input 1: wrong")
        return real(name, *arguments)

    monkeypatch.setattr(self_check, "_try", failing)
    done = export(trained, tmp_path)
    assert done.status == 0 and "ONNX Runtime is recorded as failed" in done.out + done.err
    assert not read_bundle(tmp_path).verified["onnxruntime"].passed
    asked = export(trained, tmp_path / "asked", "--onnx", "True")
    assert asked.status == 1 and len(asked.error_lines) == 1
    assert "asked/model.onnx is missing: ONNX Runtime, input 1: wrong" in asked.error_lines[0]
    assert not (tmp_path / "asked/model.onnx").exists()
    kept = read_bundle(tmp_path / "asked")
    assert set(kept.verified) == {"paddle", "paddle_onednn"} and not kept.has_onnx


def test_the_self_check_catches_the_wrong_interpolation(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the swapped operator, oneDNN ignores align_corners: it is recorded as failed."""
    from paddleseg_ext.export import tracing

    monkeypatch.setattr(tracing, "traced_operators", contextlib.nullcontext)
    finished = export(trained, tmp_path, "--onnx", False)
    assert finished.status == 0
    assert "oneDNN on is recorded as failed" in finished.out
    assert "does not give the eager network's result" in finished.out
    verified = read_bundle(tmp_path).verified
    assert verified["paddle"].passed and not verified["paddle_onednn"].passed


def test_nothing_is_written_where_no_runtime_is_right(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paddleseg_ext.export import self_check

    def failing(name: str, *arguments: Any) -> Any:
        raise CheckFailed(f"{name}: wrong")

    monkeypatch.setattr(self_check, "_try", failing)
    finished = export(trained, tmp_path, "--onnx", False)
    assert finished.status == 1 and finished.error_lines == ["failed: paddle: wrong"]
    assert not list(tmp_path.iterdir())


def test_another_export_keeps_what_people_wrote_in_the_card(trained: Path, tmp_path: Path) -> None:
    assert export(trained, tmp_path, "--onnx", "False").status == 0
    card = tmp_path / "MODEL_CARD.md"
    card.write_text(card.read_text().replace("Licence of the weights:", "Licence: CC-BY-4.0"))
    record_calibration(read_bundle(tmp_path), Calibration(temperature=0.5))
    again = export(trained, tmp_path, "--onnx", "False", "--output_op", "argmax")
    assert again.status == 0 and "calibration is not kept; run calibrate again" in again.out
    assert "Licence: CC-BY-4.0" in card.read_text() and "nearest labels" in card.read_text()


def test_a_failed_export_leaves_the_earlier_bundle(trained: Path, tmp_path: Path) -> None:
    assert export(trained, tmp_path, "--onnx", False).status == 0
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    finished = export(trained, tmp_path, "--opts", "model.variant=coincheung")
    assert finished.status == 2
    assert "does not fit BiSeNetV1" in finished.error_lines[0]
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--input_shape", 1, 4, 64, 64], "1 (grey) or 3 (RGB) is expected, got 4"),
        (["--input_shape", 64], "'N 3 H W' with -1 for any is expected"),
        (["--opts", "model.num_classes=5"], "model.num_classes is 5"),
        (["--opts", "val_dataset.transforms=5"], "transforms: a list is expected"),
        (
            ["--opts", "val_dataset.transforms=[{type: RandomHorizontalFlip}]"],
            "'RandomHorizontalFlip' cannot be used for inference",
        ),
    ],
)
def test_wrong_use_is_one_clear_line(
    trained: Path, tmp_path: Path, flags: list, words: str
) -> None:
    finished = export(trained, tmp_path, *flags)
    assert finished.status == 2
    assert len(finished.error_lines) == 1
    assert words in finished.error_lines[0]


def test_a_fixed_shape_is_kept(trained: Path, tmp_path: Path) -> None:
    finished = export(trained, tmp_path, "--onnx", False, "--input_shape", 1, 3, 64, 128)
    assert finished.status == 0, finished.err
    assert "input 1x3x64x128" in finished.out
    deploy = yaml.safe_load((tmp_path / "deploy.yaml").read_text())
    assert deploy["Deploy"]["input_shape"] == [1, 3, 64, 128]


def test_the_example_of_the_deploy_page_runs(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert export(trained, tmp_path / "bundle", "--onnx", False).status == 0
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "street.png"), image)
    page = (PROJECT / "deploy/README.md").read_text()
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(example, names)
    assert names["result"].label_map.shape == (48, 80)
    assert "'road': " in capsys.readouterr().out


def test_a_graph_that_paddle2onnx_aborts_on_leaves_the_rest_of_the_bundle(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does so at an adaptive maximum of a free size; of a fixed one it writes a graph."""
    pytest.importorskip("paddle2onnx")
    import paddle
    from paddle import nn
    from paddle.nn import functional

    from paddleseg_ext.checkpoints.manifest import CheckpointManifest
    from paddleseg_ext.checkpoints.store import save_weights
    from paddleseg_ext.export import exporter as export_module

    class Pooled(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2D(3, 19, 3, padding=1)

        def forward(self, images):
            coarse = functional.adaptive_max_pool2d(self.conv(images), [1, 8])
            return [functional.interpolate(coarse, paddle.shape(images)[2:], mode="bilinear")]

    monkeypatch.setattr(export_module, "build_model", lambda config, num_classes: Pooled())
    weights = tmp_path / "pooled.pdparams"
    save_weights(Pooled(), weights, CheckpointManifest(iteration=0))
    failed = export(weights, tmp_path / "free", "--onnx", True, "--input_shape", -1, 3, -1, 64)
    assert failed.status == 1
    assert len(failed.error_lines) == 1
    for words in ("free/model.onnx is missing", "SIGABRT", "static input shape", "--input_shape"):
        assert words in failed.error_lines[0]
    written = yaml.safe_load((tmp_path / "free/deploy.yaml").read_text())
    assert "onnx" not in written["Manifest"].get("graphs", {})
    assert not (tmp_path / "free/model.onnx").exists()
    assert failed.out.count("self-check: Paddle Inference, oneDNN on") == 2

    fixed = export(weights, tmp_path / "fixed", "--onnx", True, "--input_shape", -1, 3, 32, 64)
    assert fixed.status == 0, fixed.err
    assert "self-check: ONNX Runtime" in fixed.out
