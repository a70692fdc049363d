"""Processes end cleanly: at a signal, with their parent, and while Paddle starts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paddleseg_ext.common.processes import Terminated, ending_signals_raise

pytestmark = pytest.mark.usefixtures("default_signals")

WAITING = """
import os, subprocess, sys, time

child = '''
import os, sys
from paddleseg_ext.common.processes import end_with_parent
end_with_parent(int(sys.argv[1]), lambda: os.write(1, b"cleaned"))
os.write(1, b"ready ")
os.read(int(sys.argv[2]), 1)  # no byte comes, and the child itself holds the pipe open
'''
read, write = os.pipe()
os.set_inheritable(read, True), os.set_inheritable(write, True)
subprocess.Popen([sys.executable, "-c", child, str(os.getpid()), str(read)], close_fds=False)
time.sleep(600)
"""
IMPORTING = """
import signal
from paddleseg_ext.common.processes import import_paddle
print("begun", flush=True)
import_paddle()
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
print("imported", flush=True)
signal.pause()
"""
COMMAND = """
import os, signal, sys, tempfile, time
from pathlib import Path
from paddleseg_ext.common.errors import run_command
from paddleseg_ext.common.files import atomic_path
from paddleseg_ext.common.processes import child_process

def main():
    with tempfile.TemporaryDirectory(dir=sys.argv[1]), atomic_path(f"{sys.argv[1]}/result") as to:
        to.write_text("half")
        exec(sys.argv[2], globals())
        print("begun", flush=True)
        time.sleep(600)

run_command(main)
"""
CHILD = """
with child_process([sys.executable, __file__, sys.argv[1], ""]):
    time.sleep(600)
"""


def end_command(
    folder: Path, body: str, *, signals: int = 1, number: int = signal.SIGTERM
) -> subprocess.CompletedProcess[str]:
    """Start a command with temporary files, run `body` in it, and end it by a signal."""
    program, work = folder / "program.py", folder / "work"
    program.write_text(COMMAND, encoding="utf-8")
    work.mkdir()
    command = [sys.executable, str(program), str(work), body]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        next(line for line in process.stdout if line.strip() == "begun")
        for _ in range(signals):
            process.send_signal(number)
            time.sleep(0.02)
        said, errors = process.communicate(timeout=60)
    assert not list(work.iterdir())
    return subprocess.CompletedProcess(command, process.returncode, said, errors)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="alone"),
        pytest.param("import paddle", id="with_paddle"),
        pytest.param(
            "from paddleseg_ext.common.processes import import_paddle; import_paddle()", id="train"
        ),
        pytest.param(CHILD, id="with_a_child"),
    ],
)
def test_sigterm_ends_a_command_and_its_temporary_files(tmp_path: Path, body: str) -> None:
    done = end_command(tmp_path, body)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.splitlines()[-1] == "terminated"
    assert "Traceback" not in done.stderr and "FatalError" not in done.stderr


def test_a_terminal_that_closes_ends_a_command_and_its_temporary_files(tmp_path: Path) -> None:
    done = end_command(tmp_path, "", number=signal.SIGHUP)
    assert (done.returncode, done.stderr) == (129, "terminated\n")


def test_nothing_more_can_be_written_to_a_terminal_that_closed(tmp_path: Path) -> None:
    program, work = tmp_path / "program.py", tmp_path / "work"
    program.write_text(COMMAND, encoding="utf-8")
    work.mkdir()
    ours, theirs = os.openpty()
    command = [sys.executable, str(program), str(work), ""]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, process_group=0) as process:
        os.close(theirs)
        while b"begun" not in os.read(ours, 4096):
            pass
        os.close(ours)
        process.send_signal(signal.SIGHUP)  # the system sends it to a terminal's own session
        assert process.wait(60) == 129
    assert not list(work.iterdir())


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As by `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_signals_raise():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_sigterm_in_a_row_does_not_end_the_cleanup(tmp_path: Path) -> None:
    """GNU `timeout` sends it to the command, then to the command's group."""
    slowly = """
import shutil
remove = shutil.rmtree
shutil.rmtree = lambda *args, **options: (time.sleep(0.3), remove(*args, **options))
"""
    done = end_command(tmp_path, slowly, signals=3)
    assert (done.returncode, done.stderr) == (143, "terminated\n")


def test_a_forked_process_ends_by_sigterm_itself(tmp_path: Path) -> None:
    forking = """
read, write = os.pipe()
child = os.fork()
if not child:
    os.write(write, b"ready")
    time.sleep(600)
os.read(read, 5)
os.kill(child, signal.SIGTERM)
assert os.waitpid(child, 0)[1] == signal.SIGTERM, "the child passed through the cleanup"
"""
    assert end_command(tmp_path, forking).returncode == 143


def test_the_handler_ends_with_the_command() -> None:
    before = signal.getsignal(signal.SIGTERM), list(sys.meta_path)
    with pytest.raises(Terminated), ending_signals_raise():
        signal.raise_signal(signal.SIGTERM)
    assert (signal.getsignal(signal.SIGTERM), sys.meta_path) == before


def test_a_helper_that_waits_at_a_pipe_ends_with_its_killed_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.read(6) == b"ready "
    parent.kill()
    assert parent.stdout.read() == b"cleaned"  # until the helper closes it
    parent.wait()


@pytest.mark.parametrize(("line", "seconds"), [("begun", 0.0), ("begun", 0.3), ("imported", 0.0)])
def test_sigterm_ends_a_start_of_paddle_without_its_handler(line: str, seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORTING],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    next(each for each in process.stdout if each.strip() == line)
    time.sleep(seconds)
    process.terminate()
    said, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert "FatalError" not in said and "Traceback" not in said
