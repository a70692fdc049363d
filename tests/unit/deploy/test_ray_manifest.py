"""What a --save_dir says of itself, on a disk and in an object store."""

import hashlib
import json
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.ray.manifest import COLUMNS, Manifest, recipe_of
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference import bundle as bundles
from paddleseg_ext.inference.runtime import RuntimeSpec

pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")


def make_bundle(folder: Path, weights: bytes = b"weights") -> bundles.Bundle:
    folder.mkdir(exist_ok=True)
    (folder / "model.json").write_bytes(b"graph")
    (folder / "model.pdiparams").write_bytes(weights)
    (folder / "model.onnx").write_bytes(b"onnx")
    graphs = {"onnx": {"file": "model.onnx"}}
    return bundles.Bundle(
        deploy_file=folder / "deploy.yaml",
        model_file=folder / "model.json",
        params_file=folder / "model.pdiparams",
        transforms=[{"type": "Normalize"}],
        input_shape=None,
        output_op="none",
        manifest=bundles.Manifest("Small", generic_table(3), graphs=graphs),
    )


def recipe(bundle: bundles.Bundle, engine: str = "paddle", precision: str = "fp32") -> dict:
    return recipe_of(bundle, RuntimeSpec(engine, precision), None)


def row(name: str) -> dict:
    return dict.fromkeys(COLUMNS, "") | {"input": name, "status": "done"}


@pytest.fixture(params=["disk", "store"])
def save_dir(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "disk" else f"memory://{uuid.uuid4().hex}"


def test_a_recipe_names_what_determines_label_maps(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    first = recipe(bundle)
    assert first["graph"] == hashlib.sha256(b"graph").hexdigest()
    assert first["weights"] == hashlib.sha256(b"weights").hexdigest()
    assert recipe(make_bundle(tmp_path / "moved")) == first
    assert recipe(make_bundle(tmp_path / "other", b"trained on"))["weights"] != first["weights"]
    onnx = recipe(bundle, engine="openvino")
    assert onnx["graph"] == hashlib.sha256(b"onnx").hexdigest() and onnx["weights"] is None
    assert recipe(replace(bundle, transforms=[]))["transforms"] == []
    assert bundle.manifest is not None
    recoloured = replace(bundle.manifest, class_table=generic_table(4))
    assert recipe(replace(bundle, manifest=recoloured)) != first
    with pytest.raises(UsageError, match="no int8 ONNX graph"):
        recipe(bundle, engine="openvino", precision="int8")


def test_a_rerun_with_something_else_is_refused(save_dir: str, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    manifest = Manifest(save_dir)
    manifest.claim(recipe(bundle, engine="openvino"))
    manifest.claim(recipe(bundle))  # nothing has a row yet, so nothing is mixed
    manifest.append([row("a.png")], 10)
    Manifest(save_dir).claim(recipe(bundle))
    with pytest.raises(UsageError, match=r"another weights .* take another --save_dir") as caught:
        Manifest(save_dir).claim(recipe(make_bundle(tmp_path / "other", b"trained on")))
    assert "\n" not in str(caught.value) and "graph" not in str(caught.value)
    with pytest.raises(UsageError, match=r"another backend \(paddle there, paddle_onednn now\)"):
        Manifest(save_dir).claim(recipe(bundle, engine="paddle_onednn"))
    with pytest.raises(UsageError, match="another precision"):
        Manifest(save_dir).claim(recipe(bundle, precision="int8"))
    with pytest.raises(UsageError, match=r'transforms \(\[{"type": "Normalize"}\] there'):
        Manifest(save_dir).claim(recipe(replace(bundle, transforms=[])))
    assert Manifest(save_dir).inputs() == {"a.png"}


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_rows_of_an_unknown_run_are_refused(text: str | None, tmp_path: Path) -> None:
    manifest = Manifest(str(tmp_path))
    manifest.append([row("a.png")], 10)
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match=r"no readable run\.json.*take another --save_dir"):
        manifest.claim(recipe(make_bundle(tmp_path / "bundle")))


def test_run_json_is_readable(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    Manifest(str(tmp_path / "out")).claim(recipe(bundle))
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == recipe(bundle)
