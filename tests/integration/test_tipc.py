"""The TIPC scripts as a user calls them: wrong use stops at once, a chain passes and fails."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import yaml

from paddleseg_ext.tipc.chains import EDGE_STAGES

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = PROJECT / "test_tipc/configs/bisenetv1/train_infer_python.txt"
MODE = "lite_train_lite_infer"
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(PROJECT),
    "OMP_NUM_THREADS": "1",
}

YML = f"""
_base_: {PROJECT}/test_tipc/configs/bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml
train_dataset:
  transforms:
    - type: RandomPaddingCrop
      crop_size: [96, 64]
    - type: Normalize
"""


def script(name: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(PROJECT / "test_tipc" / name), *arguments],
        env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["prepare.sh", "test_train_inference_python.sh"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "usage: bash test_tipc/"),
        ((str(CONFIG), "lite_train"), "unknown mode 'lite_train'"),
        (("no.txt", MODE), "'no.txt' does not exist"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(name, arguments, message):
    done = script(name, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_python_without_the_project_is_named(tmp_path):
    empty = tmp_path / "python"
    empty.write_text("#!/bin/sh\nexit 1\n")
    empty.chmod(0o755)
    command = ["bash", str(PROJECT / "test_tipc/prepare.sh"), str(CONFIG), MODE]
    environment = {"PATH": f"{tmp_path}{os.pathsep}/usr/bin:/bin", "VIRTUAL_ENV": "other"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not this project's" in done.stderr


def test_an_unknown_key_stops_the_suite_before_anything_runs(tmp_path):
    path = tmp_path / "train_infer_python.txt"
    path.write_text(CONFIG.read_text().replace("--cpu_threads:", "--cpu_thread:"))
    done = script("test_train_inference_python.sh", str(path), MODE)
    assert done.returncode == 2
    assert "unknown key '--cpu_thread'" in done.stderr
    assert "did you mean '--cpu_threads'" in done.stderr
    assert done.stdout == ""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder to run a chain in: a small Cityscapes, a small yml, the project's own txt."""
    folder = tmp_path_factory.mktemp("tipc")
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(2):
            coarse = generator.integers(0, 256, (8, 12, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (110, 75), interpolation=cv2.INTER_CUBIC)
            label = (image[:, :, 0] // 14).astype(np.uint8)
            for kind, suffix, pixels in (
                ("leftImg8bit", "leftImg8bit", image),
                ("gtFine", "gtFine_labelTrainIds", label),
            ):
                path = folder / "city" / kind / split / "town" / f"town_{number}_{suffix}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels)
    (folder / "test_tipc/configs").mkdir(parents=True)  # as in a checkout
    (folder / "net.yml").write_text(YML)
    text = CONFIG.read_text()
    for name in ("bisenetv1_cityscapes_1024x512_160k.yml", "bisenetv1_lite.yml"):
        text = text.replace(f"test_tipc/configs/bisenetv1/{name}", "net.yml")
    for name in ("train.py", "val.py", "export_model.py", "infer.py"):
        text = re.sub(rf"(?<=[:=]){name}(?=\s)", str(PROJECT / name), text)
    # Two iterations of two images, which is all there are.
    for number in (30, 4):
        text = text.replace(f":lite_train_lite_infer={number}|", ":lite_train_lite_infer=2|")
    (folder / "net.txt").write_text(text)
    return folder


def tipc(
    workspace: Path, action: str, mode: str = MODE, file: str = "net.txt"
) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "paddleseg_ext", "tipc", action, file, mode]
    environment = {**ENVIRONMENT, "CITYSCAPES_ROOT": "city"}
    return subprocess.run(
        command, cwd=workspace, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def trained(workspace):
    """The folder after the train-infer chain, which passed."""
    assert tipc(workspace, "prepare").returncode == 0
    done = tipc(workspace, "run")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return workspace


@pytest.mark.slow
@pytest.mark.tipc
def test_the_edge_chain_runs_what_is_installed_and_names_the_rest(trained):
    text = CONFIG.with_name("inference_edge.txt").read_text()
    text = re.sub(r"(?m)^--config:.*", "--config:edge.yml", text)
    text = text.replace(":export_model.py", f":{PROJECT / 'export_model.py'}")
    text = text.replace("--input_shape 256 512", "--input_shape 64 128")
    (trained / "edge.yml").write_text(
        "_base_: net.yml\nval_dataset:\n  transforms:\n"
        "  - {type: Resize, target_size: [128, 64]}\n  - type: Normalize\n"
    )
    (trained / "edge.txt").write_text(text)
    reasons = {stage: why() for stage, why in EDGE_STAGES.items()}
    able = {stage for stage, reason in reasons.items() if not reason}
    if not able:
        pytest.skip("; ".join(reasons.values()))
    done = tipc(trained, "run", "whole_infer", "edge.txt")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    logs = trained / "test_tipc/output/bisenetv1/edge"
    results = json.loads((logs / "results.json").read_text())
    runs = [run for run in results["runs"] if run["stage"] != "train"]  # of images as they are
    compared = {run["stage"]: run["grade"] for run in runs}
    assert set(compared) >= {"static", *able}
    assert set(compared.values()) <= {"identical", "near-tie"}
    assert len(results["negative_controls"]) >= 5
    assert all(control["caught"] is not False for control in results["negative_controls"])
    not_run = [line for line in (logs / "results_python.log").read_text().splitlines()
               if line.startswith("Not run")]  # fmt: skip
    assert len(not_run) == len(reasons) - len(able)
    assert (logs / "page/index.html").is_file() is ("web" in able)


@pytest.mark.slow
@pytest.mark.tipc
def test_a_whole_chain_passes_and_a_tampered_bundle_fails_by_its_counts(trained):
    workspace = trained
    logs = workspace / "test_tipc/output/bisenetv1" / MODE
    lines = (logs / "results_python.log").read_text().splitlines()
    assert len(lines) == 12
    assert all(line.startswith("Run successfully with command - bisenetv1 - ") for line in lines)
    results = json.loads((logs / "results.json").read_text())
    assert [run["stage"] for run in results["runs"]] == ["train", *["command"] * 9, "static"]
    assert all(run["grade"] in ("identical", "near-tie") for run in results["runs"])
    suites = ElementTree.parse(logs / "junit.xml").getroot()
    names = [suite.attrib["name"] for suite in suites]
    assert names == ["commands", "activity", "parity", "negative controls"]
    assert {suite.attrib["failures"] for suite in suites} == {"0"}

    folder = workspace / "test_tipc/output/bisenetv1/norm_gpus_0_autocast_null"
    deploy = yaml.safe_load((folder / "deploy.yaml").read_text())
    deploy["Deploy"]["transforms"] = []
    (folder / "deploy.yaml").write_text(yaml.safe_dump(deploy))
    # The bundle as it is, judged by the suite.
    done = tipc(workspace, "run", "whole_infer")
    assert done.returncode == 1
    assert "runs disagree" in done.stderr + done.stdout
    logs = workspace / "test_tipc/output/bisenetv1/whole_infer"
    graded = {run["name"]: run for run in json.loads((logs / "results.json").read_text())["runs"]}
    assert graded["static"]["grade"] == "failed"
    assert "the input tensor differs" in graded["static"]["summary"]
    assert graded["static"]["count_differences"]
    name = "infer_cpu_usemkldnn_False_threads_1_precision_fp32_batchsize_1"
    assert graded[name]["grade"] == "failed"
    assert graded["eval"]["grade"] == "identical"
