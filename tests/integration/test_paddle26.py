"""Both kinds of graph: what Paddle 2.6 exports passes there and here, and its wrong pass is caught.

The test makes an environment of its own from requirements/paddle26.txt (200 MB to fetch).
"""

import json
import subprocess
import venv
from pathlib import Path

import pytest
from commands import PROJECT, call
from small_network import CONFIG, write_checkpoint, write_data

MODELS = {
    "ours": "{type: BiSeNetV1, backbone: {type: ResNet18}}",
    "paddlesegs": "{type: paddleseg.BiseNetV1, backbone: {type: paddleseg.ResNet18_vd}}",
}
CONTROLS = {
    "one weight changed",
    "stale checkpoint",
    "Normalize dropped",
    "red and blue swapped",
    "label table shifted by one",
}
WRONG_PASS = "wrong oneDNN pass or kernel"


@pytest.fixture(scope="module")
def paddle26(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with Paddle 2.6."""
    folder = tmp_path_factory.mktemp("paddle26")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["-r", PROJECT / "requirements" / "paddle26.txt"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        pytest.skip(f"Paddle 2.6 cannot be installed: {done.stderr[-300:]}")
    return python


def run_in(python: Path, folder: Path, *arguments: object) -> None:
    command = [str(python), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def write_project(folder: Path, model: str) -> None:
    """Pictures, yml and a checkpoint, made by the Paddle that runs the tests."""
    from paddleseg_ext.config import load_config

    write_data(folder / "data")
    dataset = CONFIG[CONFIG.index("val_dataset:") :]
    (folder / "net.yml").write_text(f"model: {model}\n{dataset}")
    write_checkpoint(load_config(folder / "net.yml"), folder / "model.pdparams")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_bundle_of_paddle_2_6_passes_on_both_versions(
    name: str, paddle26: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, MODELS[name])
    common = ["--config", "net.yml", "--model_path", "model.pdparams"]
    run_in(paddle26, tmp_path, PROJECT / "export_model.py", *common, "--save_dir", "bundle")
    assert (tmp_path / "bundle" / "model.pdmodel").is_file()
    parity = ["parity", *common, "--bundle", "bundle/deploy.yaml", "--image_list", "data/val.list"]
    parity += ["--cpu_threads", "1", "--batch_size", "2", "--negative_controls"]
    code = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); import zlib, runpy; "
    code += "runpy.run_module('paddleseg_ext', run_name='__main__', alter_sys=True)"
    run_in(paddle26, tmp_path, "-c", code, *parity, "--save_dir", "on26")
    here = call("paddleseg_ext", *parity, "--save_dir", "on32")
    assert here.status == 0, here.err
    for version, folder in (("2.6", "on26"), ("3.", "on32")):
        results = json.loads((tmp_path / folder / "results.json").read_text())
        assert results["grade"] in ("identical", "near-tie")
        stages = {run["stage"]: run for run in results["runs"]}
        assert stages["paddle_onednn"]["backend"]["paddle"].startswith(version)
        caught = {control["name"]: control["caught"] for control in results["negative_controls"]}
        assert all(caught[control] for control in CONTROLS)
        # Only PaddleSeg's attention has the convolution without bias before ReLU and sigmoid.
        assert caught[WRONG_PASS] is (True if name == "paddlesegs" else None)
