"""Curves of runs: what is read, what is said, what is refused."""

from pathlib import Path

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.training.curves import draw_curves, figure_of, read_run, smoothed
from paddleseg_ext.training.history import History, LossEntry, ScoreEntry


def write_history(directory: Path, evaluations: list[tuple[int, float]]) -> Path:
    directory.mkdir()
    History(
        train=[LossEntry(i, 4.0 / i, 0.1) for i in (1, 2, 4)],
        eval=[ScoreEntry(i, score, 0.9) for i, score in evaluations],
    ).write(directory / "history.json")
    return directory


def test_runs_are_described_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated = write_history(tmp_path / "evaluated", [(2, 0.5), (4, 0.25)])
    bare = write_history(tmp_path / "bare", [])
    target = tmp_path / "pictures" / "curves.svg"
    draw_curves([evaluated, bare], target)
    said = capsys.readouterr().out
    assert "evaluated: iteration 4, loss 1.0000; best mIoU 0.5000 at iteration 2" in said
    assert "bare: iteration 4, loss 1.0000; never evaluated" in said
    assert target.read_text(encoding="utf-8").count("<svg") == 1


def test_the_loss_with_weight_decay_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "decayed").mkdir()
    train = [LossEntry(i, 1.0, 0.1, l2_loss=0.5 * i) for i in (1, 2)]
    History(train=train).write(tmp_path / "decayed" / "history.json")
    run = read_run(tmp_path / "decayed")
    term, logged, *_ = figure_of([run], with_l2=True).axes[0].lines
    assert list(term.get_ydata()) == [0.5, 1.0]
    assert list(logged.get_ydata()) == [1.5, 2.0]
    bare = write_history(tmp_path / "bare", [])
    with pytest.raises(UsageError, match="bare has no l2_loss"):
        draw_curves([tmp_path / "decayed", bare], tmp_path / "x.png", with_l2=True)


def test_the_folder_one_is_in_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_history(tmp_path / "here", []))
    assert read_run(".").name == "here"


def test_smoothing_is_the_mean_of_the_last_values() -> None:
    assert smoothed([4.0, 2.0, 6.0], 2) == [4.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "history.json"),
        ("{", "a history.json of train.py is expected"),
        ('{"train": 3, "eval": []}', "a history.json of train.py is expected"),
        ('{"train": [], "eval": []}', "no iteration"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / "history.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=reason):
        read_run(tmp_path)


def test_an_unknown_picture_format_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.png"):
        draw_curves([tmp_path], "curves.bmp")
