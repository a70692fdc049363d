"""One protocol for val and predict, which the manifests of checkpoint and bundle carry on."""

import json
from pathlib import Path

import pytest
import yaml

from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.scoring.protocols import EvaluationRule

from .conftest import Deployment, load_script

SLIDING = {"is_slide": True, "crop_size": [48, 32], "stride": [24, 16]}


def counts_of(verb: str, deployment: Deployment, config: Path, save_dir: Path, *flags: str) -> list:
    images = "--image_list" if verb == "val" else "--image_path"
    arguments = ["--config", str(config), "--model_path", str(deployment.weights)]
    arguments += [images, str(deployment.list), "--save_dir", str(save_dir), "--device", "cpu"]
    assert not load_script(verb).main([*arguments, *flags])
    result = json.loads((save_dir / f"{verb}.json").read_text())
    assert result["evaluation"]["protocol"].startswith(
        "whole" if "--protocol" in flags else "slide"
    )
    return result["evaluation"]["confusion_matrix"]


def test_predict_follows_test_config_as_val_does(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Equal counts of predict and val; a graph that cannot slide says so and runs whole images."""
    content = yaml.safe_load(deployment.config.read_text())
    config = tmp_path / "slide.yml"
    config.write_text(yaml.safe_dump(content | {"test_config": SLIDING, "absent_class": "zero"}))
    slid = counts_of("val", deployment, config, tmp_path / "val")
    assert counts_of("predict", deployment, config, tmp_path / "predict") == slid
    assert capsys.readouterr().out.count(f"(test_config of {config})") == 2
    whole = counts_of("predict", deployment, config, tmp_path / "w", "--protocol", "whole")
    assert whole != slid

    bundle = deployment.export(config, onnx=False)
    rule = EvaluationRule("slide", None, False, (48, 32), (24, 16), "zero")
    manifest = read_bundle(bundle).manifest
    assert manifest is not None and manifest.evaluation == rule
    capsys.readouterr()
    arguments = ["--config", str(bundle), "--image_path", str(deployment.list), "--device", "cpu"]
    assert load_script("infer").main([*arguments, "--save_dir", str(tmp_path / "infer")]) == 0
    assert "this network was evaluated by slide" in capsys.readouterr().out
    result = json.loads((tmp_path / "infer" / "inference.json").read_text())
    assert result["evaluation"]["confusion_matrix"] == whole
    assert result["evaluation"]["absent"] == "zero"
