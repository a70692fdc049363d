"""Lines of Paddle that are kept off the terminal unless they are asked for."""

import io
import os
import sys
import warnings
from contextlib import redirect_stderr

import pytest

from paddleseg_ext.common import chatter, flags


@pytest.fixture
def written(monkeypatch):
    """Returns what reaches standard error, as a command has it, while a function runs."""
    monkeypatch.setattr(chatter.QuietText, "is_quiet", True)

    def during(run) -> str:
        raw = io.BytesIO()
        text = chatter.QuietText(raw, encoding="utf-8", write_through=True)
        with redirect_stderr(text):
            run()
        return raw.getvalue().decode()

    return during


def _as_paddle_prints() -> None:
    print("before", file=sys.stderr)
    print("WARNING: OMP_NUM_THREADS set to 2, not 1. The computation ...", file=sys.stderr)
    print("PLEASE USE OMP_NUM_THREADS WISELY.", file=sys.stderr)
    print("after", file=sys.stderr)


def test_its_lines_are_dropped_and_others_are_whole(written):
    assert written(_as_paddle_prints) == "before\nafter\n"


def test_a_line_that_comes_with_its_end_takes_no_other_with_it(written):
    def write() -> None:
        sys.stderr.write("PLEASE USE OMP_NUM_THREADS WISELY.\n")
        sys.stderr.write("\n")

    assert written(write) == "\n"


def test_warnings_of_the_native_part_are_hidden_unless_asked_for(monkeypatch):
    """Of graphs that Paddle traces: `W1129 ... not support input out tensor for now!!!!!`."""
    name, level = chatter.NATIVE_LEVEL
    monkeypatch.delenv(name, raising=False)
    chatter.silence()
    assert os.environ[name] == level
    flags.make_parser("words", "val").parse_args(["--verbose"])
    assert name not in os.environ
    monkeypatch.setenv(name, "0")  # the user's own word
    chatter.silence()
    assert os.environ[name] == "0"


def test_an_import_from_python_is_quiet_too(capsys, monkeypatch):
    monkeypatch.setattr(chatter.QuietText, "is_quiet", True)
    with warnings.catch_warnings(record=True) as shown, chatter.quiet_import():
        _as_paddle_prints()
        warnings.warn("No ccache found. Please be aware ...", stacklevel=1)
    assert capsys.readouterr().err == "before\nafter\n" and not shown


def test_verbose_shows_them(written):
    assert flags.make_parser("words", "val").parse_args(["--verbose"]).verbose
    assert "WISELY" in written(_as_paddle_prints)
