"""Curves of runs: what is read, what is said, what is refused."""

from pathlib import Path

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.training.curves import draw_curves, figure_of, read_run, smoothed, text_of
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


def font_with(letters: str, path: Path) -> Path:
    """A font of boxes, a wider one for each letter, and a thin one for all that it lacks."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    names = [".notdef", *(f"letter{i}" for i in range(len(letters)))]
    glyphs, widths = {}, {}
    for number, name in enumerate(names):
        pen = TTGlyphPen(None)
        right = 100 + 60 * number
        pen.moveTo((0, 0))
        for point in ((0, 700), (right, 700), (right, 0)):
            pen.lineTo(point)
        pen.closePath()
        glyphs[name], widths[name] = pen.glyph(), (right + 50, 0)
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(x): f"letter{i}" for i, x in enumerate(letters)})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(widths)
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Boxes", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_names_in_chinese_are_drawn_by_a_font_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = font_with("中文实验_0123456789 mainheduxlry", tmp_path / "boxes.ttf")
    monkeypatch.setattr("paddleseg_ext.images.fonts.SYSTEM_FONTS", ("none.ttf", str(boxes)))
    run = read_run(write_whole_history(tmp_path / "中文实验_2"))
    for axes in figure_of([run]).axes:
        for text in axes.get_legend().get_texts():
            assert "中文实验_2" in text.get_text()
            assert text.get_fontproperties().get_file() == str(boxes)
    latin = figure_of([read_run(write_history(tmp_path / "run", []))]).axes[0].get_legend()
    file = latin.get_texts()[0].get_fontproperties().get_file()
    assert Path(file).name == "DejaVuSans.ttf"


def test_numbers_stand_for_names_that_no_font_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("paddleseg_ext.images.fonts.SYSTEM_FONTS", ("none.ttf",))
    folders = [write_history(tmp_path / name, []) for name in ("plain", "中文")]
    figure = figure_of([read_run(folder) for folder in folders])
    shown = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert shown == ["plain", "run 2"]
    said = capsys.readouterr().out
    assert "no font of this system draws 中文 (run 2)" in said and "fonts-noto-cjk" in said


def test_what_a_teacher_adds_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "taught").mkdir()
    train = [LossEntry(i, 3.0, 0.1, distillation_loss=0.5 * i) for i in (1, 2)]
    History(train=train).write(tmp_path / "taught" / "history.json")
    run = read_run(tmp_path / "taught")
    *_, term = figure_of([run]).axes[0].lines
    assert (term.get_label(), list(term.get_ydata())) == ("taught distillation", [0.5, 1.0])
    assert any("taught distillation" in line for line in text_of([run]))
