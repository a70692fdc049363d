"""What `pretrained:` takes and refuses."""

from pathlib import Path
from typing import Any

import pytest
from paddle import nn

from paddleseg_ext.checkpoints.store import save_weights
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import Config
from paddleseg_ext.models.build import load_pretrained


def section(pretrained: Any) -> Config:
    return Config(Path("a.yml"), {"model": {"type": "X", "pretrained": pretrained}})


def test_damaged_weights_are_not_trained_on(tmp_path: Path) -> None:
    model, path = nn.Conv2D(3, 4, 3), tmp_path / "start.pdparams"
    save_weights(model, path)
    load_pretrained(section(str(path)), model)
    data = bytearray(path.read_bytes())
    data[data.index(b"weight") + 200] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match="sha256"):
        load_pretrained(section(str(path)), model)


@pytest.mark.parametrize("value", [True, 5, ["start.pdparams"]])
def test_what_is_no_file_name_is_one_line(value: Any) -> None:
    with pytest.raises(UsageError, match=r"model\.pretrained: the name of a \.pdparams file"):
        load_pretrained(section(value), nn.Conv2D(3, 4, 3))
