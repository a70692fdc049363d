"""Confidence and unknown pixels, as a user asks for them, in every runtime."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import call
from PIL import Image
from scipy.special import softmax

from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.engines.table import DEPLOYED
from paddleseg_ext.inference.predictor import Predictor

from .conftest import Deployment

# Those whose graph this bundle has: mnn and ncnn read files of their own.
RUNTIMES = [name for name in DEPLOYED if name not in ("mnn", "ncnn")]


def pictures(folder: Path) -> dict[str, np.ndarray]:
    return {
        str(path.relative_to(folder)): np.asarray(Image.open(path))
        for path in sorted(folder.rglob("*.png"))
    }


@pytest.fixture(scope="module")
def resizing_bundle(deployment: Deployment) -> Path:
    """Label maps come back from another size; with an ONNX graph."""
    pytest.importorskip("paddle2onnx")
    return deployment.export(deployment.resizing_config, onnx=True)


def test_confidence_in_every_runtime(resizing_bundle: Path, deployment: Deployment) -> None:
    images = sorted(deployment.list.parent.rglob("frame.png"))
    for runtime in ("static", *RUNTIMES, "eager"):
        source = deployment.weights if runtime == "eager" else resizing_bundle
        config = deployment.resizing_config if runtime == "eager" else None
        with Predictor.open(source, runtime, config=config, threads=1) as predictor:
            asked = predictor.with_outputs({"confidence"})
            careful = predictor.with_outputs(unknown_below=0.5)
            for image in images:
                plain, found, marked = predictor(image), asked(image), careful(image)
                assert found.label_map.tobytes() == plain.label_map.tobytes(), runtime
                prepared = predictor.prepare(image)
                scores = predictor.run(prepared.tensor[None], [prepared.geometry]).outputs[0]
                full = predictor.postprocess.full_logits(scores, prepared.geometry)
                expected = softmax(full.astype(np.float64), axis=0).max(axis=0)
                np.testing.assert_allclose(found.confidence, expected, atol=1e-5)
                unknown = marked.label_map == marked.class_table.unknown
                np.testing.assert_array_equal(unknown, found.confidence < 0.5)
                kept = plain.label_map[~unknown]
                np.testing.assert_array_equal(marked.label_map[~unknown], kept)


def test_the_flags_of_infer_and_predict(
    resizing_bundle: Path, deployment: Deployment, tmp_path: Path
) -> None:
    common = ["--image_path", deployment.list, "--device", "cpu", "--save_dir"]
    infer = ["infer.py", "--config", resizing_bundle, *common]
    predict = ["predict.py", "--config", deployment.resizing_config]
    predict += ["--model_path", deployment.weights, *common]
    flags = ["--save_confidence", "--unknown_below", "0.5", "--legend"]
    assert call(*infer, tmp_path / "plain").status == 0
    for name, command in (("infer", infer), ("predict", predict)):
        done = call(*command, tmp_path / name, *flags)
        assert done.status == 0, done.err
        assert "of the labelled pixels are unknown and not scored" in done.out
        (record,) = (tmp_path / name).glob("*.json")
        result = json.loads(record.read_text())
        assert result["source"]["unknown_below"] == 0.5
        assert result["evaluation"]["unknown_pixels"] > 0
        assert call(*command, tmp_path / f"{name}_confidence", "--save_confidence").status == 0
    plain = pictures(tmp_path / "plain/label_maps")
    for name in ("infer", "predict"):
        confidence = pictures(tmp_path / name / "confidence")
        assert confidence.keys() == plain.keys()
        both = pictures(tmp_path / f"{name}_confidence")
        for key, labels in plain.items():
            np.testing.assert_array_equal(both[f"label_maps/{key}"], labels)
            np.testing.assert_array_equal(both[f"confidence/{key}"], confidence[key])
            assert confidence[key].shape == labels.shape
            marked = pictures(tmp_path / name / "label_maps")[key] == 254
            sure = np.abs(confidence[key].astype(int) - 127.5) > 1
            np.testing.assert_array_equal(marked[sure], confidence[key][sure] < 127.5)


def test_a_bundle_that_ends_in_argmax_is_refused_in_one_line(
    deployment: Deployment, tmp_path: Path
) -> None:
    bundle = deployment.export(deployment.config, "argmax")
    assert read_bundle(bundle).output_op == "argmax"
    for flags in (["--save_confidence"], ["--unknown_below", "0.3"]):
        done = call(
            *("infer.py", "--config", bundle, "--image_path", deployment.list),
            *("--device", "cpu", "--save_dir", tmp_path / "out", *flags),
        )
        assert done.status == 2 and not (tmp_path / "out").exists()
        (line,) = done.err.strip().splitlines()
        assert "--output_op none" in line and "deploy.yaml" in line
    for wrong in ("0", "1", "nan", "-1"):
        done = call(
            *("infer.py", "--config", bundle, "--image_path", deployment.list),
            *("--unknown_below", wrong),
        )
        assert done.status == 2
