"""A temperature for a bundle: written with its statement, and label maps that stay."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import call
from PIL import Image
from scipy.special import softmax

from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.predictor import Predictor

from .conftest import Deployment


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle.parent, tmp_path / "bundle") / "deploy.yaml"


def test_a_network_that_is_too_sure(copied: Path, deployment: Deployment, tmp_path: Path) -> None:
    """An untrained network on labels of chance: every class deserves the same probability."""
    image = deployment.list.parent / "city0/frame.png"
    with Predictor.open(copied, "paddle", outputs={"confidence"}) as predictor:
        before = predictor(image)
    calibrate = ["paddleseg_ext", "calibrate", "--config", copied, "--data", deployment.list]
    done = call(*calibrate, "--device", "cpu", "--save_dir", tmp_path / "out")
    assert done.status == 0, done.err
    record = read_bundle(copied).manifest.calibration
    assert record is not None and record.temperature > 1
    assert (record.images, record.judged_images) == (1, 2)
    assert record.ece_after < record.ece_before and record.nll_after < record.nll_before
    result = json.loads((tmp_path / "out/calibration.json").read_text())
    assert result["record"] == record.to_dict()
    assert result["after"]["risks"].keys() == result["before"]["risks"].keys()
    with Image.open(tmp_path / "out/calibration.png") as picture:
        assert picture.format == "PNG"
    with Predictor.open(copied, "paddle", outputs={"confidence"}) as predictor:
        after = predictor(image)
        prepared = predictor.prepare(image)
        logits = predictor.run(prepared.tensor[None], [prepared.geometry]).outputs[0]
    assert after.label_map.tobytes() == before.label_map.tobytes()
    expected = softmax(logits.astype(np.float64) / record.temperature, axis=0).max(axis=0)
    np.testing.assert_allclose(after.confidence, expected, atol=1e-5)
    assert after.confidence.mean() < before.confidence.mean()


def test_a_temperature_for_each_predicted_class(
    copied: Path, deployment: Deployment, tmp_path: Path
) -> None:
    """Written and read back, stated in the card; label maps stay, intervals enclose their value."""
    image = deployment.list.parent / "city0/frame.png"
    with Predictor.open(copied, "paddle") as predictor:
        before = predictor(image)
    calibrate = ["paddleseg_ext", "calibrate", "--config", copied, "--data", deployment.list]
    flags = ["--device", "cpu", "--save_dir", tmp_path / "out", "--per_class", "--resamples", "50"]
    done = call(*calibrate, *flags)
    assert done.status == 0, done.err
    manifest = read_bundle(copied).manifest
    record = manifest.calibration
    assert len(record.class_temperatures) == manifest.class_table.num_classes
    assert record.describe() in (copied.parent / "MODEL_CARD.md").read_text()
    result = json.loads((tmp_path / "out/calibration.json").read_text())
    assert result["one_temperature"]["nll"] < result["before"]["nll"]
    for name, of_score in result["intervals"].items():
        for key in ("before", "after"):
            interval = of_score[key]
            assert interval["low"] <= interval["value"] <= interval["high"]
            assert interval["value"] == pytest.approx(result[key][name], rel=1e-9)
    with Predictor.open(copied, "paddle", outputs={"confidence"}) as predictor:
        after = predictor(image)
        prepared = predictor.prepare(image)
        logits = predictor.run(prepared.tensor[None], [prepared.geometry]).outputs[0]
    assert after.label_map.tobytes() == before.label_map.tobytes()
    divisor = np.array(record.class_temperatures)[after.label_map]
    expected = softmax(logits.astype(np.float64) / divisor, axis=0).max(axis=0)
    np.testing.assert_allclose(after.confidence, expected, atol=1e-5)


def test_what_cannot_be_calibrated(copied: Path, deployment: Deployment, tmp_path: Path) -> None:
    content = copied.read_text()
    image = deployment.list.parent / "city0/frame.png"
    argmax = deployment.export(deployment.config, "argmax")
    ignored = tmp_path / "ignored.list"
    Image.fromarray(np.full_like(np.asarray(Image.open(image))[..., 0], 255)).save(
        tmp_path / "ignored.png"
    )
    ignored.write_text(f"{image} ignored.png\n" * 2)
    for config, data, message in (
        (copied, image, f"--data: {image}: two or more lines 'image label' are expected"),
        (copied, ignored, f"the first is {tmp_path / 'ignored.png'}; list other images"),
        (argmax, deployment.list, "export it again with --output_op none"),
    ):
        done = call(
            *("paddleseg_ext", "calibrate", "--config", config, "--data", data),
            *("--device", "cpu", "--save_dir", tmp_path / "out"),
        )
        assert done.status == 2 and message in done.err, done.err
        assert len(done.err.strip().splitlines()) == 1
    assert copied.read_text() == content and not list((tmp_path / "out").glob("*"))
    lists = [part for name in ("data", "train_data", "unknown_data")
             for part in (f"--{name}", deployment.list)]  # fmt: skip
    flags = ["--device", "cpu", "--save_dir", tmp_path / "out"]
    done = call("paddleseg_ext", "calibrate", "--config", copied, *lists, *flags)
    assert done.status == 2 and "unknown pixels are expected" in done.err
    assert copied.read_text() == content
    edited = yaml.safe_load(content)
    for wrong in ({"means": [float("nan")] * 5, "deviations": [1.0] * 5},
                  {"means": [1.0] * 4, "deviations": [1.0] * 5},
                  {"means": [1.0] * 5, "deviations": [0.0] * 5}):  # fmt: skip
        edited["Manifest"]["postprocess"]["class_statistics"] = wrong
        copied.write_text(yaml.safe_dump(edited))
        done = call("infer.py", "--config", copied, "--image_path", image, "--device", "cpu")
        assert done.status == 2 and "postprocess.class_statistics" in done.err
    del edited["Manifest"]["postprocess"]["class_statistics"]
    for wrong in (
        {"temperature": 0},
        {"temperature": float("nan")},
        {"heat": 1},
        {"class_temperatures": [1.0]},
        {"class_temperatures": [1.0, 0] * 9},
    ):
        edited["Manifest"]["postprocess"]["calibration"] = wrong
        copied.write_text(yaml.safe_dump(edited))
        done = call("infer.py", "--config", copied, "--image_path", image, "--device", "cpu")
        assert done.status == 2 and "postprocess.calibration" in done.err


def test_statistics_and_unknown_objects(
    copied: Path, deployment: Deployment, tmp_path: Path
) -> None:
    """Familiarity from the bundle's own statistics; figures of three scores; label maps stay."""
    image = deployment.list.parent / "city0/frame.png"
    infer = ["infer.py", "--config", copied, "--image_path", image, "--device", "cpu"]
    infer += ["--save_dir", tmp_path / "infer", "--save_familiarity"]
    done = call(*infer)
    assert done.status == 2 and "calibrate --train_data" in done.err, done.err
    unknown = tmp_path / "unknown.list"
    lines = []
    for number, line in enumerate(deployment.list.read_text().splitlines()):
        picture, label = (deployment.list.parent / name for name in line.split())
        values = np.asarray(Image.open(label)).copy()
        values[10:30, 10:40] = 254
        Image.fromarray(values).save(tmp_path / f"{number}.png")
        lines.append(f"{picture} {tmp_path / f'{number}.png'}")
    unknown.write_text("\n".join(lines))
    done = call(
        *("paddleseg_ext", "calibrate", "--config", copied, "--data", deployment.list),
        *("--train_data", deployment.list, "--unknown_data", unknown, "--resamples", "20"),
        *("--device", "cpu", "--save_dir", tmp_path / "out"),
    )
    assert done.status == 0, done.err
    statistics = read_bundle(copied).class_statistics
    result = json.loads((tmp_path / "out/calibration.json").read_text())
    assert statistics is not None and result["class_statistics"] == statistics.to_dict()
    assert result["unknown"]["unknown_pixels"] == 3 * 20 * 30
    for name in ("largest_softmax", "largest_logit", "familiarity"):
        assert 0 <= result["unknown"][name]["auroc"]["value"] <= 1
    assert call(*infer).status == 0
    with Predictor.open(copied, "paddle", outputs={"confidence", "familiarity"}) as predictor:
        found = predictor(image)
        prepared = predictor.prepare(image)
        logits = predictor.run(prepared.tensor[None], [prepared.geometry]).outputs[0]
    best = logits.argmax(axis=0)
    np.testing.assert_array_equal(found.label_map, best)
    means, deviations = np.array(statistics.means), np.array(statistics.deviations)
    expected = (logits.max(axis=0) - means[best]) / deviations[best]
    np.testing.assert_allclose(found.familiarity, expected, rtol=1e-4, atol=1e-4)
    grey = np.asarray(Image.open(next((tmp_path / "infer/familiarity").glob("*.png"))))
    np.testing.assert_allclose(grey, np.clip(128 + 16 * expected, 0, 255), atol=0.6)
