"""`benchmarks/scale.py` at tiny sizes: that it runs and tells every rate, not what they are."""

import json
from pathlib import Path

import pytest
import yaml
from commands import PROJECT, call

from .conftest import Deployment


@pytest.fixture
def training(tiny_cityscapes_shared: Path, tmp_path: Path) -> Path:
    crop = {"type": "RandomPaddingCrop", "crop_size": [64, 64]}
    content = {
        "_base_": str(PROJECT / "configs/bisenetv1/bisenetv1_synthetic_demo.yml"),
        "train_dataset": {
            "dataset_root": str(tiny_cityscapes_shared),
            "transforms": [crop, {"type": "Normalize"}],
        },
        "val_dataset": {"dataset_root": str(tiny_cityscapes_shared)},
    }
    path = tmp_path / "training.yml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.slow
def test_every_rate_is_measured(
    bundle: Path, deployment: Deployment, training: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    finished = call(
        "benchmarks/scale.py", "--bundle", bundle, "--images", deployment.list.parent,
        "--config", training, "--iters", 5, "--rounds", 1, "--workers", 1, "--processes", 1, 2,
        "--save_path", tmp_path / "scale.json",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    rates = json.loads((tmp_path / "scale.json").read_text())["images_per_second"]
    assert set(rates) == {"Ray, 1 workers", "training, 1 processes", "training, 2 processes"}
    assert all(rate > 0 for values in rates.values() for rate in values)


def test_what_does_not_divide_the_batch_is_refused(bundle: Path, training: Path) -> None:
    finished = call(
        "benchmarks/scale.py", "--bundle", bundle, "--images", bundle.parent,
        "--config", training, "--processes", 3,
    )  # fmt: skip
    assert finished.status == 2
    assert "3 does not divide a batch of 4" in finished.err
