"""docs/adding_a_model.md, done as it says in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
from commands import PROJECT
from small_network import write_data

PAGE = (PROJECT / "docs/adding_a_model.md").read_text()
TRAINING = """
train_dataset:
  type: ListDataset
  dataset_root: data
  mode: train
  train_path: val.list
  num_classes: 7
  transforms:
    - {type: RandomPaddingCrop, crop_size: [64, 48]}
    - type: Normalize
val_dataset:
  type: ListDataset
  dataset_root: data
  mode: val
  val_path: val.list
  num_classes: 7
  transforms:
    - type: Normalize
batch_size: 2
iters: 2
optimizer: {type: sgd, momentum: 0.9}
lr_scheduler: {type: PolynomialDecay, learning_rate: 0.01, power: 0.9}
loss: {types: [{type: CrossEntropyLoss}], coef: [1]}
"""


def example(language: str) -> str:
    match = re.search(rf"^   ```{language}\n(.*?)^   ```", PAGE, re.DOTALL | re.MULTILINE)
    assert match, language
    return textwrap.dedent(match[1])


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "paddleseg_ext", *arguments],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_the_example_is_trained_exported_and_run(tmp_path: Path) -> None:
    package = tmp_path / "paddleseg_ext"
    shutil.copytree(
        PROJECT / "paddleseg_ext", package, ignore=shutil.ignore_patterns("__pycache__")
    )
    (package / "models/tinynet.py").write_text(example("python"))
    registry = package / "registry.py"
    opening = 'MODELS = Registry(\n    "model",\n    [\n'
    assert opening in registry.read_text()
    registry.write_text(registry.read_text().replace(opening, opening + example("text")))
    write_data(tmp_path / "data")
    (tmp_path / "tinynet.yml").write_text(example("yaml") + TRAINING)

    out = run(tmp_path, "train", "--config", "tinynet.yml", "--device", "cpu", "--save_dir", "run")
    assert "iter: 2/2" in out
    common = ["--config", "tinynet.yml", "--model_path", "run/iter_2/model.pdparams"]
    for upsample in ("graph", "host"):
        out = run(tmp_path, "export", *common, "--save_dir", upsample, "--upsample", upsample)
        assert "exported to" in out
        infer = ["--config", f"{upsample}/deploy.yaml", "--image_path", "data", "--device", "cpu"]
        run(tmp_path, "infer", *infer, "--save_dir", f"{upsample}/infer")
    maps = sorted((tmp_path / "graph/infer/label_maps").rglob("*.png"))
    assert maps
    for path in maps:
        other = tmp_path / "host" / path.relative_to(tmp_path / "graph")
        expected, got = (cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in (path, other))
        assert (expected != got).sum() <= 2  # two ways of rounding
