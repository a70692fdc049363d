"""Running the commands as a user does, several in one process: a cold start takes seconds."""

import contextlib
import io
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


@dataclass
class Finished:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        """What it said on standard error, without progress bars and Paddle's own warnings."""
        return [
            line
            for line in self.err.splitlines()
            if line.startswith(("error:", "failed:", "Traceback"))
        ]


def call(script: str, *arguments: object) -> Finished:
    """Run a script of the project, or a module such as "paddleseg_ext", in this process."""
    out, err = io.StringIO(), io.StringIO()
    status: int | str | None = 0
    with (
        _command_line([script, *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            if script.endswith(".py"):
                runpy.run_path(str(PROJECT / script), run_name="__main__")
            else:
                runpy.run_module(script, run_name="__main__", alter_sys=False)
        except SystemExit as stop:
            status = stop.code
    return Finished(status if isinstance(status, int) else 0, out.getvalue(), err.getvalue())


def spawn(script: str, *arguments: object, cwd: Path = PROJECT) -> subprocess.Popen:
    """Start a script of the project in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(PROJECT / script), *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextlib.contextmanager
def _command_line(argv: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = argv
    try:
        yield
    finally:
        sys.argv = before
