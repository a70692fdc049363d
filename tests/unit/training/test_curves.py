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


def write_whole_history(directory: Path) -> Path:
    directory.mkdir()
    History(
        train=[LossEntry(i, 1.0, 0.1 / i, head_losses=(0.5 / i, 2.0)) for i in (1, 2, 4)],
        eval=[ScoreEntry(i, s, 0.9) for i, s in ((2, 0.5), (3, 0.625), (4, 0.25))],
        by_protocol={"scale_0.5": [ScoreEntry(2, 0.125, 0.9)]},
    ).write(directory / "history.json")
    return directory


def test_heads_rates_protocols_and_best_points_are_drawn(tmp_path: Path) -> None:
    run = read_run(write_whole_history(tmp_path / "run"))
    loss_axes, rate_axes, score_axes = figure_of([run]).axes
    _, _, main_head, auxiliary = loss_axes.lines
    assert list(main_head.get_ydata()) == [0.5, 0.25, 0.125]
    assert list(auxiliary.get_ydata()) == [2.0, 2.0, 2.0]
    assert list(rate_axes.lines[0].get_ydata()) == [0.1, 0.05, 0.025]
    scored, best, other, _ = score_axes.lines
    assert list(scored.get_ydata()) == [0.5, 0.625, 0.25]
    assert (best.get_xdata(), best.get_ydata()) == ([3], [0.625])
    assert (other.get_label(), list(other.get_ydata())) == ("run scale_0.5", [0.125])


def test_curves_are_printed_without_a_display(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "52")
    monkeypatch.chdir(tmp_path)
    draw_curves([write_whole_history(tmp_path / "run")], None, as_text=True)
    lines = capsys.readouterr().out.splitlines()
    assert (
        "best mIoU 0.6250 at iteration 3; best mIoU 0.1250 at iteration 2 (scale_0.5)" in lines[0]
    )
    titles = ["loss", "loss per head", "learning rate", "mIoU"]
    assert [line for line in lines if line in titles] == titles
    plot = lines[lines.index("mIoU") + 1 :]
    assert plot[0] == "    0.625 |" + " " * 20 + "a"  # iteration 3 of 2 to 4, in 40 columns
    assert plot[-1].split() == ["a", "run", "b", "run", "scale_0.5"]
    assert max(map(len, lines[1:])) <= 52
    assert not list(tmp_path.glob("*.png"))
