"""Progress in a log file is a line now and then, not one per refresh."""

import io

import pytest

from paddleseg_ext.common import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_short_work_writes_nothing_into_a_log(clock, capsys):
    for _ in progress.track(range(5), "read"):
        clock[0] += 1
    assert capsys.readouterr().err == ""


def test_long_work_writes_a_line_every_ten_seconds_and_one_at_the_end(clock, capsys):
    for _ in progress.track(range(5), "read"):
        clock[0] += 6
    assert capsys.readouterr().err.splitlines() == [
        "read: 2/5, 0.167 a second | ETA 00:00:18",
        "read: 4/5, 0.167 a second | ETA 00:00:06",
        "read: 5 in 00:00:30",
    ]


def test_work_of_unknown_length_is_counted(clock, capsys):
    for _ in progress.track(iter("abc"), "frames"):
        clock[0] += 12
    assert capsys.readouterr().err.splitlines()[0] == "frames: 1, 0.0833 a second"


def test_a_terminal_gets_a_live_line(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    assert list(progress.track(range(3), "read")) == [0, 1, 2]
    assert "\r" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
