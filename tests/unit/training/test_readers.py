"""Reading processes: one that is lost ends the run in a line, and none outlives its trainer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_training import TinySamples, tiny_config, train_tiny

from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.training.readers import SHARED_MEMORY

TESTS = Path(__file__).parents[2]
TRAINING = """
import sys, time
from pathlib import Path
from tiny_training import TinySamples, tiny_config, train_tiny

folder, workers = Path(sys.argv[1]), int(sys.argv[2])
train_tiny(tiny_config(folder, iters=100_000), folder / "run", num_workers=workers)
"""


class LostReader(TinySamples):
    """A sample of it ends the process that reads it."""

    def __init__(self, parent: int, how: int):
        super().__init__()
        self._parent, self._how = parent, how

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if index == 7 and os.getpid() != self._parent:
            os.kill(os.getpid(), self._how) if self._how > 0 else os._exit(-self._how)
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (signal.SIGKILL, r"ended by signal 9 \(SIGKILL\), probably for lack of memory"),
        (signal.SIGBUS, r"signal 7 \(SIGBUS\), probably for lack of shared memory.*--shm-size"),
        (signal.SIGSEGV, r"signal 11 \(SIGSEGV\), --num_workers 0 shows the error"),
        (-3, r"has ended with status 3, --num_workers 0"),
    ],
)
def test_a_reading_process_that_is_lost_is_one_line(
    tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch, how: int, words: str
) -> None:
    looks = "paddle.io.dataloader.dataloader_iter.MP_STATUS_CHECK_INTERVAL"  # 5 seconds
    monkeypatch.setattr(looks, 0.5)
    handler = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(CheckFailed, match=words) as caught:
        train_tiny(
            tiny_config(tmp_path, iters=20),
            tmp_path / "run",
            LostReader(os.getpid(), how),
            num_workers=2,
            save_interval=1,
        )
    assert "\n" not in str(caught.value)
    assert "workers exit unexpectedly" not in capfd.readouterr().err
    assert signal.getsignal(signal.SIGCHLD) == handler


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(line) for line in listed.stdout.split()]


def test_no_reading_process_outlives_a_killed_trainer(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(tmp_path), "2"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert trainer.stdout is not None
    next(line for line in trainer.stdout if "iter: 1/" in line)
    readers = _children(trainer.pid)
    assert len(readers) >= 2
    trainer.kill()
    trainer.wait()
    deadline = time.monotonic() + 20
    while left := [pid for pid in readers if _is_running(pid)]:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.1)
    assert not [p for pid in readers for p in SHARED_MEMORY.glob(f"paddle_{pid}_*")]


def _is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
