"""What a user reads when a command ends badly, and the status a script sees."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paddleseg_ext.common.errors import (
    CheckFailed,
    UsageError,
    check_choice,
    check_keys,
    run_command,
)
from paddleseg_ext.common.progress import track


def _raising(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UsageError("no such key"), 2, "error: no such key"),
        (CheckFailed("1 of 3 differs"), 1, "failed: 1 of 3 differs"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/a.png"),
            1,
            "failed: No space left on device: out/a.png; ",
        ),
        (
            FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), "out/label_maps"),
            1,
            "failed: File exists: out/label_maps; ",
        ),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG), "a"), 1, "failed: File too large: a; "),
        (
            OSError(errno.EROFS, os.strerror(errno.EROFS), "a"),
            1,
            "failed: Read-only file system: a",
        ),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), 1, "failed: Permission denied; "),
    ],
)
def test_one_line_and_a_status(error, status, line, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_command(_raising(error))
    assert stopped.value.code == status
    written = capsys.readouterr().err
    assert written.startswith(line)
    assert written.count("\n") == 1


def test_an_unknown_value_names_the_nearest():
    check_choice("mode", "fp16", ("fp32", "fp16"))
    with pytest.raises(
        UsageError, match=r"^--precision: unknown 'fb16' \(did you mean 'fp16'\?\)$"
    ):
        check_choice("--precision", "fb16", ("fp32", "fp16"))
    with pytest.raises(UsageError, match=r"^yml: unknown key '7' \(known: left, right\)$"):
        check_keys("yml", {"left": 0, 7: 0}, ("left", "right"))


PRINTS_AND_WRITES = """
import sys
from pathlib import Path
from paddleseg_ext.common.errors import run_command
from paddleseg_ext.common.files import write_json
from paddleseg_ext.common.log import log

def main():
    for _ in range(10000):
        log("a line")
        print("another", file=sys.stderr)
    write_json(sys.argv[1], {"name": "caf\\udce9.png"})
    log("caf\\udce9.png \u00e9")

run_command(main)
"""


@pytest.mark.parametrize(
    "ending", ["| head -1", "2>&1 | head -1", "2>&1 | :", ">&-", "2>&-", "<&- >&- 2>&-", "> log"]
)
def test_an_output_that_nobody_reads_ends_no_work(tmp_path: Path, ending: str) -> None:
    """A pipe that is closed, an output closed from the start, a name that is not UTF-8."""
    program = tmp_path / "program.py"
    program.write_text(PRINTS_AND_WRITES, encoding="utf-8")
    run = f'"{sys.executable}" program.py "{tmp_path}/result.json"'
    done = subprocess.run(
        ["bash", "-c", f"{run} {ending}; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert "Traceback" not in done.stdout + done.stderr
    assert json.loads((tmp_path / "result.json").read_text()) == {"name": "caf\udce9.png"}
    if ending == "> log":
        last = (tmp_path / "log").read_text(encoding="ascii").splitlines()[-1]
        assert last.endswith("caf\\udce9.png \\xe9")


@pytest.mark.parametrize(
    "error",
    [ValueError("a defect"), BrokenPipeError(errno.EPIPE, "x"), OSError(errno.EINVAL, "odd", "a")],
)
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run_command(_raising(error))


def test_the_status_of_a_main_that_returns():
    with pytest.raises(SystemExit) as stopped:
        run_command(lambda: None)
    assert stopped.value.code == 0


def test_the_line_stands_below_a_progress_bar(capsys):
    def main() -> None:
        numbers = track(range(3), "count")  # held by the frame, and so not closed by the error
        for number in numbers:
            raise UsageError(f"no such number: {number}")

    with pytest.raises(SystemExit):
        run_command(main)
    assert "error: no such number: 0" in capsys.readouterr().err.splitlines()
