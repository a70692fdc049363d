"""Curves of runs: what is read, what is said, what is refused."""

import json
from pathlib import Path

import pytest

from paddleseg_ext.commands import curves
from paddleseg_ext.common.errors import UsageError


def write_history(directory: Path, evaluations: list[tuple[int, float]]) -> Path:
    directory.mkdir()
    history = {
        "train": [{"iter": i, "loss": 4.0 / i, "lr": 0.1} for i in (1, 2, 4)],
        "eval": [{"iter": i, "mean_iou": score} for i, score in evaluations],
    }
    (directory / "history.json").write_text(json.dumps(history), encoding="utf-8")
    return directory


def test_runs_are_described_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated = write_history(tmp_path / "evaluated", [(2, 0.5), (4, 0.25)])
    bare = write_history(tmp_path / "bare", [])
    target = tmp_path / "pictures" / "curves.svg"
    curves.main([str(evaluated), str(bare), "--save_path", str(target)])
    said = capsys.readouterr().out
    assert "evaluated: iteration 4, loss 1.0000; best mIoU 0.5000 at iteration 2" in said
    assert "bare: iteration 4, loss 1.0000; never evaluated" in said
    assert target.read_text(encoding="utf-8").count("<svg") == 1


def test_the_folder_one_is_in_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_history(tmp_path / "here", []))
    assert curves.read_run(".").name == "here"


def test_smoothing_is_the_mean_of_the_last_values() -> None:
    assert curves.smoothed([4.0, 2.0, 6.0], 2) == [4.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "history.json"),
        ("{", "not the history"),
        ('{"train": 3, "eval": []}', "not the history"),
        ('{"train": [], "eval": []}', "no iteration"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / "history.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=reason):
        curves.read_run(tmp_path)


def test_an_unknown_picture_format_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.png"):
        curves.main([str(tmp_path), "--save_path", "curves.bmp"])
