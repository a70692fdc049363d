"""One bundle in every runtime: an ONNX graph that takes bytes, and Paddle's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from commands import call

from paddleseg_ext.common.machine import has_bf16
from paddleseg_ext.export.mobile_graphs import pnnx_program
from paddleseg_ext.export.self_check import TOLERANCES
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.choice import ORDER
from paddleseg_ext.inference.engines.table import DEPLOYED, open_engine
from paddleseg_ext.inference.runtime import RuntimeSpec

# Of a graph of any size; ncnn's has one.
HERE = tuple(name for name in DEPLOYED if name != "ncnn")


def test_a_bundle_with_bytes_and_onnx_is_one_network(bundle: Path, onnx_bundle: Path) -> None:
    """Against the bundle that takes normalised floats, at a size that is no multiple of any."""
    plain, taking_bytes = read_bundle(bundle), read_bundle(onnx_bundle)
    assert taking_bytes.manifest is not None
    assert taking_bytes.manifest.graphs["onnx"]["opset"] == 17
    assert taking_bytes.input_dtype == "uint8"
    assert [spec["type"] for spec in taking_bytes.transforms] == []
    image = np.random.default_rng(0).integers(0, 256, (75, 109, 3), dtype=np.uint8)
    floats, _ = plain.preprocess()(image)
    pixels, _ = taking_bytes.preprocess()(image)
    assert pixels.dtype == np.uint8
    expected = open_engine(plain, RuntimeSpec("paddle", threads=1)).run(floats[None])
    for name in HERE:
        spec = RuntimeSpec(name, threads=1)
        engine = open_engine(taking_bytes, spec)
        got = engine.run(pixels[None])
        tolerance = TOLERANCES.get(name, 1e-4) * np.abs(expected).max()
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)
        assert spec.shortfall(engine.describe()) == ""


def test_every_file_is_hashed(onnx_bundle: Path) -> None:
    manifest = read_bundle(onnx_bundle).manifest
    assert manifest is not None
    assert set(manifest.files) == {"model.json", "model.pdiparams", "model.onnx", "model.mnn"}


def test_a_bundle_of_one_size_runs_in_ncnn(deployment: Any) -> None:
    """In float32 and bf16, checked by the export; its files are hashed."""
    pytest.importorskip("ncnn")
    pytest.importorskip("paddle2onnx")
    if pnnx_program() is None:
        pytest.skip("pnnx is not installed: requirements/pnnx.txt")
    written = deployment.export(deployment.config, onnx=True, ncnn=True, input_shape=(64, 96))
    bundle = read_bundle(written)
    assert bundle.verified["ncnn"].passed
    assert bundle.manifest is not None
    assert {"model.ncnn.param", "model.ncnn.bin"} <= set(bundle.manifest.files)
    batch = np.random.default_rng(0).standard_normal((2, 3, 64, 96)).astype(np.float32)
    expected = open_engine(bundle, RuntimeSpec("paddle", threads=1)).run(batch)
    for precision, tolerance in (("fp32", 1e-4), ("bf16", 0.05)):
        if precision == "bf16" and not has_bf16():
            continue
        got = open_engine(bundle, RuntimeSpec("ncnn", precision, threads=1)).run(batch)
        error = np.abs(got - expected).max() / np.abs(expected).max()
        assert error < tolerance, precision


def edit_yaml(path: Path, change: Callable[[dict], object]) -> None:
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))


def test_the_self_check_of_the_export_is_a_verdict(
    onnx_bundle: Path, deployment: Any, tmp_path: Path
) -> None:
    verified = read_bundle(onnx_bundle).verified
    assert {record.command for record in verified.values()} == {"export"}
    done = call(
        *("infer.py", "--config", onnx_bundle, "--image_path", deployment.list),
        *("--device", "cpu", "--save_dir", tmp_path),
    )
    assert done.status == 0 and " by export on 4 images" in done.out


def test_tuned_and_then_taken_by_itself(onnx_bundle: Path, deployment: Any, tmp_path: Path) -> None:
    """`tune` records what is right and how fast; `infer.py` takes the fastest of these."""
    folder = shutil.copytree(onnx_bundle.parent, tmp_path / "bundle")
    infer = ["infer.py", "--config", folder / "deploy.yaml", "--image_path", deployment.list]
    edit_yaml(folder / "deploy.yaml", lambda content: content["Manifest"].pop("verified"))
    by_hand = call(*infer, "--device", "cpu", "--save_dir", tmp_path / "paddle")
    assert by_hand.status == 0 and "backend paddle: no other is verified" in by_hand.out

    tuned = call("paddleseg_ext", "tune", "--config", folder, "--data", deployment.list)
    assert tuned.status == 0, tuned.err
    verified = read_bundle(folder).verified
    in_bf16 = {"openvino_bf16", "paddle_onednn_bf16"} if has_bf16() else set()
    assert set(verified) == {*HERE, *in_bf16}
    assert all(verified[name].passed for name in HERE)
    assert verified["paddle"].ratio == 1.0 and verified["paddle"].num_images == 3
    assert {record.command for record in verified.values()} == {"tune"}
    card = (folder / "MODEL_CARD.md").read_text()
    assert card.count(" | tune ") == len(verified) and " | export " not in card

    taken = call(*infer, "--device", "cpu", "--save_dir", tmp_path / "auto")
    best = max(verified[name].ratio or 0.0 for name in HERE)
    fast = [name for name in ORDER if name in HERE and (verified[name].ratio or 0.0) >= 0.9 * best]
    # Where all images have one size, the rounds decided.
    first = [*(name for name in HERE if verified[name].preferred), *fast][0]
    assert taken.status == 0 and f"backend {first}: verified" in taken.out
    told = json.loads((tmp_path / "auto" / "inference.json").read_text())["backend"]
    assert told["name"] == first or first.startswith("paddle")
    assert "[INFO]\ttake " in tuned.out
    different = 0
    for path in (tmp_path / "paddle" / "label_maps").rglob("*.png"):
        other = tmp_path / "auto" / path.relative_to(tmp_path / "paddle")
        different += np.count_nonzero(cv2.imread(str(path)) != cv2.imread(str(other)))
    assert different <= 10  # near ties


def test_a_backend_with_another_answer_fails_and_is_not_taken(
    onnx_bundle: Path, deployment: Any, tmp_path: Path
) -> None:
    """The negative control: an ONNX graph whose first weights were changed."""
    import onnx

    folder = shutil.copytree(onnx_bundle.parent, tmp_path / "bundle")
    file = folder / "model.onnx"
    constants = (
        node.attribute[0].t for node in onnx.load(file).graph.node if node.op_type == "Constant"
    )
    weights = next(tensor.raw_data for tensor in constants if len(tensor.dims) == 4)
    changed = (-np.frombuffer(weights, np.float32)).tobytes()
    file.write_bytes(file.read_bytes().replace(weights, changed))
    tuned = call(
        "paddleseg_ext", "tune", "--config", folder, "--data", deployment.list, "--num_images", 1
    )
    assert tuned.status == 1
    assert "another answer than that of paddle: onnxruntime, openvino" in tuned.err
    verified = read_bundle(folder).verified
    assert verified["onnxruntime"].grade == "failed" and verified["paddle_onednn"].passed


def test_int8_is_judged_and_its_verdict_kept(
    onnx_bundle: Path, deployment: Any, tmp_path: Path
) -> None:
    """A budget that INT8 keeps, one that it cannot, and `infer.py` on what was written."""
    written = tmp_path / "int8"
    quantize = [
        "paddleseg_ext", "quantize", "--config", onnx_bundle, "--data", deployment.list,
        "--sensitivity", "False", "--save_dir", written, "--backend", "onnxruntime", "openvino",
    ]  # fmt: skip
    written.mkdir()
    (written / "thesis.tex").write_text("kept")
    refused = call(*quantize)
    assert refused.status == 2 and "thesis.tex" in refused.err and refused.out == ""
    assert (written / "thesis.tex").read_text() == "kept"
    (written / "thesis.tex").unlink()

    budgets = tmp_path / "wide.yml"
    budgets.write_text("int8: {different_pixels: 1.0, mean_iou: 1.0, class_iou: 1.0}\n")
    done = call(*quantize, "--budgets", budgets)
    assert done.status == 0, done.err
    manifest = read_bundle(written).manifest
    assert manifest is not None and {"model_int8.onnx", "model.onnx"} <= set(manifest.files)
    assert manifest.graphs["onnx_int8"]["calibration_images"] == 3
    for stage in ("onnxruntime_int8", "openvino_int8"):
        record = manifest.verified[stage]
        assert record.passed and (record.int8_kernels or 0) > 20
        assert 0 <= (record.mean_iou_after or 0.0) <= 1 and record.command == "quantize"
    card = (written / "MODEL_CARD.md").read_text()
    assert (
        "| openvino_int8 | within-budget, mIoU " in card and "MODEL_CARD.md" not in manifest.files
    )
    results = tmp_path / "infer"
    inferred = call(
        "infer.py", "--config", written, "--image_path", deployment.list, "--device", "cpu",
        "--precision", "int8", "--save_dir", results,
    )  # fmt: skip
    assert inferred.status == 0 and "verified (within-budget" in inferred.out, inferred.err
    assert json.loads((results / "inference.json").read_text())["backend"]["precision"] == "int8"

    budgets.write_text("int8: {different_pixels: 0.0, mean_iou: 0.0, class_iou: 0.0}\n")
    done = call(*quantize, "--budgets", budgets)
    assert done.status == 1 and "beyond the INT8 budget" in done.err
    assert not read_bundle(written).verified["openvino_int8"].passed


@pytest.mark.parametrize("engine", ["openvino", "mnn"])
def test_several_images_have_a_stream_for_each_thread_of_mnn(
    deployment: Any, onnx_bundle: Path, tmp_path: Path, engine: str
) -> None:
    """By default, and with the label maps of one stream; a benchmark has one.

    MNN rounds otherwise with another number of threads for a run.
    """
    common = (
        "paddleseg_ext", "infer", "--config", onnx_bundle, "--image_path", deployment.list,
        "--backend", engine, "--device", "cpu", "--cpu_threads", 2,
    )  # fmt: skip
    several = 2 if engine == "mnn" else 1
    runs = {
        "default": ((), several),
        "two": (("--streams", 2), 2),
        "timed": (("--benchmark", "True"), 1),
    }
    maps = {}
    for name, (flags, streams) in runs.items():
        result = call(*common, *flags, "--save_dir", tmp_path / name)
        assert result.status == 0, result.err
        written = json.loads((tmp_path / name / "inference.json").read_text())
        assert written["backend"]["streams"] == streams, name
        files = sorted((tmp_path / name / "label_maps").rglob("*.png"))
        maps[name] = np.concatenate([cv2.imread(str(file), -1).ravel() for file in files])
    for name in ("default", "two"):
        same = np.mean(maps[name] == maps["timed"])
        assert same > 0.998 if engine == "mnn" else same == 1
