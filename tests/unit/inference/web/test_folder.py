"""The folder of `--web`: what is refused before it is written; its scripts are all there."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.export.options import ExportOptions
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle, read_bundle, write_deploy_yaml
from paddleseg_ext.inference.calibration import Calibration
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.web import folder as web
from paddleseg_ext.scoring.protocols import PROTOCOLS

IMPORT = re.compile(r'(?:from|import\() ?"\./([^"]+)"')


@pytest.mark.parametrize("interp", ["CUBIC", "AREA", "LANCZOS4"])
def test_an_interpolation_that_the_scripts_do_not_have(interp: str) -> None:
    preprocess = Preprocess([{"type": "Resize", "target_size": [8, 8], "interp": interp}])
    with pytest.raises(
        UsageError, match=f"deploy.yaml: transforms: Resize: interp {interp} is not"
    ):
        web.check_transforms(preprocess, "deploy.yaml")


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UsageError, match=r"--web: .*holds 'thesis.txt'"):
        web.check_folder(tmp_path)
    with pytest.raises(UsageError, match=r"--web: .*has no index.html: a folder of .*export --web"):
        web.require_web_folder(tmp_path)
    web.check_folder(tmp_path / "new")


@pytest.mark.parametrize("save_dir", ["page", "page/bundle", "other/../page"])
def test_the_bundles_own_folder_is_refused_before_it_is_there(
    save_dir: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--web: another folder than --save_dir, or one around it"):
        web.prepare_web(tmp_path / "page", Preprocess([]), tmp_path / save_dir)


def test_the_page_needs_the_onnx_graph() -> None:
    assert ExportOptions(web=Path("page")).onnx is True
    with pytest.raises(UsageError, match="--web needs --onnx True"):
        ExportOptions(web=Path("page"), onnx=False)


@pytest.mark.parametrize("scripts", [web.PAGE_SCRIPTS, web.NODE_SCRIPTS])
def test_scripts_come_with_what_they_import(scripts: tuple[str, ...]) -> None:
    for name in scripts:
        text = web.static_file(name).read_text("utf-8")
        assert set(IMPORT.findall(text)) <= set(scripts), name
    page = web.render_page(is_service=False, root="", browser="")
    named = set(re.findall(r'(?:src|href)="([^":]+\.(?:js|css))"', page))
    assert named <= {*web.PAGE_SCRIPTS, "browser.js"} and len(named) == 2


@pytest.mark.parametrize("name", ["msf", "ssc", "slide", "torchseg", "label_1_8"])
def test_protocols_of_several_looks_are_refused(name: str) -> None:
    bundle = Bundle(Path("deploy.yaml"), Path("model.onnx"), None, [], None, "none", None)
    with pytest.raises(UsageError, match=f"protocol {name} is not offered"):
        web.check_protocol(bundle, PROTOCOLS[name])
    for offered in ("whole", "ss", "scale_0.75", "half_resize"):
        web.check_protocol(bundle, PROTOCOLS[offered])
    with pytest.raises(UsageError, match="the graph takes bytes"):
        web.check_protocol(replace(bundle, input_dtype="uint8"), PROTOCOLS["ss"])


def test_what_the_page_is_told_of_confidence(tmp_path: Path) -> None:
    def described(output_op: str, protocol: str = "whole", **values: Any) -> dict[str, Any]:
        for name in ("model.json", "model.pdiparams"):
            (tmp_path / name).write_bytes(b"x")
        manifest = Manifest("Net", generic_table(2), **values)
        write_deploy_yaml(tmp_path, [], [-1, 3, -1, -1], output_op, manifest)
        return web.describe(read_bundle(tmp_path), {}, PROTOCOLS[protocol])

    plain = described("none")
    assert plain["no_confidence"] == ""
    assert plain["calibration"] == {"temperature": 1.0, "class_temperatures": []}
    fitted = described("none", calibration=Calibration(0.5, [0.25, 2.0]))
    assert fitted["calibration"] == {"temperature": 0.5, "class_temperatures": [0.25, 2.0]}
    assert described("softmax")["no_confidence"] == ""
    assert "export" in described("argmax")["no_confidence"]
    assert "run by protocol scale_0.5" in described("none", "scale_0.5")["no_confidence"]
