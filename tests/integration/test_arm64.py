"""MNN and ncnn on arm64: the whole of `infer`, emulated, gives each network's label maps."""

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from commands import PROJECT, call

from benchmarks import parity_networks
from paddleseg_ext.export.mobile_graphs import pnnx_program

from .conftest import Deployment

ARM64_PYTHON = os.environ.get("ARM64_PYTHON", "")
# With random weights `export` refuses the ncnn graph of BiSeNetV2 and both of DABNet
# EffB1, and STDC2-Seg drifts by more than a near tie.
ENGINES = {
    "BiSeNetV1": ("mnn", "ncnn"),
    "BiSeNetV2": ("mnn",),
    "STDC1-Seg": ("mnn", "ncnn"),
    "DABNet R18": ("mnn", "ncnn"),
}
SIZE_WH = (128, 64)


@pytest.mark.slow
@pytest.mark.skipif(not ARM64_PYTHON, reason="ARM64_PYTHON is not set: see tests/arm64.sh")
@pytest.mark.skipif(
    platform.machine() != "aarch64" and shutil.which("qemu-aarch64") is None,
    reason="qemu-aarch64 is not installed: apt-get install qemu-user",
)
@pytest.mark.parametrize("name", ENGINES)
def test_one_image_is_segmented_as_by_the_network(
    name: str, deployment: Deployment, tmp_path: Path
) -> None:
    for package in ("MNN", "ncnn", "paddle2onnx"):
        pytest.importorskip(package)
    if pnnx_program() is None:
        pytest.skip("pnnx is not installed: requirements/pnnx.txt")
    one = tmp_path / "one.list"
    first = Path(deployment.list).read_text().splitlines()[0]
    one.write_text(" ".join(str(deployment.list.parent / word) for word in first.split()) + "\n")
    config, weights, bundle = exported(name, deployment.list, tmp_path)
    results = []
    for engine in ENGINES[name]:
        command = [
            ARM64_PYTHON, "-m", "paddleseg_ext", "infer", "--config", str(bundle),
            "--device", "cpu", "--image_path", str(one), "--backend", engine,
            "--save_dir", str(tmp_path / engine),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=PROJECT, check=False, capture_output=True, text=True, timeout=1800
        )
        assert done.returncode == 0, done.stderr
        results.append(f"arm64 {engine}={tmp_path / engine}")
    judged = call(
        "paddleseg_ext", "parity", "--bundle", bundle, "--image_list", one, "--config",
        config, "--model_path", weights, "--stages", *ENGINES[name], "--cpu_threads", "1",
        "--batch_size", "1", "--results", *results, "--save_dir", tmp_path / "parity",
    )  # fmt: skip
    assert judged.status == 0, judged.out + judged.err
    runs = json.loads((tmp_path / "parity" / "results.json").read_text())["runs"]
    for run in runs:
        margins = [pixel["margin"] for pixel in run.get("pixels", [])]
        print(name, run["name"], run["grade"], len(margins), max(margins, default=0))
    grades = {run["name"]: run["grade"] for run in runs if run["name"].startswith("arm64")}
    assert len(grades) == len(results) and set(grades.values()) <= {"identical", "near-tie"}


def exported(name: str, images: Path, folder: Path) -> tuple[Path, Path, Path]:
    """The yml, the checkpoint (random weights under which classes compete) and the bundle."""
    from paddleseg_ext.config import load_config
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions

    yml, weights = folder / "network.yml", folder / "model.pdparams"
    network = parity_networks.NETWORKS[name]
    yml.write_text(yaml.safe_dump(parity_networks.config_of(network, images, SIZE_WH)))
    config = load_config(yml)
    parity_networks.make_weights(config, weights, seed=0)
    shape = (SIZE_WH[1], SIZE_WH[0])
    asked = dict.fromkeys(ENGINES[name], True)
    options = ExportOptions(folder / "bundle", onnx=True, input_shape=shape, **asked)
    return yml, weights, export(config, str(weights), options)
