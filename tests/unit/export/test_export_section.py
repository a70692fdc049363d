"""The section `export:` of PaddleSeg's ymls."""

from pathlib import Path

import pytest
import yaml

from paddleseg_ext.config import check_config, load_config
from paddleseg_ext.export.exporter import warn_of_export_section

NORMALIZE = {"type": "Normalize"}
RESIZE = {"type": "Resize", "target_size": [64, 32]}


@pytest.mark.parametrize(
    ("section", "is_said"),
    [
        ({"transforms": [RESIZE, NORMALIZE]}, True),
        ({"transforms": []}, True),
        ({"transforms": [NORMALIZE]}, False),
        ({}, False),
        (None, False),
    ],
)
def test_other_transforms_than_those_of_validation_are_said(
    section: object, is_said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = {"val_dataset": {"type": "Cityscapes", "transforms": [NORMALIZE]}, "export": section}
    (tmp_path / "base.yml").write_text(yaml.safe_dump(raw))
    (tmp_path / "c.yml").write_text("_base_: base.yml")  # most of PaddleSeg's inherit it
    config = load_config(tmp_path / "c.yml")
    for each in (config, check_config(config.raw, "best.pdparams")):  # as of a manifest
        warn_of_export_section(each)
        said = capsys.readouterr().out
        assert said.count("\n") == is_said
        assert ("the bundle has val_dataset.transforms" in said) == is_said
