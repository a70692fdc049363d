"""Helpers that end with their parent, and a start of Paddle that SIGTERM cannot hang."""

import signal
import subprocess
import sys
import time

import pytest

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
