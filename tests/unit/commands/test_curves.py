"""The command draws the runs that it is given."""

from pathlib import Path

import pytest

from paddleseg_ext.commands import curves
from paddleseg_ext.training.history import History, LossEntry


def test_runs_of_the_command_line_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        History(train=[LossEntry(1, 2.0, 0.1)]).write(tmp_path / name / "history.json")
    target = tmp_path / "curves.svg"
    curves.main([str(tmp_path / "one"), str(tmp_path / "two"), "--save_path", str(target)])
    assert f"{target}: 2 runs" in capsys.readouterr().out
    assert target.read_text(encoding="utf-8").count("<svg") == 1
