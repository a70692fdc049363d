"""Training from a packed copy is training from the files, to the bit."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import PROJECT, call

from paddleseg_ext.checkpoints.store import read_arrays

pytest.importorskip("safetensors")

CONFIG = PROJECT / "configs/bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml"
CHANGES = {
    "_base_": str(CONFIG),
    "batch_size": 2,
    "iters": 2,
    "train_dataset": {
        "transforms": [
            {"type": "RandomPaddingCrop", "crop_size": [64, 32]},
            {"type": "RandomDistort"},
            {"type": "Normalize"},
        ]
    },
    "loss": {"types": [{"type": "OhemCrossEntropyLoss"}], "coef": [1, 1, 1]},
}


def test_the_weights_are_equal(tiny_cityscapes_shared: Path, tmp_path: Path) -> None:
    yml = tmp_path / "c.yml"
    yml.write_text(yaml.safe_dump(CHANGES))
    root = f"train_dataset.dataset_root={tiny_cityscapes_shared}"
    packing = ["data", "pack", "--config", str(yml), "--save_dir", str(tmp_path / "packed")]
    assert call("paddleseg_ext", *packing, "--opts", root).status == 0
    weights = []
    for name, where in (("files", tiny_cityscapes_shared), ("packed", tmp_path / "packed")):
        finished = call(
            *("train.py", "--config", str(yml), "--device=cpu", "--num_workers=2", "--seed=3"),
            *(f"--save_dir={tmp_path / name}", "--save_interval=2"),
            *("--opts", f"train_dataset.dataset_root={where}"),
        )
        assert finished.status == 0, finished.err[-2000:]
        weights.append(read_arrays(tmp_path / name / "iter_2" / "model.pdparams"))
    assert weights[0].keys() == weights[1].keys()
    for key, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][key])
