"""The stage `web` of parity: the page's scripts in node, on a small network."""

import json
import shutil
from pathlib import Path

import pytest
from small_network import CONFIG, write_checkpoint, write_data

from paddleseg_ext.commands import parity as cli
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.config import load_config
from paddleseg_ext.inference.web import folder as web
from paddleseg_ext.inference.web.runtime_files import require_archive
from paddleseg_ext.parity import web_stage

pytest.importorskip("paddle2onnx")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A yml, a checkpoint, pictures, and a bundle; skips where node or the archive is missing."""
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions

    try:
        web_stage.require_node()
        require_archive(web_stage.FLAG)
    except UsageError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("project")
    resize = "    - {type: Resize, target_size: [96, 64]}\n    - type: Normalize\n"
    (folder / "net.yml").write_text(
        CONFIG.replace("    - type: Normalize\n", resize).replace(
            "root: data", f"root: {folder}/data"
        )
    )
    write_data(folder / "data")
    config = load_config(folder / "net.yml")
    write_checkpoint(config, folder / "model.pdparams")
    export(config, folder / "model.pdparams", ExportOptions(folder / "bundle", onnx=True))
    return folder


def parity(project: Path, save_dir: Path) -> dict:
    given = f"--config {project}/net.yml --model_path {project}/model.pdparams"
    more = f"--bundle {project}/bundle --image_list {project}/data/val.list --stages web"
    ways = f"--cpu_threads 1 2 --batch_size 1 2 --save_dir {save_dir}"
    try:
        cli.main([*given.split(), *more.split(), *ways.split()])
    finally:
        results: dict = json.loads((save_dir / "results.json").read_text())
    return {run["name"]: run for run in results["runs"] if run["stage"] == "web"}


def test_the_scripts_are_the_same_network(project: Path, tmp_path: Path) -> None:
    runs = parity(project, tmp_path)
    assert list(runs) == ["web threads 1 batch 1", "web threads 2 batch 1"]
    for run in runs.values():
        assert run["grade"] in ("identical", "near-tie"), run
        assert run["backend"]["input_tensor"] == "equal"
        assert run["backend"]["name"] == "onnxruntime_web"


@pytest.mark.slow
def test_a_protocol_that_halves_bytes(project: Path, tmp_path: Path) -> None:
    (tmp_path / "half.yml").write_text(
        f"_base_: {project}/net.yml\ntest_config: {{protocol: half_resize}}\n"
        "val_dataset:\n  transforms: [{type: Normalize}]\n"
    )
    given = f"--config {tmp_path}/half.yml --model_path {project}/model.pdparams --stages web"
    given += f" --image_list {project}/data/val.list --save_dir {tmp_path} --cpu_threads 1"
    cli.main(given.split())
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    (run,) = [run for run in runs if run["stage"] == "web"]
    assert run["grade"] in ("identical", "near-tie"), run
    assert run["backend"]["input_tensor"] == "equal"


@pytest.mark.slow
def test_another_input_tensor_is_no_pass(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels that the scripts exchange, and the bundle does not."""
    described = web.describe

    def inverted(*arguments):  # type: ignore[no-untyped-def]
        return described(*arguments) | {"color_order": "BGR"}

    monkeypatch.setattr(web, "describe", inverted)
    with pytest.raises(CheckFailed):
        parity(project, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    failed = [run for run in results["runs"] if run["stage"] == "web"]
    assert {run["grade"] for run in failed} == {"failed"}


def test_without_node_a_line_says_so(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    flags = f"--bundle {project}/bundle --image_list {project}/data --stages onnxruntime,web"
    with pytest.raises(UsageError, match="--stages web runs in node, which is not installed"):
        cli.main([*flags.split(), "--save_dir", str(tmp_path)])
