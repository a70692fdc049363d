"""A wrong key of `val_dataset:` ends every command that reads it; absent data does not."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import PROJECT

from paddleseg_ext.common.errors import UsageError

from .conftest import load_script

CONFIG = PROJECT / "configs/bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml"
OWN_FLAGS = {
    "export": [],
    "predict": ["--image_path", "a.png"],
    "val": ["--image_list", "pairs.list"],
    "parity": ["--image_list", "pairs.list"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.png", np.zeros((32, 64, 3), np.uint8))
    cv2.imwrite("l.png", np.zeros((32, 64), np.uint8))
    Path("pairs.list").write_text("a.png l.png\n")
    Path("broken.pdparams").write_bytes(b"no checkpoint")
    return tmp_path


def _run(verb: str, *opts: str) -> None:
    flags = ["--config", str(CONFIG), "--model_path", "broken.pdparams", "--save_dir", "out"]
    changes = ["--opts", "val_dataset.dataset_root=absent", *opts]
    load_script(verb).main([*flags, *OWN_FLAGS[verb], *changes])


@pytest.mark.parametrize("verb", OWN_FLAGS)
def test_a_misspelt_key_is_an_error(verb: str, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"takes no 'label_knd' .did you mean 'label_kind'"):
        _run(verb, "val_dataset.label_knd=labelIds")


@pytest.mark.parametrize("verb", OWN_FLAGS)
def test_absent_data_is_not(verb: str, folder: Path) -> None:
    """They go on to the checkpoint, which is none."""
    with pytest.raises(UsageError, match=r"broken\.pdparams"):
        _run(verb)
