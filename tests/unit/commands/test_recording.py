"""Commands that write into a bundle find out first whether they can."""

import tempfile
from pathlib import Path
from typing import Any

import pytest

from paddleseg_ext.commands import calibrate, tune
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import write_deploy_yaml
from paddleseg_ext.inference.manifest import Manifest


@pytest.mark.parametrize("command", [calibrate, tune])
def test_a_bundle_that_cannot_be_written_to(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    (folder / "model.pdiparams").write_bytes(b"weights")
    write_deploy_yaml(folder, [], [-1, 3, -1, -1], "none", Manifest("X", generic_table(2)))
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"not read")
    (tmp_path / "two.list").write_text("a.png a.png\nb.png b.png\n")

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", denied)
    with pytest.raises(UsageError, match=f"--config: cannot write to '{folder}'"):
        command.main(["--config", str(folder), "--data", str(tmp_path / "two.list")])
