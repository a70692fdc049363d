"""The library from Python, as its pages teach it: docs/python.md, README.md and the notebook."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import PROJECT
from PIL import Image

from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.published.golden_data import make_state_dict, read_case

PAGE = PROJECT / "docs" / "python.md"
NOTEBOOK = PROJECT / "examples" / "quickstart.ipynb"
MOST_NOTEBOOK_BYTES = 100_000
SAME = ("identical", "near-tie")
RUNTIMES_OF_THE_EXAMPLES = ("paddle2onnx", "onnxruntime", "onnx")


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def notebook_cells(kind: str) -> list[dict[str, Any]]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that the page's examples leave, run in order in an empty folder."""
    for package in RUNTIMES_OF_THE_EXAMPLES:
        pytest.importorskip(package)
    names: dict[str, Any] = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("python"))
        names["folder"] = Path.cwd()
        state = make_state_dict(read_case(PROJECT / "tests" / "golden" / "torchseg_r18_64x128"))
        with open("cityscapes-bisenet-R18.pth", "wb") as file:  # the file that the last one needs
            np.savez(file, **state)
        # No comma in the name: Paddle splits the lines of a stack at commas when it traces.
        for number, example in enumerate(python_blocks(PAGE), 1):
            exec(compile(example, f"docs/python.md:{number}", "exec"), names)
    return names


def test_there_are_ten_examples_under_their_headings() -> None:
    headings = re.findall(r"^## (\d+)\. ", PAGE.read_text(), re.MULTILINE)
    assert headings == [str(number) for number in range(1, 11)]
    assert len(python_blocks(PAGE)) == 10


def test_data_and_training(examples: dict[str, Any]) -> None:
    assert (examples["part"].name, examples["found"].images) == ("val", 2)
    trained = examples["trained"]
    assert (trained.iteration, len(trained.history.train), len(trained.history.eval)) == (4, 2, 1)
    assert trained.best_mean_iou == trained.history.eval[0].mean_iou


def test_prediction_and_scores(examples: dict[str, Any]) -> None:
    result, evaluation = examples["result"], examples["evaluation"]
    assert result.label_map.dtype == np.uint8
    assert sum(result.class_pixels.values()) == result.label_map.size
    picture = np.asarray(Image.open(examples["folder"] / "output" / "overlay.png"))
    np.testing.assert_array_equal(picture, result.overlay())
    # The scorer of the training, on the same images.
    assert evaluation.scores.mean_iou == examples["trained"].best_mean_iou
    assert "protocol: msf" in examples["flipped"].how()
    written = json.loads((examples["folder"] / "output" / "val" / "val.json").read_text())
    counts = np.array(written["evaluation"]["confusion_matrix"])
    np.testing.assert_array_equal(counts, examples["flipped"].counts)
    assert not (examples["folder"] / "val.json").exists()


def test_the_bundle_and_its_runtimes(examples: dict[str, Any]) -> None:
    assert examples["deploy_file"] == Path("output/bundle/deploy.yaml")
    assert (examples["report"].name, examples["report"].cpu_threads) == ("onnxruntime", 1)
    maps = list((examples["folder"] / "output" / "maps" / "label_maps").rglob("*.png"))
    assert len(maps) == 10
    assert examples["compared"].grade in SAME
    assert len(examples["compared"].outcomes) == 3
    verified = read_bundle(examples["folder"] / "output" / "bundle").verified
    assert verified["onnxruntime"].command == "tune" and verified["onnxruntime"].grade in SAME
    assert examples["name"] == "onnxruntime_int8"
    assert examples["record"].num_images == 6
    assert (examples["folder"] / "output" / "int8" / "model_int8.onnx").is_file()


def test_an_imported_checkpoint(examples: dict[str, Any]) -> None:
    assert examples["imported"].generation.name == "r18"
    assert (examples["folder"] / "output" / "r18.pdparams.json").is_file()


def test_readme_in_three_lines(
    examples: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "demo").symlink_to(examples["folder"] / "output")
    Image.open(examples["folder"] / examples["image"]).save("street.png")
    (block,) = python_blocks(PROJECT / "README.md")
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    different = names["result"].label_map != examples["result"].label_map
    assert different.mean() < 0.001  # another engine's ties


def test_what_is_imported_at_the_top_of_a_file_does_not_load_paddle() -> None:
    """Paddle reads the number of threads once, when it is imported: our functions set it before."""
    imports = [
        ast.unparse(node)
        for example in [*python_blocks(PAGE), *map(source_of, notebook_cells("code"))]
        for node in ast.parse(example).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    code = "\n".join(["import sys", *imports, "assert 'paddle' not in sys.modules"])
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", sorted(PROJECT.glob("docs/*.md")), ids=lambda page: page.name)
def test_python_of_the_other_pages_imports_what_exists(page: Path) -> None:
    for block in python_blocks(page):
        for node in ast.parse(block).body:
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("paddleseg_ext"):
                exec(ast.unparse(node), {})


def source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_the_notebook_is_small_and_valid() -> None:
    """The keys that nbformat 4.5 requires."""
    assert NOTEBOOK.stat().st_size < MOST_NOTEBOOK_BYTES
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    identifiers = [cell["id"] for cell in content["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    for cell in content["cells"]:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell["id"])
        required = {"id", "cell_type", "metadata", "source"}
        if cell["cell_type"] == "code":
            required |= {"outputs", "execution_count"}
        assert set(cell) == required
        assert all(isinstance(line, str) for line in cell["source"])
        for output in cell.get("outputs", []):
            assert set(output) == {"output_type", "metadata", "data"}
            assert set(output["data"]) == {"image/png"}  # pictures only: no log, no machine's path
    kinds = {cell["cell_type"] for cell in content["cells"]}
    assert kinds == {"markdown", "code"}


def test_the_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On four iterations of training instead of sixty."""
    for package in RUNTIMES_OF_THE_EXAMPLES:
        pytest.importorskip(package)
    matplotlib = pytest.importorskip("matplotlib")
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    sources = [source_of(cell) for cell in notebook_cells("code")]
    assert sum(source.count("iters=60") for source in sources) == 1
    names: dict[str, Any] = {}
    try:
        for number, source in enumerate(sources, 1):
            short = source.replace("iters=60", "iters=4")
            exec(compile(short, f"quickstart.ipynb:{number}", "exec"), names)
    finally:
        names["plt"].close("all")
        matplotlib.use(before)
    printed = capsys.readouterr().out
    for runtime in ("paddle", "paddle_onednn", "onnxruntime"):
        assert f"\n{runtime}: 0 pixels differ, " in printed
    assert names["evaluation"].scores.mean_iou == names["trained"].best_mean_iou
    assert [prediction.error for prediction in names["predictions"]] == [None, None]
