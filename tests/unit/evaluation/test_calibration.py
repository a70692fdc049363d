"""The samples that `calibrate` takes of its lists."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.evaluation.calibration import labelled_for, labelled_of


def test_images_without_a_label_are_left_out_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(b"not read")
    given = tmp_path / "some.list"
    given.write_text("a.png a.png\nb.png\nc.png c.png\nd.png\n")
    labelled = labelled_of(given, "--train_data")
    assert [sample.name for sample in labelled] == ["a", "c"]
    warned = f"--train_data: {given}: 2 of 4 images have no label and are left out"
    assert warned in capsys.readouterr().out
    bundle: Any = SimpleNamespace(manifest=SimpleNamespace(), output_op="none")
    assert labelled_for(bundle, labelled) == labelled
    assert capsys.readouterr().out == "", "all of these have labels"
    with pytest.raises(UsageError, match="here: two or more lines 'image label'"):
        labelled_for(bundle, labelled[:1], "here")
